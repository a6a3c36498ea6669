"""Frames through a network: batches of one size, split over the devices of this process like those of training."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from jaxtalk.errors import JaxtalkError

BATCH = 8  # frames at once; everything is compiled once per size of frame
PIXELS = BATCH * 256**2  # of a batch: larger frames come in smaller batches, which bounds the memory


class Batched:
    """`function(network, *pictures)` for any number of frames, as one NumPy array [F, ...].

    Args:
      network: its parameters lie once on every device.
      function: of pictures [B, H, W, 3] float32 in [0, 1] to values [B, ...]. It sees frames that repeat the last one
        where F is no multiple of B, so no value may depend on other frames.
      batch: frames at once, if they are no larger than 256 x 256; rounded up to a multiple of the devices.
      raw: arrays [F, ...] of any kind go to the function as they are, as float32, `batch` at once.

    A call takes one or more arrays of frames of equal length, [F, H, W, 3] uint8, or float32 in [0, 1]. Raises
    `JaxtalkError` for arrays of other kinds, of different lengths, or without a frame.
    """

    def __init__(
        self, network: nnx.Module, function: Callable[..., jax.Array], batch: int = BATCH, *, raw: bool = False
    ) -> None:
        devices = jax.local_devices()
        mesh = jax.make_mesh((len(devices),), ("data",), axis_types=(AxisType.Auto,), devices=devices)
        self._batch, self._devices, self._raw = batch, len(devices), raw
        self._rows = NamedSharding(mesh, PartitionSpec("data"))
        graph, state = nnx.split(network)
        self._state = jax.device_put(nnx.to_pure_dict(state), NamedSharding(mesh, PartitionSpec()))

        def run(state: Any, *pictures: jax.Array) -> jax.Array:
            floats = (part.astype(jnp.float32) if raw else _unit_range(part) for part in pictures)
            return function(nnx.merge(graph, state), *floats)

        self._run = jax.jit(run)

    def __call__(self, *frames: np.ndarray) -> np.ndarray:
        if not self._raw:
            _check_kinds(frames)
        pixels = 1 if self._raw else max(part.shape[1] * part.shape[2] for part in frames)
        count, batch = _same_count(frames), self._batch_of(pixels)
        values = []
        for start in range(0, count, batch):
            index = np.minimum(np.arange(start, start + batch), count - 1)
            rows = [jax.device_put(np.asarray(part[index]), self._rows) for part in frames]
            values.append(self._run(self._state, *rows))
        return np.concatenate([np.asarray(value) for value in values])[:count]

    def _batch_of(self, pixels: int) -> int:
        """Frames of so many pixels that are measured at once."""
        return -(-min(self._batch, max(PIXELS // pixels, 1)) // self._devices) * self._devices


def _unit_range(pictures: jax.Array) -> jax.Array:
    return pictures.astype(jnp.float32) / 255 if pictures.dtype == jnp.uint8 else pictures


def _check_kinds(frames: tuple[np.ndarray, ...]) -> None:
    kinds = {part.dtype for part in frames}
    if not kinds <= {np.dtype(np.uint8), np.dtype(np.float32)} or any(part.ndim != 4 for part in frames):
        told = " and ".join(f"{part.dtype} {part.shape}" for part in frames)
        raise JaxtalkError(f"metrics: frames are {told}; give uint8, or float32 in [0, 1], of [F, H, W, 3]")


def _same_count(frames: tuple[np.ndarray, ...]) -> int:
    counts = {len(part) for part in frames}
    if len(counts) != 1 or 0 in counts:
        raise JaxtalkError(f"metrics: {' and '.join(str(len(part)) for part in frames)} frames; give as many of each")
    return counts.pop()
