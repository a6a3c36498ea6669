"""The inner face's mask: inside the outline of the landmarks, up to the forehead."""

from __future__ import annotations

import numpy as np
import pytest

from jaxtalk.errors import JaxtalkError
from jaxtalk.input.inner_face import LIFT, inner_face


def _square_face() -> np.ndarray:
    """Landmarks around a square from (10, 20) to (30, 50) with the brows at its top and the chin at its bottom."""
    points = np.full((68, 2), [20.0, 35.0])
    points[0], points[16] = [10, 20], [30, 20]
    points[4], points[12] = [10, 50], [30, 50]
    points[8] = [20, 50]
    points[17:22], points[22:27] = [10, 20], [30, 20]
    return points


def test_it_covers_the_landmarks_and_the_forehead_and_no_more() -> None:
    mask = inner_face(_square_face(), (64, 48))
    top = 20 - LIFT * 30
    assert mask.shape == (64, 48) and mask.dtype == np.uint8
    assert (mask[21:49, 11:29] == 255).all() and (mask[int(np.ceil(top)) + 1 : 20, 12:28] == 255).all()
    assert mask[: int(top) - 1].max() == 0 and mask[51:].max() == 0
    assert mask[:, :9].max() == 0 and mask[:, 31:].max() == 0
    np.testing.assert_allclose(mask.sum() / 255, 20 * (50 - top), rtol=0.03)  # borders count in parts


def test_landmarks_on_a_line_are_told() -> None:
    with pytest.raises(JaxtalkError, match="on one line"):
        inner_face(np.stack([np.arange(68.0)] * 2, -1), (64, 64))
