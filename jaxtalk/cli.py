"""The command line: `jaxtalk VERB`. Each verb imports what it needs when it runs, so that `--help` answers at once."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from jaxtalk.errors import JaxtalkError, reported_errors

_FILE = click.Path(path_type=Path)
_OF_COLLECTIONS = ("dataset", "root", "jobs", "views", "tables", "split")  # options of `prepare`


class _Verb(click.Command):
    """A verb whose help keeps its examples as they are written, and whose `JaxtalkError` becomes one line."""

    def __init__(self, *args: Any, examples: str = "", **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.examples = examples

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        if self.examples:
            with formatter.section("Examples"):
                for line in self.examples.strip().splitlines():
                    formatter.write(f"  {line.strip()}\n")

    def invoke(self, ctx: click.Context) -> Any:
        with reported_errors():
            return super().invoke(ctx)


# What users of other systems type already; underscores do for hyphens, too.
_FAMILIAR = {
    "aud": "audio",
    "driven-audio": "audio",
    "driving-audio": "audio",
    "drv-aud": "audio",
    "drv-pose": "pose",
    "outfile": "out",
    "out-name": "out",
    "workspace": "workdir",
}


def _familiar(word: str) -> str:
    word = word.replace("_", "-")
    return _FAMILIAR.get(word, word)


@click.group(
    context_settings={
        "help_option_names": ["-h", "--help"],
        "max_content_width": 110,
        "token_normalize_func": _familiar,
    }
)
@click.version_option(package_name="jaxtalk", prog_name="jaxtalk")
def main() -> None:
    """From a talking video to a talking head.

    Training and evaluation have scripts of their own: train.py and eval.py.
    """


def verb(examples: str) -> Callable[[Callable[..., Any]], click.Command]:
    return main.command(cls=_Verb, examples=examples)


@verb("""
    jaxtalk prepare talk.mp4 --out clips/anna --identity anna
    jaxtalk prepare talk.mp4 --out clips/anna --face-model procedural   # needs no downloaded face model
    jaxtalk prepare talk.mp4 --out clips/anna --audio talk.wav --coefficients talk.mat --coefficients-fps 30
    jaxtalk prepare --dataset hdtf --root HDTF --out clips --jobs 8 --split s3d_nerf
    jaxtalk prepare --from ad_nerf dataset/Obama --out clips/obama      # a folder that another system made
    """)
@click.argument("video", type=_FILE, required=False)
@click.option(
    "--from",
    "source",
    type=click.Choice(["ad_nerf", "rad_nerf", "deep3d"]),
    help="VIDEO is what another system made: a folder of AD-NeRF or DFRF (ad_nerf), of RAD-NeRF, ER-NeRF, SyncTalk or "
    "TalkingGaussian (rad_nerf), or a video with Deep3D's coefficients beside it (deep3d).",
)
@click.option("--out", type=_FILE, required=True, help="Folder of the clip to make, or of all clips of a collection.")
@click.option("--identity", default="", help="Who speaks; the folder's name when not given.")
@click.option("--size", default=512, show_default=True, help="Side of the frames, pixels.")
@click.option("--fps", default=25.0, show_default=True, help="Frames a second of the clip.")
@click.option("--landmarker", type=_FILE, help="MediaPipe's face_landmarker.task; else cached or downloaded.")
@click.option("--face-model", type=click.Choice(["ict", "procedural"]), default="ict", show_default=True)
@click.option("--face-model-file", type=_FILE, help="The face model as a file; else cached or downloaded.")
@click.option(
    "--coefficients",
    type=_FILE,
    help="Deep3D's 257 numbers a frame (.mat, .npy): identity and expression come from it.",
)
@click.option("--coefficients-fps", type=float, help="Rows a second of that file; the video's rate when not given.")
@click.option("--audio", type=_FILE, help="Speech in a file of its own, from the same moment as the video.")
@click.option("--start", type=float, help="Use the video from this second on.")
@click.option("--end", type=float, help="Use the video up to this second.")
@click.option("--language", default="", help="Kept in the clip: what is spoken, e.g. en.")
@click.option("--emotion", default="", help="Kept in the clip: how it is spoken.")
@click.option("--consent", type=_FILE, help="JSON file (subject, source, scope, date), kept in the clip.")
@click.option("--overwrite", is_flag=True, help="Replace a clip made with other settings.")
@click.option(
    "--dataset",
    type=click.Choice(["hdtf", "mead", "folder"]),
    help="In place of VIDEO: every video of a collection (folder: of any tree; a sub-folder is a person).",
)
@click.option("--root", type=_FILE, help="Where the collection lies.")
@click.option("--jobs", type=click.IntRange(min=0), default=0, help="Its clips made at once; half the CPUs if 0.")
@click.option("--view", "views", multiple=True, help="Of MEAD: a view; front when not given; may be repeated.")
@click.option("--tables", type=_FILE, help="Of HDTF: the folder of its tables, to be told what is missing.")
@click.option("--split", default="", metavar="PAPER", help="Write the manifest with the split of a paper: s3d_nerf.")
def prepare(video: Path | None, source: str | None, out: Path, consent: Path | None, **options: Any) -> None:
    """Turn a talking VIDEO, or a whole collection, into clips to learn from.

    Looks at the video first and says what is wrong with it (preflight.json); draws what it found (preview.png).
    The same command continues an interrupted preparation.
    """
    from jaxtalk.preparation.prepare import PrepareOptions, prepare_clip

    collection = {name: options.pop(name) for name in _OF_COLLECTIONS}
    if collection["dataset"] is not None:
        if video is not None or source is not None or collection["root"] is None:
            raise click.UsageError("--dataset needs --root DIR, and neither VIDEO nor --from")
        _prepare_collection(out, PrepareOptions(**options, consent=_read_consent(consent)), **collection)
        return
    if any(collection.values()):
        raise click.UsageError("--root, --jobs, --view, --tables and --split belong to --dataset")
    if video is None:
        raise click.UsageError("Missing argument 'VIDEO' (or --dataset with --root).")
    settings = PrepareOptions(**options, consent=_read_consent(consent))
    clip = prepare_clip(video, out, settings) if source is None else _import_clip(source, video, out, settings)
    click.echo(f"{clip.path}: {clip.meta.num_frames} frames of {clip.meta.identity} at {clip.meta.fps:g} fps")


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


@verb("""
    jaxtalk import-checkpoint ad_nerf 400000_head.tar 400000_body.tar --clip clips/obama --workdir runs/obama
    jaxtalk import-checkpoint dfrf base.tar --clip clips/cnn --workdir runs/cnn
    """)
@click.argument("system", type=click.Choice(["ad_nerf", "dfrf"]))
@click.argument("files", type=_FILE, nargs=-1, required=True)
@click.option("--clip", type=_FILE, required=True, help="Made by `prepare --from` of the folder they were trained on.")
@click.option("--workdir", type=_FILE, required=True, help="Folder of the run to make.")
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
    jaxtalk synthetic --out clips --identities 8 --utterances 4 --seconds 10
    """)
@click.option("--out", type=_FILE, required=True, help="Folder for the clips.")
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
@click.argument("clips", type=_FILE, nargs=-1, required=True)
@click.option("--out", type=_FILE, required=True, help="Folder of the dataset.")
@click.option("--held-out", multiple=True, metavar="ID", help="Identity kept for the test split; may be repeated.")
@click.option("--manifest", type=_FILE, help="The split of these very clips, as `prepare --dataset` writes it.")
def pack(clips: tuple[Path, ...], out: Path, held_out: tuple[str, ...], manifest: Path | None) -> None:
    """Pack CLIPS into one dataset, split by identity."""
    from jaxtalk.datasets import Manifest
    from jaxtalk.datasets import pack as pack_clips

    if manifest and held_out:
        raise click.UsageError("--manifest says who is held out; leave --held-out away")
    folders = [clip for clip in clips if not clip.is_file()]  # of clips/*, its manifest and lists are no clips
    pack_clips(folders, out, Manifest.load(manifest) if manifest else None, held_out=held_out)
    click.echo(f"{out}: {len(folders)} clips packed")


@verb("""
    jaxtalk synthesize --workdir runs/anna --audio speech.wav --out anna_says.mp4
    jaxtalk synthesize --workdir runs/anna --audio speech.mp3 --out a.mp4 --pose mirror --frames-dir frames
    """)
@click.option("--workdir", type=_FILE, required=True, help="Folder of a trained run.")
@click.option("--audio", type=_FILE, required=True, help="Speech: any sound or video file, of any length.")
@click.option("--out", type=_FILE, required=True, help="The mp4 to write.")
@click.option("--avatar", "--identity", "avatar", help="Which head of the run; needed when it has several.")
@click.option("--pose", default="hold", show_default=True, metavar="hold|loop|mirror|CLIP", help="How the head moves.")
@click.option("--frames-dir", type=_FILE, help="Write the frames as PNG files here, too.")
@click.option("--features", type=_FILE, help="The speech's features made elsewhere (.npy), for runs that read them.")
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
    jaxtalk compare runs/base runs/no_warp runs/no_warp_seed1
    jaxtalk compare runs/base runs/no_warp --protocol heldout --metrics psnr/rgb,lmd/mouth --out tables
    """)
@click.argument("runs", type=_FILE, nargs=-1, required=True, metavar="RUN RUN...")
@click.option("--protocol", default="", help="Which evaluation (folder of RUN/eval), where the runs share several.")
@click.option("--out", type=_FILE, default=Path("compare"), show_default=True, help="Folder of the page and tables.")
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
    jaxtalk verify anna_says.mp4
    """)
@click.argument("file", type=_FILE)
def verify(file: Path) -> None:
    """Tell whether FILE was made by jaxtalk, and from what.

    Exit code 0: it is, and no record contradicts it. 1: no provenance, or changed since. 2: no such file.
    """
    from jaxtalk.synthesis.provenance import verify as check

    report = check(file)
    click.echo(report.text)
    sys.exit(0 if report.intact else 1)


@verb("""
    jaxtalk bench --config configs/ad_nerf.py:tiny
    jaxtalk bench --config configs/ad_nerf.py:paper --size 512 --out bench.json
    """)
@click.option("--config", required=True, metavar="FILE.py[:VARIANT]", help="A training config.")
@click.option("--size", type=click.IntRange(8, 4096), help="Side of the frames, pixels; the config's when not given.")
@click.option(
    "--seconds", type=click.FloatRange(min=0), default=10.0, show_default=True, help="Time for each measurement."
)
@click.option("--clip", type=_FILE, help="A prepared clip in place of a synthetic speaker.")
@click.option("--out", type=_FILE, help="Write the figures as JSON here.")
def bench(config: str, size: int | None, seconds: float, clip: Path | None, out: Path | None) -> None:
    """Measure training and rendering of any system on this device.

    Parameters are random, and the clip is a synthetic speaker unless one is given; nothing is trained or kept."""
    from jaxtalk.bench import run_bench

    run_bench(config, size=size, seconds=seconds, clip=clip, out=out)


@main.group()
def weights() -> None:
    """Pretrained files: list, get, convert and check them."""


@weights.command("list", cls=_Verb, examples="jaxtalk weights list")
def weights_list() -> None:
    """What can be had, its licence, and whether it is here."""
    from rich.console import Console
    from rich.table import Table

    from jaxtalk.weights import REGISTER, cache_folder

    table = Table(title=f"pretrained files in {cache_folder()}")
    for title in ("name", "here", "licence", "what for"):
        table.add_column(title, overflow="fold")
    for entry in REGISTER.values():
        here = (cache_folder() / entry.file).is_file()
        table.add_row(entry.name, "yes" if here else "no", entry.licence, entry.purpose)
    Console().print(table)


@weights.command(
    "get",
    cls=_Verb,
    examples="jaxtalk weights get ict_facekit\njaxtalk weights get lpips_alex --from alex.pth",
)
@click.argument("name")
@click.option("--from", "source", help="A file or folder of yours, or another URL, in place of the published one.")
def weights_get(name: str, source: str | None) -> None:
    """Put the pretrained file NAME into the cache: its hash checked, a network's file converted."""
    from jaxtalk.weights import get

    click.echo(get(name, source=source))


@weights.command(
    "convert",
    cls=_Verb,
    examples="jaxtalk weights convert iresnet50 backbone.pth\njaxtalk weights convert vgg16 vgg16.pth --out vgg16.npz",
)
@click.argument("name")
@click.argument("file", type=_FILE)
@click.option("--out", type=_FILE, help="The npz to write; the cache's when not given.")
def weights_convert(name: str, file: Path, out: Path | None) -> None:
    """Turn FILE with the weights of the network NAME (torch, safetensors or npz) into ours.

    Code in the file is never run. Every array has to be there, of the right shape, and none may be left over.
    """
    from jaxtalk.weights import check, convert_file

    path = convert_file(name, file, out)
    click.echo(f"{path}: {check(name, path)}")


@weights.command("check", cls=_Verb, examples="jaxtalk weights check\njaxtalk weights check vgg16 lpips_vgg")
@click.argument("names", nargs=-1, metavar="[NAME]...")
def weights_check(names: tuple[str, ...]) -> None:
    """Read files of the cache again: whole, finite, of the right shapes, and what they were made of.

    Without a NAME all that are here. Exit code 2 when one of them is damaged or absent.
    """
    from jaxtalk.weights import REGISTER, cache_folder, check

    here = tuple(name for name, entry in REGISTER.items() if (cache_folder() / entry.file).is_file())
    if not names and not here:
        click.echo(f"{cache_folder()}: nothing is here yet; see `jaxtalk weights list`")
    failed = False
    for name in names or here:
        try:
            click.echo(f"{name}: good, {check(name)}")
        except JaxtalkError as error:
            failed = True
            click.echo(f"{name}: {error}", err=True)
    sys.exit(2 if failed else 0)


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
