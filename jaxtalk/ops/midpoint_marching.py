"""EG3D's way along a ray: densities and colours averaged between samples (card s3d_nerf 2.7, sections 5 and 7)."""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxtalk.ops.sampling import sample_pdf

SHIFT = -1.0  # of the raw density: a network that gives zero starts with thin fog
PADDING = 0.01  # added to smoothed weights: nothing is ruled out
_einsum = partial(jnp.einsum, precision="highest")  # in float32 on accelerators too: colours must not lose bits here


class March(NamedTuple):
    """What a ray saw, in front of nothing: black where it hit nothing."""

    color: jax.Array  # [*batch, 3]
    opacity: jax.Array  # [*batch] sum of the weights, in [0, 1]
    weights: jax.Array  # [*batch, samples - 1], of the intervals between samples
    depth: jax.Array  # [*batch] mean depth of what was hit; the last depth where nothing was


def march(
    depths: Float[Array, "*batch samples"],
    density_raw: Float[Array, "*batch samples"],
    color: Float[Array, "*batch samples 3"],
    density_scale: float = 1.0,
) -> March:
    """Every interval between neighbours has their mean colour and softplus(their mean raw density - 1).

    alpha = 1 - exp(-density length density_scale), weight = alpha times the product of 1 - alpha of what is in front.

    Args:
      depths: increasing, in the units of the world; equal ones make an interval that is not seen.
      density_raw: what the network gives, of any sign.
      color: in [0, 1], or whatever 0 is black of.
      density_scale: density per unit of depth.
    """
    density = jax.nn.softplus(_between(density_raw) + SHIFT)
    optical = density * jnp.diff(depths, axis=-1) * density_scale
    # exp(-sum of optical depths before i) is the product of (1 - alpha), without its rounding.
    before = jnp.cumsum(optical, -1)
    transmittance = jnp.exp(-jnp.concatenate([jnp.zeros_like(before[..., :1]), before[..., :-1]], -1))
    weights = -jnp.expm1(-optical) * transmittance
    opacity = -jnp.expm1(-before[..., -1])
    seen = _einsum("...s,...sc->...c", weights, 0.5 * (color[..., 1:, :] + color[..., :-1, :]))
    hit = opacity > 1e-6
    depth = _einsum("...s,...s->...", weights, _between(depths)) / jnp.where(hit, opacity, 1.0)
    return March(seen, opacity, weights, jnp.where(hit, depth, depths[..., -1]))


def importance_depths(
    depths: Float[Array, "*batch samples"],
    weights: Float[Array, "*batch intervals"],
    num: int,
    key: jax.Array | None,
) -> Float[Array, "*batch num"]:
    """`num` new depths where the weights of `march` are large, within the first and the last of `depths`.

    Each weight is first replaced by the mean of the maxima with either neighbour, plus 0.01; then inverse transform
    samples are taken of the intervals, at evenly spaced quantiles, both ends included, when `key` is None. They come
    sorted only then. No gradient passes. EG3D puts the intervals' weights between the intervals' middles, half an
    interval too near; here they stay where they belong.
    """
    depths, weights = jax.lax.stop_gradient((depths, weights))
    edge = [(0, 0)] * (weights.ndim - 1)
    padded = jnp.pad(weights, [*edge, (1, 1)])  # weights are not negative: zeros never win
    smooth = _between(jnp.maximum(padded[..., 1:], padded[..., :-1])) + PADDING
    new = sample_pdf(depths, smooth, num, key)
    return jnp.clip(new, depths[..., :1], depths[..., -1:])


def _between(values: jax.Array) -> jax.Array:
    return 0.5 * (values[..., 1:] + values[..., :-1])
