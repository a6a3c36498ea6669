"""From a frame's motion and the references' views to colours: the differentiable path of training and rendering."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxtalk.few_shot.config import ModelConfig
from jaxtalk.few_shot.references import Views, look
from jaxtalk.methods.api import Networks
from jaxtalk.ops.compositing import Composite
from jaxtalk.rays.rendering import Rays, render

_NOISE_SEED = 0  # of the slots' first values in rendering: one draw for all points and frames (card gdrf 2.7)


def slot_noise(model: ModelConfig, key: jax.Array | None, batch: tuple[int, ...] = ()) -> jax.Array | None:
    """The slots' noise [*batch, slots, width]: drawn from `key` in training, always the same without one.

    None where every slot has a mean of its own and no noise is needed.
    """
    settings = model.references
    if settings.slot_init == "per_slot":
        return None
    key = jax.random.key(_NOISE_SEED) if key is None else key
    return jax.random.normal(key, (*batch, settings.slots, settings.width))


def see(
    networks: Networks,
    model: ModelConfig,
    views: Views,
    z: Float[Array, "*batch condition"],
    rays: Rays,
    background: Float[Array, "*batch rays 3"],
    noise: jax.Array | None,
    key: jax.Array | None,
    size: tuple[int, int],
) -> tuple[tuple[Composite, ...], jax.Array | None]:
    """What rays see of the head in front of `background`: the picture last, a coarse one before it.

    Also the squared offsets [*batch, rays, samples] of dfrf_point in the last pass, or None. No jitter when `key` is
    None. `size`: (height, width) of the references' pictures.
    """
    offsets: list[Any] = []

    def ask(name: str) -> Any:
        def field(points: jax.Array, directions: jax.Array) -> tuple[jax.Array, jax.Array]:
            network: Any = networks[name]
            flat = points.reshape(*points.shape[:-3], -1, 3)
            seen = look(networks, model, views, flat, network.encode(flat), z, noise, size)
            if seen.offset is not None:
                offsets.append(jnp.mean(seen.offset**2, (-3, -1)).reshape(points.shape[:-1]))
            features = seen.features.reshape(*points.shape[:-1], -1)
            density, color = network(points, directions, z, features)
            if seen.color is not None:
                color = seen.color.reshape(color.shape) + color - 0.5
            return density, color

        return field

    passes = model.sampling.passes
    fields = [ask(name) for name in ("coarse", "field")[-len(passes) :]]
    pictures = render(fields, passes, rays, background, key)
    return pictures, offsets[-1] if offsets else None
