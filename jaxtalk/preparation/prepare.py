"""`prepare_clip`: a talking video becomes a prepared clip, stage by stage, each one kept until the clip is whole."""

from __future__ import annotations

import dataclasses
import errno
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jaxtalk.clip import Clip, ClipError
from jaxtalk.errors import JaxtalkError
from jaxtalk.preparation import pipeline
from jaxtalk.preparation.stages import first_difference
from jaxtalk.progress import console


@dataclasses.dataclass(frozen=True)
class PrepareOptions:
    """What a user can choose. Model files that are None come from the cache, or are downloaded."""

    identity: str = ""  # name of the person; empty: the clip folder's name
    size: int = 512  # pixels, of the square clip
    fps: float = 25.0
    audio: str | Path | None = None  # speech in a file of its own, from the same moment as the video
    start: float | None = None  # seconds of the video: use only a part of it
    end: float | None = None
    landmarker: str | Path | None = None
    face_model: str = "ict"
    face_model_file: str | Path | None = None
    language: str = ""
    emotion: str = ""
    consent: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    overwrite: bool = False


def prepare_clip(video: str | Path, out: str | Path, options: PrepareOptions | None = None) -> Clip:
    """Prepares `video` into the clip folder `out`.

    An interrupted preparation goes on where it stopped when it is called again. A clip that is there already and was
    made from the same video with the same settings is returned as it is.

    Raises:
      JaxtalkError: one line for whatever the user can mend: an unreadable or unsuitable video, a missing model file,
        a full disk, a clip made with other settings. No clip is left behind then.
    """
    options = options or PrepareOptions()
    video, out = Path(video), Path(out)
    _check(options)
    job = pipeline.Job.of(video, out, options)
    try:
        if _already_there(out, job, options.overwrite):
            return Clip.open(out)
        clip = job.run()
        shutil.rmtree(out / pipeline.STAGES_FOLDER, ignore_errors=True)
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        raise JaxtalkError(
            f"{error.filename or out}: no space left on the device; free some and run again (finished stages are kept)"
        ) from error
    return clip


def _check(options: PrepareOptions) -> None:
    if not 32 <= options.size <= 4096:
        raise JaxtalkError(f"size {options.size}: choose between 32 and 4096 pixels")
    if not 5 <= options.fps <= 120:
        raise JaxtalkError(f"fps {options.fps:g}: choose between 5 and 120 frames a second")
    if options.start is not None and options.end is not None and options.end <= options.start:
        raise JaxtalkError(f"end {options.end:g} s does not come after start {options.start:g} s")


def _already_there(out: Path, job: pipeline.Job, overwrite: bool) -> bool:
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
    shutil.rmtree(out / pipeline.STAGES_FOLDER, ignore_errors=True)
    console.print(f"{out}: already prepared", highlight=False)
    return True
