"""Pictures made smaller by exact area averaging: an output pixel is the mean over the square it covers.

Summed row by row: as products with a matrix of weights the same takes several times as long, and with more threads
than idle cores fifty times, because each small product waits for all threads of the linear algebra library.
"""

from __future__ import annotations

import itertools

import numpy as np


def average_rows(image: np.ndarray, factor: float) -> np.ndarray:
    """The exact area average [floor(N * factor), ...] of [N, ...] along the first axis, float32.

    Output sample o covers [o, o + 1] / factor of the input axis, so that a camera scaled by `factor` is exact; what is
    left over at the far end (less than one output sample) is cut off.
    """
    if not 0 < factor <= 1:
        raise ValueError(f"factor {factor} does not make a picture smaller")
    count = int(np.floor(len(image) * factor + 1e-6))
    edges = np.minimum(np.arange(count + 1) / factor, len(image))
    whole = np.floor(edges + 1e-6).astype(int)
    parts = np.clip(edges - whole, 0, 1)
    source = image.astype(np.float32, copy=False)
    averaged = np.empty((count, *image.shape[1:]), np.float32)
    for o, (first, last) in enumerate(itertools.pairwise(whole)):
        total = source[first:last].sum(axis=0)
        if parts[o] > 1e-6:
            total -= parts[o] * source[first]
        if parts[o + 1] > 1e-6:
            total += parts[o + 1] * source[last]
        averaged[o] = total * factor
    return averaged


def resize_area(image: np.ndarray, factor: float) -> np.ndarray:
    """A picture [H, W, C] uint8 or float, averaged in the encoded values; uint8 is rounded to the nearest."""
    rows = average_rows(image, factor)
    averaged = average_rows(np.ascontiguousarray(rows.swapaxes(0, 1)), factor)
    averaged = np.ascontiguousarray(averaged.swapaxes(0, 1))
    return np.floor(averaged + 0.5).astype(np.uint8) if image.dtype == np.uint8 else averaged


def resize_labels(labels: np.ndarray, factor: float) -> np.ndarray:
    """Labels [H, W] uint8: of each output pixel the one with the largest area, the smaller label in a tie."""
    shares = resize_area((labels[..., None] == np.arange(labels.max() + 1)).astype(np.float32), factor)
    return np.argmax(np.round(shares, 5), axis=-1).astype(np.uint8)
