"""What stands behind a head: the neck's continuation, the mean of near torsos, and how near a pose is."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from jaxtalk.clip import Clip
from jaxtalk.evaluation.baselines import pose_distance
from jaxtalk.few_shot.torso import behind_head, pose_distances, torso_behind

# 0 background, 1 head, 2 torso. The columns: head above torso; head above a gap; hair beside the torso; head that
# hangs before the torso; torso alone; background alone.
MASK = np.array(
    [
        [1, 1, 0, 1, 0, 0],
        [1, 1, 0, 1, 0, 0],
        [1, 1, 0, 2, 0, 0],
        [1, 1, 1, 1, 2, 0],
        [2, 0, 1, 1, 2, 0],
        [2, 0, 0, 2, 2, 0],
        [2, 2, 0, 2, 2, 0],
    ],
    np.uint8,
)
FRAME = np.arange(7 * 6 * 3, dtype=np.uint8).reshape(7, 6, 3) + 100
PLATE = np.arange(7 * 6 * 3, dtype=np.uint8).reshape(7, 6, 3)


def test_the_neck_goes_on_upwards_behind_the_head() -> None:
    """Golden, by hand: two rows of seven (0.3) are continued with the first torso pixel under the head."""
    result, known = behind_head(FRAME, MASK, PLATE, 0.3)
    expected = np.where((MASK == 1)[..., None], PLATE, FRAME)
    expected[2:4, 0] = FRAME[4, 0]  # two rows above the torso's first
    # Column 1: its torso begins at row 6, and only rows 4 and 5, which are no head, are near enough.
    # Column 2 has a head and no torso under it: the plate.
    expected[3:5, 3] = FRAME[5, 3]  # the torso between locks of hair is not the one under the head
    np.testing.assert_array_equal(result, expected)
    unknown = MASK == 1
    unknown[2:4, 0] = unknown[3:5, 3] = False
    np.testing.assert_array_equal(known, ~unknown)
    assert result.dtype == np.uint8 and known.dtype == bool


@pytest.mark.parametrize(("neck", "rows"), [(0.0, 1), (0.143, 1), (0.5, 4), (1.0, 4)])
def test_the_neck_s_length_is_in_parts_of_the_picture(neck: float, rows: int) -> None:
    """At least one row, which hides the seam; DFRF's 50 of 512 is 0.1. Only head pixels are covered."""
    result, known = behind_head(FRAME, MASK, PLATE, neck)
    assert known[:4, 0].tolist() == [False] * (4 - rows) + [True] * rows
    assert np.all(result[4 - rows : 4, 0] == FRAME[4, 0])


def test_frames_without_head_or_torso_stay_as_they_are() -> None:
    for label in (0, 2):
        result, known = behind_head(FRAME, np.full((7, 6), label, np.uint8), PLATE, 0.1)
        np.testing.assert_array_equal(result, FRAME)
        assert known.all()
    result, known = behind_head(FRAME, np.ones((7, 6), np.uint8), PLATE, 0.1)
    np.testing.assert_array_equal(result, PLATE)
    assert not known.any()


def _torsos(count: int, seed: int = 0) -> tuple[jax.Array, jax.Array, jax.Array]:
    rng = np.random.default_rng(seed)
    frames, plate = rng.uniform(size=(count, 5, 4, 3)), rng.uniform(size=(5, 4, 3))
    known = rng.uniform(size=(count, 5, 4)) < 0.6
    known[:, 0, 0], known[:, 0, 1] = False, True
    return jnp.asarray(frames, jnp.float32), jnp.asarray(known, jnp.float32), jnp.asarray(plate, jnp.float32)


def test_one_torso_is_shown_where_it_is_known_and_the_plate_elsewhere() -> None:
    frames, known, plate = _torsos(1)
    for distance in (0.0, 3.0):
        behind = torso_behind(frames, known, plate, jnp.array([distance]), 0.02)
        np.testing.assert_allclose(behind, jnp.where(known[0][..., None] > 0, frames[0], plate), atol=1e-6)


def test_torsos_are_a_mean_in_which_near_poses_count_more() -> None:
    frames, known, plate = _torsos(3)
    distance = jnp.array([0.03, 0.01, 0.05])
    weight = np.exp(-np.asarray(distance) / 0.02)[:, None, None] * np.asarray(known)
    behind = torso_behind(frames, known, plate, distance, 0.02)
    expected = (weight[..., None] * np.asarray(frames)).sum(0) / np.maximum(weight.sum(0), 1e-30)[..., None]
    expected = np.where(np.asarray(known).any(0)[..., None], expected, np.asarray(plate))
    np.testing.assert_allclose(behind, expected, atol=1e-5)
    # All know pixel (0, 1): it lies nearest to the nearest torso's.
    off = np.abs(np.asarray(behind[0, 1] - frames[:, 0, 1])).sum(-1)
    assert np.argmin(off) == 1
    np.testing.assert_array_equal(behind[0, 0], plate[0, 0])  # nobody knows it


def test_a_pixel_that_only_far_torsos_know_is_theirs() -> None:
    """Weights that underflow beside a near torso's are still weights."""
    frames, known, plate = _torsos(2)
    known = known.at[0, 3, 3].set(0).at[1, 3, 3].set(1)
    behind = torso_behind(frames, known, plate, jnp.array([0.0, 4.0]), 0.01)
    np.testing.assert_allclose(behind[3, 3], frames[1, 3, 3], atol=1e-5)
    np.testing.assert_allclose(behind[0, 1], frames[0, 0, 1], atol=1e-5)


def test_pose_distances_are_those_of_the_baselines(fake_clip: Clip) -> None:
    track = fake_clip.track
    expected = pose_distance(track, track)
    found = jax.vmap(pose_distances, (0, 0, None, None))(
        *(jnp.asarray(a) for a in (track.rotation, track.translation)), track.rotation, track.translation
    )
    np.testing.assert_allclose(found, expected, atol=5e-4)
    assert np.diag(np.asarray(found)).max() < 1e-5


def test_pose_distance_is_an_angle_and_a_shift_in_head_radii() -> None:
    turn = Rotation.from_rotvec([[0, 0.3, 0], [0, 0, np.pi]]).as_matrix().astype(np.float32)
    shift = np.array([[0, 0, -0.8], [0.05, 0, -0.8]], np.float32)
    found = pose_distances(jnp.eye(3), jnp.array([0.0, 0.0, -0.8]), jnp.asarray(turn), jnp.asarray(shift))
    np.testing.assert_allclose(found, [0.3, np.pi + 0.5], atol=2e-3)
