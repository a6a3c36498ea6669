"""PSNR and SSIM between pictures, per frame and per region of the frame (metrics card, section 1).

All functions take a batch of F frames as float32 RGB in [0, 1], [F, H, W, 3], and K regions as masks [K, F, H, W] of
zeros and ones, and give one value per region and frame, [K, F]. A region without a pixel (for SSIM: without a window)
gives NaN. Everything is float32 arithmetic on the vector units: there is no matrix product or convolution that a TPU
would round to bfloat16.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
import numpy as np

from jaxtalk.errors import JaxtalkError
from jaxtalk.metrics.material import Material

_BATCH = 8  # frames measured at once: bounds the memory, and every batch has the same shape
MIN_SIZE = 11  # pixels, the largest window
PSNR_CAP = 100.0  # dB, given to identical pictures
_K1, _K2 = 0.01, 0.03  # Wang et al. 2004, for a data range of 1


@jax.jit
def psnr(truth: jax.Array, image: jax.Array, regions: jax.Array) -> jax.Array:
    """Peak signal-to-noise ratio in dB, [K, F]: -10 log10 of the mean squared error over all RGB values of a region.

    The mean is taken within one frame; averaging frames is the caller's, in dB. Capped at 100 dB.
    """
    squared = jnp.mean(jnp.square(truth - image), axis=-1)
    error = _region_mean(squared, regions)
    return -10.0 * jnp.log10(jnp.maximum(error, 10.0 ** (-PSNR_CAP / 10.0)))


@jax.jit
def ssim_gauss11(truth: jax.Array, image: jax.Array, regions: jax.Array) -> jax.Array:
    """Structural similarity with an 11 x 11 Gaussian window, sigma 1.5, population moments, [K, F]; mean over RGB.

    A region's value is the mean of the SSIM map over the windows whose centre lies in the region. Only windows that
    fit in the frame count (valid region), and a window near the region's edge sees up to 5 pixels beyond it: regions
    smaller than a window are measured as well as large ones, and nothing is padded.
    """
    offsets = np.arange(11) - 5.0
    kernel = np.exp(-0.5 * (offsets / 1.5) ** 2)
    return _region_mean(_ssim_map(truth, image, kernel / kernel.sum(), 1.0), _inner(regions, 5))


@jax.jit
def ssim_skimage7(truth: jax.Array, image: jax.Array, regions: jax.Array) -> jax.Array:
    """Structural similarity as scikit-image computes it by default, data range 1, [K, F]; mean over RGB.

    A uniform 7 x 7 window, sample moments (N - 1), the map cropped by 3 pixels. Regions as in `ssim_gauss11`.
    """
    return _region_mean(_ssim_map(truth, image, np.full(7, 1 / 7), 49 / 48), _inner(regions, 3))


def _ssim_map(truth: jax.Array, image: jax.Array, kernel: np.ndarray, bessel: float) -> jax.Array:
    """SSIM of every window that fits, mean over RGB: [F, H - n + 1, W - n + 1] for a separable window of n taps.

    `bessel` turns the window's moments into sample moments. Second moments are taken about the mean of both pictures:
    E[x^2] - E[x]^2 about zero would lose four digits of a flat region's variance in float32.
    """
    smooth = functools.partial(_filter, kernel=kernel)
    centre = 0.5 * (truth.mean((1, 2), keepdims=True) + image.mean((1, 2), keepdims=True))
    x, y = truth - centre, image - centre
    mean_x, mean_y = smooth(x), smooth(y)
    variance_x = bessel * (smooth(x * x) - mean_x * mean_x)
    variance_y = bessel * (smooth(y * y) - mean_y * mean_y)
    covariance = bessel * (smooth(x * y) - mean_x * mean_y)
    mean_x, mean_y = mean_x + centre, mean_y + centre
    luminance = (2 * mean_x * mean_y + _K1**2) / (mean_x**2 + mean_y**2 + _K1**2)
    structure = (2 * covariance + _K2**2) / (variance_x + variance_y + _K2**2)
    return jnp.mean(luminance * structure, axis=-1)


def _filter(images: jax.Array, kernel: np.ndarray) -> jax.Array:
    """Separable filter of [F, H, W, C] where it fits: shifted sums, which XLA fuses."""
    rows, columns = (size - len(kernel) + 1 for size in images.shape[1:3])
    if min(rows, columns) < 1:
        raise ValueError(f"SSIM's window of {len(kernel)} pixels does not fit in frames of {images.shape[1:3]}")
    taps = kernel.astype(np.float32)
    down = sum(tap * images[:, i : i + rows] for i, tap in enumerate(taps))
    return sum(tap * down[:, :, i : i + columns] for i, tap in enumerate(taps))


def _inner(regions: jax.Array, margin: int) -> jax.Array:
    return regions[:, :, margin:-margin, margin:-margin]


def _region_mean(values: jax.Array, regions: jax.Array) -> jax.Array:
    """Mean of [F, h, w] over each region [K, F, h, w]: [K, F], NaN where the region is empty."""
    weights = regions.astype(jnp.float32)
    total, count = jnp.sum(values * weights, axis=(-2, -1)), jnp.sum(weights, axis=(-2, -1))
    return jnp.where(count > 0, total / jnp.maximum(count, 1.0), jnp.nan)


def by_region(
    function: Callable[[jax.Array, jax.Array, jax.Array], jax.Array],
) -> Callable[[Material], Mapping[str, np.ndarray]]:
    """One of the functions above, on a row's frames in batches of one shape: {region: [F] float64}.

    A value is NaN where a frame's region has no pixel, or for SSIM no window that fits in the frame. It raises
    `JaxtalkError` where shapes differ, or frames are smaller than SSIM's window.
    """

    def measured(material: Material) -> Mapping[str, np.ndarray]:
        assert material.truth is not None
        truth, image, boxes = material.truth.frames, material.image.frames, material.boxes
        if truth.shape != image.shape:
            raise JaxtalkError(
                f"metrics: truth is {truth.shape} and image {image.shape}; render at the size of the clip"
            )
        size = (int(truth.shape[1]), int(truth.shape[2]))
        if min(size) < MIN_SIZE:
            raise JaxtalkError(
                f"metrics: frames of {size} are smaller than SSIM's window of {MIN_SIZE}; raise data.size"
            )
        parts = []
        for start in range(0, len(truth), _BATCH):
            index = np.minimum(
                np.arange(start, start + _BATCH), len(truth) - 1
            )  # the last batch repeats its last frame
            regions = np.stack([_region(box if box is None else box[index], _BATCH, size) for box in boxes.values()])
            reference, picture = (jnp.asarray(frames[index], jnp.float32) / 255 for frames in (truth, image))
            parts.append(np.asarray(function(reference, picture, jnp.asarray(regions)), np.float64))
        return dict(zip(boxes, np.concatenate(parts, axis=1)[:, : len(truth)], strict=True))

    return measured


def box_mask(boxes: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Pixels whose centre (column + 0.5, row + 0.5) lies in the box (x0, y0, x1, y1): [F, 4] -> [F, H, W] bool."""
    x, y = np.arange(size[1]) + 0.5, np.arange(size[0]) + 0.5
    x0, y0, x1, y1 = (np.asarray(boxes, np.float64)[:, i, None] for i in range(4))
    inside_x, inside_y = (x >= x0) & (x < x1), (y >= y0) & (y < y1)
    return inside_y[:, :, None] & inside_x[:, None, :]


def _region(boxes: np.ndarray | None, count: int, size: tuple[int, int]) -> np.ndarray:
    return np.ones((count, *size), bool) if boxes is None else box_mask(boxes, size)


def quantised(frames: np.ndarray, first: int = 0) -> np.ndarray:
    """Float pictures in [0, 1] as the 8 bits that a viewer gets: rounded, clipped; uint8 passes unchanged.

    Raises `JaxtalkError` when a value is not finite, naming the frame; `first` is the number of the first.
    """
    if frames.dtype == np.uint8:
        return frames
    bad = ~np.isfinite(frames).reshape(len(frames), -1).all(axis=1)
    if bad.any():
        raise JaxtalkError(
            f"render: frame {first + int(np.argmax(bad))} has values that are not finite; the run has diverged"
        )
    return np.round(255.0 * np.clip(frames, 0.0, 1.0)).astype(np.uint8)
