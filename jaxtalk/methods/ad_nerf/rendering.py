"""How rays ask the fields of head and torso, and how both come into one picture."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxtalk.methods.ad_nerf.config import ModelConfig, SamplingConfig
from jaxtalk.methods.api import Networks
from jaxtalk.ops.compositing import Composite
from jaxtalk.rays import rendering
from jaxtalk.rays.rendering import Rays
from jaxtalk.rays.settings import evaluations


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
    counts = samples(sampling, name)
    fields = [functools.partial(networks[n], condition=condition) for n in (f"{name}_coarse", name)[-len(counts) :]]
    return rendering.render(fields, counts, rays, background, key)


def samples(sampling: SamplingConfig, name: str) -> tuple[int, ...]:
    """Samples of each pass along a ray through field `name`."""
    if name == "torso" and sampling.kind == "mesh_bounded":
        return (sampling.torso_samples,)
    return sampling.passes


def passes(sampling: SamplingConfig, name: str) -> int:
    """How many passes, each with its own field, a ray through field `name` takes."""
    return len(samples(sampling, name))


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
    return evaluations(samples(sampling, name))
