"""Near and far of the rays of whole frames, on a coarse grid."""

from __future__ import annotations

import contextlib
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxtalk.clip import Camera, ClipView
from jaxtalk.ops.bounds import mesh_bounds
from jaxtalk.rays.settings import SamplingConfig

FRAMES_AT_ONCE = 64  # whose bounds are made by one call


class HeadGeometry(NamedTuple):
    """Where a clip's head can be. Arrays only, so that it passes through `jax.jit`."""

    camera: Any  # [3] focal, cx, cy
    depth_range: Any  # [2] near, far of the clip
    proxy_points: Any  # [P, 3]


def geometry_of(clip: ClipView) -> HeadGeometry:
    """The geometry of a prepared clip at its size."""
    meta = clip.meta
    arrays = (camera_vector(meta.camera), np.array([meta.near, meta.far]), clip.track.proxy_points)
    return HeadGeometry(*(np.asarray(array, np.float32) for array in arrays))


def camera_vector(camera: Camera) -> np.ndarray:
    """(focal, cx, cy) as `ops.cameras` takes it."""
    return np.array([camera.focal, camera.cx, camera.cy], np.float32)


@partial(jax.jit, static_argnames=("sampling", "size"))
def frame_bounds(
    geometry: HeadGeometry,
    sampling: SamplingConfig,
    size: tuple[int, int],
    rotation: Float[Array, "frames 3 3"],
    translation: Float[Array, "frames 3"],
) -> Float[Array, "frames rows columns 2"]:
    """Near and far for the head's rays of each frame on a coarse grid (`ops.bounds`)."""
    if sampling.kind == "hierarchical":  # the paper samples the clip's whole range
        return jnp.broadcast_to(jnp.asarray(geometry.depth_range), (len(rotation), 1, 1, 2))
    bounds = partial(
        mesh_bounds,
        size=size,
        grid=min(sampling.grid, max(size)),
        front=sampling.front,
        behind=sampling.behind,
        reach=sampling.reach,
    )
    return jax.vmap(bounds, (None, 0, 0, None, None))(
        geometry.proxy_points, rotation, translation, geometry.camera, geometry.depth_range
    )


def all_bounds(
    geometry: HeadGeometry,
    sampling: SamplingConfig,
    size: tuple[int, int],
    rotation: np.ndarray,
    translation: np.ndarray,
) -> np.ndarray:
    """`frame_bounds` of any number of frames, in parts of one compiled size. [F, rows, columns, 2] float32.

    On a CPU device: a GPU adds up the points of a cell in any order, and a resumed run needs the same bits.
    """
    count = len(rotation)
    padding = -count % FRAMES_AT_ONCE
    rotation, translation = (
        np.concatenate([a, np.repeat(a[-1:], padding, 0)]).astype(np.float32) for a in (rotation, translation)
    )
    parts = []
    with _cpu():
        for start in range(0, count, FRAMES_AT_ONCE):
            end = start + FRAMES_AT_ONCE
            found = frame_bounds(geometry, sampling, size, rotation[start:end], translation[start:end])
            parts.append(np.asarray(found))
    return np.concatenate(parts)[:count]


def bounds_at(bounds: np.ndarray, pixels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Near and far [R, 2] through pixels [R, 2] (column, row) of a frame: NumPy's `ops.bounds.look_up`."""
    cell = max(size) / max(bounds.shape[:2])
    column, row = (
        np.minimum(((pixels[:, axis] + 0.5) / cell).astype(np.int64), bounds.shape[1 - axis] - 1) for axis in (0, 1)
    )
    return bounds[row, column]


def _cpu() -> contextlib.AbstractContextManager[object]:
    """Computations within take place on a CPU device, where there is one (JAX_PLATFORMS=cuda leaves it out)."""
    try:
        return jax.default_device(jax.local_devices(backend="cpu")[0])
    except RuntimeError:
        return contextlib.nullcontext()
