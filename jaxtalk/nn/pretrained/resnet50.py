"""ResNet-50 with torchvision's structure: the stride of a block sits in its 3 x 3 convolution."""

from __future__ import annotations

import jax
from flax import nnx
from jaxtyping import Array, Float

from jaxtalk.nn.convolution import convolution
from jaxtalk.nn.resnet import FrozenBatchNorm

DEPTHS = (3, 4, 6, 3)  # blocks per layer
WIDTHS = (64, 128, 256, 512)
EXPANSION = 4  # outputs of a block, in its widths
_EXACT = jax.lax.Precision.HIGHEST


class ResNet50(nnx.Module):
    """The outputs of conv1 (after its norm and ReLU) and of each of the four layers; 23,508,032 parameters.

    Pictures [batch, H, W, 3] are taken as they are: what they are normalised by is the user's. Batch normalisation
    uses stored statistics.

    Args:
        depths: blocks per layer.
        divisor: divides all widths; 1 is the published network.
    """

    def __init__(self, depths: tuple[int, ...] = DEPTHS, divisor: int = 1, *, rngs: nnx.Rngs) -> None:
        width = WIDTHS[0] // divisor
        self.conv1 = convolution(3, width, 7, stride=2, use_bias=False, precision=_EXACT, rngs=rngs)
        self.bn1 = FrozenBatchNorm(width)
        for index, depth in enumerate(depths):
            blocks = []
            for block in range(depth):
                blocks.append(_Bottleneck(width, WIDTHS[index] // divisor, 2 if index and not block else 1, rngs))
                width = EXPANSION * WIDTHS[index] // divisor
            setattr(self, f"layer{index + 1}", nnx.List(blocks))
        self.layers, self.outputs = len(depths), width

    def __call__(self, images: Float[Array, "batch height width 3"]) -> list[jax.Array]:
        x = jax.nn.relu(self.bn1(self.conv1(images)))
        outputs = [x]
        x = nnx.max_pool(x, (3, 3), strides=(2, 2), padding=((1, 1), (1, 1)))
        for index in range(self.layers):
            for block in getattr(self, f"layer{index + 1}"):
                x = block(x)
            outputs.append(x)
        return outputs


class _Bottleneck(nnx.Module):
    """1 x 1, 3 x 3 and 1 x 1 convolutions and a shortcut, which is a 1 x 1 convolution where sizes change."""

    def __init__(self, inputs: int, width: int, stride: int, rngs: nnx.Rngs) -> None:
        outputs = EXPANSION * width
        self.conv1 = convolution(inputs, width, 1, use_bias=False, precision=_EXACT, rngs=rngs)
        self.bn1 = FrozenBatchNorm(width)
        self.conv2 = convolution(width, width, 3, stride=stride, use_bias=False, precision=_EXACT, rngs=rngs)
        self.bn2 = FrozenBatchNorm(width)
        self.conv3 = convolution(width, outputs, 1, use_bias=False, precision=_EXACT, rngs=rngs)
        self.bn3 = FrozenBatchNorm(outputs)
        shortcut: list[nnx.Module] = []
        if stride > 1 or inputs != outputs:
            scaled = convolution(inputs, outputs, 1, stride=stride, use_bias=False, precision=_EXACT, rngs=rngs)
            shortcut = [scaled, FrozenBatchNorm(outputs)]
        self.downsample = nnx.List(shortcut)

    def __call__(self, x: jax.Array) -> jax.Array:
        y = jax.nn.relu(self.bn1(self.conv1(x)))
        y = jax.nn.relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        for layer in self.downsample:
            x = layer(x)
        return jax.nn.relu(x + y)
