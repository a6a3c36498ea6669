"""From rays to colours: sampling, fields, compositing of head and torso."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxtalk.methods.ad_nerf.config import ModelConfig, SamplingConfig
from jaxtalk.methods.api import Networks
from jaxtalk.ops.cameras import pixel_rays
from jaxtalk.ops.compositing import Composite, composite
from jaxtalk.ops.sampling import importance, stratified


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
    networks: Networks,
    name: str,
    sampling: SamplingConfig,
    rays: Rays,
    condition: Float[Array, "*batch condition"],
    background: Float[Array, "*batch rays 3"],
    key: jax.Array | None,
) -> tuple[Composite, ...]:
    """What the rays see of field `name` in front of `background`: the picture last, a coarse one before it.

    No jitter when `key` is None.
    """
    keys = (None, None) if key is None else jax.random.split(key)
    if sampling.kind == "mesh_bounded":
        count = sampling.num_samples if name == "head" else sampling.torso_samples
        return (_along(networks[name], rays, stratified(rays.near, rays.far, count, keys[0]), condition, background),)
    depths = stratified(rays.near, rays.far, sampling.num_coarse, keys[0])
    coarse = _along(networks[f"{name}_coarse"], rays, depths, condition, background)
    depths = importance(depths, coarse.weights, sampling.num_fine, keys[1])
    return coarse, _along(networks[name], rays, depths, condition, background)


def _along(
    field: Any,  # a Field
    rays: Rays,
    depths: Float[Array, "*batch rays samples"],
    condition: Float[Array, "*batch condition"],
    background: Float[Array, "*batch rays 3"],
) -> Composite:
    points = rays.origins[..., None, None, :] + depths[..., None] * rays.directions[..., None, :]
    density, color = field(points, rays.directions, condition)
    return composite(density, color, depths, rays.directions, background)


def together(model: ModelConfig, head: Composite, torso: Composite) -> Float[Array, "*batch rays 3"]:
    """Head and torso in one picture.

    The paper's: rgb_head * w_last,torso + rgb_fg,torso, the torso before the head (card gdrf A.1). With
    `model.torso_behind` the torso stands in the background of the head.
    """
    if model.torso_behind:
        return head.foreground + head.background_weight[..., None] * torso.color
    return torso.foreground + torso.background_weight[..., None] * head.color


def torso_bounds(
    sampling: SamplingConfig, depth_range: Float[Array, "*batch 2"], translation: Float[Array, "*batch 3"]
) -> Float[Array, "*batch 2"]:
    """Near and far for the torso's rays: the clip's, or a thin slab at the head's depth in frame 0."""
    if sampling.kind == "hierarchical":
        return depth_range
    return -translation[..., 2:] + sampling.torso_slab * jnp.array([-1.0, 1.0])


def evaluations_per_ray(sampling: SamplingConfig, name: str) -> int:
    """How many times a ray asks the fields called `name`."""
    if sampling.kind == "mesh_bounded":
        return sampling.num_samples if name == "head" else sampling.torso_samples
    return 2 * sampling.num_coarse + sampling.num_fine
