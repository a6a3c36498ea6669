"""`prepare_clip`: a talking video becomes a prepared clip, stage by stage, each one kept until the clip is whole."""

from __future__ import annotations

import errno
import shutil
from pathlib import Path

from jaxtalk.clip import Clip, ClipError
from jaxtalk.errors import JaxtalkError
from jaxtalk.preparation import features
from jaxtalk.preparation.job import Job, PrepareOptions
from jaxtalk.preparation.pipeline import STAGES_FOLDER, Run
from jaxtalk.preparation.stages import first_difference
from jaxtalk.progress import console


def prepare_clip(video: str | Path, out: str | Path, options: PrepareOptions | None = None) -> Clip:
    """Prepares `video` into the clip folder `out`.

    An interrupted preparation goes on where it stopped when it is called again. A clip that is there already and was
    made from the same video with the same settings is returned as it is, but for features that it lacks.

    Raises:
      JaxtalkError: one line for whatever the user can mend: an unreadable or unsuitable video, a missing model file,
        a full disk, a clip made with other settings. No clip is left behind then.
    """
    options = options or PrepareOptions()
    video, out = Path(video), Path(out)
    options.check()
    features.check_ready([out], options.features, options.overwrite)
    job = Job.of(video, out, options)
    try:
        if _already_there(out, job, options.overwrite):
            clip = Clip.open(out)
        else:
            clip = _run(job)
            shutil.rmtree(out / STAGES_FOLDER, ignore_errors=True)
        features.add_features([clip], options.features)
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        raise JaxtalkError(
            f"{error.filename or out}: no space left on the device; free some and run again (finished stages are kept)"
        ) from error
    return clip


def _run(job: Job) -> Clip:
    _ = job.model  # a damaged file is told before any work
    run = Run(job)
    try:
        return run.clip()
    except JaxtalkError:  # the input's fault: trying again would find the same, so nothing is kept
        shutil.rmtree(run.writer.folder, ignore_errors=True)
        raise


def _already_there(out: Path, job: Job, overwrite: bool) -> bool:
    """True where `out` is the clip that `job` would make. Raises for anything else that is not to be overwritten."""
    if overwrite or not out.exists():
        return False
    if out.is_file() or (not (out / "clip.json").is_file() and any(out.iterdir())):
        raise JaxtalkError(f"{out}: exists and is not a clip; choose another folder with --out")
    if not (out / "clip.json").is_file():
        return False
    try:
        clip = Clip.open(out)
        clip.validate()
    except ClipError as error:
        raise JaxtalkError(f"{error} (--overwrite replaces it)") from error
    difference = first_difference(clip.meta.stages, job.records())
    if difference is None:
        difference = first_difference({"identity": clip.meta.identity}, {"identity": job.identity})
    if difference is not None:
        name, before, after = difference
        raise JaxtalkError(f"{out}: made with other settings ({name} is {before!r} there, {after!r} asked for); "
                           "choose another folder or pass --overwrite")  # fmt: skip
    shutil.rmtree(out / STAGES_FOLDER, ignore_errors=True)
    console.print(f"{out}: already prepared", highlight=False)
    return True


__all__ = ["PrepareOptions", "prepare_clip"]
