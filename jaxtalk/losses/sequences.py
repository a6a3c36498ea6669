"""Losses of sequences of coefficients (card gdrf 2.1, equations 3 and 4), on standardised values.

A sequence holds the expression first and the 6 of the pose last.
"""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

POSE_SIZE = 6
POSE_WEIGHT = 0.2  # of the pose's errors, equation 3
EXPRESSION_CONTINUITY, POSE_CONTINUITY = 0.01, 0.001  # weights of equation 4


def split_pose(
    x: Float[Array, "*batch size"],
) -> tuple[Float[Array, "*batch expression"], Float[Array, "*batch 6"]]:
    """Expression and pose."""
    return x[..., :-POSE_SIZE], x[..., -POSE_SIZE:]


def steps_between(x: Float[Array, "*batch time size"]) -> Float[Array, "*batch time-1 size"]:
    """(x[t + 1] - x[t])^2, unreduced."""
    return jnp.square(jnp.diff(x, axis=-2))


def continuity(
    x: Float[Array, "*batch time size"], valid: Bool[Array, "*batch time"] | Float[Array, "*batch time"] | None = None
) -> Float[Array, "*batch"]:
    """Squared steps summed over time and coefficients: equation 4 of each sequence, zero where nothing moves.

    Steps from or to a frame that is not valid do not count.
    """
    squares = steps_between(x).sum(-1)
    if valid is not None:
        counts = jnp.asarray(valid, squares.dtype)
        squares = squares * counts[..., 1:] * counts[..., :-1]
    return squares.sum(-1)
