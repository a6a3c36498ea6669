"""What the reference frames show at a point in space (card gdrf 2.5 to 2.7)."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxtalk.few_shot.config import ModelConfig
from jaxtalk.methods.api import Networks
from jaxtalk.nn.slot_attention import ReferenceAttention
from jaxtalk.ops.cameras import camera_to_world, project
from jaxtalk.ops.grid_sample import bilinear, nearest, warp


class Views(NamedTuple):
    """N pictures of a person with their feature maps."""

    features: jax.Array  # [*batch, N, h, w, C] of the encoder: what the warping looks at
    maps: jax.Array  # [*batch, N, h, w, width (+ 3)]: what points read; with residual_color the pictures stand last
    rotation: jax.Array  # [*batch, N, 3, 3]
    translation: jax.Array  # [*batch, N, 3]
    camera: jax.Array  # [*batch, 3]


def encode(
    networks: Networks,
    model: ModelConfig,
    images: Float[Array, "*batch references height width 3"],
    rotation: Float[Array, "*batch references 3 3"],
    translation: Float[Array, "*batch references 3"],
    camera: Float[Array, "*batch 3"],
) -> Views:
    """Encodes the references, and takes the first linear layer of the slots over the whole maps: it commutes with
    warping and sampling, and leaves fewer channels to read. An encoder that sees the cameras' places gets them in the
    unit in which the field encodes positions."""
    settings = model.references
    if settings.feature_scale != 1:
        size = [round(side * settings.feature_scale) for side in images.shape[-3:-1]]
        images = jax.image.resize(images, (*images.shape[:-3], *size, 3), "linear")  # antialiased where it shrinks
    centre = model.field.position_scale * camera_to_world(rotation, translation)[..., :3, 3]
    features = networks["encoder"](images, centre)
    gather = networks["references"]
    assert isinstance(gather, ReferenceAttention)
    maps = gather.project(features)
    if settings.residual_color:
        maps = jnp.concatenate([maps, jax.image.resize(images, (*maps.shape[:-1], 3), "linear")], -1)
    return Views(features, maps, rotation, translation, camera)


def warped(
    networks: Networks,
    model: ModelConfig,
    views: Views,
    z: Float[Array, "*batch condition"],
    source_z: Float[Array, "*batch references condition"] | None,
) -> Views:
    """The views as they would look under the target's expression: equation 9, with a flow for each reference."""
    if model.references.warp != "feature":
        return views
    steer = jnp.broadcast_to(z[..., None, :], (*views.features.shape[:-3], z.shape[-1]))
    if model.references.flow_cond == "source_target":
        assert source_z is not None
        steer = jnp.concatenate([source_z, steer], -1)
    flow = networks["warp"](_means(views.features, model.references.warp_stride), steer)
    return views._replace(maps=warp(views.maps, flow))


def _means(
    maps: Float[Array, "*batch height width channels"], stride: int
) -> Float[Array, "*batch rows columns channels"]:
    """Means over squares of `stride` cells."""
    height, width, channels = maps.shape[-3:]
    return maps.reshape(*maps.shape[:-3], height // stride, stride, width // stride, stride, channels).mean((-4, -2))


class Seen(NamedTuple):
    """What points found in the references."""

    features: jax.Array  # [*batch, P, slots * width]
    color: jax.Array | None  # [*batch, P, 3] mean of the references' colours, with residual_color
    offset: jax.Array | None  # [*batch, N, P, 2] pixels by which dfrf_point looked aside


def look(
    networks: Networks,
    model: ModelConfig,
    views: Views,
    points: Float[Array, "*batch points 3"],
    encoded: Float[Array, "*batch points encoded"],
    z: Float[Array, "*batch condition"],
    noise: Float[Array, "*#batch slots width"] | None,
    size: tuple[int, int],
) -> Seen:
    """Projects points into every reference, reads the maps there (equation 10) and gathers them by slot attention.

    `size`: (height, width) of the pictures that the cameras belong to.
    """
    height, width = size
    pixels, _ = project(points[..., None, :, :], views.rotation, views.translation, views.camera[..., None, :])
    limit = jnp.array([width, height], pixels.dtype)
    pixels = jnp.clip(pixels, 0.5, limit - 0.5)  # [*batch, N, P, 2]
    scale = jnp.array([views.maps.shape[-2] / width, views.maps.shape[-3] / height], pixels.dtype)
    offset = None
    if model.references.warp == "dfrf_point":
        rounded = jnp.floor(jax.lax.stop_gradient(pixels)) + 0.5
        offset = _offsets(networks, views, rounded * scale, encoded, z, model.references.width)
        pixels = jnp.clip(rounded + offset, 0.5, limit - 0.5)
    sampled = bilinear(views.maps, pixels * scale)
    cells = jnp.floor(pixels - model.references.place_origin)
    places = jax.lax.stop_gradient(cells / limit)[..., ::-1]  # (row, column) over (height, width)
    sampled, places = (jnp.moveaxis(part, -3, -2) for part in (sampled, places))
    color = None
    if model.references.residual_color:
        sampled, colors = sampled[..., :-3], sampled[..., -3:]
        color = colors.mean(-2)
    if noise is not None:
        noise = noise[..., None, :, :]
    return Seen(networks["references"](sampled, places, encoded, noise), color, offset)


def _offsets(
    networks: Networks, views: Views, xy: jax.Array, encoded: jax.Array, z: jax.Array, width: int
) -> jax.Array:
    """DFRF's offsets, in pixels: from the point, the code, and the nearest feature, the latter two as they are."""
    found = nearest(jax.lax.stop_gradient(views.maps), xy)[..., :width]
    parts = [encoded[..., None, :, :], jax.lax.stop_gradient(z)[..., None, None, :], found]
    shape = found.shape[:-1]
    return networks["warp"](jnp.concatenate([jnp.broadcast_to(x, (*shape, x.shape[-1])) for x in parts], -1))
