"""How the head moves: lengths, no jumps where none may be, other people's movement at one's own place."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from jaxtalk.clip import Clip, Track
from jaxtalk.errors import JaxtalkError
from jaxtalk.synthesis import poses

FPS = 25.0


@pytest.fixture
def track(fake_clip: Clip) -> Track:
    """Fifty frames that turn, nod and shift, with a blink at frames 20 to 22."""
    openness = np.ones((50, 2), np.float32)
    openness[20:23] = [[0.4], [0.0], [0.5]]
    return dataclasses.replace(fake_clip.track, eye_openness=openness)


@pytest.fixture
def motion(track: Track) -> poses.Motion:
    return poses.motion_of(track, FPS)


def _steps(motion: poses.Motion) -> np.ndarray:
    """Angle between neighbouring frames, radians."""
    turns = Rotation.from_matrix(motion.rotation)
    return (turns[1:] * turns[:-1].inv()).magnitude()


def test_motion_at_the_tracks_own_rate_is_the_track(track: Track, motion: poses.Motion) -> None:
    np.testing.assert_allclose(motion.rotation, track.rotation, atol=1e-5)
    np.testing.assert_allclose(motion.translation, track.translation, atol=1e-6)
    np.testing.assert_array_equal(motion.eye_openness, track.eye_openness)


def test_motion_at_another_rate_passes_through_the_same_poses(track: Track) -> None:
    double = poses.motion_of(track, 2 * FPS)
    assert len(double) == 2 * 50 - 1
    np.testing.assert_allclose(double.rotation[::2], track.rotation, atol=1e-5)
    np.testing.assert_allclose(double.translation[1], track.translation[:2].mean(axis=0), atol=1e-6)
    np.testing.assert_allclose(np.linalg.det(double.rotation), 1, atol=1e-5)
    assert _steps(double).max() < 0.51 * _steps(poses.motion_of(track, FPS)).max()


def test_motion_stays_within_the_longest_part_without_a_gap(track: Track) -> None:
    kept = track.take(np.r_[0:12, 15:45, 48:50])
    motion = poses.motion_of(kept, FPS)
    np.testing.assert_allclose(motion.rotation, track.rotation[15:45], atol=1e-5)
    assert len(poses.motion_of(track.take(slice(0, 1)), FPS)) == 1
    with pytest.raises(JaxtalkError, match="no frame"):
        poses.motion_of(track.take(slice(0, 0)), FPS)


@pytest.mark.parametrize("policy", poses.POLICIES)
@pytest.mark.parametrize("count", [1, 7, 50, 51, 333])
def test_any_number_of_frames(motion: poses.Motion, policy: str, count: int) -> None:
    played = poses.play(motion, policy, count, FPS)
    assert played.rotation.shape == (count, 3, 3)
    assert played.translation.shape == (count, 3) and played.eye_openness.shape == (count, 2)
    np.testing.assert_allclose(np.linalg.det(played.rotation), 1, atol=1e-4)


def test_mirror_goes_there_and_back_without_a_jump_or_a_stop(motion: poses.Motion) -> None:
    index = poses.mirror_index(np.arange(9), 4)
    np.testing.assert_array_equal(index, [0, 1, 2, 3, 2, 1, 0, 1, 2])
    assert np.all(np.abs(np.diff(poses.mirror_index(np.arange(500), 50))) == 1)
    assert np.all(poses.mirror_index(np.arange(5), 1) == 0)
    played = poses.play(motion, "mirror", 300, FPS)
    assert _steps(played).max() == pytest.approx(_steps(motion).max(), rel=1e-3)
    assert _steps(played).min() >= _steps(motion).min() * 0.999


def test_loop_repeats_and_glides_over_its_seam(motion: poses.Motion) -> None:
    played = poses.play(motion, "loop", 175, FPS)
    np.testing.assert_allclose(played.rotation[:38], motion.rotation[:38], atol=1e-6)
    for name in ("rotation", "translation", "eye_openness"):
        np.testing.assert_array_equal(getattr(played, name)[50:100], getattr(played, name)[:50])
    jump = _steps(motion.take(np.array([49, 0])))[0]
    assert jump > 4 * _steps(motion).max()  # what a plain repetition would show
    assert _steps(played).max() < 0.5 * jump
    seam = np.linalg.norm(np.diff(played.translation, axis=0), axis=-1)
    plain = np.linalg.norm(motion.translation[0] - motion.translation[49])
    assert seam.max() < 0.5 * plain


def test_hold_stands_still_near_the_middle_and_blinks(motion: poses.Motion) -> None:
    played = poses.play(motion, "hold", 200, FPS)
    assert np.ptp(played.rotation, axis=0).max() == 0 and np.ptp(played.translation, axis=0).max() == 0
    turns = Rotation.from_matrix(motion.rotation)
    angle = (turns * turns.mean().inv()).magnitude()
    shift = np.linalg.norm(motion.translation - motion.translation.mean(axis=0), axis=-1)
    held = poses.representative(motion)
    np.testing.assert_array_equal(played.rotation[0], motion.rotation[held])
    assert not np.any((angle < angle[held]) & (shift < shift[held]))
    assert angle[held] < np.median(angle) and shift[held] < np.median(shift)
    closed = np.flatnonzero(played.eye_openness[:, 0] == 0)
    np.testing.assert_array_equal(closed, [21, 77, 119, 175])  # there and back over 98 frames


def test_rebase_keeps_movement_and_takes_the_place_of_another(motion: poses.Motion) -> None:
    """A clip seen from elsewhere, moved by the same turns, comes back as the movement around one's own mean."""
    turn = Rotation.from_euler("yx", [25, -10], degrees=True)
    elsewhere = dataclasses.replace(
        motion,
        rotation=(Rotation.from_matrix(motion.rotation) * turn).as_matrix().astype(np.float32),
        translation=motion.translation + np.float32([0.05, 0.1, -0.7]),
    )
    back = poses.rebase(elsewhere, motion)
    np.testing.assert_allclose(back.rotation, motion.rotation, atol=1e-4)
    np.testing.assert_allclose(back.translation, motion.translation, atol=1e-5)
    np.testing.assert_array_equal(back.eye_openness, motion.eye_openness)
    mine = poses.rebase(motion, elsewhere)
    np.testing.assert_allclose(mine.translation.mean(axis=0), elsewhere.translation.mean(axis=0), atol=1e-5)
    np.testing.assert_allclose(_steps(mine), _steps(motion), atol=1e-5)


def test_unknown_policy_is_refused(motion: poses.Motion) -> None:
    with pytest.raises(JaxtalkError, match="hold, loop, mirror"):
        poses.play(motion, "dance", 10, FPS)


@pytest.mark.parametrize("degrees", [15.0, -40.0])
def test_orbit_turns_the_held_head_about_its_own_axis(motion: poses.Motion, degrees: float) -> None:
    """As an obvious reference: where the chin, the crown and the nose of the held head go in the camera."""
    turned, held = poses.orbit(motion, degrees, 120, FPS), poses.play(motion, "hold", 120, FPS)
    np.testing.assert_allclose(
        turned.rotation @ turned.rotation.swapaxes(1, 2), np.tile(np.eye(3), (120, 1, 1)), atol=1e-6
    )
    np.testing.assert_allclose(np.linalg.det(turned.rotation), 1, atol=1e-6)
    np.testing.assert_array_equal(turned.translation, held.translation)  # where the head's centre is in the camera
    np.testing.assert_allclose(turned.rotation[0], held.rotation[0], atol=1e-6)
    np.testing.assert_allclose(turned.rotation[:, :, 1], held.rotation[:, :, 1], atol=1e-6)  # its vertical axis
    nose = np.einsum("fji,fj->fi", held.rotation, turned.rotation[:, :, 2])  # in the held head's own axes
    angles = np.degrees(np.arctan2(nose[:, 0], nose[:, 2]))
    expected = degrees * np.sin(2 * np.pi * np.arange(120) / FPS / 4)
    np.testing.assert_allclose(angles, expected, atol=1e-3)
    assert angles[25] == pytest.approx(degrees, abs=1e-3) and angles[75] == pytest.approx(-degrees, abs=1e-3)
    assert np.degrees(_steps(turned)).max() < 1.01 * abs(degrees) * 2 * np.pi / 4 / FPS  # no jump
    np.testing.assert_array_equal(turned.eye_openness, held.eye_openness)


def test_a_picture_can_orbit(track: Track) -> None:
    turned = poses.orbit(poses.motion_of(track.take(slice(0, 1)), FPS), 20.0, 30, FPS)
    assert len(turned) == 30 and np.ptp(turned.translation, axis=0).max() == 0
    steps = np.degrees(_steps(turned))
    assert steps.min() > 0.03 and 20 < steps.sum() < 22.5  # it never stands still, and has begun to turn back
