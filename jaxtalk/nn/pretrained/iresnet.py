"""IResNet, the ArcFace network whose embeddings tell faces apart (metrics card, section 2, CSIM)."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from jaxtalk.nn.convolution import convolution
from jaxtalk.nn.resnet import FrozenBatchNorm

SIZE = 112  # pixels, side of the pictures
DEPTHS = {"r50": (3, 4, 14, 3), "r100": (3, 13, 30, 3)}  # blocks per stage
WIDTHS = (64, 128, 256, 512)
_EXACT = jax.lax.Precision.HIGHEST


class IResNet(nnx.Module):
    """Embeddings [batch, 512] of aligned faces [batch, 112, 112, 3], RGB in [-1, 1]; not yet of unit length.

    43,590,848 parameters in r50, 65,156,160 in r100.

    Args:
        depths: blocks per stage, see `DEPTHS`.
        divisor: divides all widths and the embedding's; 1 is the published network.
        size: side of the pictures; the last dense layer depends on it.
    """

    def __init__(
        self, depths: tuple[int, ...] = DEPTHS["r50"], divisor: int = 1, size: int = SIZE, *, rngs: nnx.Rngs
    ) -> None:
        width = WIDTHS[0] // divisor
        self.conv1 = convolution(3, width, 3, use_bias=False, precision=_EXACT, rngs=rngs)
        self.bn1 = FrozenBatchNorm(width)
        self.prelu = PReLU(width)
        for index, depth in enumerate(depths):
            outputs = WIDTHS[index] // divisor
            blocks = [_Block(outputs if block else width, outputs, 1 if block else 2, rngs) for block in range(depth)]
            setattr(self, f"layer{index + 1}", nnx.List(blocks))
            width = outputs
        self.stages = len(depths)
        self.bn2 = FrozenBatchNorm(width)
        self.fc = nnx.Linear(width * (size >> len(depths)) ** 2, 512 // divisor, precision=_EXACT, rngs=rngs)
        self.features = FrozenBatchNorm(512 // divisor)

    def __call__(self, faces: Float[Array, "batch height width 3"]) -> Float[Array, "batch embedding"]:
        x = self.taps(faces)[-1]
        x = jnp.transpose(self.bn2(x), (0, 3, 1, 2))  # the dense layer's inputs are ordered by channel, row, column
        return self.features(self.fc(x.reshape(len(x), -1)))

    def taps(self, faces: Float[Array, "batch height width 3"]) -> list[jax.Array]:
        """Outputs of the stem and of each stage, [batch, height, width, channels]."""
        x = self.prelu(self.bn1(self.conv1(faces)))
        taps = [x]
        for index in range(self.stages):
            for block in getattr(self, f"layer{index + 1}"):
                x = block(x)
            taps.append(x)
        return taps


class PReLU(nnx.Module):
    """max(x, 0) + slope min(x, 0) with a slope for each channel."""

    def __init__(self, channels: int) -> None:
        self.slope = nnx.Param(jnp.full(channels, 0.25))

    def __call__(self, x: Float[Array, "*batch channels"]) -> Float[Array, "*batch channels"]:
        return jnp.where(x > 0, x, x * self.slope[...])


class _Block(nnx.Module):
    """Norm, convolution, norm, PReLU, convolution with the stride, norm; plus the shortcut. Nothing follows the sum."""

    def __init__(self, inputs: int, outputs: int, stride: int, rngs: nnx.Rngs) -> None:
        self.bn1 = FrozenBatchNorm(inputs)
        self.conv1 = convolution(inputs, outputs, 3, use_bias=False, precision=_EXACT, rngs=rngs)
        self.bn2 = FrozenBatchNorm(outputs)
        self.prelu = PReLU(outputs)
        self.conv2 = convolution(outputs, outputs, 3, stride=stride, use_bias=False, precision=_EXACT, rngs=rngs)
        self.bn3 = FrozenBatchNorm(outputs)
        shortcut: list[nnx.Module] = []
        if stride > 1 or inputs != outputs:
            scaled = convolution(inputs, outputs, 1, stride=stride, use_bias=False, precision=_EXACT, rngs=rngs)
            shortcut = [scaled, FrozenBatchNorm(outputs)]
        self.downsample = nnx.List(shortcut)

    def __call__(self, x: jax.Array) -> jax.Array:
        y = self.prelu(self.bn2(self.conv1(self.bn1(x))))
        y = self.bn3(self.conv2(y))
        for layer in self.downsample:
            x = layer(x)
        return x + y
