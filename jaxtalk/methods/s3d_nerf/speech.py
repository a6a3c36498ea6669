"""Tokens of a window of speech (card 2.4)."""

from __future__ import annotations

import itertools

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from jaxtalk.methods.s3d_nerf.config import SpeechConfig
from jaxtalk.methods.s3d_nerf.sync_examples import SHAPES
from jaxtalk.nn.linear import linear

SLOPE = 0.02
_MIDDLE = 2.0  # rows: deviation of the bell around the frame's time with which the mean over a window starts


class SpeechTokens(nnx.Module):
    """One-dimensional convolutions of three rows and stride 1: a window keeps its length.

    Tokens of wav2vec 2.0 know what was said around them; mel bands do not, and a plain mean over 0.3 s of them forgets
    when it was. With `placed` a learned vector for each row is added to the tokens, and their mean is weighted, by
    learned weights that start as a bell around the window's middle.

    With `lips` the shape of the lips (`sync_examples.lip_shapes`) is told of the mean by a linear layer, and added to
    tokens and mean by another: three numbers by which a picture learns, from the true ones, how to open a mouth.
    """

    def __init__(self, channels: int, settings: SpeechConfig, rngs: nnx.Rngs) -> None:
        sizes, rows = (channels, *settings.widths), settings.audio_tokens
        self.layers = nnx.List([nnx.Conv(a, b, (3,), padding="SAME", rngs=rngs) for a, b in itertools.pairwise(sizes)])
        self.placed, self.lips = settings.placed, settings.lips
        if self.placed:
            self.place = nnx.Param(0.1 * jax.random.normal(rngs.params(), (rows, sizes[-1])))
            self.shares = nnx.Param(-0.5 * jnp.square((jnp.arange(rows) - (rows - 1) / 2) / _MIDDLE))
        if self.lips:
            self.tell, self.add = linear(sizes[-1], SHAPES, rngs=rngs), linear(SHAPES, sizes[-1], rngs=rngs)

    def __call__(
        self, windows: Float[Array, "*batch time channels"], known: Float[Array, "*batch 4"] | None = None
    ) -> tuple[Float[Array, "*batch time width"], Float[Array, "*batch width"]]:
        """The tokens, and their mean over time.

        `known`: true shapes of the lips, and 1 where they take the place of the told ones, else 0.
        """
        tokens, mean = self._heard(windows)
        if not self.lips:
            return tokens, mean
        shape = self.tell(mean)
        if known is not None:
            shape = jnp.where(known[..., 3:] > 0, known[..., :3], shape)
        added = self.add(shape)
        return tokens + added[..., None, :], mean + added

    def told(self, windows: Float[Array, "*batch time channels"]) -> Float[Array, "*batch 3"]:
        """The shape of the lips, in the deviations of a clip."""
        return self.tell(self._heard(windows)[1])

    def _heard(self, windows: jax.Array) -> tuple[jax.Array, jax.Array]:
        x = windows
        for layer in self.layers:
            x = jax.nn.leaky_relu(layer(x), SLOPE)
        if not self.placed:
            return x, x.mean(-2)
        return x + self.place[...], (x * jax.nn.softmax(self.shares[...])[:, None]).sum(-2)
