"""Whether two faces are one person's: the cosine of ArcFace embeddings, CSIM (metrics card, section 2).

`csim_src` compares every frame with one picture of the person, `csim_gt` with the same moment as it was filmed. Which
network (r50 or r100, and what it was trained on) belongs to the number: values of different ones do not compare.
"""

from __future__ import annotations

import functools
from typing import Literal, cast

import numpy as np

from jaxtalk.errors import JaxtalkError
from jaxtalk.faces.landmarks import LEFT_EYE, RIGHT_EYE
from jaxtalk.metrics.batches import Batched
from jaxtalk.nn.pretrained.iresnet import SIZE, IResNet

# Where ArcFace wants the eyes (the image's left one first), the nose's tip and the mouth's corners, in pixels of the
# crop whose centres are whole numbers.
TEMPLATE = np.array(
    [[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]]
)
_CENTRE = 0.5  # of a pixel, in our coordinates; 0 in the template's
_BATCH = 16  # faces at once


def csim(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Cosines [F] of embeddings [F, D] and [F, D], or [D] for one picture; NaN where one of them is. Higher is better.

    Raises `JaxtalkError` for shapes that do not belong together.
    """
    if first.ndim != 2 or second.shape not in (first.shape, first.shape[1:]):
        raise JaxtalkError(f"csim: embeddings {first.shape} and {second.shape}; give [F, D] and [F, D], or [D] for one")
    a, b = (np.asarray(part, np.float64) for part in (first, second))
    lengths = np.linalg.norm(a, axis=-1) * np.linalg.norm(b, axis=-1)
    return np.sum(a * b, axis=-1) / np.where(lengths > 0, lengths, np.nan)


def embeddings(frames: np.ndarray, landmarks: np.ndarray, network: IResNet) -> np.ndarray:
    """Embeddings [F, 512] of the faces in frames [F, H, W, 3] uint8 RGB; NaN in frames without landmarks.

    Args:
        landmarks: [F, 68, 2] iBUG order, pixels whose centres are at + 0.5; not finite where no face was found.
        network: IResNet with published weights (`load`).

    Raises:
        JaxtalkError: frames or landmarks of another shape.
    """
    if frames.dtype != np.uint8 or frames.ndim != 4 or landmarks.shape != (len(frames), 68, 2):
        raise JaxtalkError(
            f"csim: frames {frames.dtype} {frames.shape} and landmarks {landmarks.shape}; give uint8 [F, H, W, 3] and "
            "[F, 68, 2]"
        )
    found = np.flatnonzero(np.isfinite(landmarks).all(axis=(1, 2)))
    values = np.full((len(frames), network.fc.out_features), np.nan, np.float32)
    if len(found):
        values[found] = _batched(network)(aligned_faces(frames[found], landmarks[found]))
    return values


def load(variant: Literal["r50", "r100"] = "r50") -> IResNet:
    """IResNet-50 or -100 with published weights. Raises `WeightsAbsent` where they are not on this machine."""
    from jaxtalk import weights

    names = {"r50": "iresnet50", "r100": "iresnet100"}
    if variant not in names:
        raise JaxtalkError(f"csim: network {variant!r} is unknown; use one of {', '.join(names)}")
    return cast(IResNet, weights.load(names[variant]))


def aligned_faces(frames: np.ndarray, landmarks: np.ndarray) -> np.ndarray:
    """Faces [F, 112, 112, 3] uint8, turned, scaled and moved so that five points lie on `TEMPLATE`.

    Bilinear, nothing smoothed before, black outside the frame: OpenCV's warp by default.
    """
    inverse = similarity(np.broadcast_to(TEMPLATE, (len(frames), 5, 2)), five_points(landmarks) - _CENTRE)
    grid = np.stack([*np.meshgrid(np.arange(SIZE), np.arange(SIZE)), np.ones((SIZE, SIZE))], axis=-1)
    return np.stack([_sampled(frame, grid @ matrix.T) for frame, matrix in zip(frames, inverse, strict=True)])


def five_points(landmarks: np.ndarray) -> np.ndarray:
    """Eyes' centres, the nose's tip and the mouth's corners: [F, 68, 2] -> [F, 5, 2]."""
    eyes = [landmarks[:, eye].mean(axis=1) for eye in (RIGHT_EYE, LEFT_EYE)]
    return np.stack([*eyes, landmarks[:, 30], landmarks[:, 48], landmarks[:, 54]], axis=1)


def similarity(points: np.ndarray, target: np.ndarray) -> np.ndarray:
    """The turn, scale and shift, without mirroring, that take points nearest to a target: [F, N, 2] -> [F, 2, 3].

    Least squares (Umeyama 1991), which in the plane is a division of complex numbers. Applied as matrix (x, y, 1).
    Raises `JaxtalkError` for points that all lie in one place, naming the frame.
    """
    source, goal = (part[..., 0] + 1j * part[..., 1] for part in (points, target))
    source_mean, goal_mean = source.mean(axis=1), goal.mean(axis=1)
    source, goal = source - source_mean[:, None], goal - goal_mean[:, None]
    spread = np.sum(np.abs(source) ** 2, axis=1)
    if not (spread > 0).all():
        raise JaxtalkError(f"csim: the points of face {int(np.argmin(spread > 0))} all lie in one place; find it again")
    turn = np.sum(np.conj(source) * goal, axis=1) / spread
    shift = goal_mean - turn * source_mean
    return np.stack(
        [np.stack([turn.real, -turn.imag, shift.real], -1), np.stack([turn.imag, turn.real, shift.imag], -1)], axis=1
    )


def _sampled(frame: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Values [..., 3] uint8 of a picture [H, W, 3] at (x, y), pixel centres at whole numbers; 0 outside."""
    height, width = frame.shape[:2]
    low = np.floor(places).astype(int)
    share = (places - low).astype(np.float32)
    total = np.zeros((*places.shape[:-1], 3), np.float32)
    for right in (0, 1):
        for below in (0, 1):
            x, y = low[..., 0] + right, low[..., 1] + below
            inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
            weight = np.abs(1 - right - share[..., 0]) * np.abs(1 - below - share[..., 1]) * inside
            total += weight[..., None] * frame[np.clip(y, 0, height - 1), np.clip(x, 0, width - 1)]
    return np.rint(total).astype(np.uint8)


@functools.lru_cache(maxsize=2)
def _batched(network: IResNet) -> Batched:
    """The network, with the parameters that it has now, on all devices of this process; compiled once."""
    return Batched(network, lambda network, faces: network(faces / 127.5 - 1), _BATCH, raw=True)
