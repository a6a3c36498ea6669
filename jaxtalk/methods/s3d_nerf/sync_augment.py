"""How examples of the sync network are varied: a few minutes of some speakers must do for everybody."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxtalk.audio.wav2lip_mel import SILENCE
from jaxtalk.methods.s3d_nerf.sync_config import SyncAugmentConfig

_PER_DECIBEL = 0.08  # of a mel value
_TONE_POINTS = 5  # of the curve over the bands


def vary_boxes(
    settings: SyncAugmentConfig, boxes: Float[Array, "batch frames 4"], key: jax.Array
) -> Float[Array, "batch frames 4"]:
    """Each window's boxes moved and made larger or smaller alike."""
    x0, y0, x1, y1 = jnp.moveaxis(boxes, -1, 0)
    shift_x, shift_y, grow_x, grow_y = jax.random.uniform(
        key, (4, len(boxes), 1), minval=-settings.box, maxval=settings.box
    )
    width, height = x1 - x0, y1 - y0
    x, y = (x0 + x1) / 2 + shift_x * width, (y0 + y1) / 2 + shift_y * height
    half_width, half_height = width * (0.5 + grow_x / 2), height * (0.5 + grow_y / 2)
    return jnp.stack([x - half_width, y - half_height, x + half_width, y + half_height], -1)


def vary_crops(
    settings: SyncAugmentConfig, crops: Float[Array, "batch frames rows columns 3"], key: jax.Array
) -> Float[Array, "batch frames rows columns 3"]:
    """Each window's pictures mirrored or not, and coloured alike."""
    keys = jax.random.split(key, 3)
    shape = (len(crops), 1, 1, 1)
    if settings.flip:
        crops = jnp.where(jax.random.bernoulli(keys[0], 0.5, (*shape, 1)), crops[:, :, :, ::-1], crops)
    if settings.colour:
        most = settings.colour
        gain = 1 + jax.random.uniform(keys[1], (*shape, 3), minval=-most, maxval=most)
        mean = crops.mean((1, 2, 3, 4), keepdims=True)
        contrast, brightness = jax.random.uniform(keys[2], (2, *shape, 1), minval=-most, maxval=most)
        crops = (crops - mean) * (1 + contrast) * gain + mean * gain + brightness / 2
    return jnp.clip(crops, 0, 1)


def vary_mel(
    settings: SyncAugmentConfig, mel: Float[Array, "batch bands columns"], key: jax.Array
) -> Float[Array, "batch bands columns"]:
    """Each window's sound louder or quieter, of another tone, and with a piece missing."""
    keys = jax.random.split(key, 4)
    batch, bands, columns = mel.shape
    decibels = jax.random.uniform(keys[0], (batch, 1, 1), minval=-settings.level, maxval=settings.level)
    curve = jax.random.uniform(keys[1], (batch, _TONE_POINTS), minval=-settings.tone, maxval=settings.tone)
    tone = jax.image.resize(curve, (batch, bands), "linear")
    varied = jnp.clip(mel + _PER_DECIBEL * (decibels + tone[..., None]), SILENCE, -SILENCE)
    kept = ~_piece(bands, settings.erase, batch, keys[2])[:, :, None]
    kept &= ~_piece(columns, settings.erase, batch, keys[3])[:, None]
    # Silence is the floor, whatever the level.
    return jnp.where(kept & (mel > SILENCE), varied, SILENCE)


def _piece(length: int, most: float, batch: int, key: jax.Array) -> jax.Array:
    """Whether each of `length` places is in a random piece of at most the part `most`, [batch, length] bool."""
    size, start = jax.random.uniform(key, (2, batch, 1))
    size = size * most * length
    start = start * (length - size)
    place = jnp.arange(length) + 0.5
    return (place >= start) & (place < start + size)
