"""The head of whoever a picture shows, for systems that meet people whom they were not trained on.

WORKDIR/pictures/NAME-HASH/    the picture as a clip of one frame (`jaxtalk.preparation.picture`)
WORKDIR/avatars/NAME-HASH/     the head that the run made of it
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from jaxtalk.clip import Clip, ClipMeta
from jaxtalk.datasets.files import exclusive, file_sha256
from jaxtalk.errors import JaxtalkError
from jaxtalk.methods.api import Avatar, Run, check_generalises, load_method, method_names
from jaxtalk.synthesis.avatars import keep_avatar, kept_avatar, read_origin

FOLDER = "pictures"  # in the run's folder
_LEAST_SIZE = 512  # pixels of the prepared picture, as clips have them: landmarks are poor in small ones


@dataclasses.dataclass(frozen=True)
class PictureModels:
    """What finds a face in a picture. Files that are None come from the cache, or are downloaded."""

    landmarker: Path | None = None
    face_model: str | None = None  # None: that of the clips of the run
    face_model_file: Path | None = None


def avatar_of_picture(run: Run, picture: Path, models: PictureModels | None = None) -> tuple[Avatar, dict[str, Any]]:
    """The head of the person in `picture` and what is known of it, as `open_avatar` gives them; made once and kept.

    Raises:
      JaxtalkError: the system is trained for one person, the picture shows no face, several or a small one, or it
        cannot be read. Nothing is left behind then.
    """
    method = load_method(run.config.method)
    check_generalises(method, run.config.method, "a picture shows another")
    clip = picture_clip(run, picture, models or PictureModels())
    facts = {"picture": {"file": picture.name, "sha256": file_sha256(picture)}, "clip_sha256": _digest(clip)}
    kept = kept_avatar(run, clip.name, **facts)
    if kept is not None:
        return method.load_avatar(kept), read_origin(kept)
    avatar = _fitted(method, run, clip)
    return avatar, keep_avatar(run, avatar, clip.name, clip, **facts)


def _fitted(method: Any, run: Run, clip: Clip) -> Avatar:
    """What the system makes of one frame; one that adapts may want more than that."""
    from jaxtalk.input.clips import ResizedClip

    try:
        return method.fit(run, ResizedClip(clip, run.config.data.size))
    except JaxtalkError as error:
        if not hasattr(method, "adapt"):
            raise
        able = [name for name in method_names() if _needs_one_picture(load_method(name))]
        raise JaxtalkError(
            f"{error}. {run.config.method} learns a person from seconds of video: give it a clip of them; systems that "
            f"need one picture: {', '.join(able) or 'none yet'}"
        ) from error


def _needs_one_picture(method: Any) -> bool:
    return getattr(method, "generalises", False) and not hasattr(method, "adapt")


def picture_clip(run: Run, picture: Path, models: PictureModels) -> Clip:
    """The picture as a clip in the run's folder, no smaller than the run works at."""
    from jaxtalk.preparation.job import PrepareOptions
    from jaxtalk.preparation.picture import clip_name, clip_of_picture, kept_clip

    if not picture.is_file():
        what = "a folder" if picture.is_dir() else "no such file"
        raise JaxtalkError(f"{picture}: {what}; name a picture of a face")
    folder, size = run.workdir / FOLDER, max(_LEAST_SIZE, int(run.config.data.size))
    name = clip_name(picture)
    with exclusive(folder / name):
        kept = kept_clip(folder / name)
        if kept is not None and kept.meta.size[0] == size and models.face_model in (None, kept.meta.face_model.name):
            return kept
        learnt = _learnt_from(run)
        options = PrepareOptions(
            size=size,
            fps=learnt.fps if learnt is not None else PrepareOptions.fps,
            landmarker=models.landmarker,
            face_model=models.face_model or _face_model(learnt),
            face_model_file=models.face_model_file,
        )
        return clip_of_picture(picture, folder, options)


def _learnt_from(run: Run) -> ClipMeta | None:
    """The record of a clip that the run was trained on; None where its collection is not there any more."""
    from jaxtalk.datasets import open_packed

    folder = Path(run.config.data.dataset or run.workdir / "dataset")
    try:
        return open_packed(folder, "train", verify=False)[0].meta
    except JaxtalkError:
        return None


def _face_model(learnt: ClipMeta | None) -> str:
    """The face model to fit: the one of the run's clips where it can be fitted here."""
    from jaxtalk.faces.model import MODEL_NAMES

    return learnt.face_model.name if learnt is not None and learnt.face_model.name in MODEL_NAMES else MODEL_NAMES[0]


def _digest(clip: Clip) -> str:
    from jaxtalk.datasets.packing import clip_digest

    return clip_digest(clip)
