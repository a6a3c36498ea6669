"""Where a ray can meet the head: near and far from the tracked mesh, and growing wider around its silhouette.

Few samples suffice when they lie where the head is. The mesh covers face, ears and scalp; hair and whatever else sticks
out is near it: so the interval is thin on the mesh, opens with the distance from its silhouette, and is the clip's own
near and far beyond `reach`. Works for any pose and camera; a few thousand points take the place of triangles.
"""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from jaxtalk.ops.cameras import project

EMPTY = 1e6  # depth of a cell that no point falls into


@partial(jax.jit, static_argnames=("size", "grid", "front", "behind", "reach"))
def mesh_bounds(
    points: Float[Array, "points 3"],
    rotation: Float[Array, "3 3"],
    translation: Float[Array, "3"],
    camera: Float[Array, "3"],
    clip_range: Float[Array, "2"],
    *,
    size: tuple[int, int],
    grid: int,
    front: float,
    behind: float,
    reach: float,
) -> Float[Array, "rows columns 2"]:
    """Near and far per cell of a grid over the picture, for one pose; `vmap` it over frames.

    Args:
        points: on the head's surface, head space, metres. Closer together than a cell or so.
        camera: (focal, cx, cy) for pictures of `size` (height, width) pixels.
        clip_range: near and far for rays that miss the head; every interval stays inside it.
        grid: cells along the longer side.
        front, behind: metres sampled before and behind the surface.
        reach: metres around the silhouette over which the interval opens up to the clip's.
    """
    cell = max(size) / grid
    rows, columns = -(-size[0] * grid // max(size)), -(-size[1] * grid // max(size))
    pixels, depth = project(points, rotation, translation, camera)
    index = jnp.floor(pixels / cell).astype(jnp.int32)
    seen = (depth > 0) & jnp.all((index >= 0) & (index < jnp.array([columns, rows])), -1)
    flat = jnp.where(seen, index[:, 1] * columns + index[:, 0], rows * columns)
    surface = jnp.full(rows * columns + 1, EMPTY).at[flat].min(depth)[:-1].reshape(rows, columns)

    # The nearest point of a neighbourhood is on the front; points of the far side that shine through gaps are cut off.
    near = _minimum(surface)
    covered = near < EMPTY
    far = _maximum(jnp.where(covered, jnp.minimum(surface, near + behind), -EMPTY))

    # Rings around the silhouette: the neighbours' interval, opened a little more at each ring.
    distance = -(rotation @ points.mean(0) + translation)[2]
    ring = cell * distance / camera[0]  # width of a cell, metres

    def grow(_: int, state: tuple[jax.Array, jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array, jax.Array]:
        near, far, inside = state
        wider_near = _minimum(jnp.where(inside, near, EMPTY)) - ring
        wider_far = _maximum(jnp.where(inside, far, -EMPTY)) + ring
        return jnp.where(inside, near, wider_near), jnp.where(inside, far, wider_far), inside | (wider_near < EMPTY / 2)

    state = (near - front, far + behind, covered)
    near, far, inside = jax.lax.fori_loop(0, jnp.ceil(reach / ring).astype(jnp.int32), grow, state)
    near = jnp.where(inside, jnp.clip(near, clip_range[0], clip_range[1]), clip_range[0])
    far = jnp.where(inside, jnp.clip(far, clip_range[0], clip_range[1]), clip_range[1])
    return jnp.stack([near, far], -1)


def look_up(
    bounds: Float[Array, "rows columns 2"], pixels: Float[Array, "*rays 2"], size: tuple[int, int]
) -> Float[Array, "*rays 2"]:
    """Near and far of the rays through `pixels` (u, v): those of the cell they fall into."""
    rows, columns = bounds.shape[:2]
    index = cell_index(pixels, (rows, columns), size)
    return bounds[index[..., 1], index[..., 0]]


def cell_index(pixels: Float[Array, "*rays 2"], cells: tuple[int, int], size: tuple[int, int]) -> Int[Array, "*rays 2"]:
    """(column, row) of the cell that each pixel falls into; `cells` is (rows, columns)."""
    cell = max(size) / max(cells)
    limit = jnp.array([cells[1] - 1, cells[0] - 1])
    return jnp.clip(jnp.floor(pixels / cell).astype(jnp.int32), 0, limit)


def _minimum(x: Float[Array, "rows columns"]) -> Float[Array, "rows columns"]:
    """Smallest of each cell and its eight neighbours."""
    for axis in (0, 1):  # shifted copies: several times faster than reduce_window on a CPU
        pad = [(0, 0), (0, 0)]
        pad[axis] = (1, 1)
        padded = jnp.pad(x, pad, mode="edge")
        size = x.shape[axis]
        before, after = (jax.lax.slice_in_dim(padded, start, start + size, axis=axis) for start in (0, 2))
        x = jnp.minimum(x, jnp.minimum(before, after))
    return x


def _maximum(x: Float[Array, "rows columns"]) -> Float[Array, "rows columns"]:
    """Largest of each cell and its eight neighbours."""
    return -_minimum(-x)
