"""The perceptual term of equation 9: VGG19 where its weights are on this machine, and otherwise a word about it."""

from __future__ import annotations

import functools
from collections.abc import Mapping

import jax
import jax.numpy as jnp

from jaxtalk.losses.perceptual import load_vgg19, perceptual
from jaxtalk.methods.api import Term
from jaxtalk.methods.s3d_nerf.config import FieldStageConfig
from jaxtalk.nn.pretrained.vgg import Vgg
from jaxtalk.progress import console
from jaxtalk.weights import WeightsAbsent

LEAST = 16  # pixels of a picture that has all of VGG's stages


def perceptual_term(
    coarse: jax.Array, fine: jax.Array, wanted: Mapping[str, jax.Array], settings: FieldStageConfig, step: jax.Array
) -> dict[str, Term]:
    """The terms of both pictures [batch, T, ...] from `per_start` on; none without the weights."""
    network = _vgg19()
    if network is None:
        return {}
    terms = {}
    for name, made in (("coarse", coarse), ("fine", fine)):
        flat, target = (x.reshape(-1, *x.shape[2:]) for x in (made, wanted[name]))
        terms[f"per_{name}"] = Term(
            jax.lax.cond(
                step >= settings.per_start,
                lambda flat=flat, target=target: perceptual(network, flat, target),
                lambda flat=flat: jnp.zeros(len(flat)),
            ),
            settings.w_per,
        )
    return terms


@functools.cache
def _vgg19() -> Vgg | None:
    try:
        return load_vgg19()
    except WeightsAbsent as error:
        console.print(f"the perceptual loss (w_per) is off: {error}")
        return None
