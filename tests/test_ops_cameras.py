"""Cameras: card goldens, inverses, and the round trip pixel -> ray -> point -> pixel."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from scipy.spatial.transform import Rotation

from jaxtalk.ops.cameras import (
    camera_to_world,
    deep3d_camera,
    head_to_camera,
    pixel_rays,
    project,
    torso_euler,
    tracker_rotation,
)
from jaxtalk.ops.compositing import composite

CAMERA = jnp.array([140.0, 33.0, 30.0])


def _pose(seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    rotation = Rotation.from_rotvec(rng.normal(size=3)).as_matrix()
    return rotation.astype(np.float32), np.array([0.03, -0.02, -0.8], np.float32)


def test_the_card_s_golden_pose() -> None:
    rotation = tracker_rotation(jnp.array([0.1, 0.2, 0.3]))
    np.testing.assert_allclose(rotation[0], [0.936293, 0.289629, 0.198669], atol=1e-6)
    matrix = camera_to_world(rotation, jnp.array([0.1, -0.2, -8.0]) / 10)
    np.testing.assert_allclose(matrix[:3, 3], [-0.189545, 0.045798, 0.776193], atol=1e-6)


def test_tracker_rotation_is_the_product_of_three_turns() -> None:
    theta, phi, psi = 0.4, -0.3, 0.9
    parts = [Rotation.from_euler(axis, angle).as_matrix() for axis, angle in (("x", theta), ("y", phi), ("z", -psi))]
    product = parts[0] @ parts[1] @ parts[2]
    np.testing.assert_allclose(tracker_rotation(jnp.array([theta, phi, psi])), product, atol=1e-6)


def test_eg3d_s_label_of_a_deep3d_pose() -> None:
    """Card s3d_nerf 5.8, and the label's own formula with turned heads: c = -R t 0.27 + (0, 0.006, 0.161)."""
    still = deep3d_camera(jnp.zeros(3), jnp.zeros(3))
    np.testing.assert_allclose(still[:3, :3], np.diag([1, -1, -1]), atol=1e-6)
    np.testing.assert_allclose(still[:, 3], [0, 0.006, 2.861, 1], atol=1e-6)
    angles, moved = np.array([[0.3, -0.5, 0.7], [0.0, 0.4, 0.0]]), np.array([[0.2, -0.3, 0.5], [0.0, 0.0, 0.0]])
    found = np.asarray(deep3d_camera(jnp.asarray(angles), jnp.asarray(moved)))
    for label, (a, b, c), place in zip(found, angles, moved, strict=True):
        about_x = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
        about_y = np.array([[np.cos(b), 0, np.sin(b)], [0, 1, 0], [-np.sin(b), 0, np.cos(b)]])
        about_z = np.array([[np.cos(c), -np.sin(c), 0], [np.sin(c), np.cos(c), 0], [0, 0, 1]])
        turn = (about_z @ about_y @ about_x).T
        np.testing.assert_allclose(label[:3, :3], turn @ np.diag([1, -1, -1]), atol=1e-6)
        centre = -turn @ (place - [0, 0, 10]) * 0.27 + [0, 0.006, 0.161]
        np.testing.assert_allclose(label[:3, 3], centre, atol=1e-5)
    # The camera looks at the head: along its third axis lies the centre, 2.7 away but for the offset.
    towards = found[1, :3, 3] - [0, 0.006, 0.161] + 2.7 * found[1, :3, 2]
    np.testing.assert_allclose(towards, 0, atol=1e-5)


def test_pose_and_matrix_are_inverses() -> None:
    rotation, translation = _pose(0)
    matrix = camera_to_world(jnp.asarray(rotation), jnp.asarray(translation))
    pose = np.eye(4)
    pose[:3, :3], pose[:3, 3] = rotation, translation
    np.testing.assert_allclose(matrix, np.linalg.inv(pose), atol=1e-6)
    back = head_to_camera(matrix)
    np.testing.assert_allclose(back[0], rotation, atol=1e-6)
    np.testing.assert_allclose(back[1], translation, atol=1e-6)


def test_torso_angles_of_the_frontal_pose_are_off_by_a_quarter_turn() -> None:
    frontal = camera_to_world(jnp.eye(3), jnp.array([0.0, 0.0, -0.8]))
    np.testing.assert_allclose(torso_euler(frontal), [np.pi / 2, 0.0, np.pi / 2], atol=1e-6)


def test_torso_angles_follow_the_reference_s_formula() -> None:
    matrix = np.asarray(camera_to_world(*map(jnp.asarray, _pose(3))))
    expected = [
        np.arctan2(matrix[2, 2], matrix[1, 2]),
        np.arcsin(-matrix[0, 2]),
        np.arctan2(matrix[0, 0], -matrix[0, 1]),
    ]
    np.testing.assert_allclose(torso_euler(jnp.asarray(matrix)), expected, atol=1e-5)


def test_round_trip_of_pixels() -> None:
    """Card trap 3: a point anywhere along a pixel's ray projects back to the pixel, at the depth it was put."""
    rotation, translation = map(jnp.asarray, _pose(1))
    pixels = jax.random.uniform(jax.random.key(0), (50, 2), maxval=64.0)
    origin, directions = pixel_rays(pixels, rotation, translation, CAMERA)
    depths = jnp.linspace(0.5, 1.2, 50)
    back, depth = project(origin + depths[:, None] * directions, rotation, translation, CAMERA)
    np.testing.assert_allclose(back, pixels, atol=1e-3)
    np.testing.assert_allclose(depth, depths, atol=1e-5)


def test_projection_obeys_the_clip_s_convention() -> None:
    """u = cx - f x/z, v = cy + f y/z: what lies to the right is right, what lies above has a smaller row."""
    point = jnp.array([[0.05, 0.04, 0.0]])
    pixels, _ = project(point, jnp.eye(3), jnp.array([0.0, 0.0, -0.8]), CAMERA)
    np.testing.assert_allclose(pixels[0], [33 + 140 * 0.05 / 0.8, 30 - 140 * 0.04 / 0.8], rtol=1e-5)


def test_batches_of_poses() -> None:
    poses = [_pose(seed) for seed in range(3)]
    rotation, translation = (jnp.stack([jnp.asarray(p[i]) for p in poses]) for i in (0, 1))
    pixels = jnp.broadcast_to(jnp.array([[10.5, 20.5], [40.5, 3.5]]), (3, 2, 2))
    origins, directions = pixel_rays(pixels, rotation, translation, jnp.broadcast_to(CAMERA, (3, 3)))
    for i in range(3):
        origin, direction = pixel_rays(pixels[i], rotation[i], translation[i], CAMERA)
        np.testing.assert_allclose(origins[i], origin, atol=1e-6)
        np.testing.assert_allclose(directions[i], direction, atol=1e-6)


def test_products_keep_float32_on_accelerators() -> None:
    """There, float32 products take fewer bits by default: a camera 0.7 m away would be off by a millimetre."""
    pose = jnp.eye(3), jnp.array([0.0, 0.0, -0.7])
    camera, background = jnp.array([100.0, 32.0, 32.0]), jnp.zeros((5, 3))
    for function, arguments in (
        (camera_to_world, pose),
        (head_to_camera, (jnp.eye(4),)),
        (project, (jnp.zeros((5, 3)), *pose, camera)),
        (pixel_rays, (jnp.zeros((5, 2)), *pose, camera)),
        (composite, (jnp.zeros((5, 4)), jnp.zeros((5, 4, 3)), jnp.zeros((5, 4)), background, background)),
    ):
        products = [e for e in jax.make_jaxpr(function)(*arguments).eqns if e.primitive.name == "dot_general"]
        assert products
        for equation in products:
            assert set(equation.params["precision"]) == {jax.lax.Precision.HIGHEST}, function.__name__
