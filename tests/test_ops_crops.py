"""Lip crops: where they are cut, what colour order they have, and their gradient."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from jaxtalk.ops.crops import LIP_SIZE, crop, lip_crops
from jaxtalk.ops.grid_sample import bilinear


def drawn(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).uniform(size=shape).astype(np.float32)


def test_enlarging_is_bilinear() -> None:
    images, boxes = drawn(3, 32, 40, 5), np.array([[3.2, 4.5, 20.7, 14.1], [0, 0, 40, 32], [-3, 20, 9, 38.0]], "f")
    size = (36, 48)
    x = boxes[:, :1] + (boxes[:, 2:3] - boxes[:, :1]) * (np.arange(48) + 0.5) / 48
    y = boxes[:, 1:2] + (boxes[:, 3:] - boxes[:, 1:2]) * (np.arange(36) + 0.5) / 36
    places = np.stack([np.broadcast_to(x[:, None], (3, 36, 48)), np.broadcast_to(y[..., None], (3, 36, 48))], -1)
    expected = bilinear(images, places.reshape(3, -1, 2)).reshape(3, *size, 5)
    np.testing.assert_allclose(crop(images, boxes, size), expected, atol=1e-5)


def test_the_whole_at_its_own_size_is_itself() -> None:
    image = drawn(2, 12, 9, 3)
    np.testing.assert_allclose(crop(image, np.array([[0, 0, 9, 12.0]] * 2), (12, 9)), image, atol=1e-6)


def test_made_smaller_nothing_is_skipped() -> None:
    """Stripes of one pixel become grey, where single samples would be black or white."""
    image = np.broadcast_to((np.arange(64) % 2).astype(np.float32)[None, :, None], (64, 64, 1))
    small = np.asarray(crop(image, np.array([0, 0, 64, 64.0]), (16, 16)))
    np.testing.assert_allclose(small[:, 1:-1], 0.5, atol=0.01)
    seen = jax.grad(lambda picture: crop(picture, jnp.array([0, 0, 64, 64.0]), (16, 16)).sum())(image)
    assert (np.asarray(seen) > 0).all(), "every pixel counts"


def test_lips_are_the_lower_half_in_bgr() -> None:
    frame = np.zeros((1, 2, 64, 64, 3), np.float32)
    frame[..., 32:, :, 0] = 1  # red below the middle of the box
    frame[..., :, 40:, 2] = 0.5  # blue to the right
    crops = np.asarray(lip_crops(frame, np.full((1, 2, 4), [16, 16, 48, 48.0], np.float32)))
    assert crops.shape == (1, 2, *LIP_SIZE, 3)
    assert (crops[..., 2:, :, 2] == 1).all() and (crops[..., 1] == 0).all()
    assert (crops[..., :70, 0] == 0).all() and (crops[..., 75:, 0] == 0.5).all()


def test_each_frame_has_its_own_box() -> None:
    frames, boxes = drawn(2, 3, 20, 20, 3), np.array([2, 3, 12, 15.0]) + drawn(2, 3, 4) * 4
    together = lip_crops(frames, boxes)
    for place in np.ndindex(2, 3):
        np.testing.assert_allclose(together[place], lip_crops(frames[place], boxes[place]), atol=1e-5)


def test_gradient_flows_to_the_frames_inside_the_half_alone() -> None:
    frame, box = drawn(32, 32, 3), jnp.array([8, 8, 24, 24.0])
    weights = drawn(*LIP_SIZE, 3)

    def loss(picture: jax.Array) -> jax.Array:
        return (weights * lip_crops(picture, box)).sum()

    gradient = np.asarray(jax.grad(loss)(jnp.asarray(frame)))
    assert (np.abs(gradient[17:23, 9:23]) > 0).all()
    assert not gradient[:15].any() and not gradient[:, :7].any() and not gradient[25:].any()
    step = 1e-2 * drawn(32, 32, 3)
    change = loss(frame + step) - loss(frame)
    np.testing.assert_allclose(change, (gradient * step).sum(), rtol=1e-3)
