"""The metrics that compare a picture with the truth, as data: what each is called and how it is read and computed.

A protocol measures with `measure`; a report reads names, units and digits from `METRICS`. Every id names its variant
(`ssim/gauss11`), because the literature's numbers of one name differ by more than its models do (metrics card, intro).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
import numpy as np

from jaxtalk.errors import JaxtalkError
from jaxtalk.metrics.pixel import psnr, ssim_gauss11, ssim_skimage7

_BATCH = 8  # frames measured at once: bounds the memory, and every batch has the same shape
MIN_SIZE = 11  # pixels, the largest window


@dataclasses.dataclass(frozen=True)
class FrameMetric:
    """A full-reference metric of single frames, by region.

    `function(truth [F, H, W, 3], image [F, H, W, 3], regions [K, F, H, W]) -> [K, F]`, see `metrics.pixel`.
    """

    id: str
    label: str
    unit: str
    higher_is_better: bool
    digits: int
    definition: str
    function: Callable[[jax.Array, jax.Array, jax.Array], jax.Array]


METRICS: dict[str, FrameMetric] = {
    metric.id: metric
    for metric in (
        FrameMetric(
            "psnr/rgb", "PSNR", "dB", True, 2,
            "−10 log10 of the mean squared error over all RGB values of a frame's region; mean of the frames' dB; "
            "identical pictures count 100.",
            psnr,
        ),
        FrameMetric(
            "ssim/gauss11", "SSIM", "", True, 4,
            "Gaussian window of 11 pixels, sigma 1.5, K1 0.01, K2 0.03, windows that fit in the frame only, mean over "
            "RGB; a box takes the windows centred in it.",
            ssim_gauss11,
        ),
        FrameMetric(
            "ssim/skimage7", "SSIM (7×7)", "", True, 4,
            "As scikit-image: uniform window of 7 pixels, sample covariance, data range 1, mean over RGB; a box takes "
            "the windows centred in it.",
            ssim_skimage7,
        ),
    )
}  # fmt: skip


def box_mask(boxes: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Pixels whose centre (column + 0.5, row + 0.5) lies in the box (x0, y0, x1, y1): [F, 4] -> [F, H, W] bool."""
    x, y = np.arange(size[1]) + 0.5, np.arange(size[0]) + 0.5
    x0, y0, x1, y1 = (np.asarray(boxes, np.float64)[:, i, None] for i in range(4))
    inside_x, inside_y = (x >= x0) & (x < x1), (y >= y0) & (y < y1)
    return inside_y[:, :, None] & inside_x[:, None, :]


def measure(
    truth: np.ndarray, image: np.ndarray, boxes: Mapping[str, np.ndarray | None]
) -> dict[str, dict[str, np.ndarray]]:
    """Every metric in every region, per frame, unreduced: {metric id: {region: [F] float64}}.

    `truth` and `image` are [F, H, W, 3] uint8; `boxes` gives each region's boxes [F, 4] in pixels, None the whole
    frame. A value is NaN where a frame's region has no pixel, or for SSIM no window that fits in the frame.
    Raises `JaxtalkError` where shapes differ or frames are smaller than SSIM's window.
    """
    if truth.shape != image.shape or truth.dtype != np.uint8 or image.dtype != np.uint8:
        raise JaxtalkError(
            f"metrics: truth is {truth.dtype} {truth.shape} and image {image.dtype} {image.shape}; "
            "both must be uint8 frames of one size: render at the size of the clip"
        )
    size = (int(truth.shape[1]), int(truth.shape[2]))
    if min(size) < MIN_SIZE:
        raise JaxtalkError(f"metrics: frames of {size} are smaller than SSIM's window of {MIN_SIZE}; raise data.size")
    values: dict[str, list[np.ndarray]] = {name: [] for name in METRICS}
    for start in range(0, len(truth), _BATCH):
        index = np.minimum(np.arange(start, start + _BATCH), len(truth) - 1)  # the last batch repeats its last frame
        regions = jnp.asarray(
            np.stack([_region(box if box is None else box[index], _BATCH, size) for box in boxes.values()])
        )
        reference, picture = (jnp.asarray(frames[index], jnp.float32) / 255 for frames in (truth, image))
        for name, metric in METRICS.items():
            values[name].append(np.asarray(metric.function(reference, picture, regions), np.float64))
    return {
        name: dict(zip(boxes, np.concatenate(parts, axis=1)[:, : len(truth)], strict=True))
        for name, parts in values.items()
    }


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
