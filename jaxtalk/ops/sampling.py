"""Where along a ray the field is asked: stratified and importance samples (card gdrf 2.9)."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


def stratified(
    near: Float[Array, "*batch"], far: Float[Array, "*batch"], num_samples: int, key: jax.Array | None
) -> Float[Array, "*batch samples"]:
    """One depth in each of `num_samples` strata of [near, far], increasing; evenly spaced when `key` is None.

    The last jitter is 1, so that the last sample, which carries the background, sits at far.
    """
    grid = jnp.linspace(0.0, 1.0, num_samples, dtype=near.dtype)
    depths = near[..., None] * (1 - grid) + far[..., None] * grid
    if key is None:
        return depths
    middle = 0.5 * (depths[..., 1:] + depths[..., :-1])
    upper = jnp.concatenate([middle, depths[..., -1:]], -1)
    lower = jnp.concatenate([depths[..., :1], middle], -1)
    jitter = jax.random.uniform(key, depths.shape, depths.dtype).at[..., -1].set(1.0)
    return lower + (upper - lower) * jitter


def sample_pdf(
    edges: Float[Array, "*batch edges"], weights: Float[Array, "*batch bins"], num_samples: int, key: jax.Array | None
) -> Float[Array, "*batch samples"]:
    """Inverse transform samples of the histogram `weights` + 1e-5 over the bins between `edges` (bins = edges - 1).

    At evenly spaced quantiles when `key` is None. No gradient passes.
    """
    edges, weights = jax.lax.stop_gradient((edges, weights))
    weights = weights + 1e-5
    density = weights / weights.sum(-1, keepdims=True)
    cumulative = jnp.concatenate([jnp.zeros_like(density[..., :1]), jnp.cumsum(density, -1)], -1)
    shape = (*cumulative.shape[:-1], num_samples)
    if key is None:
        quantiles = jnp.broadcast_to(jnp.linspace(0.0, 1.0, num_samples, dtype=edges.dtype), shape)
    else:
        quantiles = jax.random.uniform(key, shape, edges.dtype)
    above = jnp.sum(cumulative[..., None, :] <= quantiles[..., None], -1)
    last = cumulative.shape[-1] - 1
    lower, upper = jnp.clip(above - 1, 0, last), jnp.clip(above, 0, last)

    def take(values: jax.Array, index: jax.Array) -> jax.Array:
        return jnp.take_along_axis(values, index, -1)

    width = take(cumulative, upper) - take(cumulative, lower)
    fraction = (quantiles - take(cumulative, lower)) / jnp.where(width < 1e-5, 1.0, width)
    start = take(edges, lower)
    return start + fraction * (take(edges, upper) - start)


def importance(
    depths: Float[Array, "*batch coarse"],
    weights: Float[Array, "*batch coarse"],
    num_samples: int,
    key: jax.Array | None,
) -> Float[Array, "*batch samples"]:
    """The coarse depths and `num_samples` new ones where the coarse weights are large, sorted.

    Bins lie between the middles of the coarse depths, so only the inner weights count.
    """
    middle = 0.5 * (depths[..., 1:] + depths[..., :-1])
    new = sample_pdf(middle, weights[..., 1:-1], num_samples, key)
    return jnp.sort(jnp.concatenate([depths, new], -1), -1)
