"""transforms_train.json and transforms_val.json: which picture was seen by which camera (AD-NeRF and its kin).

Each file holds `focal_len, cx, cy` in pixels and `frames`, each with `img_id` (the picture's number), `aud_id` (the
number of its window of speech, 25 a second) and `transform_matrix`, camera to world, OpenGL axes; card gdrf.md,
section 3. The world is the tracked head's space.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jaxtalk.errors import JaxtalkError

TRAIN, VAL = "transforms_train.json", "transforms_val.json"
_MEND = "make the folder's transforms again"
_ROTATION_ERROR = 1e-3  # of R^T R from the identity: the files hold float32


@dataclasses.dataclass(frozen=True)
class Transforms:
    """F frames in the order of their speech. Lengths in the folder's own unit, pixels as the files count them."""

    focal: float
    cx: float
    cy: float
    size: tuple[float, float]  # height, width of which the centre is the middle
    matrix: np.ndarray  # [F, 4, 4] camera to world, OpenGL axes
    img_id: np.ndarray  # [F] int
    aud_id: np.ndarray  # [F] int, increasing
    train: np.ndarray  # [F] bool: in transforms_train.json
    has_val: bool  # there is a transforms_val.json
    in_order: bool  # the files name the frames in the order of their speech

    def __len__(self) -> int:
        return len(self.img_id)

    @property
    def pose(self) -> tuple[np.ndarray, np.ndarray]:
        """Rotation [F, 3, 3] and translation [F, 3], head to camera, in the folder's unit."""
        rotation = self.matrix[:, :3, :3].transpose(0, 2, 1)
        return rotation, -np.einsum("fij,fj->fi", rotation, self.matrix[:, :3, 3])

    def split(self) -> dict[str, list[list[int]]]:
        """The numbers of the pictures of either side, as [first, last] of each run."""
        return {"train": runs(self.img_id[self.train]), "val": runs(self.img_id[~self.train])}


def read_transforms(folder: Path) -> Transforms:
    """Reads both files of `folder`; the second may be absent.

    Raises:
      JaxtalkError: no transforms_train.json, files that are not what they should be or contradict each other, a matrix
        that is no camera's, or a frame that comes twice. The message names file and frame.
    """
    if not (folder / TRAIN).is_file():
        raise JaxtalkError(f"{folder / TRAIN}: missing, so no picture has a camera; give the folder that holds it")
    files = [folder / name for name in (TRAIN, VAL) if (folder / name).is_file()]
    parsed = [_parse(file) for file in files]
    cameras = [_camera(data, file) for data, file in zip(parsed, files, strict=True)]
    for camera, file in zip(cameras[1:], files[1:], strict=True):
        if camera != cameras[0]:
            raise JaxtalkError(f"{file}: focal length, centre and size {camera}, {TRAIN} has {cameras[0]}; {_MEND}")
    frames = [
        (*_frame(frame, number, file), file.name == TRAIN)
        for data, file in zip(parsed, files, strict=True)
        for number, frame in enumerate(data["frames"])
    ]
    if len(frames) < 2:
        raise JaxtalkError(f"{folder / TRAIN}: {len(frames)} frames; give the folder of a whole video")
    img_id, aud_id = (np.array([frame[i] for frame in frames]) for i in (0, 1))
    order = np.argsort(aud_id, kind="stable")
    twice = np.flatnonzero(np.diff(aud_id[order]) == 0)
    if twice.size:
        first, second = img_id[order][twice[0] : twice[0] + 2]
        raise JaxtalkError(f"{folder}: pictures {first} and {second} have the same speech (aud_id "
                           f"{aud_id[order][twice[0]]}); {_MEND}, every frame once")  # fmt: skip
    focal, cx, cy, size = cameras[0]
    return Transforms(
        focal,
        cx,
        cy,
        size,
        matrix=np.stack([frame[2] for frame in frames])[order],
        img_id=img_id[order],
        aud_id=aud_id[order],
        train=np.array([frame[3] for frame in frames])[order],
        has_val=len(files) > 1,
        in_order=bool(np.all(np.diff(order) > 0)),
    )


def runs(numbers: np.ndarray) -> list[list[int]]:
    """Increasing whole numbers as [first, last] of each run without a gap."""
    if not len(numbers):
        return []
    parts = np.split(numbers, np.flatnonzero(np.diff(numbers) != 1) + 1)
    return [[int(part[0]), int(part[-1])] for part in parts]


def _parse(file: Path) -> Mapping[str, Any]:
    try:
        data = json.loads(file.read_text())
    except (OSError, ValueError) as error:
        raise JaxtalkError(f"{file}: not readable JSON ({error}); {_MEND}") from error
    if not isinstance(data, dict) or not isinstance(data.get("frames"), list):
        raise JaxtalkError(f"{file}: no list of frames in it; {_MEND}")
    return data


def _camera(data: Mapping[str, Any], file: Path) -> tuple[float, float, float, tuple[float, float]]:
    """Focal length, cx, cy, and the (height, width) of which they are the middle."""
    focal = next((data[name] for name in ("focal_len", "focal_length", "fl_x") if name in data), None)
    values: list[Any] = [focal, data.get("cx"), data.get("cy")]
    if not all(isinstance(value, int | float) and np.isfinite(value) and value > 0 for value in values):
        raise JaxtalkError(f"{file}: focal_len, cx, cy are {values}, expected positive pixels; {_MEND}")
    focal, cx, cy = map(float, values)
    return focal, cx, cy, (float(data.get("h", 2 * cy)), float(data.get("w", 2 * cx)))


def _frame(frame: Any, number: int, file: Path) -> tuple[int, int, np.ndarray]:
    """img_id, aud_id and matrix of the number-th frame of a file."""
    try:
        img_id = int(frame["img_id"])
        aud_id = int(frame.get("aud_id", img_id))
        matrix = np.array(frame["transform_matrix"], np.float64)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise JaxtalkError(
            f"{file}: frame {number} lacks img_id, aud_id or transform_matrix ({error}); {_MEND}"
        ) from error
    where = f"{file}: frame {number} (picture {img_id})"
    if min(img_id, aud_id) < 0:
        raise JaxtalkError(f"{where}: number {min(img_id, aud_id)} is below 0; {_MEND}")
    if matrix.shape != (4, 4) or not np.isfinite(matrix).all():
        raise JaxtalkError(f"{where}: transform_matrix is no finite 4 x 4 matrix; {_MEND}")
    turn = matrix[:3, :3]
    if np.abs(turn.T @ turn - np.eye(3)).max() > _ROTATION_ERROR or np.linalg.det(turn) < 0:
        raise JaxtalkError(f"{where}: transform_matrix is no rotation with a place; {_MEND}")
    if turn[:, 2] @ matrix[:3, 3] <= 0:
        raise JaxtalkError(f"{where}: the camera-to-world matrix has the head's centre behind the camera; give the "
                           "transforms as AD-NeRF's process_data writes them")  # fmt: skip
    return img_id, aud_id, matrix
