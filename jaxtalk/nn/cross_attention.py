"""Multi-head cross-attention without a residual (card s3d_nerf 2.5, eq. 3)."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float


class CrossAttention(nnx.Module):
    """softmax(Q K^T / sqrt(d)) V for each head, then an output projection.

    Args:
        queries, tokens: channels of what asks and of what is asked; `width`: of the answer, divided among the heads.
        null: one token more, of a learned key and no value: what asks may hear nothing.
    """

    def __init__(
        self, queries: int, tokens: int, width: int, heads: int, null: bool = False, *, rngs: nnx.Rngs
    ) -> None:
        if width % heads:
            raise ValueError(f"{heads} heads do not divide a width of {width}")
        self.heads = heads
        self.query, self.key, self.value = (
            nnx.Linear(size, width, use_bias=False, rngs=rngs) for size in (queries, tokens, tokens)
        )
        self.null = nnx.Param(jnp.zeros((1, heads, width // heads))) if null else None
        self.out = nnx.Linear(width, width, rngs=rngs)

    def __call__(
        self, queries: Float[Array, "*batch cells queries"], tokens: Float[Array, "*#batch time tokens"]
    ) -> tuple[Float[Array, "*batch cells width"], Float[Array, "*batch cells"]]:
        """What each cell hears, and how much it listens: its attention to the tokens, a mean over heads.

        That is 1 without a null token. A single token would tell all cells the same: at least two.
        """
        if tokens.shape[-2] < 2:
            raise ValueError("attention over a single token is 1 everywhere; give at least two")
        q, k, v = (self._split(x) for x in (self.query(queries), self.key(tokens), self.value(tokens)))
        if self.null is not None:
            k = jnp.concatenate([k, jnp.broadcast_to(self.null[...], (*k.shape[:-3], *self.null.shape))], -3)
        scores = jnp.einsum("...qhd,...khd->...hqk", q, k) * q.shape[-1] ** -0.5
        shares = jax.nn.softmax(scores.astype(jnp.float32), -1)[..., : v.shape[-3]]
        found = jnp.einsum("...hqk,...khd->...qhd", shares.astype(v.dtype), v)
        return self.out(found.reshape(*found.shape[:-2], -1)), shares.sum(-1).mean(-2)

    def _split(self, x: jax.Array) -> jax.Array:
        return x.reshape(*x.shape[:-1], self.heads, -1)
