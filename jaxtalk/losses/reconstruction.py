"""Distances between a rendered and a wanted colour."""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Float


def squared_error(predicted: Float[Array, "*batch"], target: Float[Array, "*batch"]) -> Float[Array, "*batch"]:
    """(predicted - target)^2, unreduced: its mean is the MSE of card gdrf 2.10."""
    return jnp.square(predicted - target)
