"""The prepared clip on disk: schema, reader, writer, validator. The one contract between video and learning.

A clip is a folder:

    clip.json        schema version, identity, provenance, fps, size, camera, near, far, face model, preparation stages
    frames/N.png     or N.jpg; six digits from 000000; RGB, 8 bit, the clip's size
    masks/N.png      8 bit labels: 0 background, 1 head (with hair), 2 torso (with neck)
    background.png   the scene without the person
    audio.wav        mono, 16 bit
    track.npz        the arrays of `Track`
    features/*.npy   optional audio features made elsewhere, e.g. deepspeech.npy [F, 16, 29]

Conventions. World = canonical head space, metres, origin at the head's centre, x to the image's right for a frontal
face, y up, z towards the camera. The head's pose is head to camera, x_cam = R x_head + t, OpenGL axes (x right, y up,
looking along -z), so t_z < 0; the camera-to-world matrix is its inverse. Pinhole `focal, cx, cy` in pixels, the centre
of pixel (column c, row r) at (c + 0.5, r + 0.5): u = cx - focal x_cam/z_cam, v = cy + focal y_cam/z_cam (z_cam < 0).
`Track.time[i]` is the time of frame i in seconds on the axis of audio.wav.
"""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import soundfile
from PIL import Image

from jaxtalk.errors import JaxtalkError

SCHEMA_VERSION = 1
MASK_BACKGROUND, MASK_HEAD, MASK_TORSO = 0, 1, 2


class ClipError(JaxtalkError):
    """A clip that is missing, incomplete or inconsistent; the message names the file, the frame and the mend."""


@dataclasses.dataclass(frozen=True)
class Camera:
    """Pinhole camera shared by all frames of a clip. Pixels; pixel centres at +0.5."""

    focal: float
    cx: float
    cy: float

    def scaled(self, factor: float) -> Camera:
        """The same camera for frames resized by `factor`."""
        return Camera(self.focal * factor, self.cx * factor, self.cy * factor)


@dataclasses.dataclass(frozen=True)
class FaceModelInfo:
    """Which parametric face the coefficients belong to."""

    name: str
    num_identity: int
    num_expression: int


@dataclasses.dataclass(frozen=True)
class ClipMeta:
    """What clip.json holds. `near`, `far`: distances along the viewing axis that enclose the head, metres."""

    identity: str
    fps: float
    num_frames: int
    size: tuple[int, int]  # height, width
    camera: Camera
    near: float
    far: float
    face_model: FaceModelInfo
    sample_rate: int = 16000
    frame_format: str = "png"
    synthetic: bool = False
    language: str = ""
    emotion: str = ""
    source: Mapping[str, Any] = dataclasses.field(default_factory=dict)  # file, sha256, ...
    consent: Mapping[str, Any] = dataclasses.field(default_factory=dict)  # subject, source, scope, date
    stages: Mapping[str, Any] = dataclasses.field(default_factory=dict)  # preparation: stage -> version, parameters
    schema: int = SCHEMA_VERSION

    def to_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any], where: str) -> ClipMeta:
        """Builds the record from parsed JSON; `where` names the file in errors."""
        if data.get("schema") != SCHEMA_VERSION:
            raise ClipError(
                f"{where}: schema {data.get('schema')!r}, this version reads {SCHEMA_VERSION}; prepare the clip again"
            )
        known = {field.name for field in dataclasses.fields(cls)}
        unknown = sorted(set(data) - known)
        if unknown:
            raise ClipError(f"{where}: unknown key {unknown[0]!r}; prepare the clip again with this version")
        try:
            return cls(
                **{
                    **data,
                    "camera": Camera(**data["camera"]),
                    "face_model": FaceModelInfo(**data["face_model"]),
                    "size": tuple(data["size"]),
                }
            )
        except (KeyError, TypeError) as error:
            raise ClipError(f"{where}: incomplete ({error}); prepare the clip again") from error


@dataclasses.dataclass(frozen=True)
class Track:
    """Per-frame measurements (F frames) and per-clip constants. Angles are never stored.

    Boxes are (x0, y0, x1, y1) in pixels of the clip's size; left and right are the subject's own.
    """

    time: np.ndarray  # [F] float64, seconds on the axis of audio.wav
    rotation: np.ndarray  # [F, 3, 3] head to camera
    translation: np.ndarray  # [F, 3] metres
    expression: np.ndarray  # [F, E] coefficients of the face model
    blendshapes: np.ndarray  # [F, 52] ARKit order (faces.landmarks.BLENDSHAPE_NAMES), in [0, 1]
    landmarks: np.ndarray  # [F, 68, 2] iBUG order, pixels (x, y)
    face_box: np.ndarray  # [F, 4]
    mouth_box: np.ndarray  # [F, 4]
    gaze: np.ndarray  # [F, 2] radians in the head: yaw to the image's right, pitch up
    eye_openness: np.ndarray  # [F, 2] left, right: 0 closed, 1 the clip's open eye
    valid: np.ndarray  # [F] bool: measured (True) or interpolated (False)
    identity: np.ndarray  # [I] coefficients of the face model
    proxy_points: np.ndarray  # [P, 3] metres, points on the neutral head's surface: bound the rays (ops.bounds)

    PER_CLIP = ("identity", "proxy_points")

    @property
    def num_frames(self) -> int:
        return len(self.time)

    def take(self, index: np.ndarray | slice) -> Track:
        """The track of some of the frames."""
        per_frame = (f.name for f in dataclasses.fields(self) if f.name not in self.PER_CLIP)
        return dataclasses.replace(self, **{name: getattr(self, name)[index] for name in per_frame})

    def scaled(self, factor: float) -> Track:
        """The track for frames resized by `factor`: pixel quantities change, metric ones do not."""
        pixels = {name: getattr(self, name) * factor for name in ("landmarks", "face_box", "mouth_box")}
        return dataclasses.replace(self, **pixels)

    def arrays(self) -> dict[str, Any]:
        return {field.name: np.asarray(getattr(self, field.name)) for field in dataclasses.fields(self)}

    def save(self, path: Path) -> None:
        with open(path, "wb") as file:
            np.savez_compressed(file, **self.arrays())

    @classmethod
    def load(cls, path: Path) -> Track:
        try:
            with np.load(path) as data:
                return cls(**{field.name: data[field.name] for field in dataclasses.fields(cls)})
        except (OSError, ValueError, EOFError) as error:
            raise ClipError(f"{path}: unreadable ({error}); prepare the clip again") from error
        except KeyError as error:
            raise ClipError(f"{path}: {error.args[0]}; prepare the clip again") from error


_TRACK_SHAPES: dict[str, tuple[int | None, ...]] = {  # without the frame axis
    "time": (),
    "rotation": (3, 3),
    "translation": (3,),
    "expression": (None,),
    "blendshapes": (52,),
    "landmarks": (68, 2),
    "face_box": (4,),
    "mouth_box": (4,),
    "gaze": (2,),
    "eye_openness": (2,),
    "valid": (),
}


class ClipView(Protocol):
    """One clip as learning sees it, from a folder (`Clip`) or from a packaged dataset, at some working size."""

    name: str
    meta: ClipMeta
    track: Track

    def frame(self, index: int) -> np.ndarray: ...  # [H, W, 3] uint8
    def mask(self, index: int) -> np.ndarray: ...  # [H, W] uint8 labels
    def background(self) -> np.ndarray: ...  # [H, W, 3] uint8
    def audio(self) -> np.ndarray: ...  # [N] float32 in [-1, 1] at meta.sample_rate
    def feature(self, name: str) -> np.ndarray | None: ...  # a stored feature file, or None


class Clip:
    """Reader of one clip folder. Frames are decoded when asked for; nothing is cached."""

    def __init__(self, path: Path, meta: ClipMeta, track: Track) -> None:
        self.path, self.meta, self.track = path, meta, track
        self.name = path.name

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> Clip:
        """Opens a clip folder. Raises `ClipError` when there is none or its schema is another's."""
        path = Path(path)
        file = path / "clip.json"
        if not file.is_file():
            raise ClipError(
                f"{path}: no clip here (clip.json is missing); make one with `jaxtalk prepare VIDEO --out {path}`"
            )
        try:
            data = json.loads(file.read_text())
        except ValueError as error:
            raise ClipError(f"{file}: not JSON ({error}); prepare the clip again") from error
        return cls(path, ClipMeta.from_json(data, str(file)), Track.load(path / "track.npz"))

    def frame_path(self, index: int) -> Path:
        return self.path / "frames" / f"{index:06d}.{self.meta.frame_format}"

    def mask_path(self, index: int) -> Path:
        return self.path / "masks" / f"{index:06d}.png"

    def frame(self, index: int) -> np.ndarray:
        return _read_image(self.frame_path(index), "RGB")

    def mask(self, index: int) -> np.ndarray:
        return _read_image(self.mask_path(index), "L")

    def background(self) -> np.ndarray:
        return _read_image(self.path / "background.png", "RGB")

    def audio(self) -> np.ndarray:
        path = self.path / "audio.wav"
        try:
            samples, rate = soundfile.read(path, dtype="float32")
        except (soundfile.SoundFileError, OSError) as error:
            raise ClipError(f"{path}: unreadable ({error}); prepare the clip again") from error
        if samples.ndim != 1 or rate != self.meta.sample_rate:
            raise ClipError(f"{path}: expected mono at {self.meta.sample_rate} Hz; prepare the clip again")
        return samples

    def feature(self, name: str) -> np.ndarray | None:
        path = self.path / "features" / f"{name}.npy"
        if not path.is_file():
            return None
        try:
            return np.load(path, allow_pickle=False)
        except ValueError as error:
            raise ClipError(f"{path}: not a plain .npy array ({error})") from error

    def validate(self, decode: bool = False) -> None:
        """Checks every file and shape, and with `decode` every picture. Raises `ClipError` at the first fault."""
        meta, count = self.meta, self.meta.num_frames
        where = self.path / "track.npz"
        for name, tail in _TRACK_SHAPES.items():
            array = getattr(self.track, name)
            expected = (count, *(size if size is not None else array.shape[-1] for size in tail))
            if array.shape != expected:
                raise ClipError(f"{where}: {name} has shape {array.shape}, expected {expected}; prepare the clip again")
            bad = np.flatnonzero(~np.isfinite(array.reshape(count, -1).astype(np.float64)).all(axis=1))
            if bad.size:
                raise ClipError(f"{where}: {name} of frame {bad[0]} is not finite; prepare the clip again")
        if self.track.expression.shape[1] != meta.face_model.num_expression:
            raise ClipError(f"{where}: {self.track.expression.shape[1]} expression coefficients, clip.json says "
                            f"{meta.face_model.num_expression}; prepare the clip again")  # fmt: skip
        if np.any(np.diff(self.track.time) <= 0):
            raise ClipError(
                f"{where}: time does not increase at frame {int(np.argmax(np.diff(self.track.time) <= 0)) + 1}"
            )
        if not 0 < meta.near < meta.far:
            raise ClipError(f"{self.path / 'clip.json'}: near {meta.near} and far {meta.far} do not enclose a head")
        for index in range(count):
            for path in (self.frame_path(index), self.mask_path(index)):
                if not path.is_file():
                    raise ClipError(f"{path}: frame {index} is missing; prepare the clip again")
            if decode:
                self._check_size(self.frame(index), self.frame_path(index))
                self._check_size(self.mask(index), self.mask_path(index))
        self._check_size(self.background(), self.path / "background.png")
        self.audio()

    def _check_size(self, image: np.ndarray, path: Path) -> None:
        if image.shape[:2] != self.meta.size:
            raise ClipError(f"{path}: size {image.shape[:2]}, clip.json says {self.meta.size}; prepare the clip again")


def _read_image(path: Path, mode: str) -> np.ndarray:
    try:
        with Image.open(path) as image:
            return np.asarray(image.convert(mode))
    except FileNotFoundError as error:
        raise ClipError(f"{path}: missing; prepare the clip again") from error
    except OSError as error:
        raise ClipError(f"{path}: not a readable picture ({error}); prepare the clip again") from error


class ClipWriter:
    """Writes a clip folder that appears whole or not at all.

    Everything goes to `PATH.partial`, which a resumed preparation may find again; `finish` validates it and renames
    it to PATH in one step. JPEG frames are for footage that was lossy already.
    """

    def __init__(self, path: str | os.PathLike[str], frame_format: str = "png") -> None:
        self.path = Path(path)
        self.folder = self.path.with_name(self.path.name + ".partial")
        self.frame_format = frame_format
        for name in ("frames", "masks"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)

    def frame(self, index: int, image: np.ndarray) -> None:
        quality = {"quality": 95, "subsampling": 0} if self.frame_format == "jpg" else {"compress_level": 3}
        write_image(self.folder / "frames" / f"{index:06d}.{self.frame_format}", image, **quality)

    def mask(self, index: int, labels: np.ndarray) -> None:
        write_image(self.folder / "masks" / f"{index:06d}.png", labels, compress_level=3)

    def background(self, image: np.ndarray) -> None:
        write_image(self.folder / "background.png", image)

    def audio(self, samples: np.ndarray, rate: int) -> None:
        path = self.folder / "audio.wav"
        temporary = path.with_suffix(".tmp.wav")
        soundfile.write(temporary, np.clip(samples, -1, 1), rate, subtype="PCM_16")
        os.replace(temporary, path)

    def finish(self, meta: ClipMeta, track: Track) -> Clip:
        """Writes clip.json and track.npz, validates, and gives the folder its name."""
        track.save(self.folder / "track.npz")
        (self.folder / "clip.json").write_text(json.dumps(meta.to_json(), indent=1))
        Clip.open(self.folder).validate()
        if self.path.exists():
            shutil.rmtree(self.path)
        os.replace(self.folder, self.path)
        return Clip.open(self.path)


def write_image(path: Path, image: np.ndarray, **options: Any) -> None:
    """Saves an 8-bit picture so that a crash leaves the old file or the new one, never half of one."""
    temporary = path.with_name(path.name + ".tmp")
    kind = "JPEG" if path.suffix == ".jpg" else "PNG"
    Image.fromarray(image).save(temporary, format=kind, **options)
    os.replace(temporary, path)
