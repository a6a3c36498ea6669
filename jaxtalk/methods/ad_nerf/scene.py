"""What stays the same over a clip, and the bounds of its rays."""

from __future__ import annotations

import contextlib
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxtalk.clip import Camera, ClipView
from jaxtalk.methods.ad_nerf.config import SamplingConfig
from jaxtalk.ops.bounds import mesh_bounds

FRAMES_AT_ONCE = 64  # whose bounds are made by one call


class Scene(NamedTuple):
    """One person before one camera. Arrays only, so that it passes through `jax.jit`."""

    camera: np.ndarray  # [3] focal, cx, cy
    depth_range: np.ndarray  # [2] near, far of the clip
    plate: np.ndarray  # [H, W, 3] float32, the scene without the person
    proxy_points: np.ndarray  # [P, 3]
    torso_rotation: np.ndarray  # [3, 3] pose of the first frame: all rays of the torso come from it
    torso_translation: np.ndarray  # [3]


def scene_of(clip: ClipView) -> Scene:
    """The scene of a prepared clip at its size."""
    meta, track = clip.meta, clip.track
    arrays = (
        camera_vector(meta.camera),
        np.array([meta.near, meta.far]),
        clip.background() / np.float32(255),
        track.proxy_points,
        track.rotation[0],
        track.translation[0],
    )
    return Scene(*(np.asarray(array, np.float32) for array in arrays))


def camera_vector(camera: Camera) -> np.ndarray:
    return np.array([camera.focal, camera.cx, camera.cy], np.float32)


@partial(jax.jit, static_argnames=("sampling", "size"))
def frame_bounds(
    scene: Scene,
    sampling: SamplingConfig,
    size: tuple[int, int],
    rotation: Float[Array, "frames 3 3"],
    translation: Float[Array, "frames 3"],
) -> Float[Array, "frames rows columns 2"]:
    """Near and far for the head's rays of each frame on a coarse grid (`ops.bounds`)."""
    if sampling.kind == "hierarchical":  # the paper samples the clip's whole range
        return jnp.broadcast_to(scene.depth_range, (len(rotation), 1, 1, 2))
    bounds = partial(
        mesh_bounds,
        size=size,
        grid=min(sampling.grid, max(size)),
        front=sampling.front,
        behind=sampling.behind,
        reach=sampling.reach,
    )
    return jax.vmap(bounds, (None, 0, 0, None, None))(
        scene.proxy_points, rotation, translation, scene.camera, scene.depth_range
    )


def all_bounds(
    scene: Scene, sampling: SamplingConfig, size: tuple[int, int], rotation: np.ndarray, translation: np.ndarray
) -> np.ndarray:
    """`frame_bounds` of any number of frames, in parts of one compiled size. [F, rows, columns, 2] float32.

    On a CPU device: a GPU adds up the points of a cell in any order, and a resumed run needs the same bits.
    """
    count = len(rotation)
    padding = -count % FRAMES_AT_ONCE
    rotation, translation = (
        np.concatenate([a, np.repeat(a[-1:], padding, 0)]).astype(np.float32) for a in (rotation, translation)
    )
    parts = []
    with _cpu():
        for start in range(0, count, FRAMES_AT_ONCE):
            end = start + FRAMES_AT_ONCE
            parts.append(np.asarray(frame_bounds(scene, sampling, size, rotation[start:end], translation[start:end])))
    return np.concatenate(parts)[:count]


def _cpu() -> contextlib.AbstractContextManager[object]:
    """Computations within take place on a CPU device, where there is one (JAX_PLATFORMS=cuda leaves it out)."""
    try:
        return jax.default_device(jax.local_devices(backend="cpu")[0])
    except RuntimeError:
        return contextlib.nullcontext()
