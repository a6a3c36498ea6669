"""Folders as AD-NeRF's and RAD-NeRF's preparation write them, made from a clip; and stand-ins for slow stages."""

from __future__ import annotations

import json
import pickle
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from PIL import Image
from scipy.spatial.transform import Rotation

from jaxtalk.clip import MASK_HEAD, MASK_TORSO, Clip
from jaxtalk.preparation import landmarks
from jaxtalk.preparation.fit import FaceFit
from jaxtalk.preparation.landmarks import Face

COLOURS = {0: (255, 255, 255), MASK_HEAD: (0, 0, 255), MASK_TORSO: (255, 0, 0)}  # RGB


def write_nerf_folder(
    clip: Clip,
    folder: Path,
    *,
    first_centre: float,
    pictures: str,
    unit: float = 1.0,
    first: int = 0,
    border: int = 0,
    suffix: str = ".jpg",
    skip: tuple[int, ...] = (),
) -> Path:
    """Writes the clip's frames with cameras in `unit` metres, the first pixel's centre at `first_centre`.

    `first`: number of the first picture; `border`: columns added on both sides; `skip`: frames left out.
    """
    for name in (pictures, "ori_imgs", "parsing"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    camera, (height, width) = clip.meta.camera, clip.meta.size
    kept = [i for i in range(clip.meta.num_frames) if i not in skip]
    frames = []
    for i in kept:
        number = first + i
        Image.fromarray(_wider(clip.frame(i), border)).save(folder / pictures / f"{number}{suffix}", quality=95)
        parsing = np.array([COLOURS[label] for label in range(3)], np.uint8)[clip.mask(i)]
        parsing[: height // 8, : width // 8] = (255, 255, 255)
        Image.fromarray(_wider(parsing, border)).save(folder / "parsing" / f"{number}.png")
        points = clip.track.landmarks[i] - 0.5 + np.array([border, 0])
        np.savetxt(folder / "ori_imgs" / f"{number}.lms", points, "%f")
        rotation, place = clip.track.rotation[i].astype(np.float64), clip.track.translation[i] / unit
        matrix = np.eye(4)
        matrix[:3, :3], matrix[:3, 3] = rotation.T, -rotation.T @ place
        frames.append({"img_id": number, "aud_id": number, "transform_matrix": matrix.tolist()})
    shift = 0.5 - first_centre
    head = {"focal_len": camera.focal, "cx": camera.cx - shift + border, "cy": camera.cy - shift}
    cut = len(frames) * 10 // 11
    for name, part in (("train", frames[:cut]), ("val", frames[cut:])):
        (folder / f"transforms_{name}.json").write_text(json.dumps({**head, "frames": part}))
    Image.fromarray(_wider(clip.background(), border)).save(folder / "bc.jpg", quality=95)
    soundfile.write(folder / "aud.wav", np.pad(clip.audio(), (first * 640, 0)), clip.meta.sample_rate, subtype="PCM_16")
    return folder


def _wider(image: np.ndarray, border: int) -> np.ndarray:
    return np.pad(image, ((0, 0), (border, border), (0, 0)), mode="edge")


def write_track_params(folder: Path, clip: Clip, seed: int = 0) -> dict[str, np.ndarray]:
    """track_params.pt as torch writes it, with the clip's poses: R = Rx(a) Ry(b) Rz(-c), decimetres."""
    rng = np.random.default_rng(seed)
    turn = Rotation.from_matrix(clip.track.rotation)
    angles = turn.as_euler("XYZ") * np.array([1, 1, -1])
    arrays = {
        "id": rng.normal(size=(1, 100)).astype(np.float32),
        "exp": rng.normal(size=(clip.meta.num_frames, 79)).astype(np.float32),
        "euler": angles.astype(np.float32),
        "trans": (10 * clip.track.translation).astype(np.float32),
        "focal": np.array([clip.meta.camera.focal], np.float32),
    }
    save_like_torch(folder / "track_params.pt", arrays)
    return arrays


class _Named:
    """An object that pickles as a global of a package that is not here."""

    def __init__(self, module: str, name: str) -> None:
        self.module, self.name = module, name


class _Call:
    def __init__(self, function: _Named, arguments: tuple[Any, ...]) -> None:
        self.function, self.arguments = function, arguments


class _Pickler(pickle._Pickler):  # type: ignore[name-defined]
    """Writes globals by name, without importing what they name."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args, protocol=2)
        self.storages: list[np.ndarray] = []

    def save(self, obj: Any, save_persistent_id: bool = True) -> None:
        if isinstance(obj, _Named):
            self.write(pickle.GLOBAL + f"{obj.module}\n{obj.name}\n".encode())
        elif isinstance(obj, _Call):
            self.save(obj.function)
            self.save(obj.arguments)
            self.write(pickle.REDUCE)
        elif isinstance(obj, np.ndarray):
            array = np.ascontiguousarray(obj, np.float32)
            strides = tuple(step // array.itemsize for step in array.strides)
            self.storages.append(array)
            key = ("storage", _Named("torch", "FloatStorage"), str(len(self.storages) - 1), "cpu", array.size)
            self.save(_Call(_Named("torch._utils", "_rebuild_tensor_v2"),
                            (_Stored(key), 0, array.shape, strides, False, OrderedDict())))  # fmt: skip
        elif isinstance(obj, _Stored):
            self.save(obj.key)
            self.write(pickle.BINPERSID)
        else:
            super().save(obj, save_persistent_id)


class _Stored:
    def __init__(self, key: tuple[Any, ...]) -> None:
        self.key = key


def save_like_torch(path: Path, tree: Any) -> Path:
    """Writes a tree of dicts, lists, numbers and float arrays as `torch.save` does (zip format), without torch."""
    import io

    buffer = io.BytesIO()
    pickler = _Pickler(buffer)
    pickler.dump(tree)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", buffer.getvalue())
        archive.writestr("archive/version", "3\n")
        for key, array in enumerate(pickler.storages):
            archive.writestr(f"archive/data/{key}", array.tobytes())
    return path


class StandInLandmarker:
    """MediaPipe's place: one face in every picture, but for numbers in `blind`; what it says is told by its number."""

    blind: tuple[int, ...] = ()

    def __init__(self, model: Path, *, video: bool = False, num_faces: int = 1) -> None:
        self.seen = 0

    def __enter__(self) -> StandInLandmarker:
        return self

    def __exit__(self, *_: object) -> None: ...

    def faces(self, image: np.ndarray, time: float = 0.0) -> list[Face]:
        number, self.seen = self.seen, self.seen + 1
        if number in self.blind:
            return []
        points = np.random.default_rng(7).uniform(10, 50, (478, 3)).astype(np.float32)
        return [Face(points, np.full(52, number / 1000, np.float32), np.eye(3, dtype=np.float32))]


def stand_in_stages(
    patch: pytest.MonkeyPatch, clip: Clip, offset: np.ndarray | None = None, skip: tuple[int, ...] = ()
) -> None:
    """Replaces MediaPipe, and the fit by the clip's own poses: of a head whose centre lies `offset` from the clip's."""
    kept = np.array([i for i in range(clip.meta.num_frames) if i not in skip])

    def fit(model: Any, points: np.ndarray, valid: np.ndarray, camera: Any) -> FaceFit:
        track = clip.track.take(kept)
        move = np.zeros(3) if offset is None else offset
        return FaceFit(
            identity=np.linspace(0, 1, model.num_identity).astype(np.float32),
            expression=np.zeros((len(points), model.num_expression), np.float32),
            rotation=track.rotation,
            translation=track.translation + track.rotation @ move,
            projected=points,
            report=None,  # type: ignore[arg-type]
        )

    patch.setattr(landmarks, "Landmarker", StandInLandmarker)
    patch.setattr("jaxtalk.preparation.fit.fit_face", fit)
