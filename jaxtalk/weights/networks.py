"""Networks with the weights of others: their files converted and checked, and put into modules of ours."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from flax import nnx

from jaxtalk.errors import JaxtalkError
from jaxtalk.weights import converted, ict_facekit, layouts
from jaxtalk.weights.convert import Layout, convert, full_shapes
from jaxtalk.weights.converted import Header
from jaxtalk.weights.readers import read_checkpoint, read_state_dict
from jaxtalk.weights.register import Weights
from jaxtalk.weights.store import cache_folder, entry, find, is_published, sha256, temporary


def load(name: str, network: nnx.Module | None = None, path: str | Path | None = None) -> nnx.Module:
    """The network `name` with its published weights, out of the cache.

    Args:
      name: of the register.
      network: a module to write them into, abstract or not; by default the published one is built.
      path: a converted file to read in place of the cache's.

    Raises:
      WeightsAbsent: the file is not on this machine.
      JaxtalkError: no such network, or a file that is damaged, of another network, or of an older jaxtalk.
    """
    file, layout = find(name, path), layouts.find(name)
    if network is None:
        network = nnx.eval_shape(lambda: layout.network(nnx.Rngs(0)))
    converted.put(network, converted.load_npz(file, name, layout.version), str(file))
    return network


def convert_file(name: str, file: str | Path, out: str | Path | None = None, called: str | None = None) -> Path:
    """Converts a published file to an npz of our parameters and gives its path.

    Args:
      name: of the register, a network.
      file: as users have it (see `readers`), or one that was converted before, which is checked and copied.
      out: where to; by default the cache, where `load` finds it.
      called: what messages and the header call the file, by default its path.

    Raises:
      JaxtalkError: no network of that name; a file that cannot be read, or that is not the whole file of the network:
        every missing, unused, misshapen key is counted and the first ones are named.
    """
    wanted, layout = entry(name), layouts.find(name)
    file, target = Path(file), cache_folder() / wanted.file if out is None else Path(out)
    called = called or str(file)
    header = converted.read_header(file) if file.is_file() else None
    if header is not None:
        parameters = converted.load_npz(file, name, layout.version)
        _check_parameters(layout, parameters, called)
    else:
        parameters = convert(full_shapes(layout), _read_entry(file, layout), layout, called)
        header = Header(name, layout.version, Path(called).name, sha256(file))
    with temporary(target) as partial:
        converted.save_npz(partial, parameters, header)
        os.replace(partial, target)
    return target


def check(name: str, path: str | Path | None = None) -> str:
    """Reads a file of the cache (or at `path`) again, whole, and says in a few words what it was checked for.

    Raises:
      WeightsAbsent: it is not on this machine.
      JaxtalkError: it is damaged, not the published one, or does not fit the network.
    """
    wanted, file = entry(name), find(name, path)
    if wanted.layout:
        layout = layouts.find(name)
        parameters = converted.load_npz(file, name, layout.version)
        _check_parameters(layout, parameters, str(file))
        count = sum(array.size for array in parameters.values())
        return f"{count:,} parameters, {describe_origin(wanted, file)}"
    if name == "ict_facekit":
        ict_facekit.check(file, str(file))
        return "all arrays are there"
    if not is_published(wanted, sha256(file)):
        raise JaxtalkError(f"{file}: not the published {name}; remove it and run `jaxtalk weights get {name}`")
    return "the published file"


def describe_origin(wanted: Weights, file: Path) -> str:
    """What a converted file was made of."""
    header = converted.read_header(file)
    if header is None:
        return "not converted by jaxtalk"
    if is_published(wanted, header.source_sha256):
        return f"from the published {header.source}"
    known = "which is not the published file" if wanted.sha256 else "whose published hash is not known"
    return f"from {header.source} (SHA-256 {header.source_sha256[:12]}), {known}"


def _check_parameters(layout: Layout, parameters: dict[str, np.ndarray], source: str) -> None:
    converted.check_shapes(full_shapes(layout), parameters, source)
    for path, array in parameters.items():
        if not np.isfinite(array).all():
            raise JaxtalkError(f"{source}: {path} is not finite; convert the network's own file again")


def _read_entry(file: Path, layout: Layout) -> dict[str, np.ndarray]:
    """The network's state dict; its entry where the file holds several, else all of the file."""
    if layout.entry is None:
        return read_state_dict(file)
    tree = read_checkpoint(file)
    inside = isinstance(tree, dict) and layout.entry.split("/")[0] in tree
    return read_state_dict(file, layout.entry if inside else None)
