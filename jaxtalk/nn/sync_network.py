"""Whether lips and speech belong together: Wav2Lip's expert as a network to train (card s3d_nerf, section 2.9)."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from jaxtalk.nn.pretrained.wav2lip_expert import AUDIO_TABLE, FACE_TABLE, FRAMES, tower

EPSILON = 1e-8  # equation 6 has none, and a vector of zeros would give NaN (card, 5.10)


class SyncNetwork(nnx.Module):
    """Unit vectors of lips and of speech, whose cosine says how well they belong together.

    Layers and paths of parameters are those of `Wav2LipExpert`, so that at divisor 1 and 5 frames its weights fit. What
    is left of longer windows behind the last layer is averaged.

    Args:
        divisor: divides all widths; 1 has 16.4 million parameters.
        frames: T, consecutive frames that a vector sees.
        final_relu: vectors without negative parts, as the weights of Wav2Lip need them; cosines are then in [0, 1].
        dropout: part of the values before each tower's last layer but one that is dropped in training.
    """

    def __init__(
        self,
        divisor: int = 1,
        frames: int = FRAMES,
        final_relu: bool = False,
        dropout: float = 0.0,
        *,
        rngs: nnx.Rngs,
    ) -> None:
        norm = functools.partial(nnx.BatchNorm, momentum=0.9, epsilon=1e-5, rngs=rngs)
        self.face_layers = tower(FACE_TABLE, 3 * frames, divisor, rngs, norm, precision=None)
        self.audio_layers = tower(AUDIO_TABLE, 1, divisor, rngs, norm, precision=None)
        self.dropout = nnx.Dropout(dropout)
        self.final_relu = final_relu

    def faces(
        self, crops: Float[Array, "batch frames 48 96 3"], train: bool = False, key: jax.Array | None = None
    ) -> Float[Array, "batch embedding"]:
        """Lips of consecutive frames, BGR in [0, 1] (`ops.crops.lip_crops`).

        `train`: normalise by the batch and remember its statistics, and drop values by `key`; otherwise by what is
        remembered, and nothing changes.
        """
        batch, frames, height, width, channels = crops.shape
        stacked = jnp.moveaxis(crops, 1, 3).reshape(batch, height, width, frames * channels)
        return self._embed(self.face_layers, stacked, train, key)

    def audio(
        self, mel: Float[Array, "batch 80 columns"], train: bool = False, key: jax.Array | None = None
    ) -> Float[Array, "batch embedding"]:
        """Mel of the frames' time (`audio.wav2lip_mel.mel_windows`), in [-4, 4]."""
        return self._embed(self.audio_layers, mel[..., None], train, key)

    def _embed(self, layers: nnx.List, x: jax.Array, train: bool, key: jax.Array | None) -> jax.Array:
        last = len(layers) - 1
        for index, layer in enumerate(layers):
            if index == last - 1:
                x = self.dropout(x, deterministic=not train, rngs=key)
            x = layer(x, relu=index < last or self.final_relu, use_running_average=not train)
        return unit(x.mean((1, 2)))


def unit(x: Float[Array, "*batch size"]) -> Float[Array, "*batch size"]:
    """Vectors of length one; zero stays zero, with a gradient of zero."""
    square = jnp.square(x).sum(-1, keepdims=True)
    return x * jax.lax.rsqrt(jnp.maximum(square, EPSILON**2))


def similarity(
    network: SyncNetwork, crops: Float[Array, "batch frames 48 96 3"], mel: Float[Array, "batch 80 columns"]
) -> Float[Array, " batch"]:
    """Cosine of lips and speech (equation 6) by a network that is left as it is.

    The gradient flows to `crops` alone: not to the network's parameters, nor to `mel`.
    """
    graph, state = nnx.split(network)
    frozen = nnx.merge(graph, jax.lax.stop_gradient(state))
    return (frozen.faces(crops) * jax.lax.stop_gradient(frozen.audio(mel))).sum(-1)
