"""Pictures made smaller by exact area averaging: an output pixel is the mean over the square it covers."""

from __future__ import annotations

import functools

import numpy as np


@functools.lru_cache(maxsize=32)
def area_weights(length: int, factor: float) -> np.ndarray:
    """Weights [floor(length * factor), length] of the exact area average along one axis, rows summing to one.

    Output sample o covers [o, o + 1] / factor of the input axis, so that a camera scaled by `factor` is exact; what is
    left over at the far end (less than one output sample) is cut off.
    """
    if not 0 < factor <= 1:
        raise ValueError(f"factor {factor} does not make a picture smaller")
    count = int(np.floor(length * factor + 1e-6))
    edges = np.arange(count + 1) / factor
    pixels = np.arange(length)
    overlap = np.minimum(edges[1:, None], pixels + 1) - np.maximum(edges[:-1, None], pixels)
    weights = np.clip(overlap, 0, None)
    return (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)


def resize_area(image: np.ndarray, factor: float) -> np.ndarray:
    """A picture [H, W, C] uint8 or float, averaged in the encoded values; uint8 is rounded to the nearest."""
    rows, columns = (area_weights(length, factor) for length in image.shape[:2])
    height, width, channels = image.shape
    averaged = (rows @ image.reshape(height, width * channels).astype(np.float32)).reshape(len(rows), width, channels)
    averaged = np.matmul(columns, averaged)
    return np.floor(averaged + 0.5).astype(np.uint8) if image.dtype == np.uint8 else averaged


def resize_labels(labels: np.ndarray, factor: float) -> np.ndarray:
    """Labels [H, W] uint8: of each output pixel the one with the largest area, the smaller label in a tie."""
    rows, columns = (area_weights(length, factor) for length in labels.shape)
    shares = np.stack([rows @ (labels == label).astype(np.float32) @ columns.T for label in range(labels.max() + 1)])
    return np.argmax(np.round(shares, 5), axis=0).astype(np.uint8)
