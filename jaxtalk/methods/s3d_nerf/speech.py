"""Tokens of a window of speech (card 2.4)."""

from __future__ import annotations

import jax
from flax import nnx
from jaxtyping import Array, Float

SLOPE = 0.02


class SpeechTokens(nnx.Module):
    """One-dimensional convolutions of three rows and stride 1: a window keeps its length."""

    def __init__(self, channels: int, widths: tuple[int, ...], rngs: nnx.Rngs) -> None:
        sizes = (channels, *widths)
        self.layers = nnx.List(
            [nnx.Conv(a, b, (3,), padding="SAME", rngs=rngs) for a, b in zip(sizes[:-1], widths, strict=True)]
        )

    def __call__(
        self, windows: Float[Array, "*batch time channels"]
    ) -> tuple[Float[Array, "*batch time width"], Float[Array, "*batch width"]]:
        """The tokens, and their mean over time."""
        x = windows
        for layer in self.layers:
            x = jax.nn.leaky_relu(layer(x), SLOPE)
        return x, x.mean(-2)
