"""From a source picture and speech to frames: planes once, then per frame deformation, rays, refinement (card 2)."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxtalk.methods.api import Networks
from jaxtalk.methods.s3d_nerf.config import ModelConfig
from jaxtalk.methods.s3d_nerf.deformation import Deformation
from jaxtalk.methods.s3d_nerf.encoder import merged
from jaxtalk.ops.cameras import pixel_rays, project
from jaxtalk.ops.grid_sample import bilinear
from jaxtalk.ops.midpoint_marching import importance_depths, march
from jaxtalk.ops.sampling import stratified
from jaxtalk.ops.triplane import View, plane_coordinates, sample_planes

FACE_CENTRE = (0.0, -0.02)  # metres from the head's centre: between brows and chin, of all faces that were measured
FACE_RADII = (0.085, 0.13)


class Source(NamedTuple):
    """One picture of a person. Pixels in [0, 1]."""

    picture: Any  # [batch, S, S, 3]
    face: Any  # [batch, S, S] the inner face's mask
    view: View


class Encoded(NamedTuple):
    """What is made of a source once."""

    source: Source
    planes: list[jax.Array]  # of each level [batch, 3, h, w, C]
    slots: jax.Array | None  # F_agg [batch, cells, width]; None where no place is asked what it hears


class Target(NamedTuple):
    """What one frame shows. The camera's pixels are those of frames of the source's size."""

    windows: Any  # [batch, time, channels] of speech
    rotation: Any  # [batch, 3, 3]
    translation: Any  # [batch, 3]
    camera: Any  # [batch, 3]
    bounds: Any  # [batch, h, w, 2] near and far of each coarse pixel
    lips: Any = None  # [batch, 4] true shapes, and where they are taken (`speech.SpeechTokens`); None: nowhere


class Picture(NamedTuple):
    """What was made of a target."""

    coarse: jax.Array  # [batch, h, w, 3] the inner face before black
    fine: jax.Array  # [batch, S, S, 3]
    opacity: jax.Array  # [batch, h, w]
    offsets: jax.Array  # [batch, points] squared lengths, in units of the planes' box
    heard: jax.Array | None  # F_cm [batch, side, side, width]
    listened: jax.Array | None  # [batch, side, side] each place's attention to speech, of 1


def encode(networks: Networks, model: ModelConfig, source: Source) -> Encoded:
    """Planes and slots of some pictures (eq. 1, 2.3)."""
    planes = networks["encoder"](source.picture * source.face[..., None])
    slots = None
    if "slots" in networks:
        slots = networks["slots"](_cells(planes, model.slots.grid))
    return Encoded(source, merged(planes) if model.encoder.merged else planes, slots)


def _cells(planes: list[jax.Array], grid: int) -> Float[Array, "batch cells channels"]:
    """All planes of all levels at grid x grid, flattened row by row."""
    maps = [jnp.moveaxis(p, 1, -2).reshape(p.shape[0], *p.shape[2:4], -1) for p in planes]
    same = [jax.image.resize(m, (m.shape[0], grid, grid, m.shape[-1]), "linear") for m in maps]
    return jnp.concatenate(same, -1).reshape(len(maps[0]), grid**2, -1)


def picture(networks: Networks, model: ModelConfig, encoded: Encoded, target: Target, key: jax.Array | None) -> Picture:
    """One frame of each source. `key`: jitters the samples; None for rendering."""
    tokens, speech = networks["speech"](target.windows, target.lips)
    heard, listened, planes = _hear(networks, model, encoded, tokens, speech)
    rays = _face_rays(model, encoded.source, target)
    found, opacity, offsets = _march(networks, model, encoded, planes, speech, rays, key)
    side = model.coarse_size
    maps, opacity = (_scattered(x, rays.cells, side) for x in (found, opacity[..., None]))
    moved = _moved(encoded.source, target, maps[..., 3:], opacity[..., 0])
    fine = networks["refinement"](maps[..., :3], encoded.source.picture, moved)
    return Picture(maps[..., :3], fine, opacity[..., 0], offsets, heard, listened)


class _Rays(NamedTuple):
    """Rays through some of the coarse pixels."""

    cells: jax.Array  # [batch, rays] which pixels, row by row
    origins: jax.Array  # [batch, 3]
    directions: jax.Array  # [batch, rays, 3]
    near: jax.Array  # [batch, rays]
    far: jax.Array  # [batch, rays]


def _face_rays(model: ModelConfig, source: Source, target: Target) -> _Rays:
    """Rays through the centres of the coarse pixels, or of the `face_rays` of them that are nearest to the face."""
    batch, side = len(target.rotation), model.coarse_size
    centres = (jnp.arange(side) + 0.5) * (source.picture.shape[-2] / side)
    pixels = jnp.stack(jnp.meshgrid(centres, centres), -1).reshape(-1, 2)
    pixels = jnp.broadcast_to(pixels, (batch, *pixels.shape))
    pose = (target.rotation, target.translation, target.camera)
    origins, directions = pixel_rays(pixels, *pose)
    bounds = target.bounds.reshape(batch, -1, 2)
    cells = jnp.broadcast_to(jnp.arange(side**2), (batch, side**2))
    if 0 < model.face_rays < side**2:
        depth = -target.translation[:, 2, None, None]
        places = (origins[:, None] + depth * directions)[..., :2]  # metres from the head's centre
        far = jnp.square((places - jnp.array(FACE_CENTRE)) / jnp.array(FACE_RADII)).sum(-1)
        cells = jax.lax.top_k(-far, model.face_rays)[1]
        directions, bounds = (jnp.take_along_axis(x, cells[..., None], 1) for x in (directions, bounds))
    return _Rays(cells, origins, directions, bounds[..., 0], bounds[..., 1])


def _scattered(values: Float[Array, "batch rays channels"], cells: jax.Array, side: int) -> jax.Array:
    """A map [batch, side, side, channels] of what rays saw; zero where none was."""
    blank = jnp.zeros((len(values), side**2, values.shape[-1]), values.dtype)
    filled = jax.vmap(lambda b, c, v: b.at[c].set(v, unique_indices=True))(blank, cells, values)
    return filled.reshape(-1, side, side, values.shape[-1])


def _march(
    networks: Networks,
    model: ModelConfig,
    encoded: Encoded,
    planes: jax.Array | None,
    speech: jax.Array,
    rays: _Rays,
    key: jax.Array | None,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Colour and place in the source (5 channels) of each ray, weighted by the opacity; that; squared offsets."""
    keys = (None, None) if key is None else tuple(jax.random.split(key))

    def ask(depths: jax.Array) -> tuple[jax.Array, ...]:
        points = rays.origins[:, None, None] + depths[..., None] * rays.directions[:, :, None]
        return _field(networks, model, encoded, planes, speech, points)

    passes, scale = model.sampling.passes, model.decoder.density_scale / model.encoder.box
    near, far = rays.near, rays.far
    depths = jnp.clip(stratified(near, far, passes[0], keys[0]), near[..., None], far[..., None])
    density, found, offsets = ask(depths)
    if len(passes) == 2:
        weights = march(depths, density, found, scale).weights
        more = importance_depths(depths, weights, passes[1], keys[1])
        both = [
            jnp.concatenate(pair, 2) for pair in zip((depths, density, found, offsets), (more, *ask(more)), strict=True)
        ]
        order = jnp.argsort(both[0], -1)
        depths, density, offsets = (jnp.take_along_axis(x, order, -1) for x in (both[0], both[1], both[3]))
        found = jnp.take_along_axis(both[2], order[..., None], 2)
    seen = march(depths, density, found, scale)
    return seen.color, seen.opacity, offsets.reshape(len(offsets), -1)


def _hear(
    networks: Networks, model: ModelConfig, encoded: Encoded, tokens: jax.Array, speech: jax.Array
) -> tuple[jax.Array | None, jax.Array | None, jax.Array | None]:
    """F_cm (eq. 3), how much each place listens, and the planes that the deformation reads."""
    if encoded.slots is None:
        return None, None, None
    grid = (len(tokens), model.slots.grid, model.slots.grid)
    heard, listened = networks["attention"](encoded.slots, tokens)
    heard, listened = heard.reshape(*grid, -1), listened.reshape(grid)
    deformation = networks["deformation"]
    assert isinstance(deformation, Deformation)
    return heard, listened, deformation.planes(heard, speech)


def _field(
    networks: Networks,
    model: ModelConfig,
    encoded: Encoded,
    planes: jax.Array | None,
    speech: jax.Array,
    points: Float[Array, "batch rays samples 3"],
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """At points in head space: raw density, colour and place in the source (5 channels), squared offsets."""
    source, settings = encoded.source, model.encoder
    size = source.picture.shape[-3:-1]
    batch, rays, samples, _ = points.shape
    flat = points.reshape(batch, -1, 3)

    def read(places: jax.Array) -> jax.Array:
        return jnp.concatenate([sample_planes(p, places) for p in encoded.planes], -1)

    offsets = jnp.zeros_like(flat)
    places = plane_coordinates(flat, source.view, size, settings.box, settings.plane_proj)
    if model.deform.kind != "none":
        features = read(places) if model.deform.kind == "fcd" else None
        offsets = networks["deformation"](places, planes, speech, features)
        flat = flat + settings.box * offsets
    features = read(plane_coordinates(flat, source.view, size, settings.box, settings.plane_proj))
    density, raw = networks["decoder"](features, told(model, planes, speech, places))
    pixels, _ = project(flat, *source.view)
    if model.decoder.source_color:
        shown = jnp.clip(bilinear(source.picture, pixels), 0.02, 0.98)
        raw = raw + jnp.log(shown / (1 - shown))
    color = jax.nn.sigmoid(raw) * 1.002 - 0.001
    found = jnp.concatenate([color, pixels], -1)
    shape = (batch, rays, samples)
    return density.reshape(shape), found.reshape(*shape, -1), jnp.square(offsets).sum(-1).reshape(shape)


def told(
    model: ModelConfig,
    planes: jax.Array | None,
    speech: Float[Array, "batch speech"],
    places: Float[Array, "batch points 3"],
) -> jax.Array | None:
    """What the decoder is told of the speech at undeformed points, [batch, points or 1, heard]: what they hear where
    there are maps of it, else the mean token; nothing where speech acts by moving points alone (the paper, 2.7)."""
    if not model.decoder.hears and model.deform.kind != "none":
        return None
    return speech[:, None] if planes is None else sample_planes(planes, places)


def _moved(
    source: Source, target: Target, places: Float[Array, "batch h w 2"], opacity: Float[Array, "batch h w"]
) -> Float[Array, "batch height width 3"]:
    """The source as geometry shows it in the target's pose: the face where its rays end, all else as the head moves.

    `places`: pixels of the source, weighted by the opacity. What is not the face moves as a plane through the head's
    centre that faces the camera.
    """
    batch, height, width, _ = source.picture.shape
    centres = [jnp.arange(size) + 0.5 for size in (width, height)]
    pixels = jnp.broadcast_to(jnp.stack(jnp.meshgrid(*centres), -1).reshape(-1, 2), (batch, height * width, 2))
    origins, directions = pixel_rays(pixels, target.rotation, target.translation, target.camera)
    depth = -target.translation[:, 2]
    behind, _ = project(origins[:, None] + depth[:, None, None] * directions, *source.view)
    share = jax.image.resize(opacity, (batch, height, width), "linear").reshape(batch, -1, 1)
    shown = jax.image.resize(places, (batch, height, width, 2), "linear").reshape(batch, -1, 2)
    return bilinear(source.picture, shown + (1 - share) * behind).reshape(source.picture.shape)
