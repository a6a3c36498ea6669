"""Verbs about runs: `import-checkpoint`, `compare`, `bench`, `sync-offsets`, `heat-maps`."""

from __future__ import annotations

from pathlib import Path

import click

from jaxtalk.cli.verb import FILE, verb


@verb("""
    jaxtalk import-checkpoint ad_nerf 400000_head.tar 400000_body.tar --clip clips/obama --workdir runs/obama
    jaxtalk import-checkpoint dfrf base.tar --clip clips/cnn --workdir runs/cnn
    """)
@click.argument("system", type=click.Choice(["ad_nerf", "dfrf"]))
@click.argument("files", type=FILE, nargs=-1, required=True)
@click.option("--clip", type=FILE, required=True, help="Made by `prepare --from` of the folder they were trained on.")
@click.option("--workdir", type=FILE, required=True, help="Folder of the run to make.")
@click.option("--smoothed-from", type=int, help="Their training's nosmo_iters, where it was not the code's own.")
def import_checkpoint(
    system: str, files: tuple[Path, ...], clip: Path, workdir: Path, smoothed_from: int | None
) -> None:
    """Make a run of the checkpoint FILES that the published code of SYSTEM saved.

    `synthesize` and eval.py take it as if it had been trained here. AD-NeRF: the head's file, and the torso's where
    there is one. DFRF: one file.
    """
    from jaxtalk.training.adopted import adopt, notes_of

    run = adopt(system, files, clip, workdir, smoothed_from=smoothed_from)
    for line in notes_of(run.workdir):
        click.echo(f"note: {line}", err=True)
    click.echo(f"{run.workdir}: {', '.join(f'{stage.name} at step {stage.steps}' for stage in run.stages.values())}")


@verb("""
    jaxtalk compare runs/base runs/no_warp runs/no_warp_seed1
    jaxtalk compare runs/base runs/no_warp --protocol heldout --metrics psnr/rgb,lmd/mouth --out tables
    """)
@click.argument("runs", type=FILE, nargs=-1, required=True, metavar="RUN RUN...")
@click.option("--protocol", default="", help="Which evaluation (folder of RUN/eval), where the runs share several.")
@click.option("--out", type=FILE, default=Path("compare"), show_default=True, help="Folder of the page and tables.")
@click.option("--metrics", default="", metavar="ID,ID", help="Only these metrics.")
def compare(runs: tuple[Path, ...], protocol: str, out: Path, metrics: str) -> None:
    """Put the results of several RUNs of one protocol into one table.

    A RUN is a run folder, an evaluation's folder, or a results.json. Differences are to the first one, frame by frame
    where the same frames of the same clips were tested; a run whose numbers do not compare is marked.
    """
    from jaxtalk.evaluation.compare_page import compare_runs, markdown

    found = compare_runs(runs, out, protocol, [name for name in metrics.split(",") if name])
    click.echo(markdown(found))
    click.echo(f"wrote {out / 'compare.html'}")


@verb("""
    jaxtalk bench --config configs/ad_nerf.py:tiny
    jaxtalk bench --config configs/ad_nerf.py:paper --size 512 --out bench.json
    """)
@click.option("--config", required=True, metavar="FILE.py[:VARIANT]", help="A training config.")
@click.option("--size", type=click.IntRange(8, 4096), help="Side of the frames, pixels; the config's when not given.")
@click.option(
    "--seconds", type=click.FloatRange(min=0), default=10.0, show_default=True, help="Time for each measurement."
)
@click.option("--clip", type=FILE, help="A prepared clip in place of a synthetic speaker.")
@click.option("--out", type=FILE, help="Write the figures as JSON here.")
def bench(config: str, size: int | None, seconds: float, clip: Path | None, out: Path | None) -> None:
    """Measure training and rendering of any system on this device.

    Parameters are random, and the clip is a synthetic speaker unless one is given; nothing is trained or kept."""
    from jaxtalk.bench import run_bench

    run_bench(config, size=size, seconds=seconds, clip=clip, out=out)


@verb("""
    jaxtalk sync-offsets --workdir runs/s3d
    jaxtalk sync-offsets --workdir runs/s3d clips/anna clips/ben --out sync
    """)
@click.argument("clips", type=FILE, nargs=-1)
@click.option("--workdir", type=FILE, required=True, help="Folder of a run whose stage `sync` is finished.")
@click.option("--out", type=FILE, default=Path("sync"), show_default=True, help="Folder of the table and the plot.")
@click.option("--allow-seen", is_flag=True, help="CLIPS may show people that the run was trained on.")
def sync_offsets(clips: tuple[Path, ...], workdir: Path, out: Path, allow_seen: bool) -> None:
    """Tell how well a run's lip-sync discriminator hears that speech is shifted.

    On the clips of the run's held-out people, or on CLIPS: the mean similarity of lips and speech over shifts of up to
    15 frames, and how often speech in time beats speech that is shifted by 5 frames or more.
    """
    from jaxtalk.evaluation.sync_offsets import sync_offsets as measure

    measure(workdir, out, clips, allow_seen=allow_seen)


@verb("""
    jaxtalk heat-maps --workdir runs/s3d
    """)
@click.argument("clips", type=FILE, nargs=-1)
@click.option("--workdir", type=FILE, required=True, help="Folder of a trained run.")
@click.option("--out", type=FILE, default=Path("heat"), show_default=True, help="Folder of the numbers and pictures.")
@click.option("--allow-seen", is_flag=True, help="CLIPS may show people that the run was trained on.")
def heat_maps(clips: tuple[Path, ...], workdir: Path, out: Path, allow_seen: bool) -> None:
    """Draw where in a face speech acts, and measure how much of it is below the nose.

    For the first frame of each clip of the run's held-out people, or of CLIPS.
    """
    from jaxtalk.evaluation.heat_maps import heat_maps as measure

    measure(workdir, out, clips, allow_seen=allow_seen)
