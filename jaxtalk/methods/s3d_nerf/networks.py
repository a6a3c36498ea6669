"""Which networks there are, and the field: decoder and what it reads (card 2.2, 2.7)."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from jaxtalk.methods.api import Networks
from jaxtalk.methods.s3d_nerf.config import ModelConfig, S3DConfig
from jaxtalk.methods.s3d_nerf.deformation import Deformation
from jaxtalk.methods.s3d_nerf.encoder import AppearanceEncoder
from jaxtalk.methods.s3d_nerf.refinement import Refinement
from jaxtalk.methods.s3d_nerf.speech import SpeechTokens
from jaxtalk.nn.cross_attention import CrossAttention
from jaxtalk.nn.linear import linear
from jaxtalk.nn.mlp import split_linear
from jaxtalk.nn.spatial_slots import SpatialSlots
from jaxtalk.nn.stylegan_discriminator import StyleGanDiscriminator

GENERATOR = ("encoder", "slots", "speech", "attention", "deformation", "decoder", "refinement")
DISCRIMINATORS = ("coarse_critic", "fine_critic")


class Decoder(nnx.Module):
    """Raw density and raw colour from the features at a point: softplus layers, no viewing direction.

    Args:
        features: of the tri-planes, all levels; `heard`: of what it is told of the speech at the point, or 0.
    """

    def __init__(self, features: int, heard: int, hidden: tuple[int, ...], rngs: nnx.Rngs) -> None:
        sizes = (features + heard, *hidden)
        self.layers = nnx.List([linear(a, b, rngs=rngs) for a, b in zip(sizes[:-1], hidden, strict=True)])
        self.out = linear(hidden[-1], 4, rngs=rngs)

    def __call__(
        self, features: Float[Array, "*batch points features"], heard: Float[Array, "*batch #points heard"] | None
    ) -> tuple[Float[Array, "*batch points"], Float[Array, "*batch points 3"]]:
        parts = [features] if heard is None else [features, heard]
        for layer in self.layers:
            parts = [jax.nn.softplus(split_linear(layer, parts))]
        found = self.out(parts[0]).astype(jnp.float32)
        return found[..., 0], found[..., 1:]


def feature_size(model: ModelConfig) -> int:
    """Channels of the tri-planes at a point, all levels together."""
    return len(model.encoder.widths) * model.encoder.plane_channels


def generator(config: S3DConfig, key: jax.Array) -> Networks:
    """Everything that makes pictures; `deformation`, `slots` and `attention` only where they are asked for."""
    model, rngs = config.model, nnx.Rngs(key)
    features, speech = feature_size(model), model.speech.widths[-1]
    kind = model.deform.kind
    networks: Networks = {
        "encoder": AppearanceEncoder(model.encoder, rngs),
        "speech": SpeechTokens(config.feature.num_channels, model.speech, rngs),
        "decoder": Decoder(features, _told_size(model), model.decoder.hidden, rngs),
        "refinement": Refinement(model.superres, rngs),
    }
    if kind == "full":
        slots = model.slots
        networks["slots"] = SpatialSlots(
            3 * features, slots.width, slots.grid, slots.iterations, slots.slot_init, rngs=rngs
        )
        networks["attention"] = CrossAttention(
            slots.width, speech, speech, model.speech.heads, model.speech.null_token, rngs=rngs
        )
    if kind != "none":
        networks["deformation"] = Deformation(model.deform, speech, speech, features, model.slots.grid, rngs)
    return networks


def _told_size(model: ModelConfig) -> int:
    """Channels of what the decoder is told of the speech at a point (`picture.told`)."""
    if model.deform.kind == "full":
        return model.deform.plane_channels if model.decoder.hears else 0
    return model.speech.widths[-1] if model.decoder.hears or model.deform.kind == "none" else 0


def critics(config: S3DConfig, key: jax.Array) -> Networks:
    """A discriminator of coarse inner faces and one of fine frames: other pictures, other eyes."""
    keys, settings = jax.random.split(key), config.model.discriminator
    sizes = (config.model.coarse_size, config.size)
    return {
        name: StyleGanDiscriminator(size, base=settings.base, limit=settings.limit, rngs=nnx.Rngs(k))
        for name, size, k in zip(DISCRIMINATORS, sizes, keys, strict=True)
    }
