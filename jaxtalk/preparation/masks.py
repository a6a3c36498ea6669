"""Which pixels are head (with hair), torso (with neck) and background. No segmentation network.

Each label has a distribution of colours that is shared over the clip, the background also a picture of its own. They
start from what the place relative to the fitted head decides (`head_geometry`), and are learnt in a few rounds from the
labels that they give to key frames. A pixel's label is then the most probable one, smoothed along edges of the picture
(guided filter) and over neighbouring frames.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from jaxtalk import progress
from jaxtalk.clip import MASK_BACKGROUND, MASK_HEAD, MASK_TORSO
from jaxtalk.preparation.head_geometry import EAR_LOBES, UNKNOWN, HeadGeometry
from jaxtalk.preparation.mask_colours import ColourModel, quantised

WORKING_SIZE = 128
KEY_FRAMES = 40
ROUNDS = 3
SLACK = 0.02  # parts of the head's height by which the mesh may miss the outline of the jaw
STRAND = 4.0  # log odds by which hanging hair is hair rather than clothes
_LABELS = (MASK_BACKGROUND, MASK_HEAD, MASK_TORSO)


def shrink(image: np.ndarray) -> np.ndarray:
    """[S, S, 3] uint8 at the working size."""
    import cv2

    return cv2.resize(image, (WORKING_SIZE, WORKING_SIZE), interpolation=cv2.INTER_AREA)


def segment(thumbnails: np.ndarray, parts: np.ndarray) -> np.ndarray:
    """Shares [F, 2, L, L] uint8 (0 to 255) of head and torso; the background's is the rest.

    Args: `thumbnails` [F, L, L, 3] uint8, `parts` [F, L, L] what the mesh covers, `silhouette` labels.
    """
    count = len(thumbnails)
    keys = np.unique(np.linspace(0, count - 1, min(count, KEY_FRAMES)).round().astype(int))
    model = learn(thumbnails[keys], [HeadGeometry.of(parts[i]) for i in keys])
    shares = np.empty((count, 2, *parts.shape[1:]), np.uint8)
    places = (HeadGeometry.of(part) for part in parts)
    frames = ((_probabilities(model, image, place), place) for image, place in zip(thumbnails, places, strict=True))
    for i, (probability, place) in enumerate(progress.track(_smoothed(frames), "masks", count)):
        shares[i] = np.round(255 * _tidy(probability, place)[[MASK_HEAD, MASK_TORSO]])
    return shares


def learn(thumbnails: np.ndarray, geometry: list[HeadGeometry]) -> ColourModel:
    """The clip's colour model from key frames [K, L, L, 3] and where the head is in them."""
    bins = np.stack([quantised(image) for image in thumbnails])
    seeds = np.stack([place.seeds() for place in geometry])
    inside = np.stack([place.inside for place in geometry])
    clothes = np.stack([place.clothes for place in geometry])
    hair = np.stack([place.scalp for place in geometry]).astype(np.float32)
    weights = np.stack([seeds == label for label in _LABELS], axis=1).astype(np.float32)
    weights[:, MASK_HEAD] = hair  # the face is known by its place; what has to be learnt is the hair's colour
    model = ColourModel.of(bins, weights)
    for _ in range(ROUNDS):
        found = np.stack(
            [_probabilities(model, image, place) for image, place in zip(thumbnails, geometry, strict=True)]
        )
        weights = np.where(found > 0.6, found, 0)
        weights[:, MASK_HEAD] = weights[:, MASK_HEAD] * ~inside + hair
        weights[:, MASK_TORSO] *= clothes
        model = ColourModel.of(bins, weights, thumbnails, found)
    return model


def _probabilities(model: ColourModel, image: np.ndarray, place: HeadGeometry) -> np.ndarray:
    """[3, L, L] probabilities of the labels in one frame."""
    import cv2

    prior = place.log_prior()
    prior[MASK_TORSO] -= STRAND * place.strands(model.looks_like_hair(image))
    logits = 0.5 * (model.log_likelihood(image) + prior)  # neighbouring pixels are not independent
    probability = np.exp(logits - logits.max(axis=0))
    probability = _clamped(probability / probability.sum(axis=0), place)
    radius = max(2, image.shape[0] // 32)
    smooth = [cv2.ximgproc.guidedFilter(image, layer.astype(np.float32), radius, 60.0) for layer in probability]
    probability = np.clip(np.stack(smooth), 1e-4, 1)
    probability = _clamped(probability / probability.sum(axis=0), place)
    above = (place.outside < SLACK) | (place.below < EAR_LOBES)
    probability[MASK_HEAD] *= above | place.strands(probability.argmax(axis=0) == MASK_HEAD)
    return probability / np.maximum(probability.sum(axis=0), 1e-6)


def _clamped(probability: np.ndarray, place: HeadGeometry) -> np.ndarray:
    seeds = place.seeds()
    known = np.stack([seeds == label for label in _LABELS])
    return np.where(seeds == UNKNOWN, probability, known).astype(np.float32)


def _smoothed(frames: Iterator[tuple[np.ndarray, HeadGeometry]]) -> Iterator[tuple[np.ndarray, HeadGeometry]]:
    """Each frame's probabilities averaged with both neighbours', weights 1 2 1."""
    here, place = next(frames)
    before = here
    for after, next_place in frames:
        yield (before + 2 * here + after) / 4, place
        before, here, place = here, after, next_place
    yield (before + 3 * here) / 4, place


def _tidy(probability: np.ndarray, place: HeadGeometry) -> np.ndarray:
    """Removes what cannot be: spikes and islands of the head, and notches and holes in the hair."""
    import cv2

    size = probability.shape[-1]
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (3, 3))
    wide = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * (size // 25) + 1,) * 2)
    head = (probability.argmax(axis=0) == MASK_HEAD).astype(np.uint8)
    kept = cv2.morphologyEx(head, cv2.MORPH_OPEN, disc) | place.inside
    kept = _touching(kept.astype(np.uint8), place.inside)
    reach = size // 25
    padded = cv2.morphologyEx(np.pad(kept, reach), cv2.MORPH_CLOSE, wide)[reach:-reach, reach:-reach]
    closed = padded.astype(bool) & (place.below < EAR_LOBES)
    person = _filled(kept.astype(bool) | (probability.argmax(axis=0) == MASK_TORSO))
    wanted = kept.astype(bool) | (closed & ~place.neck)
    result = probability.copy()
    result[:, (head > 0) & ~wanted] *= np.array([1, 0.2, 1], np.float32)[:, None]
    hole = person & (result.argmax(axis=0) == MASK_BACKGROUND)
    result[:, hole & (place.below >= 0)] = _one(MASK_TORSO)
    added = (wanted & (head == 0)) | (hole & (place.below < 0))
    result[:, added] = _one(MASK_HEAD)
    result[:, place.inside] = _one(MASK_HEAD)
    result = np.stack([cv2.GaussianBlur(layer, (0, 0), 0.7) for layer in result])
    return result / np.maximum(result.sum(axis=0), 1e-6)


def _one(label: int) -> np.ndarray:
    return np.eye(3, dtype=np.float32)[label][:, None]


def _touching(mask: np.ndarray, core: np.ndarray) -> np.ndarray:
    """The connected parts of `mask` that meet `core`."""
    import cv2

    count, parts = cv2.connectedComponents(mask, connectivity=4)
    keep = np.zeros(count, np.uint8)
    keep[np.unique(parts[core & (mask > 0)])] = 1
    keep[0] = 0
    return keep[parts]


def _filled(mask: np.ndarray) -> np.ndarray:
    from scipy.ndimage import binary_fill_holes

    return np.asarray(binary_fill_holes(mask))


def enlarge(shares: np.ndarray, size: int) -> np.ndarray:
    """Labels [size, size] uint8 from shares [2, L, L] uint8 of head and torso."""
    import cv2

    head, torso = (
        cv2.resize(share.astype(np.float32), (size, size), interpolation=cv2.INTER_CUBIC) for share in shares
    )
    return np.argmax(np.stack([255 - head - torso, head, torso]), axis=0).astype(np.uint8)


def surely_background(labels: np.ndarray, margin: float = 0.02) -> np.ndarray:
    """[H, W] bool: background, and farther than `margin` of the picture's width from the person."""
    import cv2

    reach = max(1, round(margin * labels.shape[1]))
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1, 2 * reach + 1))
    return cv2.dilate((labels != MASK_BACKGROUND).astype(np.uint8), disc) == 0
