"""EG3D's super-resolution by modulated convolutions, with features of a source picture (card s3d_nerf 2.8)."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx
from flax.typing import Dtype
from jaxtyping import Array, Float

from jaxtalk.nn.convolution import convolution
from jaxtalk.nn.stylegan_discriminator import GAIN, SLOPE, blurred
from jaxtalk.nn.unet import doubled

EPSILON = 1e-8  # under the root of the demodulation
SOURCE_WIDTHS = (32, 64, 128)  # channels of the source's features at 4, 2 and 1 times the coarse size
WIDTHS = (128, 64)  # channels at 2 and 4 times the coarse size


class ModulatedConv(nnx.Module):
    """A square convolution whose weights are scaled per picture and input channel by a style, then normalised.

    With `demodulate` the scaled weights of every output channel have length 1, else they are divided by sqrt(fan in).
    Maps are scaled instead of weights, before and after, so that one convolution serves the whole batch. `up` doubles
    the maps, smoothed by [1, 3, 3, 1] with zeros outside. Products are taken in the type of the input.
    """

    def __init__(
        self, inputs: int, outputs: int, kernel: int = 3, *, up: bool = False, demodulate: bool = True, rngs: nnx.Rngs
    ) -> None:
        self.up, self.demodulate = up, demodulate
        self.kernel = nnx.Param(jax.random.normal(rngs.params(), (kernel, kernel, inputs, outputs)))
        self.bias = nnx.Param(jnp.zeros(outputs))

    def __call__(
        self, x: Float[Array, "batch height width inputs"], style: Float[Array, "#batch inputs"]
    ) -> Float[Array, "batch rows columns outputs"]:
        kernel, size = self.kernel[...], len(self.kernel)
        if self.demodulate:
            length = jnp.square(style) @ jnp.square(kernel).sum((0, 1))
            after = jax.lax.rsqrt(length + EPSILON)[:, None, None, :]
        else:
            after = jnp.float32((kernel.size // kernel.shape[-1]) ** -0.5)
        pad = size - 1 if self.up else (size - 1) // 2
        x = jax.lax.conv_general_dilated(
            x * style[:, None, None, :].astype(x.dtype),
            kernel.astype(x.dtype),
            (1, 1),
            ((pad, pad), (pad, pad)),
            lhs_dilation=(2, 2) if self.up else None,  # zeros between pixels; the blur fills them
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )
        if self.up:
            x, after = blurred(x, (5 - size) // 2), 4 * after
        return x * after.astype(x.dtype) + self.bias[...].astype(x.dtype)


class Hybrid4x(nnx.Module):
    """Coarse features to a picture of 4 times their height and width; values are not bounded.

    The features, whose first three channels are the coarse colours, are doubled bilinearly. A block of two modulated
    convolutions works at that size, another doubles and works at the final size; each adds a correction to the
    colours. The styles do not depend on anything: EG3D maps a vector of ones to them, here they are parameters that
    start at one. A pyramid of strided convolutions reads the source picture; its features are concatenated at both
    sizes. EG3D has no source.

    The last layer of each block works in float32. Raises `ValueError` for a source that is not 4 times as large.
    """

    def __init__(self, inputs: int, *, rngs: nnx.Rngs, dtype: Dtype | None = None) -> None:
        if inputs < 3:
            raise ValueError(f"the first three of the coarse channels are colours; {inputs} are too few")
        fine, middle, low = SOURCE_WIDTHS
        self.dtype = dtype
        self.source = nnx.List(
            [
                convolution(3, fine, 3, rngs=rngs, dtype=dtype),
                convolution(fine, middle, 3, stride=2, rngs=rngs, dtype=dtype),
                convolution(middle, low, 3, stride=2, rngs=rngs, dtype=dtype),
            ]
        )
        wide, narrow = WIDTHS
        self.first = nnx.List([_Styled(inputs + middle + low, wide, rngs=rngs), _Styled(wide, wide, rngs=rngs)])
        self.first_rgb = _Styled(wide, 3, 1, demodulate=False, rngs=rngs)
        self.second = nnx.List(
            [_Styled(wide, narrow, up=True, rngs=rngs), _Styled(narrow + fine, narrow, rngs=rngs)]
        )  # fmt: skip
        self.second_rgb = _Styled(narrow, 3, 1, demodulate=False, rngs=rngs)

    def __call__(
        self, coarse: Float[Array, "batch height width inputs"], source: Float[Array, "batch rows columns 3"]
    ) -> Float[Array, "batch rows columns 3"]:
        height, width = coarse.shape[1:3]
        if source.shape[1:3] != (4 * height, 4 * width):
            raise ValueError(
                f"a source of {source.shape[1:3]} for coarse maps of {(height, width)}: it must be 4 times"
            )
        dtype = self.dtype or coarse.dtype
        features, x = [], source.astype(dtype)
        for layer in self.source:
            x = jax.nn.leaky_relu(layer(x), SLOPE)
            features.append(x)
        fine, middle, low = features
        colors = doubled(coarse[..., :3].astype(jnp.float32))
        x = jnp.concatenate([doubled(coarse.astype(dtype)), middle, doubled(low)], -1)
        for styled in self.first:
            x = _activated(styled(x))
        colors = doubled(colors + self.first_rgb(x.astype(jnp.float32)))
        before, after = self.second
        x = _activated(after(jnp.concatenate([_activated(before(x)), fine], -1)))
        return colors + self.second_rgb(x.astype(jnp.float32))


class _Styled(nnx.Module):
    """A modulated convolution and its constant style."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int = 3, *, up: bool = False, demodulate: bool = True, rngs: nnx.Rngs
    ) -> None:
        self.conv = ModulatedConv(inputs, outputs, kernel, up=up, demodulate=demodulate, rngs=rngs)
        self.style = nnx.Param(jnp.ones(inputs))

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.conv(x, self.style[...][None])


def _activated(x: jax.Array) -> jax.Array:
    return jax.nn.leaky_relu(x, SLOPE) * GAIN
