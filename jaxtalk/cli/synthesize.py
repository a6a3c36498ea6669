"""`jaxtalk synthesize` and `jaxtalk verify`: videos made, and recognised."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from jaxtalk.cli.verb import FILE, verb


@verb("""
    jaxtalk synthesize --workdir runs/anna --audio speech.wav --out anna_says.mp4
    jaxtalk synthesize --workdir runs/anna --audio speech.mp3 --out a.mp4 --pose mirror --frames-dir frames
    """)
@click.option("--workdir", type=FILE, required=True, help="Folder of a trained run.")
@click.option("--audio", type=FILE, required=True, help="Speech: any sound or video file, of any length.")
@click.option("--out", type=FILE, required=True, help="The mp4 to write.")
@click.option("--avatar", "--identity", "avatar", help="Which head of the run; needed when it has several.")
@click.option("--pose", default="hold", show_default=True, metavar="hold|loop|mirror|CLIP", help="How the head moves.")
@click.option("--frames-dir", type=FILE, help="Write the frames as PNG files here, too.")
@click.option("--features", type=FILE, help="The speech's features made elsewhere (.npy), for runs that read them.")
def synthesize(workdir: Path, audio: Path, out: Path, **options: Any) -> None:
    """Let a trained head say the speech of a file.

    Writes an mp4 with that sound, and its provenance beside it.

    The head's movement: hold keeps one pose, loop and mirror repeat the training clip's, and a CLIP lends its own.
    """
    from jaxtalk.synthesis import synthesize as run

    result = run(workdir, audio, out, **options)
    click.echo(
        f"{result.path}: {result.frames} frames, {result.seconds:.2f} s, rendered at {result.render_fps:.1f} frames/s"
    )


@verb("""
    jaxtalk verify anna_says.mp4
    """)
@click.argument("file", type=FILE)
def verify(file: Path) -> None:
    """Tell whether FILE was made by jaxtalk, and from what.

    Exit code 0: it is, and no record contradicts it. 1: no provenance, or changed since. 2: no such file.
    """
    from jaxtalk.synthesis.provenance import verify as check

    report = check(file)
    click.echo(report.text)
    sys.exit(0 if report.intact else 1)
