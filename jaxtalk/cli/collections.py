"""`jaxtalk synthetic` and `jaxtalk pack`: clips of nobody, and many clips as one dataset."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from jaxtalk.cli.verb import FILE, verb


@verb("""
    jaxtalk synthetic --out clips --identities 8 --utterances 4 --seconds 10
    """)
@click.option("--out", type=FILE, required=True, help="Folder for the clips.")
@click.option("--identities", type=click.IntRange(min=1), default=4, show_default=True, help="Number of speakers.")
@click.option(
    "--utterances",
    "utterances_per_identity",
    type=click.IntRange(min=1),
    default=2,
    show_default=True,
    help="Clips of each speaker.",
)
@click.option("--seconds", default=8.0, show_default=True, help="Length of each clip.")
@click.option("--size", default=128, show_default=True, help="Side of the frames, pixels.")
@click.option("--seed", default=0, show_default=True, help="Other seeds give other people.")
@click.option("--processes", default=0, help="Clips made at once; as many as there are CPUs when not given.")
def synthetic(out: Path, processes: int, **options: Any) -> None:
    """Make clips of procedural speakers with exact ground truth."""
    import os

    from jaxtalk.synthetic.corpus import write_corpus

    clips = write_corpus(out, processes=processes or os.cpu_count() or 1, **options)
    click.echo(f"{out}: {len(clips)} clips")


@verb("""
    jaxtalk pack clips/* --out dataset --held-out anna
    jaxtalk pack clips/* --out dataset --manifest clips/manifest.json
    """)
@click.argument("clips", type=FILE, nargs=-1, required=True)
@click.option("--out", type=FILE, required=True, help="Folder of the dataset.")
@click.option("--held-out", multiple=True, metavar="ID", help="Identity kept for the test split; may be repeated.")
@click.option("--manifest", type=FILE, help="The split of these very clips, as `prepare --dataset` writes it.")
def pack(clips: tuple[Path, ...], out: Path, held_out: tuple[str, ...], manifest: Path | None) -> None:
    """Pack CLIPS into one dataset, split by identity."""
    from jaxtalk.datasets import Manifest
    from jaxtalk.datasets import pack as pack_clips

    if manifest and held_out:
        raise click.UsageError("--manifest says who is held out; leave --held-out away")
    folders = [clip for clip in clips if not clip.is_file()]  # of clips/*, its manifest and lists are no clips
    pack_clips(folders, out, Manifest.load(manifest) if manifest else None, held_out=held_out)
    click.echo(f"{out}: {len(folders)} clips packed")
