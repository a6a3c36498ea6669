"""`jaxtalk prepare`: videos become clips."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import click

from jaxtalk.cli.verb import FILE, verb
from jaxtalk.errors import JaxtalkError

_OF_COLLECTIONS = ("dataset", "root", "jobs", "views", "tables", "split")  # options of `prepare`


@verb("""
    jaxtalk prepare talk.mp4 --out clips/anna --identity anna
    jaxtalk prepare talk.mp4 --out clips/anna --face-model procedural   # needs no downloaded face model
    jaxtalk prepare talk.mp4 --out clips/anna --audio talk.wav --coefficients talk.mat --coefficients-fps 30
    jaxtalk prepare --dataset hdtf --root HDTF --out clips --jobs 8 --split s3d_nerf
    jaxtalk prepare --features wav2vec2 clips/*                         # into clips that are there already
    jaxtalk prepare --from ad_nerf dataset/Obama --out clips/obama      # a folder that another system made
    """)
@click.argument("videos", type=FILE, nargs=-1, metavar="[VIDEO | CLIP...]")
@click.option(
    "--from",
    "source",
    type=click.Choice(["ad_nerf", "rad_nerf", "deep3d"]),
    help="VIDEO is what another system made: a folder of AD-NeRF or DFRF (ad_nerf), of RAD-NeRF, ER-NeRF, SyncTalk or "
    "TalkingGaussian (rad_nerf), or a video with Deep3D's coefficients beside it (deep3d).",
)
@click.option("--out", type=FILE, help="Folder of the clip to make, or of all clips of a collection.")
@click.option("--identity", default="", help="Who speaks; the folder's name when not given.")
@click.option("--size", default=512, show_default=True, help="Side of the frames, pixels.")
@click.option("--fps", default=25.0, show_default=True, help="Frames a second of the clip.")
@click.option("--landmarker", type=FILE, help="MediaPipe's face_landmarker.task; else cached or downloaded.")
@click.option("--face-model", type=click.Choice(["ict", "procedural"]), default="ict", show_default=True)
@click.option("--face-model-file", type=FILE, help="The face model as a file; else cached or downloaded.")
@click.option(
    "--coefficients",
    type=FILE,
    help="Deep3D's 257 numbers a frame (.mat, .npy): identity and expression come from it.",
)
@click.option("--coefficients-fps", type=float, help="Rows a second of that file; the video's rate when not given.")
@click.option("--audio", type=FILE, help="Speech in a file of its own, from the same moment as the video.")
@click.option(
    "--audio-offset",
    type=float,
    default=0.0,
    help="Seconds by which the speech is later than the mouth (earlier, if negative): they are taken away.",
)
@click.option("--start", type=float, help="Use the video from this second on.")
@click.option("--end", type=float, help="Use the video up to this second.")
@click.option("--language", default="", help="Kept in the clip: what is spoken, e.g. en.")
@click.option("--emotion", default="", help="Kept in the clip: how it is spoken.")
@click.option("--consent", type=FILE, help="JSON file (subject, source, scope, date), kept in the clip.")
@click.option(
    "--features",
    type=click.Choice(["wav2vec2"]),
    multiple=True,
    help="Keep this feature of the speech in the clip. Without --out: in each CLIP, a folder made before.",
)
@click.option("--overwrite", is_flag=True, help="Replace a clip made with other settings.")
@click.option(
    "--dataset",
    type=click.Choice(["hdtf", "mead", "folder"]),
    help="In place of VIDEO: every video of a collection (folder: of any tree; a sub-folder is a person).",
)
@click.option("--root", type=FILE, help="Where the collection lies.")
@click.option("--jobs", type=click.IntRange(min=0), default=0, help="Its clips made at once; half the CPUs if 0.")
@click.option("--view", "views", multiple=True, help="Of MEAD: a view; front when not given; may be repeated.")
@click.option("--tables", type=FILE, help="Of HDTF: the folder of its tables, to be told what is missing.")
@click.option("--split", default="", metavar="PAPER", help="Write the manifest with the split of a paper: s3d_nerf.")
def prepare(
    videos: tuple[Path, ...], source: str | None, out: Path | None, consent: Path | None, **options: Any
) -> None:
    """Turn a talking VIDEO, or a whole collection, into clips to learn from.

    Looks at the video first and says what is wrong with it (preflight.json); draws what it found (preview.png).
    The same command continues an interrupted preparation.
    """
    collection = {name: options.pop(name) for name in _OF_COLLECTIONS}
    if options["features"] and out is None and source is None and not any(collection.values()):
        _add_features(videos, options["features"])
        return
    if out is None:
        raise click.UsageError("Missing option '--out'.")
    from jaxtalk.preparation.prepare import PrepareOptions, prepare_clip

    if collection["dataset"] is not None:
        if videos or source is not None or collection["root"] is None:
            raise click.UsageError("--dataset needs --root DIR, and neither VIDEO nor --from")
        _prepare_collection(out, PrepareOptions(**options, consent=_read_consent(consent)), **collection)
        return
    if any(collection.values()):
        raise click.UsageError("--root, --jobs, --view, --tables and --split belong to --dataset")
    if not videos:
        raise click.UsageError("Missing argument 'VIDEO' (or --dataset with --root).")
    if len(videos) > 1:
        raise click.UsageError("One VIDEO makes one clip; for many there is --dataset folder with --root.")
    settings = PrepareOptions(**options, consent=_read_consent(consent))
    make = prepare_clip if source is None else partial(_import_clip, source)
    clip = make(videos[0], out, settings)
    click.echo(f"{clip.path}: {clip.meta.num_frames} frames of {clip.meta.identity} at {clip.meta.fps:g} fps")


def _add_features(paths: tuple[Path, ...], names: tuple[str, ...]) -> None:
    """Puts features into clips that are there; a manifest beside them is written anew, since their hashes change."""
    from jaxtalk.clip import Clip
    from jaxtalk.datasets.prepared import MANIFEST_FILE, write_manifest
    from jaxtalk.preparation.features import add_features

    folders = [path for path in paths if not path.is_file()]  # of clips/*, its manifest and lists are no clips
    if not folders:
        raise click.UsageError("Missing argument 'CLIP...': folders of clips (or --out, for a video).")
    clips = [Clip.open(folder) for folder in folders]
    made = add_features(clips, names)
    for parent in sorted({clip.path.resolve().parent for clip in clips}) if made else []:
        if (parent / MANIFEST_FILE).is_file():
            write_manifest(parent)
    click.echo(f"{len(clips)} clips: {made} of {len(clips) * len(names)} features made, the others were there")


def _import_clip(source: str, path: Path, out: Path, options: Any) -> Any:
    """Makes a clip of what another system made, and says what was not there."""
    from jaxtalk.preparation.importers.sources import import_clip, what_was_not_found

    clip = import_clip(source, path, out, options)
    for line in what_was_not_found(clip):
        click.echo(f"not found: {line}", err=True)
    return clip


def _prepare_collection(
    out: Path, options: Any, dataset: str, root: Path, jobs: int, split: str, **layout: Any
) -> None:
    """Prepares all videos of a collection, and says what became of them."""
    from jaxtalk.datasets.prepared import prepare_dataset
    from jaxtalk.preparation.corpora.layouts import read_corpus
    from jaxtalk.preparation.corpora.run import print_report

    corpus = read_corpus(dataset, root, out, **layout)
    for remark in corpus.remarks:
        click.echo(remark, err=True)
    report = prepare_dataset(corpus, out, options, jobs, split)
    print_report(report)
    already = sum(result.already for result in report.prepared)
    click.echo(f"{out}: {len(report.prepared)} clips ({already} were there), {len(report.failures)} failed")


def _read_consent(path: Path | None) -> dict[str, Any]:
    if path is None:
        return {}
    import json

    try:
        consent = json.loads(path.read_text())
    except OSError as error:
        raise JaxtalkError(f"{path}: cannot be read ({error.strerror})") from error
    except ValueError as error:
        raise JaxtalkError(f"{path}: not JSON ({error})") from error
    if not isinstance(consent, dict):
        raise JaxtalkError(f'{path}: expected an object such as {{"subject": "Anna", "scope": "research"}}')
    return consent
