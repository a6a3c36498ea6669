"""One preparation before it runs: the user's choices, the files, the models, and what each stage depends on."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from jaxtalk import weights
from jaxtalk.clip import Camera, FaceModelInfo
from jaxtalk.errors import JaxtalkError
from jaxtalk.faces.model import FaceModel, load_face_model
from jaxtalk.preparation import decode, masks
from jaxtalk.preparation.fit import FitOptions
from jaxtalk.preparation.importers import deep3d, placement
from jaxtalk.preparation.stages import Stage

FOCAL = 1200 / 512  # over the clip's size; not observable from a face, so fixed and stored
PLATE_FRAMES = 40
MOST_OFFSET = 10.0  # seconds that speech may be early or late


@dataclasses.dataclass(frozen=True)
class PrepareOptions:
    """What a user can choose. Model files that are None come from the cache, or are downloaded."""

    identity: str = ""  # name of the person; empty: the clip folder's name
    size: int = 512  # pixels, of the square clip
    fps: float = 25.0
    audio: str | Path | None = None  # speech in a file of its own, from the same moment as the video
    audio_offset: float = 0.0  # seconds by which the speech is later than the mouth: taken away
    start: float | None = None  # seconds of the video: use only a part of it
    end: float | None = None
    landmarker: str | Path | None = None
    face_model: str = "ict"
    face_model_file: str | Path | None = None
    coefficients: str | Path | None = None  # of Deep3D: identity and expression in place of the fit's (deep3d.read)
    coefficients_fps: float | None = None  # their rows a second; None: the video's rate
    language: str = ""
    emotion: str = ""
    consent: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    features: tuple[str, ...] = ()  # of the speech, to be kept in the clip (preparation.features)
    overwrite: bool = False

    def check(self) -> None:
        """Raises `JaxtalkError` for a value that makes no sense."""
        if not 32 <= self.size <= 4096:
            raise JaxtalkError(f"size {self.size}: choose between 32 and 4096 pixels")
        if not 5 <= self.fps <= 120:
            raise JaxtalkError(f"fps {self.fps:g}: choose between 5 and 120 frames a second")
        if not abs(self.audio_offset) <= MOST_OFFSET:
            raise JaxtalkError(
                f"audio offset {self.audio_offset:g} s: choose between -{MOST_OFFSET:g} and {MOST_OFFSET:g} s"
            )
        if self.start is not None and self.end is not None and self.end <= self.start:
            raise JaxtalkError(f"end {self.end:g} s does not come after start {self.start:g} s")
        if self.coefficients_fps is not None and self.coefficients is None:
            raise JaxtalkError("a rate of coefficients without coefficients; give their file with --coefficients")
        if self.coefficients_fps is not None and not 1 <= self.coefficients_fps <= 1000:
            raise JaxtalkError(f"coefficients fps {self.coefficients_fps:g}: choose between 1 and 1000 rows a second")


@dataclasses.dataclass(frozen=True)
class Imported:
    """Coefficients that come from a file, `fps` rows a second; the video would have `spare` rows more."""

    file: Path
    fps: float
    rows: deep3d.Deep3D
    spare: int

    @classmethod
    def of(cls, video: Path, info: decode.VideoInfo, options: PrepareOptions) -> Imported | None:
        """Reads the file, if one is asked for. Raises `JaxtalkError` where it cannot be of this video."""
        if options.coefficients is None:
            return None
        file, fps = Path(options.coefficients), float(options.coefficients_fps or info.fps)
        rows = deep3d.read(file)
        return cls(file, fps, rows, placement.spare_rows(len(rows), fps, info.duration, file, video))


@dataclasses.dataclass(frozen=True)
class Job:
    """One preparation: the files, the choices, and the models they need."""

    video: Path
    out: Path
    options: PrepareOptions
    audio: Path
    info: decode.VideoInfo
    landmarker: Path
    face_model_file: Path | None
    imported: Imported | None = None

    @classmethod
    def of(cls, video: Path, out: Path, options: PrepareOptions) -> Job:
        """Checks, before any work, that everything needed is there."""
        info = decode.probe(video)
        if options.audio is None and not info.has_audio:
            raise JaxtalkError(f"{video}: no audio stream; give the speech as a file of its own with --audio")
        imported = Imported.of(video, info, options)
        audio = Path(options.audio) if options.audio is not None else video
        return cls(video, out, options, audio, info, *_models(options), imported)

    @classmethod
    def of_picture(cls, picture: Path, size: tuple[int, int], out: Path, options: PrepareOptions) -> Job:
        """A still picture of `size` (height, width) as a video of one frame, without sound."""
        info = decode.VideoInfo(size[1], size[0], start=0.0, duration=1 / options.fps, fps=options.fps, has_audio=False)
        return cls(picture, out, options, picture, info, *_models(options))

    @property
    def identity(self) -> str:
        return self.options.identity or self.out.name

    @cached_property
    def model(self) -> FaceModel:
        return load_face_model(self.options.face_model, self.face_model_file)

    @property
    def coefficients_info(self) -> FaceModelInfo:
        """The model to which the clip's coefficients belong."""
        return self.model.info if self.imported is None else deep3d.INFO

    @property
    def camera(self) -> Camera:
        size = self.options.size
        return Camera(FOCAL * size, size / 2, size / 2)

    @cached_property
    def stages(self) -> dict[str, Stage]:
        """Every stage with all that its result depends on."""
        options = self.options
        source = Stage("source", 1, {
            "video": _sha256(self.video),
            "audio": None if options.audio is None else _sha256(self.audio),
            "start": options.start,
            "end": options.end,
            # Not where it is 0: clips that were made before there was this option are made as now.
            **({"audio_offset": options.audio_offset} if options.audio_offset else {}),
        })  # fmt: skip
        detector = {"landmarker": _sha256(self.landmarker)}
        crop_ = Stage("crop", 1, detector, (source,))
        frames = Stage("frames", 1, {"size": options.size, "fps": float(options.fps)}, (crop_,))
        points = Stage("landmarks", 1, detector, (frames,))
        fit = Stage("fit", 2, {
            "face_model": options.face_model,
            "face_model_file": None if self.face_model_file is None else _sha256(self.face_model_file),
            "focal_over_size": FOCAL,
            **dataclasses.asdict(FitOptions()),
        }, (points,))  # fmt: skip
        mask = Stage("masks", 5, {"working_size": masks.WORKING_SIZE}, (fit,))
        background = Stage("plate", 1, {"frames": PLATE_FRAMES}, (mask,))
        stages = [source, crop_, frames, points, fit, mask, background]
        if self.imported is not None:
            parameters = {"face_model": deep3d.INFO.name, "file": _sha256(self.imported.file), "fps": self.imported.fps}
            stages.append(Stage("coefficients", 1, parameters, (fit,)))
        return {stage.name: stage for stage in stages}

    def records(self) -> dict[str, Any]:
        """What clip.json keeps of the stages."""
        return {name: stage.record() for name, stage in self.stages.items()}


def _models(options: PrepareOptions) -> tuple[Path, Path | None]:
    """The files of the landmarker and, where it is one, of the face model."""
    landmarker = _weights("face_landmarker", options.landmarker)
    return landmarker, None if options.face_model == "procedural" else _weights("ict_facekit", options.face_model_file)


def _weights(name: str, file: str | Path | None) -> Path:
    """The user's file where one is given, else the cached one, downloaded if need be."""
    return weights.get(name) if file is None else weights.find(name, file)


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
