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
    """

    def __init__(self, queries: int, tokens: int, width: int, heads: int, *, rngs: nnx.Rngs) -> None:
        if width % heads:
            raise ValueError(f"{heads} heads do not divide a width of {width}")
        self.heads = heads
        self.query, self.key, self.value = (
            nnx.Linear(size, width, use_bias=False, rngs=rngs) for size in (queries, tokens, tokens)
        )
        self.out = nnx.Linear(width, width, rngs=rngs)

    def __call__(
        self, queries: Float[Array, "*batch cells queries"], tokens: Float[Array, "*#batch time tokens"]
    ) -> Float[Array, "*batch cells width"]:
        """What each cell hears. A single token would tell all cells the same: at least two."""
        if tokens.shape[-2] < 2:
            raise ValueError("attention over a single token is 1 everywhere; give at least two")
        q, k, v = (self._split(x) for x in (self.query(queries), self.key(tokens), self.value(tokens)))
        scores = jnp.einsum("...qhd,...khd->...hqk", q, k) * q.shape[-1] ** -0.5
        found = jnp.einsum("...hqk,...khd->...qhd", jax.nn.softmax(scores.astype(jnp.float32), -1).astype(v.dtype), v)
        return self.out(found.reshape(*found.shape[:-2], -1))

    def _split(self, x: jax.Array) -> jax.Array:
        return x.reshape(*x.shape[:-1], self.heads, -1)
