"""The 68 landmarks of iBUG 300-W: index sets, where MediaPipe has them, and what is measured from them.

Left and right are the subject's own; the first points of each set lie on the image's left (the subject's right).
All functions take whole clips, landmarks [F, 68, 2] in pixels (x right, y down), finite in every frame.
"""

from __future__ import annotations

import numpy as np
from scipy.ndimage import gaussian_filter1d

from jaxtalk.errors import JaxtalkError

JAW = np.arange(0, 17)
RIGHT_BROW, LEFT_BROW = np.arange(17, 22), np.arange(22, 27)
BROWS = np.arange(17, 27)
NOSE = np.arange(27, 36)
RIGHT_EYE, LEFT_EYE = np.arange(36, 42), np.arange(42, 48)  # outer and inner corner are ends of the eye line
EYES = np.arange(36, 48)
MOUTH = np.arange(48, 68)
OUTER_MOUTH, INNER_MOUTH = np.arange(48, 60), np.arange(60, 68)
INNER = np.arange(17, 68)  # all but the jaw line, which MediaPipe defines differently
LIP_PAIRS = np.array([[61, 67], [62, 66], [63, 65]])  # upper and lower inner lip

# Where MediaPipe's face mesh has the iBUG points: a vertex, or a place between two (the second's share). First by
# nearness on MediaPipe's canonical face, warped onto the marked vertices of ICT-FaceKit; then each point was moved
# along its own contour to where fits of ICT-FaceKit to ten real clips put it (they agree within a tenth of a step
# between vertices), both sides mirrored. The jaw line (0-16) is only near.
_MEDIAPIPE: tuple[tuple[int, int, float], ...] = (
    *((127, 127, 0), (234, 234, 0), (93, 132, 0.5), (58, 58, 0), (172, 172, 0), (136, 150, 0.5), (149, 149, 0)),
    *((148, 176, 0.5), (152, 152, 0), (377, 400, 0.5)),
    *((378, 378, 0), (365, 379, 0.5), (397, 397, 0), (288, 288, 0), (323, 361, 0.5), (454, 454, 0), (356, 356, 0)),
    *((70, 70, 0), (63, 105, 0.2), (105, 66, 0.2), (66, 107, 0.3), (107, 107, 0)),
    *((336, 336, 0), (296, 336, 0.3), (334, 296, 0.2), (293, 334, 0.2), (300, 300, 0)),
    *((168, 168, 0), (6, 197, 0.5), (195, 5, 0.1), (4, 4, 0)),
    *((98, 97, 0.4), (97, 2, 0.2), (2, 2, 0), (326, 2, 0.2), (327, 326, 0.4)),
    *((33, 33, 0), (161, 160, 0.5), (158, 158, 0), (133, 133, 0), (153, 153, 0), (163, 144, 0.4)),
    *((362, 362, 0), (385, 385, 0), (388, 387, 0.5), (263, 263, 0), (390, 373, 0.4), (380, 380, 0)),
    *((61, 61, 0), (40, 39, 0.5), (37, 37, 0), (0, 0, 0), (267, 267, 0), (270, 269, 0.5), (291, 291, 0)),
    *((321, 405, 0.4), (405, 314, 0.6), (17, 17, 0), (181, 84, 0.6), (91, 181, 0.4)),
    *((78, 78, 0), (81, 82, 0.2), (13, 13, 0), (311, 312, 0.2), (308, 308, 0)),
    *((402, 317, 0.1), (14, 14, 0), (178, 87, 0.1)),
)

# ARKit's 52 blendshapes: MediaPipe's order without its `_neutral`, then tongueOut, which MediaPipe does not give.
BLENDSHAPE_NAMES: tuple[str, ...] = (
    *("browDownLeft", "browDownRight", "browInnerUp", "browOuterUpLeft", "browOuterUpRight"),
    *("cheekPuff", "cheekSquintLeft", "cheekSquintRight", "eyeBlinkLeft", "eyeBlinkRight"),
    *("eyeLookDownLeft", "eyeLookDownRight", "eyeLookInLeft", "eyeLookInRight", "eyeLookOutLeft", "eyeLookOutRight"),
    *("eyeLookUpLeft", "eyeLookUpRight", "eyeSquintLeft", "eyeSquintRight", "eyeWideLeft", "eyeWideRight"),
    *("jawForward", "jawLeft", "jawOpen", "jawRight", "mouthClose", "mouthDimpleLeft", "mouthDimpleRight"),
    *("mouthFrownLeft", "mouthFrownRight", "mouthFunnel", "mouthLeft", "mouthLowerDownLeft", "mouthLowerDownRight"),
    *("mouthPressLeft", "mouthPressRight", "mouthPucker", "mouthRight", "mouthRollLower", "mouthRollUpper"),
    *("mouthShrugLower", "mouthShrugUpper", "mouthSmileLeft", "mouthSmileRight", "mouthStretchLeft"),
    *("mouthStretchRight", "mouthUpperUpLeft", "mouthUpperUpRight", "noseSneerLeft", "noseSneerRight", "tongueOut"),
)


def from_mediapipe(points: np.ndarray) -> np.ndarray:
    """MediaPipe's mesh [..., 478 or 468, D] -> the 68 points [..., 68, D]."""
    first, second, share = (np.array(column) for column in zip(*_MEDIAPIPE, strict=True))
    share = share[:, None].astype(points.dtype)
    return (1 - share) * points[..., first, :] + share * points[..., second, :]


def blendshapes_from_mediapipe(scores: np.ndarray) -> np.ndarray:
    """MediaPipe's 52 scores [..., 52], `_neutral` first -> [..., 52] in the order of `BLENDSHAPE_NAMES`."""
    if scores.shape[-1] != 52:
        raise JaxtalkError(f"MediaPipe gave {scores.shape[-1]} blendshape scores, expected 52; use mediapipe >= 1.2")
    return np.concatenate([scores[..., 1:], np.zeros_like(scores[..., :1])], axis=-1)


def eye_distance(landmarks: np.ndarray) -> np.ndarray:
    """Distance [F] of the outer eye corners, pixels."""
    return np.linalg.norm(landmarks[..., 45, :] - landmarks[..., 36, :], axis=-1)


def lip_gap(landmarks: np.ndarray) -> np.ndarray:
    """Opening [F] of the inner lips over the distance of the outer eye corners; negative where lips overlap.

    Mean of three pairs of points, measured along the face's own down direction, so that a tilted head changes nothing.
    """
    across = landmarks[..., 45, :] - landmarks[..., 36, :]
    length = np.linalg.norm(across, axis=-1)
    down = np.stack([-across[..., 1], across[..., 0]], axis=-1) / length[..., None]
    gaps = landmarks[..., LIP_PAIRS[:, 1], :] - landmarks[..., LIP_PAIRS[:, 0], :]
    return np.einsum("...pd,...d->...p", gaps, down).mean(axis=-1) / length


def eye_aspect(landmarks: np.ndarray) -> np.ndarray:
    """Height over width of the eyes' openings [F, 2], left and right."""

    def aspect(eye: np.ndarray) -> np.ndarray:
        points = landmarks[..., eye, :]
        upper, lower = points[..., 1:3, :].mean(axis=-2), points[..., 4:6, :].mean(axis=-2)
        width = np.linalg.norm(points[..., 3, :] - points[..., 0, :], axis=-1)
        return np.linalg.norm(upper - lower, axis=-1) / np.maximum(width, 1e-6)

    return np.stack([aspect(LEFT_EYE), aspect(RIGHT_EYE)], axis=-1)


def eye_openness(landmarks: np.ndarray, open_percentile: float = 75.0, closed_fraction: float = 0.3) -> np.ndarray:
    """Openness [F, 2] of the left and right eye in [0, 1]: 1 is the clip's open eye, 0 a closed one.

    The open eye's aspect is a high percentile over the clip (blinks take a tenth of the time, so it is robust). The
    landmarks of a shut eye do not meet: an aspect of `closed_fraction` of the open one counts as shut.
    """
    aspect = eye_aspect(landmarks)
    open_eye = np.maximum(np.percentile(aspect, open_percentile, axis=0), 1e-6)
    return np.clip((aspect / open_eye - closed_fraction) / (1 - closed_fraction), 0, 1).astype(np.float32)


def face_box(landmarks: np.ndarray, size: tuple[int, int] | None = None, smooth: float = 2.0) -> np.ndarray:
    """Boxes [F, 4] (x0, y0, x1, y1) of the whole head with forehead, ears and hair line, smoothed over `smooth` frames.

    With `size` (height, width) they are cut at the picture's edge.
    """
    chin, brows = landmarks[:, 8], landmarks[:, BROWS].mean(axis=1)
    crown = brows + 0.75 * (brows - chin)  # top of the head with some hair; 0.6 is the bare skull of an average head
    points = np.concatenate([landmarks, crown[:, None]], axis=1)
    low, high = points.min(axis=1), points.max(axis=1)
    margin = np.array([0.14, 0.05]) * (high - low)
    boxes = gaussian_filter1d(np.concatenate([low - margin, high + margin], axis=1), smooth, axis=0, mode="nearest")
    if size is not None:
        boxes = np.clip(boxes, 0, np.array([size[1], size[0], size[1], size[0]]))
    return boxes.astype(np.float32)


def mouth_box(landmarks: np.ndarray, size: tuple[int, int] | None = None, smooth: float = 2.0) -> np.ndarray:
    """Boxes [F, 4] of the mouth with chin room, of one size over the whole clip, following the mouth's corners.

    The size holds the mouth at its widest and the chin at its lowest (98th percentiles over the clip). With `size`
    (height, width) a box that passes the picture's edge is moved inside.
    """
    anchor = gaussian_filter1d(landmarks[:, [48, 54]].mean(axis=1), smooth, axis=0, mode="nearest")
    offset = landmarks - anchor[:, None]
    half_width = 1.2 * np.percentile(np.abs(offset[:, MOUTH, 0]).max(axis=1), 98)
    nose, chin = np.percentile(-offset[:, 33, 1], 98), np.percentile(offset[:, 8, 1], 98)
    lips = np.percentile(offset[:, MOUTH, 1].max(axis=1), 98)
    low = anchor - np.array([half_width, 0.8 * nose])
    extent = np.array([2 * half_width, 0.8 * nose + max(chin, 1.2 * lips)])
    if size is not None:
        extent = np.minimum(extent, np.array(size[::-1]))
        low = np.clip(low, 0, np.array(size[::-1]) - extent)
    return np.concatenate([low, low + extent], axis=1).astype(np.float32)
