"""The networks of a reference-conditioned field, and what a picture's motion makes of them."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from jaxtalk.few_shot.config import ModelConfig
from jaxtalk.few_shot.speech import speech_networks
from jaxtalk.methods.api import Networks
from jaxtalk.nn.feature_encoders import make_encoder
from jaxtalk.nn.mapping import SemanticMapping
from jaxtalk.nn.slot_attention import ReferenceAttention
from jaxtalk.nn.speech_coefficients import Normaliser
from jaxtalk.nn.warping import PointWarp, WarpHourglass
from jaxtalk.ops.encodings import encoding_size
from jaxtalk.rays.field import Field
from jaxtalk.rays.speech_code import speech_networks as code_networks


def listening_networks(model: ModelConfig, key: jax.Array) -> Networks:
    """`speech` and `normaliser` of the LSTM; `audio` and `attention` of audio64."""
    if not model.listens:
        return code_networks(model.audio, nnx.Rngs(key))
    return speech_networks(model.speech, model.face.num_expression, key)


def picture_networks(model: ModelConfig, key: jax.Array) -> Networks:
    """`mapping`, `encoder`, `references` (slot attention), `warp`, and `field`, with two passes `coarse` too."""
    rngs, settings, dtype = nnx.Rngs(key), model.references, jnp.dtype(model.field.dtype)
    encoder = make_encoder(settings.encoder, channels=settings.channels, norm=settings.norm, rngs=rngs, dtype=dtype)
    encoded = encoding_size(3, model.field.position_frequencies)
    networks: Networks = {
        "encoder": encoder,
        "references": ReferenceAttention(
            encoder.channels,
            encoded,
            width=settings.width,
            hidden=settings.hidden,
            slots=settings.slots,
            iterations=settings.iterations,
            init=settings.slot_init,
            project=settings.project,
            rngs=rngs,
            dtype=dtype,
        ),
    }
    if model.mapping:
        inputs = model.motion_size + 2 * model.eye_condition
        networks["mapping"] = SemanticMapping(inputs, model.mapping, window=model.semantic_window, rngs=rngs)
    if settings.warp == "feature":
        networks["warp"] = WarpHourglass(
            encoder.channels,
            model.mapping * (2 if settings.flow_cond == "source_target" else 1),
            base=settings.warp_base,
            limit=settings.warp_limit,
            encoder=settings.warp_encoder,
            decoder=settings.warp_decoder,
            hidden=settings.warp_hidden,
            rngs=rngs,
            dtype=dtype,
        )
    if settings.warp == "dfrf_point":
        networks["warp"] = PointWarp(encoded + model.condition_size + settings.width, rngs=rngs)
    features = settings.slots * settings.width
    for name in ("coarse", "field")[-len(model.sampling.passes) :]:
        networks[name] = Field(model.field, model.condition_size, feature_size=features, rngs=rngs)
    return networks


def condition(
    networks: Networks,
    model: ModelConfig,
    motion: Float[Array, "*batch motion"],
    eye_openness: Float[Array, "*batch 2"],
) -> Float[Array, "*batch condition"]:
    """z of card gdrf 2.3: the mapping of a frame's motion, or the motion itself where there is no mapping.

    With `model.semantic_window`, `motion` is [*batch, window, motion].
    """
    if model.eye_condition:
        if model.semantic_window:
            eye_openness = jnp.repeat(eye_openness[..., None, :], motion.shape[-2], -2)
        motion = jnp.concatenate([motion, eye_openness], -1)
    return networks["mapping"](motion) if model.mapping else motion


def described(
    networks: Networks,
    model: ModelConfig,
    coefficients: Float[Array, "*batch coefficients"],
    identity: Float[Array, "*#batch identity"],
) -> Float[Array, "*batch motion"]:
    """The descriptor alpha + beta + P of frames (card gdrf 2.3) from raw coefficients; alpha only with lstm_id."""
    normaliser = networks["normaliser"]
    assert isinstance(normaliser, Normaliser)
    return with_identity(model, normaliser.standardise(coefficients), identity)


def with_identity(
    model: ModelConfig, standard: Float[Array, "*batch coefficients"], identity: Float[Array, "*#batch identity"]
) -> Float[Array, "*batch motion"]:
    """Standardised coefficients behind the person's identity coefficients, where the motion holds them."""
    if model.motion != "lstm_id":
        return standard
    identity = jnp.broadcast_to(identity, (*standard.shape[:-1], identity.shape[-1]))
    return jnp.concatenate([identity, standard], -1)
