"""A discriminator's and a generator's terms, and the penalty on the discriminator's slope (card s3d_nerf 2.10)."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


def generator_loss(fake: Float[Array, "*batch"]) -> Float[Array, "*batch"]:
    """softplus(-logit): small where the discriminator takes a made picture for a real one. Does not saturate."""
    return jax.nn.softplus(-fake)


def discriminator_loss(real: Float[Array, "*batch"], fake: Float[Array, "*batch"]) -> Float[Array, "*batch"]:
    """softplus(-real logit) + softplus(fake logit); log 4 where it cannot tell.

    Made pictures go through `jax.lax.stop_gradient` at the caller's, before the discriminator.
    """
    return jax.nn.softplus(-real) + jax.nn.softplus(fake)


def r1_penalty(
    network: Callable[[jax.Array], jax.Array], images: Float[Array, "batch height width channels"]
) -> Float[Array, " batch"]:
    """For each real picture the squared length of the gradient of its logit; `network` gives [batch] logits.

    The caller multiplies by gamma / 2, and by n where it is taken in every n-th step only. Where logits depend on the
    other pictures of the batch, the gradient is that of their sum, as StyleGAN2 has it. No gradient flows to `images`.
    """
    slope = jax.grad(lambda x: network(x).astype(jnp.float32).sum())(jax.lax.stop_gradient(images))
    return jnp.square(slope.astype(jnp.float32)).sum((1, 2, 3))
