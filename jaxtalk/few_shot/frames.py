"""Whole frames of a person in one compiled program: references encoded once, warped once a frame, rays in parts."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxtalk.few_shot.config import ModelConfig
from jaxtalk.few_shot.networks import condition, described, listening_networks, picture_networks
from jaxtalk.few_shot.person import Person
from jaxtalk.few_shot.picture import see, slot_noise
from jaxtalk.few_shot.references import Views, encode, warped
from jaxtalk.few_shot.torso import pose_distances, torso_behind
from jaxtalk.methods.api import Networks
from jaxtalk.ops.bounds import look_up
from jaxtalk.rays.bounds import frame_bounds
from jaxtalk.rays.parameters import Parameters, networks_of
from jaxtalk.rays.rendering import map_pixels, rays_through
from jaxtalk.rays.speech_code import speech_code


def all_networks(model: ModelConfig, key: jax.Array) -> Networks:
    """Everything that is trained, in one dict."""
    keys = jax.random.split(key)
    return listening_networks(model, keys[0]) | picture_networks(model, keys[1])


@functools.partial(jax.jit, static_argnames=("model",))
def encode_person(model: ModelConfig, parameters: Parameters, person: Person) -> Views:
    """The references' feature maps: once per person."""
    images = jnp.asarray(person.reference_images, jnp.float32) / 255
    networks = networks_of(parameters, all_networks, model)
    return encode(
        networks, model, images, person.reference_rotation, person.reference_translation, jnp.asarray(person.camera)
    )


@functools.partial(jax.jit, static_argnames=("model", "smooth"))
def render_frames(
    model: ModelConfig,
    parameters: Parameters,
    person: Person,
    views: Views,
    heard: Float[Array, "frames ..."],
    eye_openness: Float[Array, "frames 2"],
    rotation: Float[Array, "frames 3 3"],
    translation: Float[Array, "frames 3"],
    smooth: bool = False,
) -> Float[Array, "frames height width 3"]:
    """The head of each frame before the person's torso and plate.

    Args:
        heard: raw coefficients [F, E + 6] ([F, window, E + 6] with a semantic window), or windows of speech for
            audio64, whose codes are smoothed when `smooth`.
    """
    networks, size = networks_of(parameters, all_networks, model), person.size
    identity = jnp.asarray(person.identity)
    if model.listens:
        motion = described(networks, model, heard, identity)
    else:
        motion = speech_code(networks, model.audio, heard, smooth)
    z = condition(networks, model, motion, eye_openness)
    source_z = reference_conditions(networks, model, jnp.asarray(person.reference_coefficients), identity)
    bounds = frame_bounds(person.geometry, model.sampling, size, rotation, translation)
    torsos = jnp.asarray(person.torso_images, jnp.float32) / 255, jnp.asarray(person.torso_known, jnp.float32)
    torso_poses = jnp.asarray(person.torso_rotation), jnp.asarray(person.torso_translation)
    plate, camera = jnp.asarray(person.plate, jnp.float32) / 255, jnp.asarray(person.camera)
    noise = slot_noise(model, None)

    def picture(frame: tuple[jax.Array, ...]) -> jax.Array:
        z, rotation, translation, bounds = frame
        distance = pose_distances(rotation, translation, *torso_poses)
        behind = torso_behind(*torsos, plate, distance, model.torso_radius)
        moved = warped(networks, model, views, z, source_z)

        def colors(row: jax.Array, column: jax.Array) -> jax.Array:
            pixels = jnp.stack([column, row], -1) + 0.5
            rays = rays_through(pixels, rotation, translation, camera, look_up(bounds, pixels, size))
            seen, _ = see(networks, model, moved, z, rays, behind[row, column], noise, None, size)
            return seen[-1].color

        return map_pixels(size, model.sampling.chunk_rays, colors)

    return jnp.clip(jax.lax.map(picture, (z, rotation, translation, bounds)), 0, 1)


def reference_conditions(
    networks: Networks,
    model: ModelConfig,
    coefficients: Float[Array, "*batch references coefficients"],
    identity: Float[Array, "*batch identity"],
) -> Float[Array, "*batch references condition"] | None:
    """The references' own z, which `flow_cond=source_target` tells the warping; None otherwise."""
    if model.references.flow_cond != "source_target" or model.references.warp != "feature":
        return None
    motion = described(networks, model, coefficients, identity[..., None, :])
    if model.semantic_window:
        motion = jnp.repeat(motion[..., None, :], model.semantic_window, -2)
    return condition(networks, model, motion, jnp.ones((*coefficients.shape[:-1], 2)))
