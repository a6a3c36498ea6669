"""Networks of others with drawn weights, as the goldens have them, put where `jaxtalk.weights` finds them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from jaxtalk import weights
from tests.goldens import drawn

GOLDEN = Path(__file__).parent / "goldens" / "image_networks.npz"
_UNREAD = ("classifier", "fc.weight")


def shapes(name: str) -> dict[str, tuple[int, ...]]:
    """Every key and shape of the published file."""
    with np.load(GOLDEN) as golden:
        return {key: tuple(shape) for key, shape in json.loads(str(golden["manifests"]))[name].items()}


def published(name: str) -> dict[str, np.ndarray]:
    """A state dict with every key and shape of the published file; classifiers, which nobody reads, take no room."""
    wanted = shapes(name)
    read = drawn.weights({key: shape for key, shape in wanted.items() if not key.startswith(_UNREAD)})
    return {key: read.get(key, np.broadcast_to(np.float32(0), shape)) for key, shape in wanted.items()}


def drawn_heads(net: str) -> dict[str, np.ndarray]:
    """Heads of LPIPS as the golden has them."""
    channels = {"alex": (64, 192, 384, 256, 256), "vgg": (64, 128, 256, 512, 512)}[net]
    return {f"lin{i}.model.1.weight": drawn.uniform(f"lin{i}", (1, size, 1, 1)) for i, size in enumerate(channels)}


def put_in_cache(folder: Path, name: str, state: Mapping[str, np.ndarray] | None = None) -> None:
    """Converts a network's drawn state dict into the cache, from an .npz in `folder`."""
    state = published(name) if state is None else state
    path = folder / f"{name}_theirs.npz"
    np.savez(path, **{key: array for key, array in state.items() if not key.startswith(_UNREAD)})
    weights.convert_file(name, path)
