"""What a folder of a NeRF talking-head system may hold besides cameras, pictures and sound.

Everything here may be absent or unusable: a reader then gives None and tells `say` why, in a line for the user.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterable
from pathlib import Path

import jax.numpy as jnp
import numpy as np

from jaxtalk.audio.features import STORED_SLACK
from jaxtalk.clip import MASK_BACKGROUND, MASK_HEAD, MASK_TORSO
from jaxtalk.errors import JaxtalkError
from jaxtalk.ops.cameras import tracker_rotation
from jaxtalk.preparation.importers.nerf_folder import NerfFolder, check_size, read_picture
from jaxtalk.weights.readers import read_checkpoint

Say = Callable[[str], None]
LANDMARKS, PARSING, PLATE, TRACK, UNITS = "ori_imgs", "parsing", "bc.jpg", "track_params.pt", "au.csv"
BFM = "bfm2009"  # the face model of their tracker: Basel 2009 with FaceWarehouse's expressions
# RGB of the parsing maps (written by OpenCV, so head is blue): ER-NeRF's family, TalkingGaussian's mouth and hair.
_COLOURS: tuple[tuple[tuple[int, int, int], int], ...] = (
    ((255, 255, 255), MASK_BACKGROUND),
    ((0, 0, 255), MASK_HEAD),
    ((100, 100, 100), MASK_HEAD),
    ((0, 0, 0), MASK_HEAD),
    ((0, 255, 0), MASK_TORSO),  # neck
    ((255, 0, 0), MASK_TORSO),
)
# Name in our clip: their files, and the shape of one window (None: any).
FEATURES: dict[str, tuple[tuple[str, ...], tuple[int | None, ...]]] = {
    "deepspeech": (("aud_ds.npy", "aud.npy"), (16, 29)),
    "wav2vec_eo": (("aud_eo.npy",), (16, None)),
    "hubert": (("aud_hu.npy",), (2, 1024)),
    "hubert_cn": (("aud_hu_cn.npy",), (2, None)),
}
_POSE_ERROR = 2e-3  # of a matrix element made from track_params.pt: the folder's unit is about a metre


def landmarks(folder: NerfFolder, say: Say) -> tuple[np.ndarray, np.ndarray] | None:
    """The points [F, 68, 2] of N.lms in our pixels, and where there are any [F] bool; frames without hold zeros."""
    count = len(folder.transforms)
    points, found = np.zeros((count, 68, 2)), np.zeros(count, bool)
    for i, number in enumerate(folder.transforms.img_id):
        file = folder.path / LANDMARKS / f"{number}.lms"
        if file.is_file():
            points[i], found[i] = _points(file) + 0.5, True  # a detector counts pixels: the first one's centre is 0
    if not found.any():
        say(f"{LANDMARKS}/N.lms: landmarks were found by MediaPipe instead")
        return None
    if not found.all():
        say(f"{LANDMARKS}/N.lms of {count - found.sum()} frames: their landmarks are interpolated")
    return points, found


def _points(file: Path) -> np.ndarray:
    try:
        points = np.loadtxt(file)
    except (OSError, ValueError) as error:
        raise JaxtalkError(f"{file}: not a table of landmarks ({error}); make it again") from error
    if points.shape != (68, 2) or not np.isfinite(points).all():
        raise JaxtalkError(f"{file}: landmarks of shape {points.shape}, expected (68, 2) finite numbers; make it again")
    return points


def parsing_files(folder: NerfFolder, say: Say) -> tuple[Path, ...] | None:
    """The parsing map of every frame."""
    files = tuple(folder.path / PARSING / f"{number}.png" for number in folder.transforms.img_id)
    missing = [file for file in files if not file.is_file()]
    if missing:
        say(f"{PARSING}/N.png of {len(missing)} of {len(files)} frames: masks were made from colours instead")
        return None
    for file in files:
        check_size(file, folder.size)
    return files


def labels(file: Path) -> np.ndarray:
    """A parsing map as our labels [H, W] uint8: every pixel the label of the nearest colour."""
    image = read_picture(file).astype(np.int32)
    distance = np.stack([np.abs(image - np.array(colour)).sum(axis=-1) for colour, _ in _COLOURS])
    return np.array([label for _, label in _COLOURS], np.uint8)[distance.argmin(axis=0)]


def plate(folder: NerfFolder, say: Say) -> np.ndarray | None:
    """bc.jpg, the scene without the person."""
    file = folder.path / PLATE
    if not file.is_file():
        say(f"{PLATE}: the background was made from the pictures instead")
        return None
    check_size(file, folder.size)
    return read_picture(file)


def depth_range(folder: NerfFolder, say: Say) -> tuple[float, float] | None:
    """near and far of the head's configuration, in the folder's unit."""
    for name in folder.layout.depth_files:
        if (folder.path / name).is_file():
            near, far = (_setting(folder.path / name, key) for key in ("near", "far"))
            if near and far and near < far:
                return near, far
    if folder.layout.depth_files:
        say(f"near and far ({', '.join(folder.layout.depth_files)}): taken around the fitted head instead")
    return None


def _setting(file: Path, name: str) -> float | None:
    """The number that a line 'NAME = NUMBER' of a configuration gives."""
    found = re.search(rf"^\s*{name}\s*=\s*([0-9.eE+-]+)\s*$", file.read_text(errors="replace"), re.MULTILINE)
    return float(found[1]) if found else None


def features(folder: NerfFolder, say: Say) -> dict[str, np.ndarray]:
    """The windows of speech features [T, ...] float32 by the name that our clip gives them, 25 a second."""
    last, kept = int(folder.transforms.aud_id[-1]), {}
    for name, (files, shape) in FEATURES.items():
        file = next((folder.path / file for file in files if (folder.path / file).is_file()), None)
        array = None if file is None else _array(file)
        if file is None or array is None:
            continue
        if array.ndim != 1 + len(shape) or any(n not in (m, None) for m, n in zip(array.shape[1:], shape, strict=True)):
            wanted = ", ".join(str(n or "any") for n in shape)
            say(f"{file.name}: shape {array.shape} is no {name} (T, {wanted}), left out")
        elif len(array) + STORED_SLACK <= last:
            say(f"{file.name}: {len(array)} windows do not reach the last frame's, {last}; left out")
        else:
            kept[name] = array.astype(np.float32)
    if "deepspeech" not in kept:
        say("DeepSpeech features (aud.npy, aud_ds.npy): choose another audio_feature than deepspeech")
    return kept


def _array(file: Path) -> np.ndarray:
    try:
        array = np.load(file, allow_pickle=False)
    except Exception as error:  # damaged headers raise anything, from ValueError to TokenError
        raise JaxtalkError(f"{file}: not a plain .npy array ({str(error).splitlines()[0]}); make it again") from error
    if not np.issubdtype(array.dtype, np.number) or not np.isfinite(array).all():
        raise JaxtalkError(f"{file}: holds values that are no finite numbers; make it again")
    return array


def action_units(folder: NerfFolder, say: Say) -> tuple[np.ndarray, list[str]] | None:
    """Intensities [T, K] of OpenFace's action units, row i for picture i, and their names ('AU45_r').

    Names may begin with a space, as older versions of OpenFace wrote them.
    """
    file = folder.path / UNITS
    if not file.is_file():
        say(f"{UNITS}: how open the eyes are was measured from landmarks instead")
        return None
    with open(file, newline="", errors="replace") as text:
        rows = [[cell.strip() for cell in row] for row in csv.reader(text)]
    header = rows[0] if rows else []
    columns = [i for i, name in enumerate(header) if re.fullmatch(r"AU\d\d_r", name)]
    try:
        values = np.array([[float(row[i]) for i in columns] for row in rows[1:] if row], np.float32)
    except (IndexError, ValueError) as error:
        raise JaxtalkError(f"{file}: not a table of numbers ({error}); run OpenFace again") from error
    if not columns or len(values) <= folder.transforms.img_id.max():
        say(f"{UNITS}: {len(values)} rows with {len(columns)} intensities do not cover the pictures, left out")
        return None
    return values, [header[i] for i in columns]


def coefficients(folder: NerfFolder, say: Say) -> tuple[np.ndarray, np.ndarray] | None:
    """Identity [I] and expression [F, E] of track_params.pt, checked against the transforms' poses."""
    instead = "identity and expression are those of our own fit instead"
    if not (folder.path / TRACK).is_file():
        say(f"{TRACK}: {instead}")
        return None
    tree = read_checkpoint(folder.path / TRACK)
    wanted = {"id": 2, "exp": 2, "euler": 2, "trans": 2}
    if not isinstance(tree, dict) or any(np.ndim(tree.get(name, 0)) != rank for name, rank in wanted.items()):
        say(f"{TRACK}: no arrays id, exp, euler and trans; {instead}")
        return None
    identity, expression, euler, move = (np.asarray(tree[name], np.float64) for name in wanted)
    count, numbers = len(folder.transforms), folder.transforms.img_id
    for rows in _candidates(count, numbers, min(len(expression), len(euler), len(move))):
        if _agrees(folder, euler[rows], move[rows]):
            return identity[0].astype(np.float32), expression[rows].astype(np.float32)
    say(f"{TRACK}: its {len(expression)} poses are not those of the {count} frames; {instead}")
    return None


def _candidates(count: int, numbers: np.ndarray, length: int) -> Iterable[np.ndarray]:
    """Rows that may belong to the frames: one for each in order, or the one of the picture's number."""
    if length == count:
        yield np.arange(count)
    if length > numbers.max():
        yield numbers


def _agrees(folder: NerfFolder, euler: np.ndarray, move: np.ndarray) -> bool:
    rotation, translation = folder.transforms.pose
    turned = np.asarray(tracker_rotation(jnp.asarray(euler, jnp.float32)))
    apart = max(np.abs(turned - rotation).max(), np.abs(move / 10 - translation).max())
    return bool(apart < _POSE_ERROR)
