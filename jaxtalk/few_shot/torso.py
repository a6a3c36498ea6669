"""What stands behind a head: shoulders and neck from the person's own frames, and the plate (card gdrf 2.9, 3)."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxtalk.clip import MASK_HEAD, MASK_TORSO

HEAD_RADIUS = 0.1  # metres: turns a shift of the head into an angle that moves its surface as far


def behind_head(frame: np.ndarray, mask: np.ndarray, plate: np.ndarray, neck: float) -> tuple[np.ndarray, np.ndarray]:
    """A frame without its head, [H, W, 3] uint8, and where that is known, [H, W] bool.

    Where the head was, the torso's highest pixel of each column is continued upwards by `neck` times the picture's
    height, as DFRF's pictures are (card gdrf 3: 50 of 512 pixels), and above it stands the plate, which is a guess.
    """
    head = mask == MASK_HEAD
    height = len(mask)
    result = np.where(head[..., None], plate, frame)
    rows = np.arange(height)[:, None]
    # The torso pixel right below the head: the first one in each column under the head's lowest.
    under = (mask == MASK_TORSO) & (rows > np.where(head.any(0), height - 1 - head[::-1].argmax(0), height))
    top = under.argmax(0)
    reach = max(1, round(neck * height))
    extended = head & under.any(0) & (rows < top) & (rows >= top - reach)
    colors = frame[top, np.arange(mask.shape[1])]
    result = np.where(extended[..., None], colors[None], result)
    return result, ~head | extended


def torso_behind(
    frames: Float[Array, "torsos height width 3"],
    known: Float[Array, "torsos height width"],
    plate: Float[Array, "height width 3"],
    distance: Float[Array, " torsos"],
    radius: float,
) -> Float[Array, "height width 3"]:
    """What stands behind a head in some pose: the mean of the person's torsos, those of near poses counting most.

    A torso at `distance` (see `pose_distances`) from the pose counts exp(-distance / radius). A pixel that only far
    torsos know is still theirs; one that none knows is the plate's.
    """
    weights = jax.nn.softmax(-distance / radius)[:, None, None] * known + 1e-9 * known
    total = weights.sum(0)
    mean = jnp.einsum("thw,thwc->hwc", weights, frames, precision="highest") / jnp.maximum(total, 1e-12)[..., None]
    return jnp.where((known.max(0) > 0)[..., None], mean, plate)


def pose_distances(
    rotation: Float[Array, "3 3"],
    translation: Float[Array, "3"],
    rotations: Float[Array, "poses 3 3"],
    translations: Float[Array, "poses 3"],
) -> Float[Array, " poses"]:
    """How far a pose is from others: the angle between rotations, radians, plus the shift over 0.1 m."""
    chord = jnp.sqrt(jnp.sum((rotations - rotation) ** 2, (-1, -2)) + 1e-12)
    angle = 2 * jnp.arcsin(jnp.clip(chord / np.sqrt(8.0), 0.0, 1.0))
    return angle + jnp.linalg.norm(translations - translation + 1e-12, axis=-1) / HEAD_RADIUS
