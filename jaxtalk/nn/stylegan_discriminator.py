"""StyleGAN2's residual discriminator, without conditioning (card s3d_nerf 2.10)."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx
from flax.typing import Dtype
from jaxtyping import Array, Float

SLOPE = 0.2  # of the leaky ReLU
GAIN = 2**0.5  # after it: variance is kept
GROUP = 4  # pictures whose deviation is compared
SMALLEST = 4  # rows and columns of the last maps
_EPSILON = 1e-8  # under the root of the deviation


class StyleGanDiscriminator(nnx.Module):
    """Logits of pictures in [-1, 1]: larger is more real.

    Residual blocks halve the picture down to 4 x 4; maps of r x r have min(base / r, limit) channels. Weights are
    drawn from N(0, 1) and multiplied by 1 / sqrt(fan in) in each call, so that Adam's steps are of one relative size
    for all layers. A picture's logit depends on the others of its batch through `minibatch_deviation`. Convolutions
    are taken in `dtype` (None: that of the pictures); the last layers and parameters are float32.

    256 pixels give 28,864,129 parameters. Raises `ValueError` for a size that is no power of two or below 8, and for
    pictures of another size.
    """

    def __init__(
        self, size: int, *, base: int = 32768, limit: int = 512, rngs: nnx.Rngs, dtype: Dtype | None = None
    ) -> None:
        if size < 2 * SMALLEST or size & (size - 1):
            raise ValueError(f"size must be a power of two of at least {2 * SMALLEST}, not {size}")
        self.size, self.dtype = size, dtype

        def width(resolution: int) -> int:
            return min(base // resolution, limit)

        self.from_rgb = EqualisedConv(3, width(size), 1, rngs=rngs)
        sides = [size >> step for step in range(size.bit_length() - SMALLEST.bit_length())]
        self.blocks = nnx.List([_Block(width(side), width(side // 2), rngs) for side in sides])
        last = width(SMALLEST)
        self.conv = EqualisedConv(last + 1, last, 3, rngs=rngs)
        self.hidden = EqualisedConv(last * SMALLEST**2, last, 1, rngs=rngs)
        self.out = EqualisedConv(last, 1, 1, rngs=rngs)

    def __call__(self, images: Float[Array, "batch height width 3"]) -> Float[Array, " batch"]:
        if images.shape[1:] != (self.size, self.size, 3):
            raise ValueError(f"pictures of {images.shape[1:]}; this discriminator reads {self.size} x {self.size} x 3")
        x = _activated(self.from_rgb(images.astype(self.dtype or images.dtype)))
        for block in self.blocks:
            x = block(x)
        x = x.astype(jnp.float32)
        deviation = minibatch_deviation(x)[:, None, None, None]
        x = jnp.concatenate([x, jnp.broadcast_to(deviation, (*x.shape[:3], 1))], -1)
        x = _activated(self.conv(x))
        x = _activated(self.hidden(x.reshape(len(x), 1, 1, -1)))
        return self.out(x)[:, 0, 0, 0]


class EqualisedConv(nnx.Module):
    """A square convolution with zero padding whose weights from N(0, 1) are scaled by 1 / sqrt(fan in) at each call.

    A dense layer is its case of kernel 1 on maps of 1 x 1. With `stride` 2 the maps are blurred first. Products are
    taken in the type of the input.
    """

    def __init__(
        self, inputs: int, outputs: int, kernel: int, *, stride: int = 1, use_bias: bool = True, rngs: nnx.Rngs
    ) -> None:
        self.stride, self.scale = stride, (inputs * kernel**2) ** -0.5
        self.kernel = nnx.Param(jax.random.normal(rngs.params(), (kernel, kernel, inputs, outputs)))
        self.bias = nnx.data(nnx.Param(jnp.zeros(outputs)) if use_bias else None)

    def __call__(self, x: Float[Array, "batch height width inputs"]) -> Float[Array, "batch rows columns outputs"]:
        kernel = (self.kernel[...] * self.scale).astype(x.dtype)
        stride, pad = self.stride, (len(kernel) - 1) // 2
        if stride > 1 and pad:
            x, pad = blurred(x, pad + 1), 0
        elif stride > 1:
            x, stride = blurred(x, 1, stride), 1
        x = jax.lax.conv_general_dilated(
            x, kernel, (stride, stride), ((pad, pad), (pad, pad)), dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        return x if self.bias is None else x + self.bias[...].astype(x.dtype)


class _Block(nnx.Module):
    """Two convolutions and a shortcut, both halving the picture; their sum keeps the variance."""

    def __init__(self, inputs: int, outputs: int, rngs: nnx.Rngs) -> None:
        self.conv1 = EqualisedConv(inputs, inputs, 3, rngs=rngs)
        self.conv2 = EqualisedConv(inputs, outputs, 3, stride=2, rngs=rngs)
        self.skip = EqualisedConv(inputs, outputs, 1, stride=2, use_bias=False, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        return (_activated(self.conv2(_activated(self.conv1(x)))) + self.skip(x)) * 0.5**0.5


def blurred(
    maps: Float[Array, "batch height width channels"], pad: int, stride: int = 1
) -> Float[Array, "batch rows columns channels"]:
    """Maps smoothed by the kernel [1, 3, 3, 1] / 8 along both axes, every `stride`-th value; zeros outside.

    `pad` zeros on every side give height + 2 pad - 3 rows before striding.
    """
    for axis in (1, 2):
        shape = [(0, 0)] * 4
        shape[axis] = (pad, pad)
        padded = jnp.pad(maps, shape)
        end = padded.shape[axis] - 3
        taps = [jax.lax.slice_in_dim(padded, k, k + end, stride, axis) for k in range(4)]
        maps = 0.125 * (taps[0] + taps[3]) + 0.375 * (taps[1] + taps[2])
    return maps


def minibatch_deviation(maps: Float[Array, "batch height width channels"]) -> Float[Array, " batch"]:
    """The mean over places and channels of the standard deviation over a group of the batch.

    Pictures batch / 4 apart form a group of 4. A batch that 4 does not divide has groups of the next larger size that
    does (5 of 5, 5 of 10), a smaller batch is one group; of a single picture the deviation is 1e-4, a constant.
    """
    batch = len(maps)
    size = next(size for size in range(min(GROUP, batch), batch + 1) if batch % size == 0)
    groups = maps.reshape(size, batch // size, -1)
    deviation = jnp.sqrt(groups.var(0) + _EPSILON).mean(-1)
    return jnp.tile(deviation, size)


def _activated(x: jax.Array) -> jax.Array:
    return jax.nn.leaky_relu(x, SLOPE) * GAIN
