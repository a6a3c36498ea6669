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
SAME_SIDE = 0.05  # metres: points this much behind their neighbours are the far side, seen through a gap


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
        points: on the head's surface, head space, metres; evenly spread, at most two cells apart.
        camera: (focal, cx, cy) for pictures of `size` (height, width) pixels.
        clip_range: near and far for rays that miss the head; every interval stays inside it.
        grid: cells along the longer side.
        front, behind: metres sampled before and behind the surface.
        reach: metres around the silhouette over which the interval opens up to the clip's.
    """
    cell = max(size) / grid
    rows, columns = -(-size[0] * grid // max(size)), -(-size[1] * grid // max(size))
    pixels, depth = project(points, rotation, translation, camera)
    reference = depth.mean()
    index = jnp.floor(pixels / cell).astype(jnp.int32)
    seen = (depth > 0) & jnp.all((index >= 0) & (index < jnp.array([columns, rows])), -1)
    flat = jnp.where(seen, index[:, 1] * columns + index[:, 0], rows * columns)
    nearest = jnp.full(rows * columns + 1, EMPTY).at[flat].min(depth)[:-1].reshape(rows, columns)
    # Two cells around: wide enough to find the front where points are sparse. What lies far behind it is another side.
    nearest = _minimum(_minimum(nearest))
    front_facing = seen & (depth < jnp.append(nearest.ravel(), -EMPTY)[flat] + SAME_SIDE)
    flat = jnp.where(front_facing, flat, rows * columns)
    moments = jnp.stack([jnp.ones_like(depth), depth - reference, (depth - reference) ** 2])
    sums = jnp.zeros((3, rows * columns + 1)).at[:, flat].add(moments)[:, :-1].reshape(3, rows, columns)
    count, first, second = jax.vmap(lambda x: _blur(_blur(x)))(sums)
    covered = _minimum(_minimum((count > 0).astype(jnp.float32))) > 0  # gaps closed, the silhouette as it was
    mean = first / jnp.maximum(count, 1e-6)
    spread = jnp.sqrt(jnp.maximum(second / jnp.maximum(count, 1e-6) - mean**2, 0))  # steep parts get more room
    near = mean + reference - spread - front
    far = mean + reference + spread + behind

    # Rings around the silhouette: the neighbours' interval, opened a little more at each ring, and more to the back:
    # the rim of a head, and hair beside it, lies behind the visible points next to it.
    ring = cell * reference / camera[0]  # width of a cell, metres

    def grow(_: int, state: tuple[jax.Array, jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array, jax.Array]:
        near, far, inside = state
        wider_near = _minimum(jnp.where(inside, near, EMPTY)) - 0.5 * ring
        wider_far = _maximum(jnp.where(inside, far, -EMPTY)) + 2.5 * ring
        return jnp.where(inside, near, wider_near), jnp.where(inside, far, wider_far), inside | (wider_near < EMPTY / 2)

    rings = jnp.ceil(reach / ring).astype(jnp.int32)
    near, far, inside = jax.lax.fori_loop(0, rings, grow, (near, far, covered))
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


def _blur(x: Float[Array, "rows columns"]) -> Float[Array, "rows columns"]:
    """Sum over each cell and its eight neighbours, the neighbours counted half, the corners a quarter."""
    for axis in (0, 1):
        pad = [(0, 0), (0, 0)]
        pad[axis] = (1, 1)
        padded, size = jnp.pad(x, pad), x.shape[axis]
        before, after = (jax.lax.slice_in_dim(padded, start, start + size, axis=axis) for start in (0, 2))
        x = x + 0.5 * (before + after)
    return x


def _maximum(x: Float[Array, "rows columns"]) -> Float[Array, "rows columns"]:
    """Largest of each cell and its eight neighbours."""
    return -_minimum(-x)
