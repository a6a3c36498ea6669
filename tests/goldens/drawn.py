"""Weights and inputs of the golden networks, drawn anew wherever they are needed, so that goldens hold outputs alone.

Every array depends on its own name only. `RandomState` is NumPy's frozen generator and uniform numbers need no
mathematical library, so the bits are the same everywhere.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping

import numpy as np

_KEPT = 1024  # values of a tap in a golden


def uniform(name: str, shape: tuple[int, ...], low: float = 0.0, high: float = 1.0) -> np.ndarray:
    generator = np.random.RandomState(zlib.crc32(name.encode()))
    return (low + (high - low) * generator.random_sample(shape)).astype(np.float32)


def weights(shapes: Mapping[str, tuple[int, ...]], gains: Mapping[str, float] | None = None) -> dict[str, np.ndarray]:
    """A state dict of these shapes: variances far from one, slopes and biases that matter; `gains` multiply."""
    gains = gains or {}
    return {name: _drawn(name, tuple(shape)) * np.float32(gains.get(name, 1)) for name, shape in shapes.items()}


def _drawn(name: str, shape: tuple[int, ...]) -> np.ndarray:
    if name.endswith("num_batches_tracked"):
        return np.zeros(shape, np.int64)
    if name.endswith(("running_var", "weight_g", "original0")):
        return uniform(name, shape, 0.4, 1.6)
    if "prelu" in name:
        return uniform(name, shape, 0.1, 0.5)
    if name.endswith(("running_mean", "bias")):
        return uniform(name, shape, -0.2, 0.2)
    if len(shape) == 1:
        return uniform(name, shape, 0.7, 1.3)
    bound = (6 / np.prod(shape[1:])) ** 0.5  # keeps the variance of rectified activations
    return uniform(name, shape, -bound, bound)


def kept(tap: np.ndarray) -> np.ndarray:
    """Evenly spaced values of a tap, the last one among them."""
    flat = np.asarray(tap, np.float32).reshape(-1)
    return flat[:: -max(1, flat.size // _KEPT)]


def relative_error(value: np.ndarray, golden: np.ndarray) -> float:
    """The largest difference of the kept values, relative to the largest golden value."""
    return float(np.abs(kept(value) - golden).max() / np.abs(golden).max())
