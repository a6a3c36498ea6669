"""SyncNet (Chung and Zisserman, Out of Time, ACCV Workshops 2016), whose embeddings judge lip sync (metrics card 4)."""

from __future__ import annotations

from typing import Any

import jax
from flax import nnx
from jaxtyping import Array, Float

from jaxtalk.nn.resnet import FrozenBatchNorm

FRAMES = 5  # of one lip window
CEPSTRA, ROWS = 13, 20  # of one audio window: 0.2 s at 100 rows a second
CROP = 224  # pixels, side of the pictures
EMBEDDING = 1024


class SyncNet(nnx.Module):
    """Two towers, for five frames of a face and for 0.2 s of speech, each with a head; 13,631,616 parameters.

    Args:
        divisor: divides all widths; 1 is the published network.
    """

    def __init__(self, divisor: int = 1, *, rngs: nnx.Rngs) -> None:
        c64, c96, c192, c256, c384, c512 = (width // divisor for width in (64, 96, 192, 256, 384, 512))
        self.audio_layers = nnx.List(
            [
                _Layer(1, c64, (3, 3), padding=(1, 1), rngs=rngs),
                _Layer(c64, c192, (3, 3), padding=(1, 1), pool=((3, 3), (1, 2)), rngs=rngs),
                _Layer(c192, c384, (3, 3), padding=(1, 1), rngs=rngs),
                _Layer(c384, c256, (3, 3), padding=(1, 1), rngs=rngs),
                _Layer(c256, c256, (3, 3), padding=(1, 1), pool=((3, 3), (2, 2)), rngs=rngs),
                _Layer(c256, c512, (5, 4), rngs=rngs),
            ]
        )
        halved: dict[str, Any] = {"strides": (1, 2, 2), "rngs": rngs}
        same: dict[str, Any] = {"kernel": (1, 3, 3), "padding": (0, 1, 1), "rngs": rngs}
        pool = ((1, 3, 3), (1, 2, 2))
        self.lip_layers = nnx.List(
            [
                _Layer(3, c96, (FRAMES, 7, 7), pool=pool, **halved),
                _Layer(c96, c256, (1, 5, 5), padding=(0, 1, 1), pool=(*pool, (0, 1, 1)), **halved),
                _Layer(c256, c256, **same),
                _Layer(c256, c256, **same),
                _Layer(c256, c256, pool=pool, **same),
                _Layer(c256, c512, (1, 6, 6), rngs=rngs),
            ]
        )
        self.audio_head = _Head(c512, EMBEDDING // divisor, rngs)
        self.lip_head = _Head(c512, EMBEDDING // divisor, rngs)

    def lips(self, frames: Float[Array, "batch time 224 224 3"]) -> Float[Array, "batch windows embedding"]:
        """Embeddings of all windows of five consecutive frames: time - 4 of them. Frames are BGR, 0..255, float."""
        return self.lip_head(self.lip_taps(frames)[-1][:, :, 0, 0])

    def audio(self, cepstra: Float[Array, "batch 13 20"]) -> Float[Array, "batch embedding"]:
        """Embeddings of windows of 20 rows of 13 cepstra (`jaxtalk.audio.psf`), cepstra along the first axis."""
        return self.audio_head(self.audio_taps(cepstra)[-1][:, 0, 0])

    def lip_taps(self, frames: Float[Array, "batch time 224 224 3"]) -> list[jax.Array]:
        """Output of each layer of the lip tower, pooled where it pools: [batch, windows, height, width, channels]."""
        return _taps(self.lip_layers, frames)

    def audio_taps(self, cepstra: Float[Array, "batch 13 20"]) -> list[jax.Array]:
        """Output of each layer of the audio tower, pooled where it pools: [batch, height, width, channels]."""
        return _taps(self.audio_layers, cepstra[..., None])


class _Layer(nnx.Module):
    """Convolution, batch normalisation and ReLU, then max-pooling by `pool` = (window, strides[, padding])."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: tuple[int, ...],
        *,
        rngs: nnx.Rngs,
        strides: tuple[int, ...] | int = 1,
        padding: tuple[int, ...] | None = None,
        pool: tuple[tuple[int, ...], ...] | None = None,
    ) -> None:
        self.conv = nnx.Conv(
            inputs,
            outputs,
            kernel,
            strides=strides,
            padding=_both_sides(padding or (0,) * len(kernel)),
            precision=jax.lax.Precision.HIGHEST,
            rngs=rngs,
        )
        self.norm = FrozenBatchNorm(outputs)
        self.pool = pool

    def __call__(self, x: jax.Array) -> jax.Array:
        x = jax.nn.relu(self.norm(self.conv(x)))
        if self.pool is None:
            return x
        window, strides, *padding = self.pool
        return nnx.max_pool(x, window, strides, _both_sides(padding[0] if padding else (0,) * len(window)))


class _Head(nnx.Module):
    """Two dense layers, normalised and rectified in between."""

    def __init__(self, inputs: int, outputs: int, rngs: nnx.Rngs) -> None:
        self.hidden = nnx.Linear(inputs, inputs, precision=jax.lax.Precision.HIGHEST, rngs=rngs)
        self.norm = FrozenBatchNorm(inputs)
        self.output = nnx.Linear(inputs, outputs, precision=jax.lax.Precision.HIGHEST, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.output(jax.nn.relu(self.norm(self.hidden(x))))


def _taps(layers: nnx.List, x: jax.Array) -> list[jax.Array]:
    taps = []
    for layer in layers:
        x = layer(x)
        taps.append(x)
    return taps


def _both_sides(padding: tuple[int, ...]) -> tuple[tuple[int, int], ...]:
    return tuple((size, size) for size in padding)
