"""ICT-FaceKit Light (Li et al., Learning Formation of Physically-Based Face Attributes, CVPR 2020): OBJ files to .npz.

The published folder FaceXModel/ holds the neutral mesh and one OBJ of the same topology per identity component (PCA,
one standard deviation) and per expression (fully on). A linear model needs the differences to the neutral mesh alone.
Written: `neutral` [V, 3] cm, `faces_quad` [Q, 4] (-1 pads a triangle), `identity_deltas` [100, V, 3],
`expression_deltas` [57, V, 3], `expression_names` [57], all in the mesh's own units and axes.
"""

from __future__ import annotations

import os
import shutil
import zipfile
from pathlib import Path

import numpy as np

from jaxtalk.errors import JaxtalkError

NEUTRAL = "generic_neutral_mesh"
IDENTITY_NAMES = tuple(f"identity{index:03d}" for index in range(100))
_BOTH_SIDES = (
    *("PupilDilate", "browDown", "browInnerUp", "browOuterUp", "cheekPuff", "cheekRaiser", "cheekSquint", "eyeBlink"),
    *("eyeLookDown", "eyeLookIn", "eyeLookOut", "eyeLookUp", "eyeSquint", "eyeWide", "mouthDimple", "mouthFrown"),
    *("mouthLowerDown", "mouthPress", "mouthSmile", "mouthStretch", "mouthUpperUp", "noseSneer"),
)
_ONE = (
    *("jawForward", "jawLeft", "jawOpen", "jawRight", "mouthClose", "mouthFunnel", "mouthLeft", "mouthPucker"),
    *("mouthRight", "mouthRollLower", "mouthRollUpper", "mouthShrugLower", "mouthShrugUpper"),
)
EXPRESSION_NAMES = tuple(sorted([f"{name}_{side}" for name in _BOTH_SIDES for side in "LR"] + list(_ONE)))
OBJ_NAMES = (NEUTRAL, *IDENTITY_NAMES, *EXPRESSION_NAMES)
KEYS = ("neutral", "faces_quad", "identity_deltas", "expression_deltas", "expression_names")
_MEND = "take the folder FaceXModel of ICT-FaceKit as it is published"


def read_obj(path: Path, faces: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Vertices [V, 3] float32 and, if asked for, faces [Q, 4] int32 (from 0; -1 in the fourth column of a triangle)."""
    vertices: list[list[float]] = []
    polygons: list[list[int]] = []
    try:
        with open(path, encoding="ascii", errors="replace") as file:
            for line in file:
                if line.startswith("v "):
                    vertices.append([float(value) for value in line.split()[1:4]])
                elif faces and line.startswith("f "):
                    corners = [int(corner.split("/")[0]) - 1 for corner in line.split()[1:]]
                    polygons.append([*corners, -1][:4])
    except (OSError, ValueError) as error:
        raise JaxtalkError(f"{path}: not a readable OBJ ({error}); {_MEND}") from error
    if not vertices or any(len(vertex) != 3 for vertex in vertices) or (faces and not polygons):
        raise JaxtalkError(f"{path}: not a mesh; {_MEND}")
    return np.array(vertices, np.float32), np.array(polygons, np.int32).reshape(-1, 4)


def has_piece(pieces: Path, name: str) -> bool:
    return (pieces / f"{name}.npy").is_file()


def write_piece(pieces: Path, name: str, obj: Path) -> None:
    """Keeps the vertices (and of the neutral mesh the faces) of one OBJ file as .npy."""
    pieces.mkdir(parents=True, exist_ok=True)
    vertices, faces = read_obj(obj, faces=name == NEUTRAL)
    if name == NEUTRAL:
        np.save(pieces / "faces.npy", faces)
    temporary = pieces / f"{name}.tmp.npy"
    np.save(temporary, vertices)
    os.replace(temporary, pieces / f"{name}.npy")


def read_folder(folder: Path, pieces: Path) -> None:
    """Reads all OBJ files of `folder` (FaceXModel, or its parent) into `pieces`."""
    folder = folder / "FaceXModel" if (folder / "FaceXModel").is_dir() else folder
    if not folder.is_dir():
        raise JaxtalkError(f"{folder}: no such file or folder; {_MEND}")
    for name in OBJ_NAMES:
        if not (folder / f"{name}.obj").is_file():
            shutil.rmtree(pieces, ignore_errors=True)
            raise JaxtalkError(f"{folder / name}.obj: missing; {_MEND}")
        write_piece(pieces, name, folder / f"{name}.obj")


def assemble(pieces: Path, out: Path) -> None:
    """Writes the model to `out` from the pieces of all OBJ files."""
    neutral = np.load(pieces / f"{NEUTRAL}.npy")

    def deltas(names: tuple[str, ...]) -> np.ndarray:
        result = np.empty((len(names), *neutral.shape), np.float32)
        for row, name in zip(result, names, strict=True):
            vertices = np.load(pieces / f"{name}.npy")
            if vertices.shape != neutral.shape:
                raise JaxtalkError(f"{name}.obj: {len(vertices)} vertices, {NEUTRAL}.obj has {len(neutral)}; {_MEND}")
            row[:] = vertices - neutral
        return result

    with open(out, "wb") as file:
        np.savez_compressed(
            file,
            neutral=neutral,
            faces_quad=np.load(pieces / "faces.npy"),
            identity_deltas=deltas(IDENTITY_NAMES),
            expression_deltas=deltas(EXPRESSION_NAMES),
            expression_names=np.array(EXPRESSION_NAMES),
        )


def check(path: Path, name: str) -> None:
    """Raises `JaxtalkError` unless `path` is a converted ICT-FaceKit file; `name` is what the user calls it."""
    try:
        with np.load(path) as data:
            missing = sorted(set(KEYS) - set(data.files))
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise JaxtalkError(f"{name}: not a converted ICT-FaceKit file; {_MEND}") from error
    if missing:
        raise JaxtalkError(f"{name}: not a converted ICT-FaceKit file ({missing[0]} is missing); {_MEND}")
