"""Where to look for what has moved: a flow over feature maps, or an offset per point (card gdrf 2.5, A.2)."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx
from flax.typing import Dtype
from jaxtyping import Array, Float

from jaxtalk.nn.adain import AdaIN
from jaxtalk.nn.convolution import convolution, upconvolution

SLOPE = 0.1  # of the leaky ReLU
LIMIT = 10.0  # pixels: largest offset of a point


class WarpHourglass(nnx.Module):
    """Feature maps and a code to a flow at 2**(decoder - encoder) of their size, in cells of that grid (paper eq. 9).

    An encoder halves the maps `encoder` times, a decoder doubles them `decoder` times and reads the encoder's maps of
    the same size. The last layer starts at zero: so does the flow. Raises `ValueError` for maps whose sides
    2**encoder does not divide.
    """

    def __init__(
        self,
        inputs: int,
        condition: int,
        base: int = 32,
        limit: int = 256,
        encoder: int = 5,
        decoder: int = 3,
        hidden: int = 128,
        *,
        rngs: nnx.Rngs,
        dtype: Dtype | None = None,
    ) -> None:
        if not 0 <= decoder <= encoder:
            raise ValueError(f"a decoder of {decoder} blocks needs an encoder of as many, not {encoder}")
        self.factor, self.dtype = 2**encoder, dtype
        sizes = [min(base * 2**i, limit) for i in range(encoder + 1)]
        self.first = convolution(inputs, base, 7, rngs=rngs, dtype=dtype)
        self.encoder = nnx.List(
            [_Down(sizes[i], sizes[i + 1], condition, hidden, rngs=rngs, dtype=dtype) for i in range(encoder)]
        )
        width, blocks = sizes[-1], []
        for i in reversed(range(encoder - decoder, encoder)):
            blocks.append(_Up(width, sizes[i], condition, hidden, rngs=rngs, dtype=dtype))
            width = 2 * sizes[i]  # with the encoder's maps
        self.decoder = nnx.List(blocks)
        self.norm_scale = nnx.Param(jnp.ones(width))
        self.norm_bias = nnx.Param(jnp.zeros(width))
        self.flow = convolution(width, 2, 7, rngs=rngs, init="zero")

    def __call__(
        self, maps: Float[Array, "*batch height width inputs"], z: Float[Array, "*#batch condition"]
    ) -> Float[Array, "*batch rows columns 2"]:
        if maps.shape[-3] % self.factor or maps.shape[-2] % self.factor:
            raise ValueError(f"maps of {maps.shape[-3]} x {maps.shape[-2]}: {self.factor} must divide both sides")
        x = self.first(maps.astype(self.dtype or maps.dtype))
        skips = []
        for down in self.encoder:
            skips.append(x)
            x = down(x, z)
        for up in self.decoder:
            x = jnp.concatenate([up(x, z), skips.pop()], -1)
        return self.flow(jax.nn.leaky_relu(self._norm(x.astype(jnp.float32)), SLOPE))

    def _norm(self, x: Float[Array, "*batch rows columns width"]) -> Float[Array, "*batch rows columns width"]:
        """Normalised over the whole map; scale and bias per channel."""
        axes = (-3, -2, -1)
        x = (x - x.mean(axes, keepdims=True)) * jax.lax.rsqrt(x.var(axes, keepdims=True) + 1e-5)
        return x * self.norm_scale[...] + self.norm_bias[...]


class _Down(nnx.Module):
    """Half the size: AdaIN, lrelu, 4 x 4 convolution of stride 2; AdaIN, lrelu, 3 x 3 convolution."""

    def __init__(
        self, inputs: int, outputs: int, condition: int, hidden: int, *, rngs: nnx.Rngs, dtype: Dtype | None
    ) -> None:
        self.norms = nnx.List([AdaIN(size, condition, hidden, rngs=rngs) for size in (inputs, outputs)])
        self.halve = convolution(inputs, outputs, 4, stride=2, rngs=rngs, dtype=dtype)
        self.refine = convolution(outputs, outputs, 3, rngs=rngs, dtype=dtype)

    def __call__(self, x: jax.Array, z: jax.Array) -> jax.Array:
        x = self.halve(jax.nn.leaky_relu(self.norms[0](x, z), SLOPE))
        return self.refine(jax.nn.leaky_relu(self.norms[1](x, z), SLOPE))


class _Up(nnx.Module):
    """Twice the size: AdaIN, lrelu, 3 x 3 and AdaIN, lrelu, transposed convolution, plus a transposed shortcut."""

    def __init__(
        self, inputs: int, outputs: int, condition: int, hidden: int, *, rngs: nnx.Rngs, dtype: Dtype | None
    ) -> None:
        middle = min(inputs, outputs)
        self.norms = nnx.List([AdaIN(size, condition, hidden, rngs=rngs) for size in (inputs, middle, inputs)])
        self.refine = convolution(inputs, middle, 3, rngs=rngs, dtype=dtype)
        self.double = upconvolution(middle, outputs, rngs=rngs, dtype=dtype)
        self.shortcut = upconvolution(inputs, outputs, rngs=rngs, dtype=dtype)

    def __call__(self, x: jax.Array, z: jax.Array) -> jax.Array:
        main = self.refine(jax.nn.leaky_relu(self.norms[0](x, z), SLOPE))
        main = self.double(jax.nn.leaky_relu(self.norms[1](main, z), SLOPE))
        return main + self.shortcut(jax.nn.leaky_relu(self.norms[2](x, z), SLOPE))


class PointWarp(nnx.Module):
    """DFRF's offset (x, y) of a point's projection, in pixels, at most 10 either way. 36,962 parameters of 255 inputs.

    Weights start at N(0, 1e-3) and biases at zero, so offsets start near zero.
    """

    def __init__(self, inputs: int, *, rngs: nnx.Rngs) -> None:
        sizes, init = (inputs, 128, 32, 2), nnx.initializers.normal(1e-3)
        self.layers = nnx.List([nnx.Linear(sizes[i], sizes[i + 1], kernel_init=init, rngs=rngs) for i in range(3)])

    def __call__(self, x: Float[Array, "*batch inputs"]) -> Float[Array, "*batch 2"]:
        for layer in self.layers[:-1]:
            x = jax.nn.relu(layer(x))
        return jnp.clip(self.layers[-1](x), -LIMIT, LIMIT)
