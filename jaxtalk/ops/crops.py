"""Parts of pictures brought to one size, differentiably (card s3d_nerf, sections 2.9 and 5.14)."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

LIP_SIZE = (48, 96)  # rows, columns: the lower half of a face of 96 x 96


def lip_crops(
    frames: Float[Array, "*batch height width 3"],
    boxes: Float[Array, "*batch 4"],
    size: tuple[int, int] = LIP_SIZE,
) -> Float[Array, "*batch rows columns 3"]:
    """The lower halves of faces, BGR, as the sync network sees them: `crop` of RGB frames.

    The gradient flows to the frames.

    Args:
        frames: RGB in [0, 1].
        boxes: the faces' (x0, y0, x1, y1) in pixels, from the ground truth (`Track.face_box`).
        size: rows and columns of the crops.
    """
    x0, y0, x1, y1 = jnp.moveaxis(boxes, -1, 0)
    return crop(frames, jnp.stack([x0, (y0 + y1) / 2, x1, y1], -1), size)[..., ::-1]


def crop(
    images: Float[Array, "*batch height width channels"],
    boxes: Float[Array, "*batch 4"],
    size: tuple[int, int],
) -> Float[Array, "*batch rows columns channels"]:
    """What lies in boxes (x0, y0, x1, y1), pixels of any fraction, resampled to `size` (rows, columns).

    Enlarged, bilinearly (`grid_sample.bilinear` at the centres of the cells). Made smaller, each cell is a mean with
    triangular weights over all pixels that it covers, so that nothing is skipped. What lies outside the picture
    repeats its border. Two products with small matrices, whose gradient is two products again: no scatter.
    """
    x0, y0, x1, y1 = jnp.moveaxis(jax.lax.stop_gradient(boxes).astype(jnp.float32), -1, 0)
    down = _weights(y0, y1, size[0], images.shape[-3])
    across = _weights(x0, x1, size[1], images.shape[-2])
    rows = jnp.einsum("...rh,...hwc->...rwc", down.astype(images.dtype), images, precision="highest")
    return jnp.einsum("...kw,...rwc->...rkc", across.astype(images.dtype), rows, precision="highest")


def _weights(low: jax.Array, high: jax.Array, count: int, length: int) -> Float[Array, "*batch count length"]:
    """How much each of `length` pixels counts in each of `count` equal parts of the interval; rows sum to one."""
    step = (high - low) / count
    centres = low[..., None] + step[..., None] * (jnp.arange(count) + 0.5)
    centres = jnp.clip(centres, 0.5, length - 0.5)[..., None]
    reach = jnp.maximum(jnp.abs(step), 1.0)[..., None, None]
    weights = jnp.maximum(1 - jnp.abs(centres - (jnp.arange(length) + 0.5)) / reach, 0)
    return weights / weights.sum(-1, keepdims=True)
