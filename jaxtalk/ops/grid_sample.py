"""Reading maps between their cells: bilinear and nearest samples, resizing and warping (card gdrf 2.5, 2.6).

Coordinates are pixels of the map: the centre of cell (column c, row r) is at (c + 0.5, r + 0.5). A place outside
reads the nearest place inside.
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float


def bilinear(
    maps: Float[Array, "*batch height width channels"], xy: Float[Array, "*batch points 2"]
) -> Float[Array, "*batch points channels"]:
    """The maps at places (x, y), interpolated between the four nearest cells; differentiable in both."""
    height, width, channels = maps.shape[-3:]
    x, column = _cell(xy[..., 0], width)
    y, row = _cell(xy[..., 1], height)
    across, down = min(width - 1, 1), width * min(height - 1, 1)  # a map of one column or row has no neighbour
    corner = row * width + column
    index = jnp.stack([corner, corner + across, corner + down, corner + down + across], -2)
    weights = jnp.stack([(1 - x) * (1 - y), x * (1 - y), (1 - x) * y, x * y], -2)
    rows = _take(maps.reshape(*maps.shape[:-3], height * width, channels), index)
    return (rows * weights[..., None].astype(maps.dtype)).sum(-3)


def nearest(
    maps: Float[Array, "*batch height width channels"], xy: Float[Array, "*batch points 2"]
) -> Float[Array, "*batch points channels"]:
    """The maps at the cells that places (x, y) fall into. No gradient reaches the places."""
    height, width, channels = maps.shape[-3:]
    index = jnp.floor(jax.lax.stop_gradient(xy)).astype(jnp.int32)
    column, row = jnp.clip(index[..., 0], 0, width - 1), jnp.clip(index[..., 1], 0, height - 1)
    return _take(maps.reshape(*maps.shape[:-3], height * width, channels), row * width + column)


def warp(
    maps: Float[Array, "*batch height width channels"], flow: Float[Array, "*batch rows columns 2"]
) -> Float[Array, "*batch height width channels"]:
    """Each cell reads the maps where `flow` (x, y), in cells of the flow's own grid, points to.

    The flow may be coarser than the maps: its grid and theirs share the centres of the corner cells (align_corners).
    Zero flow gives the maps themselves; flow (1, 0) at the maps' own size shows the cell one column to the right.
    """
    height, width = maps.shape[-3:-1]
    rows, columns = flow.shape[-3:-1]
    scale = jnp.array([(width - 1) / max(columns - 1, 1), (height - 1) / max(rows - 1, 1)], flow.dtype)
    centres = jnp.stack(jnp.meshgrid(jnp.arange(width) + 0.5, jnp.arange(height) + 0.5), -1)
    places = centres + scale * resize(flow, (height, width))
    sampled = bilinear(maps, places.reshape(*places.shape[:-3], height * width, 2))
    return sampled.reshape(maps.shape)


def resize(
    maps: Float[Array, "*batch rows columns channels"], size: tuple[int, int]
) -> Float[Array, "*batch height width channels"]:
    """Bilinear resizing to `size` (height, width) that keeps the centres of the corner cells (align_corners)."""
    down, across = (
        jnp.asarray(_interpolation(new, old), maps.dtype) for new, old in zip(size, maps.shape[-3:-1], strict=True)
    )
    # One product per axis, in full precision: a flow of many cells must not lose its fractions.
    maps = jnp.einsum("hr,...rwc->...hwc", down, maps, precision="highest")
    return jnp.einsum("wk,...hkc->...hwc", across, maps, precision="highest")


def _interpolation(new: int, old: int) -> np.ndarray:
    """The matrix [new, old] that interpolates linearly from `old` to `new` evenly spaced values, ends kept."""
    places = np.linspace(0, old - 1, new) if new > 1 else np.zeros(1)
    return np.maximum(1 - np.abs(places[:, None] - np.arange(old)), 0)


def _cell(coordinate: Float[Array, "*batch points"], size: int) -> tuple[jax.Array, jax.Array]:
    """How far a coordinate lies past the centre of a cell, in cells, and that cell; it and the next lie in the map."""
    place = jnp.clip(coordinate - 0.5, 0, size - 1)
    cell = jnp.clip(jnp.floor(jax.lax.stop_gradient(place)), 0, max(size - 2, 0))
    return place - cell, cell.astype(jnp.int32)


def _take(rows: Float[Array, "*batch cells channels"], index: jax.Array) -> jax.Array:
    """Rows of each map by index [*batch, ...]: one gather over all maps, laid end to end."""
    batch, (cells, channels) = rows.shape[:-2], rows.shape[-2:]
    count = math.prod(batch)
    flat = index.reshape(count, -1) + cells * jnp.arange(count)[:, None]
    taken = jnp.take(rows.reshape(count * cells, channels), flat.ravel(), axis=0, mode="clip")
    return taken.reshape(*index.shape, channels)
