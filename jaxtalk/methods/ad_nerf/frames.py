"""Whole frames in one compiled program: frame after frame, rays in parts of one size."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxtalk.methods.ad_nerf.config import ModelConfig
from jaxtalk.methods.ad_nerf.fields import head_condition, head_networks, torso_condition, torso_networks
from jaxtalk.methods.ad_nerf.rendering import render, together, torso_bounds
from jaxtalk.methods.ad_nerf.scene import Scene
from jaxtalk.methods.api import Networks
from jaxtalk.ops.bounds import look_up
from jaxtalk.rays.bounds import frame_bounds
from jaxtalk.rays.parameters import Parameters, networks_of
from jaxtalk.rays.rendering import map_pixels, rays_through
from jaxtalk.rays.speech_code import speech_code


def all_networks(model: ModelConfig, with_torso: bool, key: jax.Array) -> Networks:
    """Everything that rendering needs, in one dict."""
    return head_networks(model, key) | (torso_networks(model, key) if with_torso else {})


@functools.partial(jax.jit, static_argnames=("model", "smooth"))
def render_frames(
    model: ModelConfig,
    parameters: Parameters,
    scene: Scene,
    audio: Float[Array, "frames rows channels"],
    eye_openness: Float[Array, "frames 2"],
    rotation: Float[Array, "frames 3 3"],
    translation: Float[Array, "frames 3"],
    smooth: bool,
) -> Float[Array, "frames height width 3"]:
    """The head of each frame before the scene's plate, with the torso before it when `parameters` have one."""
    with_torso = "torso" in parameters
    networks = networks_of(parameters, all_networks, model, with_torso)
    size = scene.plate.shape[:2]
    code = speech_code(networks, model.audio, audio, smooth)
    head = head_condition(model, code, eye_openness)
    first = jnp.asarray(scene.torso_rotation), jnp.asarray(scene.torso_translation)
    torso = torso_condition(model, code, (rotation, translation), first) if with_torso else code
    torso_near_far = torso_bounds(model.sampling, jnp.asarray(scene.depth_range), first[1])
    bounds = frame_bounds(scene.geometry, model.sampling, size, rotation, translation)
    camera, plate = jnp.asarray(scene.camera), jnp.asarray(scene.plate)

    def picture(frame: tuple[jax.Array, ...]) -> jax.Array:
        head, torso, rotation, translation, bounds = frame

        def colors(row: jax.Array, column: jax.Array) -> jax.Array:
            pixels = jnp.stack([column, row], -1) + 0.5
            behind = plate[row, column]
            rays = rays_through(pixels, rotation, translation, camera, look_up(bounds, pixels, size))
            front = render(networks, "head", model.sampling, rays, head, behind, None)[-1]
            if not with_torso:
                return front.color
            near_far = jnp.broadcast_to(torso_near_far, (len(row), 2))
            rays = rays_through(pixels, *first, camera, near_far)
            body = render(networks, "torso", model.sampling, rays, torso, behind, None)[-1]
            return together(model, front, body)

        return map_pixels(size, model.sampling.chunk_rays, colors)

    return jnp.clip(jax.lax.map(picture, (head, torso, rotation, translation, bounds)), 0, 1)
