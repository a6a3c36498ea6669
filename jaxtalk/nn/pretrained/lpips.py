"""LPIPS 0.1: how different two pictures look, by the features of a classifier (metrics card, section 1)."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from jaxtalk.nn.pretrained import alexnet, vgg

CHANNELS = {"alex": alexnet.CHANNELS, "vgg": vgg.CHANNELS}
# The published shift and scale are for [-1, 1]; here they are those of [0, 1].
_SHIFT = (np.array([-0.030, -0.088, -0.188]) + 1) / 2
_SCALE = np.array([0.458, 0.448, 0.450]) / 2
_EPSILON = 1e-10


class LpipsHeads(nnx.Module):
    """How much each channel of the five taps counts: non-negative, no bias."""

    def __init__(self, net: str) -> None:
        self.weights = nnx.List([nnx.Param(jnp.ones(channels)) for channels in CHANNELS[net]])


class Lpips(nnx.Module):
    """The distance [batch] of pictures [batch, H, W, 3] in [0, 1]: zero for equal ones, symmetric.

    Args:
        net: "alex" or "vgg".
    """

    def __init__(self, net: str, *, rngs: nnx.Rngs) -> None:
        if net not in CHANNELS:
            raise ValueError(f"net must be one of {tuple(CHANNELS)}, not {net!r}")
        self.trunk = alexnet.AlexNet(rngs=rngs) if net == "alex" else vgg.Vgg(16, vgg.LPIPS_TAPS, rngs=rngs)
        self.heads = LpipsHeads(net)

    def __call__(
        self, first: Float[Array, "batch height width 3"], second: Float[Array, "batch height width 3"]
    ) -> Float[Array, " batch"]:
        terms = zip(self.features(first), self.features(second), self.heads.weights, strict=True)
        return sum((_tap_distance(*term) for term in terms), jnp.zeros(len(first)))

    def features(self, images: Float[Array, "batch height width 3"]) -> list[jax.Array]:
        """The taps, each pixel's channels of unit length."""
        shift, scale = jnp.asarray(_SHIFT, jnp.float32), jnp.asarray(_SCALE, jnp.float32)
        return [_unit(tap) for tap in self.trunk((images - shift) / scale)]


def _unit(tap: jax.Array) -> jax.Array:
    """Where all channels are zero the length's gradient is taken as zero."""
    squared = jnp.sum(jnp.square(tap), axis=-1, keepdims=True)
    length = jnp.where(squared > 0, jnp.sqrt(jnp.where(squared > 0, squared, 1.0)), 0.0)
    return tap / (length + _EPSILON)


def _tap_distance(first: jax.Array, second: jax.Array, head: nnx.Param) -> jax.Array:
    return jnp.mean(jnp.sum(jnp.square(first - second) * head[...], axis=-1), axis=(1, 2))
