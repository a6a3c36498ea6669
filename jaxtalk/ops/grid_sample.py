"""Reading maps between their cells: bilinear and nearest samples, resizing and warping (card gdrf 2.5, 2.6).

Coordinates are pixels of the map: the centre of cell (column c, row r) is at (c + 0.5, r + 0.5). A place outside
reads the nearest place inside.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float


def bilinear(
    maps: Float[Array, "*batch height width channels"], xy: Float[Array, "*batch points 2"]
) -> Float[Array, "*batch points channels"]:
    """The maps at places (x, y), interpolated between the four nearest cells.

    Differentiable in both, in reverse mode and once; places outside the map have no gradient. The gradient is our
    own: derived automatically, the one to the maps is four scatters instead of one, and the one to the places keeps
    the four gathered corners. On two CPU cores, 32 maps of 64 x 64 x 24: forward 1 ms, forward with both gradients
    25 ms at 2,000 places per map; 2 and 45 ms at all 4,096 cells (derived automatically: 34 and 65 ms; gathering
    pairs or fours of cells as one row: more). The batch stays a batch, so that it may be spread over devices.
    """
    return _over_maps(_bilinear, maps, xy)


def nearest(
    maps: Float[Array, "*batch height width channels"], xy: Float[Array, "*batch points 2"]
) -> Float[Array, "*batch points channels"]:
    """The maps at the cells that places (x, y) fall into. No gradient reaches the places."""
    return _over_maps(_nearest, maps, xy)


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


def _over_maps(sample: Callable[..., jax.Array], maps: jax.Array, xy: jax.Array) -> jax.Array:
    for _ in range(maps.ndim - 3):
        sample = jax.vmap(sample)
    return sample(maps, xy)


def _nearest(cells: Float[Array, "height width channels"], xy: Float[Array, "points 2"]) -> jax.Array:
    height, width = cells.shape[:2]
    index = jnp.floor(jax.lax.stop_gradient(xy)).astype(jnp.int32)
    index = jnp.clip(index, 0, jnp.array([width - 1, height - 1]))
    return _take(cells, index[:, 1] * width + index[:, 0])


@jax.custom_vjp
def _bilinear(cells: Float[Array, "height width channels"], xy: Float[Array, "points 2"]) -> jax.Array:
    index, (x, y) = _corners(cells, xy)
    x, y = x[:, None], y[:, None]
    top_left, top_right, left, right = (_take(cells, corner) for corner in index)
    mixed = (top_left * (1 - x) + top_right * x) * (1 - y) + (left * (1 - x) + right * x) * y
    return mixed.astype(cells.dtype)


def _bilinear_forward(cells: jax.Array, xy: jax.Array) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return _bilinear(cells, xy), (cells, xy)


def _bilinear_backward(saved: tuple[jax.Array, jax.Array], gradient: jax.Array) -> tuple[jax.Array, jax.Array]:
    cells, xy = saved
    height, width, channels = cells.shape
    index, (x, y) = _corners(cells, xy)
    weights = jnp.stack([(1 - x) * (1 - y), x * (1 - y), (1 - x) * y, x * y])
    shares = (weights[..., None] * gradient).reshape(-1, channels)  # float32, so that many small ones add up
    to_cells = jnp.zeros((height * width, channels), shares.dtype).at[index.ravel()].add(shares, mode="clip")
    top_left, top_right, left, right = (
        (_take(cells, corner) * gradient.astype(jnp.float32)).sum(-1) for corner in index
    )
    across = (top_right - top_left) * (1 - y) + (right - left) * y
    down = (left - top_left) * (1 - x) + (right - top_right) * x
    inside = (xy >= 0.5) & (xy <= jnp.array([width, height]) - 0.5)
    to_places = jnp.where(inside, jnp.stack([across, down], -1), 0)
    return to_cells.reshape(cells.shape).astype(cells.dtype), to_places.astype(xy.dtype)


_bilinear.defvjp(_bilinear_forward, _bilinear_backward)


def _corners(cells: jax.Array, xy: jax.Array) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    """Indices [4, points] of the cells around each place, row by row, and how far past the first it lies, in cells."""
    height, width = cells.shape[:2]
    x, column = _cell(xy[:, 0], width)
    y, row = _cell(xy[:, 1], height)
    across, down = min(width - 1, 1), width * min(height - 1, 1)  # a map of one column or row has no neighbour
    corner = row * width + column
    return jnp.stack([corner, corner + across, corner + down, corner + down + across]), (x, y)


def _cell(coordinate: jax.Array, size: int) -> tuple[jax.Array, jax.Array]:
    """How far a coordinate lies past the centre of a cell, in cells, and that cell; it and the next lie in the map."""
    place = jnp.clip(coordinate.astype(jnp.float32) - 0.5, 0, size - 1)
    cell = jnp.clip(jnp.floor(place), 0, max(size - 2, 0))
    return place - cell, cell.astype(jnp.int32)


def _take(cells: Float[Array, "height width channels"], index: jax.Array) -> jax.Array:
    return jnp.take(cells.reshape(-1, cells.shape[-1]), index, axis=0, mode="clip")
