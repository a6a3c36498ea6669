"""Instance normalisation under a condition (card gdrf 2.4, paper eq. 8)."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from jaxtalk.nn.linear import linear

EPSILON = 1e-5


class AdaIN(nnx.Module):
    """Normalises every channel over the picture, then scales by 1 + gamma(z) and shifts by beta(z).

    gamma and beta are two heads, here one product, on z -> hidden, ReLU. The variance is the biased one; statistics
    are taken in float32.
    """

    def __init__(self, channels: int, condition: int, hidden: int = 128, *, rngs: nnx.Rngs) -> None:
        self.hidden = linear(condition, hidden, rngs=rngs)
        self.heads = linear(hidden, 2 * channels, rngs=rngs)

    def __call__(
        self, x: Float[Array, "*batch height width channels"], z: Float[Array, "*#batch condition"]
    ) -> Float[Array, "*batch height width channels"]:
        heads = self.heads(jax.nn.relu(self.hidden(z.astype(jnp.float32))))
        gamma, beta = jnp.split(heads[..., None, None, :], 2, -1)
        values = x.astype(jnp.float32)
        mean = values.mean((-3, -2), keepdims=True)
        scale = (1 + gamma) * jax.lax.rsqrt(values.var((-3, -2), keepdims=True) + EPSILON)
        return (values * scale + (beta - mean * scale)).astype(x.dtype)
