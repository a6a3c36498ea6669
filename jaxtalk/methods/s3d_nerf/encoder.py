"""The hierarchical facial appearance encoder: one masked picture to tri-planes at four levels (card 2.1, eq. 1)."""

from __future__ import annotations

import itertools

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from jaxtalk.methods.s3d_nerf.config import EncoderConfig
from jaxtalk.nn.convolution import convolution

SLOPE = 0.2
_GROUPS = 32


class _Residual(nnx.Module):
    """x + two 3 x 3 convolutions, each with group normalisation."""

    def __init__(self, width: int, rngs: nnx.Rngs) -> None:
        groups = _GROUPS if width % _GROUPS == 0 else max(1, width // 8)
        self.convs = nnx.List([convolution(width, width, 3, rngs=rngs) for _ in range(2)])
        self.norms = nnx.List([nnx.GroupNorm(width, groups, rngs=rngs) for _ in range(2)])

    def __call__(self, x: jax.Array) -> jax.Array:
        y = x
        for conv, norm in zip(self.convs, self.norms, strict=True):
            y = jax.nn.leaky_relu(norm(conv(y)), SLOPE)
        return x + y


class _Down(nnx.Module):
    """A convolution of stride 2 and two residual ones."""

    def __init__(self, inputs: int, width: int, rngs: nnx.Rngs) -> None:
        self.conv = convolution(inputs, width, 3, stride=2, rngs=rngs)
        self.blocks = nnx.List([_Residual(width, rngs) for _ in range(2)])

    def __call__(self, x: jax.Array) -> jax.Array:
        x = jax.nn.leaky_relu(self.conv(x), SLOPE)
        for block in self.blocks:
            x = block(x)
        return x


class AppearanceEncoder(nnx.Module):
    """D0 = Down0(I), Di = Downi(D(i-1)); F3 = D3; Fi = Conv1x1([Up(F(i+1)), Di]): planes xy, yz, xz of each Fi."""

    def __init__(self, settings: EncoderConfig, rngs: nnx.Rngs) -> None:
        planes = 3 * settings.plane_channels
        finer, inputs = settings.widths[:-1], (5, *settings.widths)  # the picture and where each pixel is
        self.downs = nnx.List([_Down(a, b, rngs) for a, b in itertools.pairwise(inputs)])
        self.ups = nnx.List([convolution(planes, planes, 3, rngs=rngs) for _ in finer])
        self.joins = nnx.List([convolution(planes + width, planes, 1, rngs=rngs) for width in finer])

    def __call__(self, picture: Float[Array, "batch height width 3"]) -> list[jax.Array]:
        """Planes [batch, 3, h, w, C] of each level, the finest (half the picture's size) first.

        The picture is the masked source in [0, 1].
        """
        down, x = [], _with_coordinates(2 * picture - 1)
        for layer in self.downs:
            x = layer(x)
            down.append(x)
        found = [x]
        for level in reversed(range(len(self.ups))):
            batch, height, width, channels = x.shape
            x = jax.image.resize(x, (batch, 2 * height, 2 * width, channels), "linear")
            x = self.joins[level](jnp.concatenate([self.ups[level](x), down[level]], -1))
            found.append(x)
        return [_planes(x) for x in reversed(found)]


def merged(planes: list[jax.Array]) -> list[jax.Array]:
    """All levels at the finest one's size, as one set of planes with the channels of all."""
    height, width = planes[0].shape[-3:-1]
    same = [jax.image.resize(p, (*p.shape[:-3], height, width, p.shape[-1]), "linear") for p in planes]
    return [jnp.concatenate(same, -1)]


def _planes(x: jax.Array) -> jax.Array:
    """[batch, h, w, 3 C] to [batch, 3, h, w, C]."""
    return jnp.moveaxis(x.reshape(*x.shape[:-1], 3, -1), -2, 1)


def _with_coordinates(picture: jax.Array) -> jax.Array:
    """The picture with two channels more: x to the right and y down, -1 .. 1 across it."""
    batch, height, width, _ = picture.shape
    across, down = (jnp.arange(size) * (2 / size) + 1 / size - 1 for size in (width, height))
    places = jnp.stack(jnp.meshgrid(across, down), -1)
    return jnp.concatenate([picture, jnp.broadcast_to(places, (batch, height, width, 2))], -1)
