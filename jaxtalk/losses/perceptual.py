"""Difference of two pictures in the features of VGG16 (metrics card, section 1) or VGG19 (card s3d_nerf 2.10)."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from jaxtalk import weights
from jaxtalk.nn.pretrained.vgg import PERCEPTUAL_TAPS, Vgg

VGG19_TAPS = ("relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu5_1")
_MEAN, _DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet


def load_vgg16() -> Vgg:
    """VGG16 with ImageNet's weights, up to relu4_3. Raises `WeightsAbsent` where they are not on this machine."""
    return _load(16, PERCEPTUAL_TAPS)


def load_vgg19() -> Vgg:
    """VGG19 with ImageNet's weights, up to relu5_1. Raises `WeightsAbsent` where they are not on this machine."""
    return _load(19, VGG19_TAPS)


def _load(depth: int, taps: tuple[str, ...]) -> Vgg:
    network = nnx.eval_shape(lambda: Vgg(depth, taps, rngs=nnx.Rngs(0)))
    weights.load(f"vgg{depth}", network)
    return network


def perceptual(
    network: Vgg, image: Float[Array, "batch height width 3"], target: Float[Array, "batch height width 3"]
) -> Float[Array, " batch"]:
    """For each pair the sum over the network's taps of the mean absolute difference of their features.

    Pictures are RGB in [0, 1]; the tap of the last stage needs sides of 16 pixels. The gradient flows to `image`
    alone, not to `target` or the network's parameters.
    """
    graph, state = nnx.split(network)
    frozen = nnx.merge(graph, jax.lax.stop_gradient(state))
    pairs = zip(frozen(_normalised(image)), frozen(_normalised(jax.lax.stop_gradient(target))), strict=True)
    return sum((jnp.abs(ours - theirs).mean((1, 2, 3)) for ours, theirs in pairs), jnp.zeros(len(image)))


def _normalised(pictures: jax.Array) -> jax.Array:
    return (pictures - jnp.array(_MEAN)) / jnp.array(_DEVIATION)
