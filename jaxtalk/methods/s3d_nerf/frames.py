"""Frames of one person in compiled programs: the source encoded once, then frames in parts."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxtalk.clip import ClipView
from jaxtalk.input.inner_face import inner_face
from jaxtalk.methods.s3d_nerf.config import S3DConfig
from jaxtalk.methods.s3d_nerf.networks import generator
from jaxtalk.methods.s3d_nerf.picture import Encoded, Picture, Source, Target, encode, picture
from jaxtalk.ops.bounds import look_up
from jaxtalk.ops.triplane import View
from jaxtalk.rays.bounds import HeadGeometry, frame_bounds, geometry_of
from jaxtalk.rays.parameters import Parameters, networks_of


class Person(NamedTuple):
    """One picture of somebody. Arrays only, so that it passes through `jax.jit`."""

    picture: Any  # [S, S, 3] uint8
    face: Any  # [S, S] uint8, the inner face's mask
    rotation: Any  # [3, 3]
    translation: Any  # [3]
    camera: Any  # [3] focal, cx, cy
    depth_range: Any  # [2] near, far of the clip
    proxy_points: Any  # [P, 3]


def person_of(clip: ClipView) -> Person:
    """The person of a clip, by its first measured frame alone."""
    track = clip.track
    frame = int(np.argmax(track.valid))
    return Person(
        picture=clip.frame(frame),
        face=inner_face(track.landmarks[frame], clip.meta.size),
        rotation=track.rotation[frame].astype(np.float32),
        translation=track.translation[frame].astype(np.float32),
        **geometry_of(clip)._asdict(),
    )


@functools.partial(jax.jit, static_argnames=("config",))
def encode_person(config: S3DConfig, parameters: Parameters, person: Person) -> Encoded:
    """Planes and slots: one encoder pass, all that fitting is."""
    view = View(*(jnp.asarray(x)[None] for x in (person.rotation, person.translation, person.camera)))
    pixels, face = (jnp.asarray(x, jnp.float32)[None] / 255 for x in (person.picture, person.face))
    return encode(networks_of(parameters, generator, config), config.model, Source(pixels, face, view))


@functools.partial(jax.jit, static_argnames=("config", "parts"))
def render_frames(
    config: S3DConfig,
    parameters: Parameters,
    person: Person,
    encoded: Encoded,
    windows: Float[Array, "frames time channels"],
    rotation: Float[Array, "frames 3 3"],
    translation: Float[Array, "frames 3"],
    camera: Float[Array, "3"],
    parts: tuple[str, ...] = ("fine",),
) -> tuple[jax.Array, ...]:
    """What `parts` of `picture.Picture` name, for each frame; `config.model.frames_at_once` frames side by side."""
    networks, size = networks_of(parameters, generator, config), encoded.source.picture.shape[1:3]
    side = config.model.coarse_size
    geometry = HeadGeometry(camera, jnp.asarray(person.depth_range), jnp.asarray(person.proxy_points))
    grid = frame_bounds(geometry, config.model.sampling, size, rotation, translation)
    centres = [(jnp.arange(side) + 0.5) * (length / side) for length in (size[1], size[0])]
    pixels = jnp.stack(jnp.meshgrid(*centres), -1)

    def one(frame: tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
        windows, rotation, translation, grid = (x[None] for x in frame)
        bounds = look_up(grid[0], pixels, size)[None]
        found: Picture = picture(
            networks, config.model, encoded, Target(windows, rotation, translation, camera[None], bounds), None
        )
        return tuple(getattr(found, name)[0] for name in parts)

    frames = (windows, rotation, translation, grid)
    if config.model.frames_at_once >= len(windows):
        return jax.vmap(one)(frames)
    return jax.lax.map(one, frames, batch_size=config.model.frames_at_once)
