"""From rays to colours: where to sample, what the fields answer there, compositing; in parts of one size."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxtalk.ops.cameras import pixel_rays
from jaxtalk.ops.compositing import Composite, composite
from jaxtalk.ops.sampling import importance, stratified

# (points [*batch, rays, samples, 3], directions [*batch, rays, 3]) -> density [...], colour [..., 3]
FieldFn = Callable[[jax.Array, jax.Array], tuple[jax.Array, jax.Array]]


class Rays(NamedTuple):
    """Rays of some frames (batch axes) and where along them to sample."""

    origins: jax.Array  # [*batch, 3]
    directions: jax.Array  # [*batch, rays, 3], 1 along the viewing axis
    near: jax.Array  # [*batch, rays]
    far: jax.Array  # [*batch, rays]


def rays_through(
    pixels: Float[Array, "*batch rays 2"],
    rotation: Float[Array, "*batch 3 3"],
    translation: Float[Array, "*batch 3"],
    camera: Float[Array, "*batch 3"],
    bounds: Float[Array, "*batch rays 2"],
) -> Rays:
    """Rays through pixels (u, v), sampled between `bounds` (near, far)."""
    origins, directions = pixel_rays(pixels, rotation, translation, camera)
    return Rays(origins, directions, bounds[..., 0], bounds[..., 1])


def render(
    fields: Sequence[FieldFn],
    passes: Sequence[int],
    rays: Rays,
    background: Float[Array, "*batch rays 3"],
    key: jax.Array | None,
) -> tuple[Composite, ...]:
    """What the rays see in front of `background`: one composite for each pass, the picture last.

    Args:
        fields: one for each pass (coarse, fine).
        passes: samples of the first pass, and those that the second adds where the first saw something.
        key: None for no jitter.
    """
    keys = (None, None) if key is None else jax.random.split(key)
    depths = stratified(rays.near, rays.far, passes[0], keys[0])
    found = [_along(fields[0], rays, depths, background)]
    if len(passes) == 2:
        depths = importance(depths, found[0].weights, passes[1], keys[1])
        found.append(_along(fields[1], rays, depths, background))
    return tuple(found)


def _along(
    field: FieldFn, rays: Rays, depths: Float[Array, "*batch rays samples"], background: Float[Array, "*batch rays 3"]
) -> Composite:
    points = rays.origins[..., None, None, :] + depths[..., None] * rays.directions[..., None, :]
    density, color = field(points, rays.directions)
    return composite(density, color, depths, rays.directions, background)


def map_pixels(
    size: tuple[int, int], chunk_rays: int, colors: Callable[[jax.Array, jax.Array], jax.Array]
) -> Float[Array, "height width 3"]:
    """A picture whose pixels are computed in parts of one size, at most `chunk_rays`, in one compiled loop.

    `colors` maps rows and columns [R] int of some pixels to their colours [R, 3].
    """
    height, width = size
    total = height * width
    parts = -(-total // chunk_rays)
    chunk = -(-total // parts)

    def part(start: jax.Array) -> jax.Array:
        row, column = jnp.divmod(jnp.minimum(start + jnp.arange(chunk), total - 1), width)  # the last pixel repeats
        return colors(row, column)

    return jax.lax.map(part, jnp.arange(parts) * chunk).reshape(-1, 3)[:total].reshape(height, width, 3)
