"""The formulas behind the tables: paired differences, means over clips and identities, intervals, baselines."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from scipy import stats
from scipy.spatial.transform import Rotation

from jaxtalk.clip import Clip
from jaxtalk.evaluation import baselines, statistics
from jaxtalk.input.clips import select_frames


def test_paired_is_the_paired_t_test() -> None:
    rng = np.random.default_rng(0)
    first = rng.normal(30, 3, 40)
    second = first - rng.normal(0.7, 1, 40)
    pair = statistics.paired(first, second)
    reference = stats.ttest_rel(first, second)
    assert pair.mean / pair.standard_error == pytest.approx(reference.statistic)
    assert pair.mean == pytest.approx(np.mean(first) - np.mean(second))
    assert pair.positive == sum(a > b for a, b in zip(first, second, strict=True))


def test_paired_leaves_out_frames_without_a_value() -> None:
    nan = float("nan")
    pair = statistics.paired(np.array([1.0, nan, 5.0, 2.0]), np.array([0.0, 3.0, 1.0, nan]))
    assert (pair.mean, pair.frames, pair.positive) == (2.5, 2, 2)
    assert pair.standard_error == pytest.approx(1.5)
    assert statistics.paired(np.array([nan]), np.array([1.0])).frames == 0
    assert np.isnan(statistics.paired(np.array([2.0]), np.array([1.0])).standard_error)


def test_clips_are_averaged_before_identities() -> None:
    identities = {"a1": "anna", "a2": "anna", "b1": "ben"}
    result = statistics.over_clips({"a1": 10.0, "a2": 20.0, "b1": 40.0}, identities)
    assert result["identities"] == {"anna": 15.0, "ben": 40.0}
    assert result["mean"] == pytest.approx(27.5)  # not 70 / 3


def test_error_of_the_mean_over_clips_adds_in_squares() -> None:
    """Against simulation: the spread of the mean when frames are drawn anew."""
    rng = np.random.default_rng(1)
    identities = {"a1": "anna", "a2": "anna", "b1": "ben"}
    spread = {"a1": (1.0, 10), "a2": (3.0, 40), "b1": (2.0, 20)}
    means, errors = [], []
    for _ in range(400):
        pairs = {clip: statistics.paired(rng.normal(0, s, n), np.zeros(n)) for clip, (s, n) in spread.items()}
        result = statistics.paired_over_clips(pairs, identities)
        means.append(result["mean"])
        errors.append(result["standard_error"])
    assert np.mean(errors) == pytest.approx(np.std(means), rel=0.12)
    assert result["frames"] == 70


def test_bootstrap_interval_covers_and_blocks_widen_it() -> None:
    rng = np.random.default_rng(2)
    frames = {"a": np.repeat(rng.normal(25, 2, 20), 5)}  # every five neighbours are one observation
    low, high = statistics.bootstrap_interval(frames, {"a": "anna"}, block=5)
    assert low < frames["a"].mean() < high
    naive = statistics.bootstrap_interval(frames, {"a": "anna"}, block=1)
    assert high - low > 1.5 * (naive[1] - naive[0])
    single = {"a": rng.normal(25, 2, 200)}
    low, high = statistics.bootstrap_interval(single, {"a": "anna"}, block=1)
    assert high - low == pytest.approx(2 * 1.96 * single["a"].std() / np.sqrt(200), rel=0.1)
    assert statistics.bootstrap_interval({"a": np.ones(8)}, {"a": "anna"}, block=5) is None


def test_pose_distance_is_angle_plus_shift_in_head_radii(fake_clip: Clip) -> None:
    turn = Rotation.from_rotvec([[0, 0, 0], [0, 10, 0], [0, 170, 0]], degrees=True).as_matrix()
    first = dataclasses.replace(fake_clip.track.take(slice(0, 3)), rotation=turn, translation=np.zeros((3, 3)))
    second = dataclasses.replace(first, translation=np.array([[0, 0, 0], [0.03, 0, 0.04], [0, 0, 0]]))
    distance = baselines.pose_distance(first, second)
    np.testing.assert_allclose(np.diag(distance), [0, 0.5, 0], atol=1e-12)
    assert distance[0, 2] == pytest.approx(np.radians(170))
    assert distance[2, 0] == pytest.approx(np.radians(170))
    assert distance[0, 1] == pytest.approx(np.radians(10) + 0.5)


def test_nearest_frame_finds_the_identical_pose(fake_clip: Clip) -> None:
    train = np.arange(0, 40, 3)
    wanted = np.array([4, 0, 11, 4])
    test = fake_clip.track.take(train[wanted])
    np.testing.assert_array_equal(baselines.nearest_frames(fake_clip.track.take(train), test), wanted)


def test_mean_frame_is_the_mean_of_the_given_frames_alone(fake_clip: Clip) -> None:
    index = np.array([1, 7, 30])
    expected = np.mean([fake_clip.frame(i) / 255 for i in index], axis=0)
    np.testing.assert_allclose(baselines.mean_frame(select_frames(fake_clip, index)), expected, atol=1e-6)


def test_a_clip_without_a_pair_counts_in_no_mean() -> None:
    pairs = {
        "a": statistics.paired(np.array([2.0, 4.0]), np.zeros(2)),
        "b": statistics.paired(np.full(3, np.nan), np.ones(3)),
    }
    result = statistics.paired_over_clips(pairs, {"a": "anna", "b": "ben"})
    assert result["mean"] == 3 and result["frames"] == 2 and np.isnan(result["identities"]["ben"]["mean"])


def test_people_vary_more_than_their_frames() -> None:
    """Two persons far apart: the interval spans them both, however many frames each has."""
    frames = {"a": np.full(100, 20.0), "b": np.full(100, 30.0)}
    low, high = statistics.bootstrap_interval(frames, {"a": "anna", "b": "ben"}, block=5)
    assert (low, high) == (20.0, 30.0)
    low, high = statistics.bootstrap_interval(frames, {"a": "anna", "b": "anna"}, block=5)
    assert (low, high) == (25.0, 25.0)
