"""Positional encodings of coordinates."""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Float


def positional_encoding(
    x: Float[Array, "*batch dims"], num_frequencies: int, double_angle: bool = False
) -> Float[Array, "*batch features"]:
    """(x, sin x, cos x, sin 2x, cos 2x, ..., sin 2^(L-1) x, cos 2^(L-1) x): no pi, raw input first (card gdrf 2.8).

    Gives dims * (2 L + 1) features. `double_angle` takes one sine and cosine and doubles the angle by
    sin 2a = 2 sin a cos a, cos 2a = 1 - 2 sin^2 a: faster, and off by about 2^L times the float's precision.
    """
    if num_frequencies == 0:
        return x
    if not double_angle:
        angles = x[..., None, :] * (2.0 ** jnp.arange(num_frequencies, dtype=x.dtype))[:, None]
        waves = jnp.stack([jnp.sin(angles), jnp.cos(angles)], -2)
        return jnp.concatenate([x, waves.reshape(*x.shape[:-1], -1)], -1)
    sine, cosine = jnp.sin(x), jnp.cos(x)
    parts = [x, sine, cosine]
    for _ in range(num_frequencies - 1):
        sine, cosine = 2 * sine * cosine, 1 - 2 * sine * sine
        parts += [sine, cosine]
    return jnp.concatenate(parts, -1)


def encoding_size(dims: int, num_frequencies: int) -> int:
    """Number of features that `positional_encoding` gives."""
    return dims * (2 * num_frequencies + 1)
