"""`clip_of_picture`: one picture of a person becomes a clip of one frame, by the stages that prepare videos.

The clip holds all that a clip holds; its sound is the silence of one frame. What takes several frames to tell (jitter,
blinks, the sound's delay) is left out, and so is preflight.json.
"""

from __future__ import annotations

import hashlib
import re
import shutil
from collections.abc import Callable
from functools import cached_property
from pathlib import Path

import numpy as np
from PIL import Image

from jaxtalk import progress
from jaxtalk.clip import Clip, Track
from jaxtalk.errors import JaxtalkError
from jaxtalk.preparation import crop, decode, gaps, landmarks, masks, preflight
from jaxtalk.preparation.job import Job, PrepareOptions
from jaxtalk.preparation.picture_faces import MOST_FACES, find_face
from jaxtalk.preparation.picture_file import read_picture
from jaxtalk.preparation.pipeline import STAGES_FOLDER, Run
from jaxtalk.preparation.stages import Arrays

_MOST_LETTERS = 60  # of the file's name in the clip's


def clip_of_picture(picture: str | Path, folder: str | Path, options: PrepareOptions | None = None) -> Clip:
    """The clip FOLDER/NAME-HASH of one frame that shows `picture`; one that is there is returned as it is.

    Args:
      picture: a file that Pillow reads, showing one face.
      folder: where the clips of pictures lie; the clip's name is the file's with the first digits of its SHA-256.
      options: as of a video, where they apply: size, fps, models, consent, language, emotion.

    Raises:
      JaxtalkError: the file is no picture, it shows no face, several, or one that is too small, or a model is absent.
        Nothing is left behind then.
    """
    picture, options = Path(picture), options or PrepareOptions()
    options.check()
    image = read_picture(picture)
    name = clip_name(picture)
    out = Path(folder) / name
    kept = None if options.overwrite else kept_clip(out, options)
    if kept is not None:
        return kept
    run = _PictureRun(Job.of_picture(picture, image.shape[:2], out, options), image)
    try:
        clip = run.clip()
    except JaxtalkError:
        shutil.rmtree(run.writer.folder, ignore_errors=True)
        raise
    shutil.rmtree(out / STAGES_FOLDER, ignore_errors=True)
    return clip


def clip_name(picture: Path) -> str:
    """The file's name, as far as it suits a folder's, and twelve digits of its content's SHA-256."""
    with open(picture, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    stem = re.sub(r"[^\w.-]+", "_", picture.stem).strip("._")[:_MOST_LETTERS]
    return f"{stem or 'picture'}-{digest[:12]}"


def kept_clip(out: Path, options: PrepareOptions | None = None) -> Clip | None:
    """The clip of a picture that is there and whole, with `options` where they are given: its size and face model."""
    try:
        clip = Clip.open(out)
        clip.validate(decode=True)
    except JaxtalkError:
        return None
    same = options is None or (
        clip.meta.size == (options.size, options.size)
        and clip.meta.face_model.name == options.face_model
        and clip.meta.fps == options.fps
        and dict(clip.meta.consent) == dict(options.consent)
    )
    return clip if same else None


class _PictureRun(Run):
    """The stages of preparation over a single picture."""

    frame_format = "png"

    def __init__(self, job: Job, image: np.ndarray) -> None:
        super().__init__(job)
        self._image = image  # [H, W, 3] uint8

    @cached_property
    def sound(self) -> decode.Sound:
        return decode.Sound(np.zeros(round(decode.SAMPLE_RATE / self.options.fps), np.float32), decode.SAMPLE_RATE, 0.0)

    @cached_property
    def interval(self) -> tuple[float, float]:
        return 0.0, 1 / self.options.fps

    @cached_property
    def crop(self) -> crop.Crop:
        def make() -> Arrays:
            with landmarks.Landmarker(self.job.landmarker, num_faces=MOST_FACES) as landmarker:
                box = find_face(landmarker, self._image, self.job.video)
            x, y, side = crop.place(box[None], self.job.info.width, self.job.info.height)
            return {"crop": crop.as_numbers(crop.Crop(x, y, side, float(box[3] - box[1]), 1))}

        return crop.from_numbers(self._stage("crop", make)["crop"])

    def _decode(self) -> Arrays:
        image = self.crop.apply(self._image, self.options.size)
        self.decoded.mkdir(exist_ok=True)
        Image.fromarray(image).save(self._decoded(0))
        zero = np.zeros(1)
        return {"number": zero, "time": zero, "origin": zero, "thumbnails": masks.shrink(image)[None]}

    @cached_property
    def selection(self) -> gaps.Selection:
        if not self.face.found.any():
            raise JaxtalkError(f"{self.job.video}: the face was lost when the picture was cut to it; give one that "
                               "shows the whole head, facing the camera")  # fmt: skip
        return gaps.select(self.face.found, self.options.fps)

    def looked_at(self, track: Track, samples: np.ndarray) -> Callable[[], None]:
        report = preflight.fit_report(track.landmarks, self.fit["projected"], track.rotation, self.bridged.rotation,
                                      self.selection.measured, self.options.size)  # fmt: skip
        yaw = max(abs(v) for v in preflight.pose_report(track.rotation, track.translation)["yaw_deg"])
        advice = _advice(self.crop.face_pixels, yaw, report["inner_error_mean_px"])

        def tell() -> None:
            for line in advice:
                progress.console.print(f"{self.job.video.name}: {line}", highlight=False, markup=False, soft_wrap=True)

        return tell


def _advice(face_pixels: float, yaw: float, error: float) -> list[str]:
    """What is not as it should be; `yaw` in degrees, `error` the landmarks' mean, pixels of 512."""
    lines = []
    if face_pixels < preflight.SMALL_FACE:
        lines.append(f"the face is only {face_pixels:.0f} pixels high: it will look blurred")
    if yaw > preflight.WIDE_YAW:
        lines.append(f"the head is turned by {yaw:.0f} degrees: what the picture does not show is guessed")
    if error > preflight.LOOSE_FIT:
        loosely = "does not follow" if error > preflight.NO_FIT else "follows loosely"
        lines.append(f"the face model {loosely} the landmarks: look at preview.png")
    return lines


__all__ = ["clip_name", "clip_of_picture", "kept_clip"]
