"""An avatar's folder: what it is (avatar.json), its networks' arrays, and the arrays of what it stands before."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import jax
import numpy as np

from jaxtalk.clip import Camera, Track
from jaxtalk.config import frozen
from jaxtalk.errors import JaxtalkError

_RECORD, _PARAMETERS, _TRACK = "avatar.json", "parameters.npz", "track.npz"
Config = TypeVar("Config")


@dataclasses.dataclass(frozen=True)
class Saved:
    """What every avatar's folder holds beside its parameters."""

    name: str
    fps: float
    camera: Camera
    track: Track
    config: Any  # the system's frozen record
    arrays: Mapping[str, np.ndarray]  # of the person or the scene


def save(folder: Path, method: str, saved: Saved, parameters: Mapping[str, Any], arrays_file: str) -> None:
    """Writes an avatar of the system `method`; `arrays_file` names the file of `saved.arrays`."""
    folder.mkdir(parents=True, exist_ok=True)
    leaves = {_name(path): np.asarray(leaf) for path, leaf in jax.tree_util.tree_leaves_with_path(parameters)}
    np.savez(folder / _PARAMETERS, **leaves)  # type: ignore[arg-type]
    np.savez_compressed(folder / arrays_file, **saved.arrays)  # type: ignore[arg-type]
    saved.track.save(folder / _TRACK)
    record = {
        "method": method,
        "name": saved.name,
        "fps": saved.fps,
        "camera": dataclasses.asdict(saved.camera),
        "config": dataclasses.asdict(saved.config),
    }
    (folder / _RECORD).write_text(json.dumps(record, indent=1))


def load(folder: Path, method: str, config_class: type[Config], arrays_file: str, names: tuple[str, ...]) -> Saved:
    """Reads what `save` wrote; `names` are those of its arrays.

    Raises `JaxtalkError` when a file or an array is missing, or the avatar is another system's.
    """
    for file in (_RECORD, _PARAMETERS, arrays_file, _TRACK):
        if not (folder / file).is_file():
            raise JaxtalkError(f"{folder / file}: missing, so this is no whole avatar; train or fit it again")
    record = json.loads((folder / _RECORD).read_text())
    if record["method"] != method:
        raise JaxtalkError(f"{folder / _RECORD}: an avatar of {record['method']}, not of {method}")
    config = frozen(config_class, record["config"], f"{folder / _RECORD}: config")
    with np.load(folder / arrays_file) as arrays:
        missing = sorted(set(names) - set(arrays.files))
        if missing:
            raise JaxtalkError(f"{folder / arrays_file}: {missing[0]} is missing; train or fit the avatar again")
        found = {name: arrays[name] for name in names}
    camera, track = Camera(**record["camera"]), Track.load(folder / _TRACK)
    return Saved(record["name"], record["fps"], camera, track, config, found)


def parameter_names(folder: Path) -> list[str]:
    """Names of the networks' arrays, NETWORK/PATH."""
    with np.load(folder / _PARAMETERS) as arrays:
        return list(arrays.files)


def load_parameters(folder: Path, abstract: Mapping[str, Any]) -> dict[str, Any]:
    """The networks' arrays as the tree `abstract` of shapes. Raises `JaxtalkError` where one is missing or differs."""
    path = folder / _PARAMETERS
    with np.load(path) as arrays:

        def read(key: Any, leaf: jax.ShapeDtypeStruct) -> np.ndarray:
            name = _name(key)
            if name not in arrays or arrays[name].shape != leaf.shape:
                raise JaxtalkError(f"{path}: {name} is missing or has another shape; train or fit the avatar again")
            return arrays[name]

        return jax.tree_util.tree_map_with_path(read, dict(abstract))


def _name(path: Any) -> str:
    return jax.tree_util.keystr(path, simple=True, separator="/")
