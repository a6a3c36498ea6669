"""Tokens of a window of speech (card 2.4)."""

from __future__ import annotations

import itertools

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from jaxtalk.methods.s3d_nerf.config import SpeechConfig

SLOPE = 0.02
_MIDDLE = 2.0  # rows: deviation of the bell around the frame's time with which the mean over a window starts


class SpeechTokens(nnx.Module):
    """One-dimensional convolutions of three rows and stride 1: a window keeps its length.

    Tokens of wav2vec 2.0 know what was said around them; mel bands do not, and a plain mean over 0.3 s of them forgets
    when it was. With `placed` a learned vector for each row is added to the tokens, and their mean is weighted, by
    learned weights that start as a bell around the window's middle.
    """

    def __init__(self, channels: int, settings: SpeechConfig, rngs: nnx.Rngs) -> None:
        sizes, rows = (channels, *settings.widths), settings.audio_tokens
        self.layers = nnx.List([nnx.Conv(a, b, (3,), padding="SAME", rngs=rngs) for a, b in itertools.pairwise(sizes)])
        self.placed = settings.placed
        if self.placed:
            self.place = nnx.Param(0.1 * jax.random.normal(rngs.params(), (rows, sizes[-1])))
            self.shares = nnx.Param(-0.5 * jnp.square((jnp.arange(rows) - (rows - 1) / 2) / _MIDDLE))

    def __call__(
        self, windows: Float[Array, "*batch time channels"]
    ) -> tuple[Float[Array, "*batch time width"], Float[Array, "*batch width"]]:
        """The tokens, and their mean over time."""
        x = windows
        for layer in self.layers:
            x = jax.nn.leaky_relu(layer(x), SLOPE)
        if not self.placed:
            return x, x.mean(-2)
        return x + self.place[...], (x * jax.nn.softmax(self.shares[...])[:, None]).sum(-2)
