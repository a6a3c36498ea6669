"""Which pixels are head (with hair), torso (with neck) and background. No segmentation network."""

from __future__ import annotations

import numpy as np

from jaxtalk.clip import MASK_BACKGROUND, MASK_HEAD, MASK_TORSO
from jaxtalk.preparation.silhouette import FACE, NECK, SCALP

WORKING_SIZE = 128


def shrink(image: np.ndarray) -> np.ndarray:
    """[S, S, 3] uint8 at the working size."""
    import cv2

    return cv2.resize(image, (WORKING_SIZE, WORKING_SIZE), interpolation=cv2.INTER_AREA)


def segment(thumbnails: np.ndarray, parts: np.ndarray) -> np.ndarray:
    """Labels [F, L, L] uint8 for frames [F, L, L, 3] uint8 and what the mesh covers in them, `parts` [F, L, L]."""
    import cv2

    labels = np.zeros(parts.shape, np.uint8)
    for i, part in enumerate(parts):
        head = (part == FACE) | (part == SCALP)
        rows = np.flatnonzero(head.any(axis=1))
        grow = max(3, round(0.12 * (rows[-1] - rows[0])) if rows.size else 3)
        disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * grow + 1, 2 * grow + 1))
        wide = cv2.dilate(head.astype(np.uint8), disc) > 0
        neck = cv2.dilate((part == NECK).astype(np.uint8), disc) > 0
        labels[i] = np.where(wide, MASK_HEAD, np.where(neck, MASK_TORSO, MASK_BACKGROUND))
        labels[i][(part == NECK)] = MASK_TORSO
    return labels


def enlarge(labels: np.ndarray, size: int) -> np.ndarray:
    """Labels [L, L] at [size, size], their outlines smooth."""
    import cv2

    softness = size / labels.shape[0] / 2
    shares = []
    for label in (MASK_BACKGROUND, MASK_HEAD, MASK_TORSO):
        share = cv2.resize((labels == label).astype(np.float32), (size, size), interpolation=cv2.INTER_LINEAR)
        shares.append(cv2.GaussianBlur(share, (0, 0), softness))
    return np.argmax(np.stack(shares), axis=0).astype(np.uint8)


def surely_background(labels: np.ndarray, margin: float = 0.02) -> np.ndarray:
    """[H, W] bool: background, and farther than `margin` of the picture's width from the person."""
    import cv2

    reach = max(1, round(margin * labels.shape[1]))
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1, 2 * reach + 1))
    return cv2.dilate((labels != MASK_BACKGROUND).astype(np.uint8), disc) == 0
