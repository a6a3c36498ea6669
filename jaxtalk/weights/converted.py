"""Converted files: an npz of our parameters by path, with a header that says what it is and what it was made of."""

from __future__ import annotations

import dataclasses
import json
import zipfile
from collections.abc import Mapping
from pathlib import Path

import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxtalk.errors import JaxtalkError
from jaxtalk.weights.convert import Shapes, shapes_of

_HEADER = "__header__"


@dataclasses.dataclass(frozen=True)
class Header:
    """Of a converted file.

    Args:
      name: of the network, as in the register.
      version: of its layout.
      source: name of the file that it was made of.
      source_sha256: that file's hash.
    """

    name: str
    version: int
    source: str
    source_sha256: str


def save_npz(path: str | Path, parameters: Mapping[str, np.ndarray], header: Header) -> None:
    """Writes parameters by path ('a/b/c') and the header to `path`."""
    text = json.dumps(dataclasses.asdict(header))
    with open(path, "wb") as file:
        np.savez(file, **{_HEADER: np.array(text), **parameters})  # type: ignore[arg-type]


def read_header(path: str | Path) -> Header | None:
    """The header of a converted file, None for any other file."""
    try:
        with np.load(path, allow_pickle=False) as file:
            return Header(**json.loads(str(file[_HEADER]))) if _HEADER in file.files else None
    except (OSError, ValueError, TypeError, AttributeError, EOFError, zipfile.BadZipFile):
        return None


def load_npz(path: str | Path, name: str, version: int) -> dict[str, np.ndarray]:
    """The parameters by path in the converted file of network `name`.

    Raises:
      JaxtalkError: no converted file, another network's, one of another version of the layout, or a damaged one.
    """
    header = read_header(path)
    again = f"run `jaxtalk weights convert {name} FILE` again"
    if header is None:
        raise JaxtalkError(f"{path}: damaged, or no file that jaxtalk converted; {again}")
    if header.name != name:
        raise JaxtalkError(f"{path}: the weights of {header.name}, not of {name}; {again}")
    if header.version != version:
        raise JaxtalkError(f"{path}: converted to layout {header.version} of {name}, now it is {version}; {again}")
    try:
        with np.load(path, allow_pickle=False) as file:
            return {key: file[key] for key in file.files if key != _HEADER}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise JaxtalkError(f"{path}: damaged ({error}); {again}") from error


def check_shapes(shapes: Shapes, parameters: Mapping[str, np.ndarray], source: str) -> None:
    """Raises `JaxtalkError` unless `parameters` are exactly those of `shapes`, naming the first that is not."""
    given = {path: array.shape for path, array in parameters.items()}
    for path in sorted(set(shapes) | set(given)):
        if shapes.get(path) != given.get(path):
            raise JaxtalkError(
                f"{source}: {path} has shape {given.get(path, 'none, it is missing')}; the network has "
                f"{shapes.get(path, 'no such parameter')}: convert the network's own file again"
            )


def put(network: nnx.Module, parameters: Mapping[str, np.ndarray], source: str) -> None:
    """Writes parameters by path into a network, which may be abstract; all of them, and no others.

    Raises `JaxtalkError` for paths that are missing, left over or of another shape, naming the first.
    """
    check_shapes(shapes_of(network), parameters, source)
    state = nnx.to_flat_state(nnx.state(network, nnx.Not(nnx.RngState)))
    values = {path: parameters["/".join(map(str, path))] for path, _ in state}
    nnx.update(
        network,
        nnx.from_flat_state([(path, variable.replace(jnp.asarray(values[path]))) for path, variable in state]),
    )
