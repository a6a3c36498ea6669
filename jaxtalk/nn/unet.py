"""A U-Net over pictures or feature maps: one convolution per level on the way down and on the way up."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from types import MappingProxyType

import jax
import jax.numpy as jnp
from flax import nnx
from flax.typing import Dtype
from jaxtyping import Array, Float

from jaxtalk.nn.convolution import convolution

SLOPE = 0.2  # of the leaky ReLU
GROUPS = 32  # of the normalisation, at most, of four channels or more
ACTIVATIONS = MappingProxyType({"silu": jax.nn.silu, "leaky_relu": lambda x: jax.nn.leaky_relu(x, SLOPE)})


class UNet(nnx.Module):
    """Maps to maps of the same size, through `len(widths) - 1` halvings and as many doublings.

    Every layer is a 3 x 3 convolution, a group normalisation (`norm="group"`) or nothing ("none"), and the activation
    ("silu" or "leaky_relu"). Halving is a stride of 2. Doubling is bilinear; its convolution also reads the maps of
    that size from the way down. `residual_blocks` of two convolutions each work at the lowest resolution. The last
    convolution is linear and in float32, and starts at zero with `zero_output`.

    It serves as the deformation field's network of S3D-NeRF (widths 128, 256, 256; card s3d_nerf 2.6) and as its
    super-resolution (64, 128, 256, 512, no norm, leaky ReLU, 4 residual blocks; 2.8). Raises `ValueError` for maps
    whose sides 2**(halvings) does not divide.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        widths: tuple[int, ...] = (128, 256, 256),
        *,
        norm: str = "group",
        activation: str = "silu",
        residual_blocks: int = 0,
        zero_output: bool = False,
        rngs: nnx.Rngs,
        dtype: Dtype | None = None,
    ) -> None:
        if norm not in ("group", "none"):
            raise ValueError(f"norm must be 'group' or 'none', not {norm!r}")
        if activation not in ACTIVATIONS:
            raise ValueError(f"activation must be one of {', '.join(ACTIVATIONS)}, not {activation!r}")
        self.factor, self.dtype = 2 ** (len(widths) - 1), dtype
        self.activation = activation

        def layer(inputs: int, outputs: int, stride: int = 1) -> _Layer:
            return _Layer(inputs, outputs, stride, norm=norm, rngs=rngs, dtype=dtype)

        steps = list(itertools.pairwise(widths))
        self.first = layer(inputs, widths[0])
        self.down = nnx.List([layer(high, low, stride=2) for high, low in steps])
        self.residual = nnx.List([layer(widths[-1], widths[-1]) for _ in range(2 * residual_blocks)])
        self.up = nnx.List([layer(low + high, high) for high, low in reversed(steps)])
        self.last = convolution(widths[0], outputs, 3, rngs=rngs, init="zero" if zero_output else "torch")

    def __call__(self, maps: Float[Array, "batch height width inputs"]) -> Float[Array, "batch height width outputs"]:
        if maps.shape[1] % self.factor or maps.shape[2] % self.factor:
            raise ValueError(f"maps of {maps.shape[1]} x {maps.shape[2]}: {self.factor} must divide both sides")
        act: Callable[[jax.Array], jax.Array] = ACTIVATIONS[self.activation]
        x = act(self.first(maps.astype(self.dtype or maps.dtype)))
        skips = []
        for layer in self.down:
            skips.append(x)
            x = act(layer(x))
        for index in range(0, len(self.residual), 2):
            x = x + self.residual[index + 1](act(self.residual[index](x)))
        for layer in self.up:
            x = act(layer(jnp.concatenate([doubled(x), skips.pop()], -1)))
        return self.last(x.astype(jnp.float32))


class _Layer(nnx.Module):
    """A convolution and its norm."""

    def __init__(
        self, inputs: int, outputs: int, stride: int, *, norm: str, rngs: nnx.Rngs, dtype: Dtype | None
    ) -> None:
        self.conv = convolution(inputs, outputs, 3, stride=stride, rngs=rngs, dtype=dtype)
        groups = max(1, min(math.gcd(GROUPS, outputs), outputs // 4))
        made = [nnx.GroupNorm(outputs, num_groups=groups, dtype=dtype, rngs=rngs)] if norm == "group" else []
        self.norm = nnx.List(made)

    def __call__(self, x: jax.Array) -> jax.Array:
        x = self.conv(x)
        for norm in self.norm:
            x = norm(x)
        return x


def doubled(maps: Float[Array, "*batch height width channels"]) -> Float[Array, "*batch rows columns channels"]:
    """Maps of twice the height and width, bilinear between centres of pixels, the border repeated.

    Sums of shifted maps: `jax.image.resize` multiplies by dense matrices, 3 to 10 times the work.
    """
    for axis in (-3, -2):
        size = maps.shape[axis]
        pad = [(0, 0)] * maps.ndim
        pad[axis] = (1, 1)
        padded = jnp.pad(maps, pad, mode="edge")
        before, after = (jax.lax.slice_in_dim(padded, start, start + size, axis=axis) for start in (0, 2))
        pair = jnp.stack([0.75 * maps + 0.25 * before, 0.75 * maps + 0.25 * after], axis)
        maps = pair.reshape(*maps.shape[: maps.ndim + axis], 2 * size, *maps.shape[maps.ndim + axis + 1 :])
    return maps
