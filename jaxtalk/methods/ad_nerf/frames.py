"""Whole frames in one compiled program: rays in chunks of one size, whatever the number of frames."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from jaxtalk.methods.ad_nerf.config import ModelConfig
from jaxtalk.methods.ad_nerf.fields import audio_code, head_condition, head_networks, torso_condition, torso_networks
from jaxtalk.methods.ad_nerf.rendering import rays_through, render, together, torso_bounds
from jaxtalk.methods.ad_nerf.scene import Scene, frame_bounds
from jaxtalk.methods.api import Networks
from jaxtalk.ops.bounds import cell_index

Parameters = Mapping[str, Any]  # network name -> pure dict of arrays


@functools.cache
def _graphs(model: ModelConfig, with_torso: bool) -> tuple[dict[str, Any], dict[str, Any]]:
    """Graph definitions and abstract parameters of all networks that rendering needs."""

    def make() -> Networks:
        networks = head_networks(model, jax.random.key(0))
        return networks | (torso_networks(model, jax.random.key(0)) if with_torso else {})

    split = {name: nnx.split(module) for name, module in nnx.eval_shape(make).items()}
    graphs = {name: graph for name, (graph, _) in split.items()}
    return graphs, {name: nnx.to_pure_dict(state) for name, (_, state) in split.items()}


def abstract_parameters(model: ModelConfig, with_torso: bool) -> dict[str, Any]:
    """The tree of shapes that `parameters_of` gives for this model."""
    return _graphs(model, with_torso)[1]


def parameters_of(networks: Networks) -> dict[str, Any]:
    """The networks' parameters as pure dicts."""
    return {name: nnx.to_pure_dict(nnx.state(module)) for name, module in networks.items()}


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
    graphs = _graphs(model, with_torso)[0]
    networks = {name: nnx.merge(graph, parameters[name]) for name, graph in graphs.items()}
    frames, (height, width) = len(rotation), scene.plate.shape[:2]
    code = audio_code(networks, model, audio, smooth)
    head = head_condition(model, code, eye_openness)
    first = jnp.asarray(scene.torso_rotation), jnp.asarray(scene.torso_translation)
    torso = torso_condition(model, code, (rotation, translation), first) if with_torso else None
    torso_near_far = torso_bounds(model.sampling, jnp.asarray(scene.depth_range), first[1])
    bounds = frame_bounds(scene, model.sampling, (height, width), rotation, translation)
    total, chunk = frames * height * width, min(model.sampling.chunk_rays, frames * height * width)

    def colors(start: jax.Array) -> jax.Array:
        index = jnp.minimum(start + jnp.arange(chunk), total - 1)  # the last chunk repeats its last ray
        frame, pixel = jnp.divmod(index, height * width)
        row, column = jnp.divmod(pixel, width)
        pixels = jnp.stack([column, row], -1)[:, None] + 0.5  # every ray is its own batch, with its frame's pose
        cell = cell_index(pixels[:, 0], bounds.shape[1:3], (height, width))
        near_far = bounds[frame, cell[:, 1], cell[:, 0]][:, None]
        camera = jnp.broadcast_to(scene.camera, (chunk, 3))
        rays = rays_through(pixels, rotation[frame], translation[frame], camera, near_far)
        plate = jnp.asarray(scene.plate)[row, column][:, None]
        front = render(networks, "head", model.sampling, rays, head[frame], plate, None)[-1]
        picture = front.color
        if torso is not None:
            pose = jnp.broadcast_to(first[0], (chunk, 3, 3)), jnp.broadcast_to(first[1], (chunk, 3))
            rays = rays_through(pixels, *pose, camera, jnp.broadcast_to(torso_near_far, (chunk, 1, 2)))
            body = render(networks, "torso", model.sampling, rays, torso[frame], plate, None)[-1]
            picture = together(model, front, body)
        return picture[:, 0]

    starts = jnp.arange(0, total, chunk)
    result = jax.lax.map(colors, starts).reshape(-1, 3)[:total]
    return jnp.clip(result.reshape(frames, height, width, 3), 0, 1)
