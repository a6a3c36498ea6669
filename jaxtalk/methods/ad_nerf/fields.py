"""The networks of AD-NeRF: speech to a code, and the radiance fields of head and torso."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from jaxtalk.methods.ad_nerf.config import ModelConfig
from jaxtalk.methods.ad_nerf.rendering import passes
from jaxtalk.methods.api import Networks
from jaxtalk.ops.cameras import camera_to_world, torso_euler
from jaxtalk.ops.encodings import encoding_size, positional_encoding
from jaxtalk.rays.field import Field
from jaxtalk.rays.settings import FieldConfig
from jaxtalk.rays.speech_code import speech_networks


def head_networks(config: ModelConfig, key: jax.Array) -> Networks:
    """`audio`, with smoothing `attention`, `head`, and with hierarchical sampling `head_coarse`."""
    rngs = nnx.Rngs(key)
    networks: Networks = speech_networks(config.audio, rngs)
    size = config.audio.code_size + 2 * config.eye_condition
    return networks | _fields("head", config, config.head, size, rngs)


def torso_networks(config: ModelConfig, key: jax.Array) -> Networks:
    """`torso`, and with hierarchical sampling `torso_coarse`."""
    assert config.torso is not None
    size = config.audio.code_size * config.torso_audio + 2 * encoding_size(3, config.torso_pose_frequencies)
    return _fields("torso", config, config.torso, size, nnx.Rngs(key))


def _fields(name: str, config: ModelConfig, field: FieldConfig, condition_size: int, rngs: nnx.Rngs) -> Networks:
    names = [f"{name}_coarse", name][-passes(config.sampling, name) :]
    return {n: Field(field, condition_size, rngs=rngs) for n in names}


def head_condition(
    config: ModelConfig, code: Float[Array, "*batch code"], eye_openness: Float[Array, "*batch 2"]
) -> Float[Array, "*batch condition"]:
    """What the head field hears, and, when the config says so, how open the eyes are."""
    return jnp.concatenate([code, eye_openness], -1) if config.eye_condition else code


Pose = tuple[Float[Array, "*#batch 3 3"], Float[Array, "*#batch 3"]]  # rotation, translation: head to camera


def torso_condition(
    config: ModelConfig, code: Float[Array, "*batch code"], pose: Pose, first: Pose
) -> Float[Array, "*batch condition"]:
    """Code, PE(euler) and PE(camera centre) of a frame's pose: 64 + 21 + 21 (card gdrf A.1), the centre in the unit
    in which the torso's field encodes positions.

    With `config.torso_pose_scale` not the pose itself but its change since frame 0 (`first`), times that scale: heads
    move by centimetres, which a short training does not notice otherwise.
    """

    def measure(rotation: jax.Array, translation: jax.Array) -> tuple[jax.Array, jax.Array]:
        matrix = camera_to_world(rotation, translation)
        return torso_euler(matrix), matrix[..., :3, 3]

    numbers, zero = measure(*pose), measure(*first)
    if config.torso_pose_scale:
        turn, shift = config.torso_pose_scale
        numbers = turn * (numbers[0] - zero[0]), shift * (numbers[1] - zero[1])
    else:
        assert config.torso is not None
        numbers = numbers[0], config.torso.position_scale * numbers[1]
    encoded = [positional_encoding(number, config.torso_pose_frequencies) for number in numbers]
    return jnp.concatenate([code, *encoded] if config.torso_audio else encoded, -1)
