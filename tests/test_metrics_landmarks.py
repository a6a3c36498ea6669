"""Landmark metrics against the card's golden values, distances computed by hand, and frames without a face."""

from __future__ import annotations

import numpy as np
import pytest

from jaxtalk.errors import JaxtalkError
from jaxtalk.metrics.landmarks import blinks, eye_aspect_ratio, lip_opening, lmd


def _faces(frames: int = 5, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(40, 200, (frames, 68, 2))


def _slow_lmd(truth: np.ndarray, points: np.ndarray, indices: range) -> list[float]:
    values = []
    for a, b in zip(truth, points, strict=True):
        centre_a = sum(a[i] for i in indices) / len(indices)
        centre_b = sum(b[i] for i in indices) / len(indices)
        distances = [float(np.hypot(*((a[i] - centre_a) - (b[i] - centre_b)))) for i in indices]
        values.append(sum(distances) / len(indices))
    return values


def test_lmd_agrees_with_the_definition() -> None:
    truth, points = _faces(), _faces(seed=1)
    assert lmd(truth, points) == pytest.approx(_slow_lmd(truth, points, range(48, 68)))
    assert lmd(truth, points, part="all") == pytest.approx(_slow_lmd(truth, points, range(68)))


def test_lmd_ignores_translation_and_measures_known_offsets() -> None:
    truth = _faces()
    moved = truth + np.array([7.0, -3.0])
    assert lmd(truth, moved, part="all") == pytest.approx(np.zeros(5), abs=1e-12)
    offsets = np.zeros((68, 2))
    offsets[48:58, 0], offsets[58:68, 0] = 3.0, -3.0  # of zero mean over the mouth
    offsets[:, 1] = np.where(np.arange(68) % 2, 4.0, -4.0)
    assert lmd(truth, truth + offsets) == pytest.approx(np.full(5, 5.0))  # each point by (3, 4)
    assert lmd(truth, truth + offsets, part="all") == pytest.approx(np.full(5, (20 * 5 + 48 * 4) / 68))


def test_lmd_of_the_mouth_does_not_see_the_rest_of_the_face() -> None:
    truth = _faces()
    other = truth.copy()
    other[:, :48] += 50 * np.random.default_rng(2).normal(size=(5, 48, 2))
    assert lmd(truth, other) == pytest.approx(np.zeros(5), abs=1e-12)
    assert (lmd(truth, other, part="all") > 5).all()


def test_lmd_of_other_sizes_is_rescaled_to_256() -> None:
    truth, points = _faces(), _faces(seed=1)
    assert lmd(2 * truth, 2 * points, rescale=512) == pytest.approx(lmd(truth, points, rescale=256))
    assert lmd(truth, points, rescale=256) == pytest.approx(lmd(truth, points))


@pytest.mark.parametrize("gap", [np.nan, 0.0])
def test_frames_without_a_face_have_no_value(gap: float) -> None:
    truth, points = _faces(), _faces(seed=1)
    truth[1], points[3] = gap, gap
    measured = [True, False, True, False, True]
    for values in (lmd(truth, points), lmd(truth, points, part="all"), eye_aspect_ratio(truth) + lip_opening(points)):
        np.testing.assert_array_equal(np.isfinite(values), measured)
    assert lmd(truth, points)[4] == pytest.approx(lmd(_faces(), _faces(seed=1))[4])


def test_eye_aspect_ratio_of_the_golden_hexagon() -> None:
    points = _faces(1)
    hexagon = np.array([(0, 0), (1, 1), (2, 1), (3, 0), (2, -1), (1, -1)], float)
    points[0, 36:42] = points[0, 42:48] = hexagon
    assert eye_aspect_ratio(points)[0] == pytest.approx(0.6667, abs=5e-5)
    points[0, 42:48] = hexagon * (1, 0)  # the left eye shut: half of it
    assert eye_aspect_ratio(points)[0] == pytest.approx(0.3333, abs=5e-5)


def test_a_train_of_blinks_is_counted_at_its_rate() -> None:
    """Three shut frames every 2.5 s: 0.40 Hz."""
    ear = np.full(25 * 50, 0.3)
    for start in range(30, len(ear), 62):
        ear[start : start + 3] = 0.1
    ear = ear[: 62 * 20]
    assert blinks(ear, 24.8) == (20, pytest.approx(0.40))
    assert blinks(ear, 24.8, adaptive=True) == (20, pytest.approx(0.40))


def test_what_counts_as_one_blink() -> None:
    def count(text: str) -> int:
        return blinks(np.array([{"o": 0.3, "x": 0.1, "?": np.nan}[letter] for letter in text]), 25)[0]

    assert count("ooxooo") == 0  # a single frame
    assert count("ooxxoo") == 1
    assert count("xxooxx") == 2
    assert count("xxoxxo") == count("xoxooo") == count("xx?xxo") == 1  # one open frame does not end it
    assert count("xoox") == 0
    assert count("xxoxoxx") == 1


def test_blinks_of_narrow_eyes_need_the_adaptive_threshold() -> None:
    ear = np.full(100, 0.19)
    ear[40:43] = 0.09
    assert blinks(ear, 25) == (1, 0.25)  # 100 shut frames in one run
    assert blinks(ear + 0.15, 25)[0] == 0
    assert blinks(ear + 0.15, 25, adaptive=True)[0] == 0  # 0.24 is above 0.7 x 0.34
    assert blinks(ear + 0.1, 25, adaptive=True) == (1, 0.25)


def test_time_without_a_face_is_no_time_without_blinks() -> None:
    ear = np.full(100, 0.3)
    ear[10:13], ear[50:] = 0.1, np.nan
    assert blinks(ear, 25) == (1, 0.5)
    count, rate = blinks(np.full(10, np.nan), 25)
    assert count == 0 and np.isnan(rate)


def test_lip_opening_by_a_turned_face_in_both_units() -> None:
    points = np.zeros((1, 68, 2))
    points[0, 36], points[0, 45] = (50, 100), (150, 100)  # outer eye corners: 100 pixels
    points[0, [61, 62, 63]] = [(90, 180), (100, 180), (110, 180)]
    points[0, [67, 66, 65]] = [(90, 192), (100, 198), (110, 192)]
    assert lip_opening(points)[0] == pytest.approx(0.14)
    assert lip_opening(points, "pixels")[0] == pytest.approx(14.0)
    angle = np.radians(35)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    assert lip_opening(points @ turn.T + 20, "pixels")[0] == pytest.approx(14.0)
    assert lip_opening(2 * points)[0] == pytest.approx(0.14)


def test_wrong_input_is_told() -> None:
    with pytest.raises(JaxtalkError, match="'lips' is unknown"):
        lmd(_faces(), _faces(), part="lips")  # type: ignore[arg-type]
    with pytest.raises(JaxtalkError, match="same frames"):
        lmd(_faces(5), _faces(4))
    with pytest.raises(JaxtalkError, match="68 points"):
        eye_aspect_ratio(np.zeros((5, 478, 2)))
