"""The perceptual term of equation 9: VGG19 where its weights are on this machine, and otherwise a word about it."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp

from jaxtalk.losses.perceptual import load_vgg19, perceptual
from jaxtalk.methods.api import Term
from jaxtalk.methods.s3d_nerf.config import FieldStageConfig
from jaxtalk.methods.s3d_nerf.picture import Picture
from jaxtalk.methods.s3d_nerf.truth import Truth
from jaxtalk.nn.pretrained.vgg import Vgg
from jaxtalk.progress import console
from jaxtalk.weights import WeightsAbsent


def perceptual_terms(made: Picture, truth: Truth, settings: FieldStageConfig, step: jax.Array) -> dict[str, Term]:
    """The terms of both pictures [batch, T, ...] from `per_start` on; none without the weights."""
    network = _vgg19()
    if network is None:
        return {}

    def distance(image: jax.Array, wanted: jax.Array) -> jax.Array:
        flat, target = (x.reshape(-1, *x.shape[2:]) for x in (image, wanted))
        return jax.lax.cond(
            step >= settings.per_start, lambda: perceptual(network, flat, target), lambda: jnp.zeros(len(flat))
        )

    values = {"per_coarse": distance(made.coarse, truth.coarse), "per_fine": distance(made.fine, truth.fine)}
    return {name: Term(value, settings.w_per) for name, value in values.items()}


@functools.cache
def _vgg19() -> Vgg | None:
    try:
        with jax.ensure_compile_time_eval():  # asked for while a step is traced, and kept for the next one
            return load_vgg19()
    except WeightsAbsent as error:
        console.print(f"the perceptual loss (w_per) is off: {error}")
        return None
