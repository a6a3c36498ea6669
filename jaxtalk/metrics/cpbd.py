"""CPBD, the cumulative probability of blur detection: a sharpness of single pictures (metrics card, sections 2 and 10).

Variant `cpbd/python`: what the Python package of Narvekar and Karam's metric computes (2011, Image Processing,
20(9)), quirks included, as its numbers are the ones that papers print. It is no MATLAB port (0.11 for 0.13 on the
metric's own reference picture), and it changes with resolution: compare frames of one size only.
"""

from __future__ import annotations

import numpy as np
from PIL import Image
from scipy import ndimage

from jaxtalk.errors import JaxtalkError

BLOCK = 64  # pixels; what remains at the right and at the bottom is dropped
_EDGE_SHARE = 0.002  # of a block's pixels: with more of them on edges, its widths count
_CANNY = {"sigma": 1.0, "low_threshold": 0.1, "high_threshold": 0.2}  # of grey in 0..255: almost any contrast passes
_LOW_CONTRAST = 50  # up to this contrast of a block, edges of 5 pixels are just noticeably blurred, above it of 3
_BETA = 3.6
_REACH = 101  # pixels, the widest half of an edge
_BINS_KEPT = 63  # of 0..100: blur is noticed less often than at the just noticeable width (1 - 1/e)


def cpbd(frames: np.ndarray) -> np.ndarray:
    """Share of edges whose blur is not noticed, higher is sharper: [F, H, W, 3] uint8 -> [F] float64 in [0, 1].

    A frame without edges gives 0. So does one in which no intensity falls from left to right or changes slantwise
    (all gradient angles are 0): the package measures no width then.

    Raises:
        JaxtalkError: the frames are not uint8 RGB, or smaller than one block of 64 pixels.
    """
    if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[-1] != 3:
        raise JaxtalkError(f"cpbd: frames are {frames.dtype} {frames.shape}; they must be uint8 [F, H, W, 3]")
    if min(frames.shape[1:3]) < BLOCK:
        raise JaxtalkError(f"cpbd: frames of {frames.shape[1:3]} are smaller than a block of {BLOCK}; raise data.size")
    return np.array([_sharpness(np.asarray(Image.fromarray(frame).convert("L"))) for frame in frames], np.float64)


def _sharpness(grey: np.ndarray) -> float:
    """CPBD of one picture [H, W] uint8."""
    from skimage.feature import canny

    image = grey.astype(np.float64)
    edges = _blocks(canny(image, **_CANNY))
    widths, values = _blocks(edge_widths(image, sobel_edges(image))), _blocks(image)
    counts = (np.count_nonzero(edges, axis=-1) > _EDGE_SHARE * BLOCK**2)[:, None] & (widths > 0)
    if not counts.any():
        return 0.0
    noticeable = np.where(np.ptp(values, axis=-1) <= _LOW_CONTRAST, 5.0, 3.0)
    probability = 1 - np.exp(-((widths / noticeable[:, None])[counts] ** _BETA))
    return float(np.mean(np.rint(100 * probability) <= _BINS_KEPT))


def _blocks(image: np.ndarray) -> np.ndarray:
    """[H, W] -> [blocks, pixels of a block]."""
    rows, columns = (side // BLOCK for side in image.shape)
    inside = image[: rows * BLOCK, : columns * BLOCK].reshape(rows, BLOCK, columns, BLOCK)
    return inside.swapaxes(1, 2).reshape(rows * columns, BLOCK * BLOCK)


def sobel_edges(image: np.ndarray) -> np.ndarray:
    """Thinned edges of the horizontal gradient, [H, W] bool, of a float picture in 0..255.

    The squared strength is compared with twice the root of its mean, as in the package: units do not match, so the
    threshold is low. A pixel stays where it is stronger than both neighbours in its row or in its column.
    """
    kernel = np.outer([1.0, 2.0, 1.0], [1.0, 0.0, -1.0]) / 8
    strength = np.square(ndimage.convolve(image, kernel))
    strength[strength <= 2 * np.sqrt(strength.mean())] = 0
    padded = np.pad(strength, 1)
    middle = slice(1, -1)
    in_row = (strength > padded[middle, :-2]) & (strength > padded[middle, 2:])
    in_column = (strength > padded[:-2, middle]) & (strength > padded[2:, middle])
    return in_row | in_column


def edge_widths(image: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Width in pixels of every edge, 0 elsewhere: [H, W] int.

    From an edge's two neighbours one walks along the row, away from it, as long as intensity goes on falling (left
    of a rising edge) or rising; the width is the number of pixels passed, the neighbours included. Only edges whose
    gradient points right or left (to 22.5 degrees) are measured, and those with no horizontal gradient as rising
    ones; none at all if every gradient of the picture points right or vanishes.
    """
    down, right = np.gradient(image)
    angle = np.where(right != 0, np.arctan2(down, right), 0.0)
    widths = np.zeros(image.shape, int)
    if not angle.any():
        return widths
    quarter = np.abs(np.rint(np.degrees(angle) / 45))
    inside = edges.copy()
    inside[[0, -1]] = inside[:, [0, -1]] = False
    for direction, step in ((0, 1), (4, -1)):
        rows, columns = np.nonzero(inside & (quarter == direction))
        goes_on = step * np.diff(image, axis=1) > 0
        before = _run(goes_on)[rows, columns - 1]
        after = _run(goes_on[:, ::-1])[rows, image.shape[1] - 2 - columns]
        widths[rows, columns] = np.minimum(before + 1, _REACH) + np.minimum(after + 1, _REACH)
    return widths


def _run(holds: np.ndarray) -> np.ndarray:
    """How many steps in succession hold to the left of a pixel: [H, W - 1], of steps from c to c + 1 -> [H, W]."""
    column = np.arange(holds.shape[1])
    last_break = np.maximum.accumulate(np.where(holds, -1, column), axis=1)
    return np.pad(column - last_break, ((0, 0), (1, 0)))
