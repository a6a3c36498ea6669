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
    jaxtalk synthesize --workdir runs/s3d --image face.png --audio speech.wav --out face_says.mp4 --orbit 15
    """)
@click.option("--workdir", type=FILE, required=True, help="Folder of a trained run.")
@click.option("--audio", type=FILE, required=True, help="Speech: any sound or video file, of any length.")
@click.option("--out", type=FILE, required=True, help="The mp4 to write.")
@click.option("--avatar", "--identity", "avatar", help="Which head of the run; needed when it has several.")
@click.option("--image", type=FILE, help="In place of --avatar: a picture of anybody's face. For systems that meet "
              "strangers.")  # fmt: skip
@click.option("--pose", default="hold", show_default=True, metavar="hold|loop|mirror|predicted",
              help="How the head moves.")  # fmt: skip
@click.option("--pose-from", type=FILE, metavar="CLIP", help="A prepared clip that lends its movement.")
@click.option("--orbit", type=float, metavar="DEGREES", help="Turn the head by so much to both sides, over 4 s.")
@click.option("--frames-dir", type=FILE, help="Write the frames as PNG files here, too.")
@click.option("--features", type=FILE, help="The speech's features made elsewhere (.npy), for runs that read them.")
@click.option(
    "--landmarker", type=FILE, help="With --image: MediaPipe's face_landmarker.task; else cached or downloaded."
)
@click.option("--face-model", type=click.Choice(["ict", "procedural"]),
              help="With --image: the face fitted to it; that of the run's clips when not given.")  # fmt: skip
@click.option("--face-model-file", type=FILE, help="With --image: its file; else cached or downloaded.")
def synthesize(
    workdir: Path,
    audio: Path,
    out: Path,
    landmarker: Path | None,
    face_model: str | None,
    face_model_file: Path | None,
    **options: Any,
) -> None:
    """Let a trained head, or the face of a picture, say the speech of a file.

    Writes an mp4 with that sound, and its provenance beside it.

    The head's movement: hold keeps one pose, loop and mirror repeat the training clip's, predicted is heard in the
    speech where the system does that; --pose-from borrows a clip's, --orbit turns the held head.

    An --image shows one face. It is prepared once and kept in the run's folder (pictures/, with a preview.png).
    """
    from jaxtalk.synthesis import synthesize as run

    models = None
    if landmarker or face_model or face_model_file:
        if options["image"] is None:
            raise click.UsageError("--landmarker, --face-model and --face-model-file belong to --image")
        from jaxtalk.synthesis import PictureModels

        models = PictureModels(landmarker, face_model, face_model_file)
    result = run(workdir, audio, out, models=models, **options)
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
