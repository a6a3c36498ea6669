"""The sync expert of Wav2Lip (Prajwal et al., ACM MM 2020): faces and speech that belong together point the same way.

Structure: card s3d_nerf, section 2.9, and Wav2Lip models/syncnet.py, models/conv.py. In the tables a layer is (width,
kernel, strides, padding); a bare number repeats the width in that many residual 3 x 3 layers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from jaxtalk.nn.resnet import FrozenBatchNorm

FRAMES = 5
FACE_SIZE = (48, 96)  # rows, columns: the lower half of a face of 96 x 96
BANDS, COLUMNS = 80, 16  # of one mel window
EMBEDDING = 512

Norm = Callable[[int], nnx.Module]  # channels -> what normalises them
_Sizes = tuple[int, int, tuple[int, int], int]
FACE_TABLE: tuple[_Sizes | int, ...] = (
    *((32, 7, (1, 1), 3), (64, 5, (1, 2), 1), 2, (128, 3, (2, 2), 1), 3, (256, 3, (2, 2), 1), 2),
    *((512, 3, (2, 2), 1), 2, (512, 3, (2, 2), 1), (512, 3, (1, 1), 0), (512, 1, (1, 1), 0)),
)
AUDIO_TABLE: tuple[_Sizes | int, ...] = (
    *((32, 3, (1, 1), 1), 2, (64, 3, (3, 1), 1), 2, (128, 3, (3, 3), 1), 2, (256, 3, (3, 2), 1), 2),
    *((512, 3, (1, 1), 0), (512, 1, (1, 1), 0)),
)


class Wav2LipExpert(nnx.Module):
    """Unit vectors [batch, 512] of faces and of speech; their cosine is the sync. 16,435,072 parameters.

    All outputs pass a ReLU, so that a cosine lies in [0, 1].

    Args:
        divisor: divides all widths; 1 is the published network.
    """

    def __init__(self, divisor: int = 1, *, rngs: nnx.Rngs) -> None:
        self.face_layers = tower(FACE_TABLE, 3 * FRAMES, divisor, rngs)
        self.audio_layers = tower(AUDIO_TABLE, 1, divisor, rngs)

    def faces(self, frames: Float[Array, "batch 48 96 15"]) -> Float[Array, "batch embedding"]:
        """Five frames stacked in order along the channels, each BGR in [0, 1]."""
        return _unit(self.face_taps(frames)[-1])

    def audio(self, mel: Float[Array, "batch 80 16"]) -> Float[Array, "batch embedding"]:
        """Mel bands, lowest first, by 16 columns of 12.5 ms, in [-4, 4] (card s3d_nerf, section 2.9)."""
        return _unit(self.audio_taps(mel)[-1])

    def face_taps(self, frames: Float[Array, "batch 48 96 15"]) -> list[jax.Array]:
        """Output of each layer: [batch, height, width, channels]."""
        return _taps(self.face_layers, frames)

    def audio_taps(self, mel: Float[Array, "batch 80 16"]) -> list[jax.Array]:
        """Output of each layer: [batch, height, width, channels]."""
        return _taps(self.audio_layers, mel[..., None])


class ConvNormLayer(nnx.Module):
    """Convolution and normalisation, the input added where `residual`, ReLU."""

    def __init__(
        self,
        inputs: int,
        sizes: _Sizes,
        residual: bool,
        rngs: nnx.Rngs,
        norm: Norm,
        precision: jax.lax.Precision | None,
    ) -> None:
        outputs, kernel, strides, padding = sizes
        self.conv = nnx.Conv(
            inputs,
            outputs,
            (kernel, kernel),
            strides=strides,
            padding=((padding, padding),) * 2,
            precision=precision,
            rngs=rngs,
        )
        self.norm = norm(outputs)
        self.residual = residual

    def __call__(self, x: jax.Array, relu: bool = True, **norm: bool) -> jax.Array:
        y = self.norm(self.conv(x), **norm)
        y = y + x if self.residual else y
        return jax.nn.relu(y) if relu else y


def tower(
    table: Sequence[_Sizes | int],
    inputs: int,
    divisor: int,
    rngs: nnx.Rngs,
    norm: Norm = FrozenBatchNorm,
    precision: jax.lax.Precision | None = jax.lax.Precision.HIGHEST,
    least: int = 1,
) -> nnx.List:
    """The layers of `FACE_TABLE` or `AUDIO_TABLE`, with all widths divided, down to `least`.

    `norm` makes the normalisation of each from its width.
    """
    layers = []
    for entry in table:
        if isinstance(entry, int):
            sizes = (inputs, 3, (1, 1), 1)
            layers += [ConvNormLayer(inputs, sizes, True, rngs, norm, precision) for _ in range(entry)]
            continue
        outputs = max(entry[0] // divisor, least)
        layers.append(ConvNormLayer(inputs, (outputs, *entry[1:]), False, rngs, norm, precision))
        inputs = outputs
    return nnx.List(layers)


def _taps(layers: nnx.List, x: jax.Array) -> list[jax.Array]:
    taps = []
    for layer in layers:
        x = layer(x)
        taps.append(x)
    return taps


def _unit(x: jax.Array) -> jax.Array:
    x = x[:, 0, 0]
    return x / jnp.maximum(jnp.linalg.norm(x, axis=-1, keepdims=True), 1e-12)
