"""The inner face of a frame: what is inside the jaw and below the hair line (card s3d_nerf 2.8).

The paper masks with Deep3DFaceRecon's rendered front triangles. A clip of any face model has 68 landmarks, so the mask
is theirs: their convex hull, with the brows lifted towards the hair line.
"""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw
from scipy.spatial import ConvexHull, QhullError

from jaxtalk.errors import JaxtalkError

LIFT = 0.3  # of the distance from chin to brows, by which the forehead rises above the brows
_OVERSAMPLING = 4
_CHIN, _BROWS = 8, slice(17, 27)


def inner_face(landmarks: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """How much of each pixel is inner face, [H, W] uint8 from 0 to 255.

    Args:
        landmarks: [68, 2] iBUG order, pixels (x, y).
        size: height and width of the frame.

    Raises:
        JaxtalkError: the landmarks enclose nothing.
    """
    brows = landmarks[_BROWS]
    up = brows.mean(0) - landmarks[_CHIN]
    points = np.concatenate([landmarks, brows + LIFT * up])
    try:
        hull = points[ConvexHull(points).vertices]
    except QhullError as error:
        raise JaxtalkError("the landmarks of a frame lie on one line or point; prepare the clip again") from error
    drawn = Image.new("L", (size[1] * _OVERSAMPLING, size[0] * _OVERSAMPLING))
    corners = [(float(x), float(y)) for x, y in hull * _OVERSAMPLING - 0.5]
    ImageDraw.Draw(drawn).polygon(corners, fill=255)
    return np.asarray(drawn.reduce(_OVERSAMPLING))
