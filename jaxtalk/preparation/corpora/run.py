"""`prepare_corpus`: videos of a collection become clips, in processes; what fails is listed, and the rest goes on."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import fcntl
import json
import os
import signal
import traceback
from collections.abc import Iterator
from pathlib import Path

from jaxtalk import progress, weights
from jaxtalk.clip import Clip
from jaxtalk.errors import JaxtalkError
from jaxtalk.preparation import decode, features, preflight
from jaxtalk.preparation.corpora.corpus import Corpus, Item
from jaxtalk.preparation.corpora.workers import Died, in_processes
from jaxtalk.preparation.job import PrepareOptions
from jaxtalk.preparation.prepare import prepare_clip

FAILURES_FILE = "failures.json"
# Processes cannot share a TPU, and would each reserve a whole GPU; the fit of one face needs neither.
_ENVIRONMENT = {"JAX_PLATFORMS": "cpu"}
_OF_ONE_VIDEO = ("identity", "audio", "coefficients", "coefficients_fps")


@dataclasses.dataclass(frozen=True)
class Result:
    """What became of one video."""

    name: str
    video: str
    identity: str
    reason: str = ""  # of a failure
    already: bool = False  # it had been prepared before
    verdict: str = ""  # preflight's
    details: str = ""  # the traceback of an error that nobody foresaw
    full: bool = False  # no space is left: the others would fail likewise


@dataclasses.dataclass(frozen=True)
class Report:
    """What became of a collection, in its order."""

    results: tuple[Result, ...]
    not_tried: int  # videos left when the disk was full

    @property
    def prepared(self) -> list[Result]:
        return [result for result in self.results if not result.reason]

    @property
    def failures(self) -> list[Result]:
        return [result for result in self.results if result.reason]


def prepare_corpus(corpus: Corpus, out: Path, options: PrepareOptions, jobs: int = 0) -> Report:
    """Prepares every video of `corpus` into a folder of its own in `out`, `jobs` of them at once (0: half the CPUs).

    Clips that are there already are kept, and interrupted ones go on where they stopped (see `prepare_clip`). What
    fails is said at once, and written into OUT/failures.json at the end.

    Raises:
        JaxtalkError: what concerns all of them: options that belong to one video, missing models, another
            preparation that writes into `out`, or a disk that was full before any clip was whole.
    """
    _check(options)
    corpus.check()
    features.check_ready([out / item.name for item in corpus.items], options.features, options.overwrite)
    options = _with_models(options)
    if out.exists() and not out.is_dir():
        raise JaxtalkError(f"{out}: a file is there; --out names a folder for the clips")
    out.mkdir(parents=True, exist_ok=True)
    with _alone(out):
        # Features come afterwards, and from here: a network wants the accelerator that the processes leave alone.
        results, left = _run(corpus, out, dataclasses.replace(options, features=()), jobs)
        clips = [Clip.open(out / name) for name, result in results.items() if not result.reason]
        features.add_features(sorted(clips, key=lambda clip: clip.name), options.features)
        report = Report(tuple(results[item.name] for item in corpus.items if item.name in results), left)
        write_failures(out, report)
    return report


def _run(corpus: Corpus, out: Path, options: PrepareOptions, jobs: int) -> tuple[dict[str, Result], int]:
    """Results by name, and how many videos were not tried."""
    tasks = [(item, out, options) for item in corpus.items]
    results: dict[str, Result] = {}
    ended = in_processes(prepare_item, tasks, jobs or max(1, (os.cpu_count() or 1) // 2), _ENVIRONMENT)
    with contextlib.closing(ended), progress.bar(f"preparing {corpus.name}", len(tasks)) as bar:
        for index, result in ended:
            item = corpus.items[index]
            if isinstance(result, Died):
                result = _failure(item, _how_it_died(result))
            results[item.name] = result
            bar.advance(note=item.name)
            if result.reason:
                progress.console.print(
                    f"failed: {item.name}: {result.reason}", highlight=False, markup=False, soft_wrap=True
                )
            if result.full:
                break
    return results, len(tasks) - len(results)


def prepare_item(task: tuple[Item, Path, PrepareOptions]) -> Result:
    """One video, in a process of its own: everything that goes wrong becomes a result."""
    item, out, options = task
    already = (out / item.name / "clip.json").is_file()
    try:
        clip = prepare_clip(item.video, out / item.name, _options_of(item, options))
        preflight = clip.path / "preflight.json"
        verdict = json.loads(preflight.read_text())["verdict"] if preflight.is_file() else ""
        return Result(item.name, str(item.video), item.identity, already=already, verdict=verdict)
    except JaxtalkError as error:
        cause = error.__cause__
        full = isinstance(cause, OSError) and cause.errno == errno.ENOSPC
        return dataclasses.replace(_failure(item, str(error)), full=full)
    except Exception as error:  # one video must not end the others
        reason = f"unexpected {type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'no message'}"
        return _failure(item, f"{reason} ({FAILURES_FILE} has the details)", traceback.format_exc())


def _options_of(item: Item, options: PrepareOptions) -> PrepareOptions:
    """The user's options with what the place of the video tells of it; what the user says goes first."""
    return dataclasses.replace(
        options,
        identity=item.identity,
        audio=_speech_file(item),
        emotion=options.emotion or item.emotion,
        language=options.language or item.language,
    )


def _speech_file(item: Item) -> Path | None:
    """The file that the speech is taken from; None where the video has its own, which is in sync by its times."""
    own = decode.probe(item.video).has_audio
    if item.speech is None and not own:
        raise JaxtalkError(f"{item.video}: no sound in it, and no speech beside it: add {item.missing_speech}")
    if item.speech is None or (own and not _silent(item.video)):
        return None
    return item.speech


def _silent(video: Path) -> bool:
    sound = decode.load_sound(video)
    return preflight.speech_report(sound.samples, sound.rate)["peak_db"] < preflight.SILENCE_DB


def _failure(item: Item, reason: str, details: str = "") -> Result:
    return Result(item.name, str(item.video), item.identity, reason, details=details)


def _how_it_died(died: Died) -> str:
    code = died.exit_code
    if code is not None and code < 0:
        name = signal.Signals(-code).name
        return f"its process was ended by {name}; the memory may be full: lower --jobs"
    return f"its process ended with exit code {code}"


def _check(options: PrepareOptions) -> None:
    options.check()
    for name in _OF_ONE_VIDEO:
        if getattr(options, name):
            raise JaxtalkError(f"--{name.replace('_', '-')} belongs to one video; leave it out with --dataset")


def _with_models(options: PrepareOptions) -> PrepareOptions:
    """The options with the models as files: found, downloaded and tried once, not by every process."""
    from jaxtalk.faces.model import load_face_model
    from jaxtalk.preparation.landmarks import Landmarker

    landmarker = _model("face_landmarker", options.landmarker)
    face_model = None
    if options.face_model != "procedural":
        face_model = _model("ict_facekit", options.face_model_file)
    with Landmarker(landmarker):
        load_face_model(options.face_model, face_model)
    return dataclasses.replace(options, landmarker=landmarker, face_model_file=face_model)


def _model(name: str, file: str | Path | None) -> Path:
    return weights.get(name) if file is None else weights.find(name, file)


@contextlib.contextmanager
def _alone(out: Path) -> Iterator[None]:
    """Keeps a second preparation out of `out`. The system frees the lock of a killed process."""
    path = out / ".preparing"
    with open(path, "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise JaxtalkError(f"{out}: another preparation is writing into it; wait for it, or name another --out"
                               ) from error  # fmt: skip
        try:
            yield
        finally:
            path.unlink(missing_ok=True)


def print_report(report: Report) -> None:
    """Shows on the terminal what failed and why, and which clips one should look at."""
    from rich.table import Table

    if report.failures:
        table = Table(title=f"{len(report.failures)} failed", show_header=False)
        for result in report.failures:
            table.add_row(result.name, result.reason)
        progress.console.print(table, markup=False)
    poor = [result.name for result in report.prepared if result.verdict == "poor"]
    if poor:
        progress.console.print(
            f"poor, by their preflight.json: {', '.join(poor)}", highlight=False, markup=False, soft_wrap=True
        )
    if report.not_tried:
        progress.console.print(f"not tried, as the disk is full: {report.not_tried}; free some space and run again")


def write_failures(out: Path, report: Report) -> None:
    """OUT/failures.json: what failed in the last run and why; none, no file."""
    path = out / FAILURES_FILE
    if not report.failures:
        path.unlink(missing_ok=True)
        return
    fields = ("name", "video", "identity", "reason", "details")
    rows = [{field: value for field in fields if (value := getattr(result, field))} for result in report.failures]
    content = {"prepared": len(report.prepared), "not_tried": report.not_tried, "failures": rows}
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps(content, indent=1) + "\n")
    os.replace(temporary, path)
