"""Deep3DFaceRecon's 257 coefficients a frame, as PIRender, StyleTalk and their kin keep them beside a video.

In order: identity 80, expression 64, texture 80, angles 3 (radians), lighting 27, translation 3 (decimetres); card
gdrf.md, section 3. The head is the Basel model of 2009 about its own centre, x to the image's right for a frontal face,
y up, z towards the camera. The network saw each frame through a crop of its own, 224 x 224 pixels with a focal length
of 1015, from 1 m before the origin. So rotations agree with ours but for a constant (the two models disagree about what
"straight ahead" is) and the angle of the crop's centre, and translations mean nothing outside the crop.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
from scipy.io import loadmat
from scipy.spatial.transform import Rotation

from jaxtalk.clip import Camera, FaceModelInfo
from jaxtalk.errors import JaxtalkError

INFO = FaceModelInfo("deep3d", 80, 64)
CROP_SIZE = 224  # pixels
CROP_CAMERA = Camera(1015.0, CROP_SIZE / 2, CROP_SIZE / 2)
KEY = "coeff"  # of the .mat file
WIDTH = 257
IDENTITY, EXPRESSION = slice(0, 80), slice(80, 144)
ANGLES, TRANSLATION = slice(224, 227), slice(254, 257)
_CAMERA_DISTANCE = 10.0  # decimetres, from the origin of the head's world
_METRES = 0.1  # in a decimetre


@dataclasses.dataclass(frozen=True)
class Deep3D:
    """What a file says of N frames. Poses are head to the camera of the frame's own crop (`head_pose`)."""

    identity: np.ndarray  # [80] the frames' mean
    expression: np.ndarray  # [N, 64]
    rotation: np.ndarray  # [N, 3, 3]
    translation: np.ndarray  # [N, 3] metres

    def __len__(self) -> int:
        return len(self.expression)


def read(path: str | Path) -> Deep3D:
    """Reads a `.mat` file (the array "coeff") or an `.npy` file of [N, 257] numbers, a row for every frame.

    Raises:
      JaxtalkError: no such file, not of these formats, not of this shape, fewer than two rows, or a row not finite.
    """
    path = Path(path)
    rows = _array(path)
    if rows.ndim != 2 or rows.shape[1] != WIDTH or not np.issubdtype(rows.dtype, np.floating):
        raise JaxtalkError(
            f"{path}: {rows.dtype} of shape {rows.shape}, expected a row of {WIDTH} numbers for every frame; "
            "give the coefficients of Deep3DFaceRecon"
        )
    if len(rows) < 2:
        raise JaxtalkError(f"{path}: {len(rows)} rows; give the coefficients of all frames of the video")
    bad = np.flatnonzero(~np.isfinite(rows).all(axis=1))
    if bad.size:
        raise JaxtalkError(f"{path}: row {bad[0]} is not finite; make the coefficients again")
    rotation, translation = head_pose(rows[:, ANGLES], rows[:, TRANSLATION])
    identity = rows[:, IDENTITY].mean(axis=0, dtype=np.float64).astype(np.float32)
    return Deep3D(identity, rows[:, EXPRESSION].astype(np.float32), rotation, translation)


def head_pose(angles: np.ndarray, translation: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Deep3D's pose in our conventions: x_camera = R x_head + t, OpenGL axes, metres, `CROP_CAMERA`.

    R = Rz(angles[2]) Ry(angles[1]) Rx(angles[0]), right-handed turns about the camera's axes; the camera stands at
    z = 10 dm and looks along -z, so t = (translation - (0, 0, 10)) / 10.

    Args: `angles` [N, 3] radians about x, y, z; `translation` [N, 3] decimetres.
    Returns: rotation [N, 3, 3] and translation [N, 3].
    """
    rotation = Rotation.from_euler("xyz", np.asarray(angles, np.float64)).as_matrix()
    moved = np.asarray(translation, np.float64) - np.array([0.0, 0.0, _CAMERA_DISTANCE])
    return rotation, _METRES * moved


def _array(path: Path) -> np.ndarray:
    if not path.is_file():
        raise JaxtalkError(f"{path}: no such file; check the path of the coefficients")
    if path.suffix == ".npy":
        try:
            return np.load(path, allow_pickle=False)
        except Exception as error:  # damaged headers raise anything, from ValueError to TokenError
            raise JaxtalkError(f"{path}: not a plain .npy array ({_first_line(error)}); save it again") from error
    if path.suffix == ".mat":
        return _mat_array(path)
    raise JaxtalkError(f"{path}: coefficients are read from .mat and .npy files; convert it")


def _mat_array(path: Path) -> np.ndarray:
    try:
        content = loadmat(path)
    except NotImplementedError as error:  # version 7.3 is HDF5
        raise JaxtalkError(f"{path}: a MATLAB file of version 7.3; save it again as version 7 (`-v7`)") from error
    except Exception as error:  # damaged files raise anything, from zlib.error to IndexError
        raise JaxtalkError(f"{path}: not a readable MATLAB file ({_first_line(error)}); save it again") from error
    if KEY not in content:
        names = ", ".join(name for name in content if not name.startswith("__")) or "nothing"
        raise JaxtalkError(f'{path}: no array "{KEY}" (it holds {names}); give the coefficients of Deep3DFaceRecon')
    return content[KEY]


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
