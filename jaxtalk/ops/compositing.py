"""From densities and colours along a ray to a colour (card gdrf 2.9)."""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

FAR_DISTANCE = 1e10  # length of the last interval: whatever is behind it cannot be seen
_einsum = partial(jnp.einsum, precision="highest")  # in float32 on accelerators too: colours must not lose bits here


class Composite(NamedTuple):
    """What a ray saw. `color` = `foreground` + `background_weight` * background."""

    color: jax.Array  # [*batch, 3]
    foreground: jax.Array  # [*batch, 3] everything in front of the background
    background_weight: jax.Array  # [*batch] weight of the last sample
    weights: jax.Array  # [*batch, samples]; their sum is 1
    depth: jax.Array  # [*batch] expected depth


def composite(
    density: Float[Array, "*batch samples"],
    color: Float[Array, "*batch samples 3"],
    depths: Float[Array, "*batch samples"],
    directions: Float[Array, "*batch 3"],
    background: Float[Array, "*batch 3"],
) -> Composite:
    """alpha_i = 1 - exp(-(relu density_i + 1e-6) (z_i+1 - z_i) |d|), w_i = alpha_i prod_j<i (1 - alpha_j).

    The last interval has length 1e10, so the last sample is opaque; its colour is replaced by the background pixel.
    """
    interval = jnp.diff(depths, axis=-1)
    interval = jnp.concatenate([interval, jnp.full_like(interval[..., :1], FAR_DISTANCE)], -1)
    length = interval * jnp.linalg.norm(directions, axis=-1, keepdims=True)
    optical = (jax.nn.relu(density) + 1e-6) * length
    # exp(-sum of optical depths before i) is the product of (1 - alpha), without its rounding.
    before = jnp.cumsum(optical[..., :-1], -1)
    transmittance = jnp.exp(-jnp.concatenate([jnp.zeros_like(before[..., :1]), before], -1))
    weights = -jnp.expm1(-optical) * transmittance
    foreground = _einsum("...s,...sc->...c", weights[..., :-1], color[..., :-1, :])
    last = weights[..., -1]
    depth = _einsum("...s,...s->...", weights, depths)
    return Composite(foreground + last[..., None] * background, foreground, last, weights, depth)
