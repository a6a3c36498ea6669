"""Losses of lip sync: what teaches the sync network, and what it teaches (card s3d_nerf, section 2.9)."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

MARGIN = 0.5


def triplet(
    positive: Float[Array, "*batch"], negative: Float[Array, "*batch"], margin: float = MARGIN
) -> Float[Array, "*batch"]:
    """max(0, margin - positive + negative) of cosines, unreduced: one hinge of equation 7.

    As printed, the equation has the signs of distances; these are similarities, of which the positive one is to be
    greater. The loss of a pair is two hinges: its lips with other speech, its speech with other lips.
    """
    return jax.nn.relu(margin - positive + negative)


def contrast(
    cosines: Float[Array, "pairs pairs"], comparable: Bool[Array, "pairs pairs"], temperature: float
) -> Float[Array, " pairs"]:
    """Cross-entropy of finding each lips' speech among that of the batch and the other way round, halved and added.

    Args:
        cosines: lips down, speech across; the diagonal belongs together.
        comparable: what counts beside the diagonal: not speech that overlaps with the pair's own, for instance.
        temperature: divides the cosines.
    """
    own = jnp.eye(len(cosines), dtype=bool)
    logits = jnp.where(comparable | own, cosines / temperature, -jnp.inf)
    diagonal = jnp.diagonal(logits)
    rows, columns = (jax.nn.logsumexp(logits, axis) - diagonal for axis in (1, 0))
    return (rows + columns) / 2


def sync_loss(cosines: Float[Array, "*batch"]) -> Float[Array, "*batch"]:
    """1 - cosine, unreduced: what a generator makes small. Equation 8 prints the cosine itself, to be made great."""
    return 1 - cosines
