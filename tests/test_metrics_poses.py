"""Pose differences and jitter: known angles and noises, and what must change nothing."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from jaxtalk.errors import JaxtalkError
from jaxtalk.metrics import poses
from jaxtalk.metrics.poses import dpos_pct, dpos_range_pct, drot_deg, drot_pct, jaw_metres, jitter


def _heads(count: int = 40, seed: int = 0) -> np.ndarray:
    angles = np.random.default_rng(seed).uniform(-25, 25, (count, 3))
    return Rotation.from_euler("YXZ", angles, degrees=True).as_matrix()


def _about(axis: tuple[float, float, float], degrees: np.ndarray) -> np.ndarray:
    unit = np.array(axis) / np.linalg.norm(axis)
    return Rotation.from_rotvec(np.radians(degrees)[:, None] * unit).as_matrix()


@pytest.mark.parametrize("degrees", [1e-5, 0.3, 12.0, 120.0, 179.9])
def test_drot_deg_is_the_angle_between(degrees: float) -> None:
    truth = _heads()
    turned = truth @ _about((1.0, -2.0, 0.5), np.full(40, degrees))
    assert drot_deg(truth, turned) == pytest.approx(np.full(40, degrees), rel=1e-5)
    assert drot_deg(turned, truth) == pytest.approx(np.full(40, degrees), rel=1e-5)


def test_drot_deg_does_not_depend_on_the_camera() -> None:
    truth, other, camera = _heads(), _heads(seed=1), _heads(1, seed=2)[0]
    expected = (Rotation.from_matrix(truth).inv() * Rotation.from_matrix(other)).magnitude()
    assert drot_deg(truth, other) == pytest.approx(np.degrees(expected))
    assert drot_deg(camera @ truth, camera @ other) == pytest.approx(np.degrees(expected))


def test_drot_pct_is_over_the_range_of_each_axis() -> None:
    angles = np.zeros((11, 3))
    angles[:, 0], angles[:, 1] = np.linspace(-20, 20, 11), np.linspace(-5, 5, 11)  # yaw over 40, pitch over 10 degrees
    other = angles + np.array([4.0, -2.0, 30.0])  # the truth does not roll: left out
    matrices = [Rotation.from_euler("YXZ", a, degrees=True).as_matrix() for a in (angles, other)]
    assert drot_pct(*matrices) == pytest.approx(np.full(11, (10.0 + 20.0) / 2))
    assert drot_pct(matrices[0], matrices[0]) == pytest.approx(np.zeros(11), abs=1e-9)


def test_euler_angles_are_those_of_yaw_pitch_roll() -> None:
    heads = _heads()
    np.testing.assert_allclose(
        poses._euler_degrees(heads), Rotation.from_matrix(heads).as_euler("YXZ", degrees=True), atol=1e-9
    )


def test_a_difference_across_the_half_turn_is_small() -> None:
    truth = _about((0, 0, 1), np.linspace(140, 179, 10))
    assert drot_pct(truth, _about((0, 0, 1), np.linspace(140, 179, 10) + 3.9)) == pytest.approx(np.full(10, 10.0))


def test_positions_over_the_jaw_and_over_their_range() -> None:
    truth = np.stack([np.linspace(0, 0.1, 6), np.zeros(6), np.linspace(-0.8, -0.6, 6)], axis=1)
    moved = truth + np.array([0.003, 0.0, -0.004])
    assert dpos_pct(truth, moved, 0.125) == pytest.approx(np.full(6, 4.0))
    assert dpos_pct(truth[:, :2], moved[:, :2], np.full(6, 0.03)) == pytest.approx(np.full(6, 10.0))
    assert dpos_range_pct(truth, moved) == pytest.approx(np.full(6, (3.0 + 2.0) / 2))


def test_unknown_poses_have_no_value() -> None:
    truth, other = _heads(), _heads(seed=1)
    other[3] = np.nan
    truth[5] = np.nan
    measured = ~np.isin(np.arange(40), [3, 5])
    for values in (drot_deg(truth, other), drot_pct(truth, other), dpos_pct(truth[:, 0], other[:, 0], 1.0)):
        np.testing.assert_array_equal(np.isfinite(values), measured)
    still = np.tile(np.eye(3), (4, 1, 1))
    assert np.isnan(drot_pct(still, still)).all()  # nothing moves: there is no range


def test_jaw_width_is_that_of_the_head_however_it_is_turned() -> None:
    heads, translation = _heads(), np.tile([0.02, 0.01, -0.8], (40, 1))
    jaw = np.zeros((68, 3))
    jaw[0], jaw[16] = (-0.07, -0.01, 0.0), (0.07, -0.01, 0.0)
    points = np.einsum("fij,pj->fpi", heads, jaw) + translation[:, None]
    pixels = 1200 * points[..., :2] / -points[..., 2:] * (1, -1) + 256
    assert jaw_metres(pixels, heads, translation, 1200.0) == pytest.approx(0.14, rel=0.01)
    assert jaw_metres(pixels[:1] * np.nan, heads[:1], translation[:1], 1.0) != 0.14


def test_constant_velocity_has_no_jitter() -> None:
    turning = _heads(1)[0] @ _about((0.3, 1.0, -0.2), 1.7 * np.arange(40)) @ _heads(1, seed=1)[0]
    moving = np.arange(40)[:, None] * np.array([0.001, -0.002, 0.003])
    assert jitter(turning, moving, 25) == pytest.approx((0.0, 0.0), abs=1e-9)


@pytest.mark.parametrize("velocity", [0.0, 1.3])
def test_alternating_noise_gives_four_times_its_size(velocity: float) -> None:
    sign = (-1.0) ** np.arange(40)
    turning = _about((0.0, 1.0, 0.4), velocity * np.arange(40) + 0.25 * sign)
    moving = np.stack([0.002 * sign + 0.001 * np.arange(40), *np.zeros((2, 40))], axis=1)
    assert jitter(turning, moving, 25) == pytest.approx((1.0, 8.0))


def test_jitter_depends_neither_on_the_camera_nor_on_the_axes_of_the_head() -> None:
    rng = np.random.default_rng(3)
    heads = Rotation.from_rotvec(np.cumsum(rng.normal(scale=0.01, size=(40, 3)), axis=0)).as_matrix()
    moving, camera, axes = rng.normal(size=(40, 3)), _heads(1)[0], _heads(1, seed=1)[0]
    assert jitter(camera @ heads @ axes, moving @ camera.T + 5, 25) == pytest.approx(jitter(heads, moving, 25))
    assert jitter(heads, moving, 25).rotation > 0.1


def test_a_smooth_movement_has_one_jitter_at_all_rates() -> None:
    def nod(fps: float) -> poses.Jitter:
        time = np.arange(0, 8, 1 / fps)
        swing = np.sin(2 * np.pi * 0.5 * time)
        return jitter(_about((1, 0, 0), 10 * swing), 0.01 * swing[:, None] * np.eye(3)[0], fps)

    assert nod(50) == pytest.approx(nod(25), rel=0.01)


def test_an_unknown_pose_costs_three_differences_only() -> None:
    sign = (-1.0) ** np.arange(40)
    turning, moving = _about((0, 1, 0), 0.25 * sign), np.outer(0.002 * sign, (1, 0, 0))
    turning[20], moving[20] = np.nan, np.nan
    assert jitter(turning, moving, 25) == pytest.approx((1.0, 8.0))
    assert np.isnan(jitter(turning[:2], moving[:2], 25)).all()


def test_wrong_shapes_are_told() -> None:
    with pytest.raises(JaxtalkError, match="same frames"):
        drot_deg(_heads(4), _heads(5))
    with pytest.raises(JaxtalkError, match="are needed"):
        jitter(_heads(4), np.zeros((3, 3)), 25)
