"""The face fit: its algebra against dense and automatic references, and known faces found again."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from jaxtalk.clip import Camera
from jaxtalk.errors import JaxtalkError
from jaxtalk.faces import landmarks as marks
from jaxtalk.faces.model import FaceModel, load_face_model
from jaxtalk.preparation import fit_solver, poses
from jaxtalk.preparation.fit import FaceFit, FitOptions, fit_face
from jaxtalk.preparation.fit_solver import Frames, Joint, Problem
from tests.drawn_face import drawn_face

CAMERA = Camera(1200.0, 250.0, 262.0)


def project(head: np.ndarray, rotation: np.ndarray, translation: np.ndarray) -> np.ndarray:
    """Points [F, P, 3] of the head on the picture [F, P, 2], as `jaxtalk.clip` writes it."""
    x, y, z = np.moveaxis(np.einsum("fij,fpj->fpi", rotation, head) + translation[:, None], -1, 0)
    return np.stack([CAMERA.cx - CAMERA.focal * x / z, CAMERA.cy + CAMERA.focal * y / z], axis=-1)


def moving_head(count: int) -> tuple[np.ndarray, np.ndarray]:
    """A head that turns, nods and sways."""
    time = np.arange(count) / 25
    angles = np.stack([0.15 * np.cos(1.7 * time), 0.35 * np.sin(1.3 * time), 0.08 * np.sin(time)], axis=-1)
    translation = np.stack([0.02 * np.sin(time), 0.01 * np.cos(time), -0.85 + 0.02 * np.sin(0.8 * time)], axis=-1)
    return Rotation.from_euler("xyz", angles).as_matrix(), translation


def talking(model: FaceModel, count: int) -> np.ndarray:
    """Expressions [F, E] of the drawn face: speech, brows, a blink."""
    time = np.arange(count) / 25
    result = np.zeros((count, model.num_expression))
    result[:, 0] = 0.4 + 0.35 * np.sin(11 * time)
    result[:, 1] = 0.3 + 0.2 * np.sin(3 * time)
    result[:, 2] = 0.2 + 0.2 * np.sin(2 * time)
    result[20:24, 3:5] = 0.9
    return result


def random_problem(count: int = 5, links: bool = True) -> tuple[Problem, Joint]:
    model, rng = drawn_face(), np.random.default_rng(0)
    rotation, translation = moving_head(count)
    truth = model.vertices(rng.normal(size=4), rng.uniform(0.2, 0.8, (count, 6)))
    link = np.ones(count) if links else np.zeros(count)
    link[-1] = 0
    mix = np.concatenate([np.diag(rng.uniform(0.5, 1.5, 68)), rng.normal(size=(3, 68)) / 8])
    values = (
        *(model.template, model.identity_basis, model.expression_basis, np.zeros(6), np.ones(6), mix),
        *(project(truth, rotation, translation) + rng.normal(size=(count, 68, 2)), np.ones(count), link),
        *(CAMERA.focal, np.array([CAMERA.cx, CAMERA.cy]), 4.0, 2.0, rng.uniform(1, 30, 6), rng.uniform(1, 90, 6)),
    )
    problem = Problem(*(jnp.asarray(value, jnp.float32) for value in values))
    turned = rotation @ Rotation.from_rotvec([0.03, -0.05, 0.02]).as_matrix()
    start = Frames(*(jnp.asarray(v, jnp.float32) for v in (turned, translation + 0.01, np.full((count, 6), 0.5))))
    return problem, Joint(jnp.asarray(0.1 * rng.normal(size=4), jnp.float32), start)


def test_gradient_is_that_of_the_cost() -> None:
    """Analytic Jacobians, Huber's weights and priors, against automatic differentiation of the cost itself."""
    problem, state = random_problem(links=False)

    def moved(step: jax.Array, identity: jax.Array) -> jax.Array:
        frames = state.frames
        turned = jax.vmap(fit_solver._rotation)(step[:, :3]) @ frames.rotation
        return fit_solver.cost(
            problem, identity, Frames(turned, frames.translation + step[:, 3:6], frames.expression + step[:, 6:])
        )

    by_step, by_identity = jax.jit(jax.grad(moved, argnums=(0, 1)))(jnp.zeros((5, 12)), state.identity)
    blocks = jax.jit(partial(fit_solver._blocks, pose=True, shared=True))(problem, state.identity, state.frames)
    scale = np.abs(by_step).max(axis=0)
    np.testing.assert_allclose(blocks.gradient / scale, by_step / scale, atol=2e-4)
    prior = problem.identity_prior * problem.weight.sum() * state.identity
    np.testing.assert_allclose(blocks.identity_gradient.sum(axis=0) + prior, by_identity, rtol=2e-4, atol=1e-2)


def test_block_tridiagonal_solves_the_dense_system() -> None:
    rng = np.random.default_rng(1)
    count, size = 7, 4
    root = rng.normal(size=(count, size, size))
    diagonal = root @ root.transpose(0, 2, 1) + 6 * np.eye(size)
    beside, right = rng.uniform(-1, 1, (count, size)), rng.normal(size=(count, size))
    dense = np.zeros((count * size, count * size))
    for i in range(count):
        here = slice(i * size, (i + 1) * size)
        dense[here, here] = diagonal[i]
        if i + 1 < count:
            after = slice((i + 1) * size, (i + 2) * size)
            dense[here, after] = dense[after, here] = np.diag(beside[i])
    solution = fit_solver._block_tridiagonal(*(jnp.asarray(v, jnp.float32) for v in (diagonal, beside, right)))
    np.testing.assert_allclose(solution.reshape(-1), np.linalg.solve(dense, right.reshape(-1)), atol=1e-5)


@pytest.mark.parametrize("joint", [True, False])
def test_cost_falls_with_every_accepted_step(joint: bool) -> None:
    problem, state = random_problem(links=not joint)
    if joint:
        step = partial(fit_solver.joint_step, problem)
        _, costs = fit_solver.minimise(step, state, float(fit_solver.joint_cost(problem, state)), 25)
    else:
        step = partial(fit_solver.frames_step, problem, state.identity)
        start = float(fit_solver.frames_cost(problem, state.identity, state.frames))
        _, costs = fit_solver.minimise(step, state.frames, start, 25)
    assert len(costs) > 3 and np.all(np.diff(costs) < 0) and costs[-1] < 0.05 * costs[0]


def test_minimise_refuses_steps_that_raise_the_cost_or_are_not_numbers() -> None:
    tried = []

    def step(x: float, damping: jax.Array) -> tuple[float, jax.Array]:
        tried.append(float(damping))
        new = x - 3.0 * x / (1 + float(damping))  # overshoots until the damping is large
        return new, jnp.float32(np.nan if len(tried) == 1 else new**2)

    x, costs = fit_solver.minimise(step, 2.0, 4.0, 40)
    assert np.all(np.diff(costs) < 0) and abs(x) < 0.05 and tried[1] > tried[0]


@pytest.mark.parametrize("bounds", [(0.0, 1.0), None])
def test_known_face_is_found_again(bounds: tuple[float, float] | None) -> None:
    model, rng, count = drawn_face(bounds), np.random.default_rng(2), 60
    rotation, translation = moving_head(count)
    identity, expression = np.array([1.0, -0.8, 0.6, 0.5]), talking(model, count)
    clean = project(model.vertices(identity, expression), rotation, translation)
    options = FitOptions(identity_prior=1.0, contour_weight=1.0)  # these contour points are the model's own
    fit = fit_face(model, clean + rng.normal(scale=0.5, size=clean.shape), np.ones(count, bool), CAMERA, options)
    angle = Rotation.from_matrix(fit.rotation @ rotation.transpose(0, 2, 1)).magnitude()
    assert np.degrees(angle).mean() < 1.5
    assert np.abs(fit.translation[:, 2] / translation[:, 2] - 1).mean() < 0.02
    np.testing.assert_allclose(fit.identity[1:3], identity[1:3], atol=0.2)
    used = slice(0, 5)
    assert np.abs(fit.expression[:, used] - expression[:, used]).mean() < 0.06
    assert np.corrcoef(fit.expression[:, 0], expression[:, 0])[0, 1] > 0.98
    assert fit.report.inner_mean < 1.0 and fit.report.lip_gap_correlation > 0.98
    np.testing.assert_array_equal(fit.expression[:, 5], 0)  # the expression that landmarks do not show
    assert np.linalg.norm(fit.projected - clean, axis=-1).mean() < 0.8  # closer to the truth than the noise
    vertices = model.vertices(fit.identity, fit.expression)
    np.testing.assert_allclose(project(vertices, fit.rotation, fit.translation), fit.projected, atol=0.02)


def test_bounds_are_kept() -> None:
    model, count = drawn_face((0.0, 1.0)), 30
    rotation, translation = moving_head(count)
    expression = np.zeros((count, 6))
    expression[:, 0] = np.linspace(-0.6, 1.6, count)
    points = project(model.vertices(np.zeros(4), expression), rotation, translation)
    fit = fit_face(model, points, np.ones(count, bool), CAMERA)
    assert fit.expression.min() == 0 and fit.expression.max() == 1


def test_frames_without_a_face_lie_between_their_neighbours() -> None:
    model, count = drawn_face(), 40
    rotation, translation = moving_head(count)
    points = project(model.vertices(np.zeros(4), talking(model, count)), rotation, translation)
    valid = np.ones(count, bool)
    valid[[0, 12, 13, 14]] = False
    points[~valid] = np.nan
    fit = fit_face(model, points, valid, CAMERA)
    assert np.isfinite(fit.projected).all() and np.isfinite(fit.expression).all()
    angle = Rotation.from_matrix(fit.rotation @ rotation.transpose(0, 2, 1)).magnitude()
    assert np.degrees(angle).max() < 4
    assert np.abs(fit.translation - translation).max() < 0.04


def test_smoothing_lowers_jitter_and_keeps_the_lips() -> None:
    model, rng, count = drawn_face(), np.random.default_rng(3), 60
    rotation, translation = moving_head(count)
    clean = project(model.vertices(np.zeros(4), talking(model, count)), rotation, translation)
    noisy = clean + rng.normal(scale=1.5, size=clean.shape)
    rough, smooth = (
        fit_face(model, noisy, np.ones(count, bool), CAMERA, FitOptions(pose_sigma=sigma)) for sigma in (0.0, 1.25)
    )
    assert smooth.report.rotation_jitter < 0.5 * rough.report.rotation_jitter
    assert smooth.report.lip_gap_correlation > 0.97
    observed = marks.lip_gap(clean)
    assert np.corrcoef(marks.lip_gap(smooth.projected), observed)[0, 1] > 0.97


def test_nothing_is_smoothed_across_a_cut() -> None:
    model, count, cut = drawn_face(), 40, 17
    rotation, translation = moving_head(count)
    rotation[cut:] = rotation[cut:] @ Rotation.from_euler("y", -25, degrees=True).as_matrix()
    expression = np.zeros((count, 6))
    expression[:cut, 1] = 0.8
    points = project(model.vertices(np.zeros(4), expression), rotation, translation)
    whole, parted = (fit_face(model, points, np.ones(count, bool), CAMERA, starts=s) for s in ((), (cut,)))

    def error_at_cut(fit: FaceFit) -> float:
        turn = Rotation.from_matrix(fit.rotation @ rotation.transpose(0, 2, 1)).magnitude()
        return float(np.degrees(turn[cut - 1 : cut + 1]).max())

    assert error_at_cut(whole) > 5 > 2 > error_at_cut(parted)
    assert abs(parted.expression[cut, 1]) < 0.1 < 0.6 < parted.expression[cut - 1, 1]


def test_a_picture_is_a_clip_of_one_frame() -> None:
    model = drawn_face()
    rotation, translation = moving_head(30)
    points = project(model.vertices(np.zeros(4), talking(model, 30)), rotation, translation)[20:21]
    fit = fit_face(model, points, np.ones(1, bool), CAMERA)
    assert fit.rotation.shape == (1, 3, 3) and fit.expression.shape == (1, 6)
    assert np.linalg.norm(fit.projected - points, axis=-1).mean() < 1.0
    assert np.degrees(Rotation.from_matrix(fit.rotation[0] @ rotation[20].T).magnitude()) < 2
    np.testing.assert_allclose(fit.translation[0], translation[20], atol=0.03)
    with pytest.raises(JaxtalkError, match="0 frames with a face, at least 1 are needed"):
        fit_face(model, points, np.zeros(1, bool), CAMERA)


def test_too_little_to_fit_is_refused() -> None:
    model, points = drawn_face(), np.zeros((3, 68, 2))
    with pytest.raises(JaxtalkError, match="1 frames with a face"):
        fit_face(model, points, np.array([True, False, False]), CAMERA)
    points[1, 7] = np.nan
    with pytest.raises(JaxtalkError, match="frame 1"):
        fit_face(model, points, np.ones(3, bool), CAMERA)


def test_first_pose_from_an_affine_map() -> None:
    rotation, translation = moving_head(20)
    head = drawn_face().template.astype(np.float64)
    points = project(np.repeat(head[None], 20, 0), rotation, translation)
    found, place = poses.scaled_orthographic(head, points, CAMERA)
    assert np.degrees(Rotation.from_matrix(found @ rotation.transpose(0, 2, 1)).magnitude()).max() < 10
    assert np.abs(place - translation).max() < 0.06


def test_jitter_of_an_even_turn_is_zero_and_of_noise_is_not() -> None:
    even = Rotation.from_rotvec(np.outer(np.arange(30), [0, 0.02, 0])).as_matrix()
    assert poses.rotation_jitter(even) < 1e-3
    noise = Rotation.from_rotvec(np.radians(np.random.default_rng(0).normal(size=(30, 3)))).as_matrix()
    smoothed, _ = poses.smooth_poses(noise @ even, np.zeros((30, 3)), 1.25)
    np.testing.assert_allclose(smoothed @ smoothed.transpose(0, 2, 1), np.repeat(np.eye(3)[None], 30, 0), atol=1e-9)
    np.testing.assert_allclose(np.linalg.det(smoothed), 1)
    assert poses.rotation_jitter(smoothed) < 0.4 * poses.rotation_jitter(noise @ even)


def test_gaps_are_filled_by_even_motion() -> None:
    rotation = Rotation.from_rotvec(np.outer(np.arange(6), [0, 0.1, 0])).as_matrix()
    translation = np.outer(np.arange(6), [0.1, 0.0, -0.2])
    valid = np.array([False, True, False, False, True, False])
    broken = np.where(valid[:, None, None], rotation, np.eye(3)[::-1])
    turned, moved = poses.fill_gaps(broken, np.where(valid[:, None], translation, 99.0), valid)
    np.testing.assert_allclose(turned[1:5], rotation[1:5], atol=1e-9)
    np.testing.assert_allclose(moved[1:5], translation[1:5], atol=1e-9)
    np.testing.assert_allclose(turned[[0, 5]], rotation[[1, 4]], atol=1e-9)


def test_ict_is_found_again(real_data: Path) -> None:
    """Noisy landmarks made with ICT-FaceKit itself: errors, lips and pose."""
    model = load_face_model("ict", real_data / "morphable" / "ict_facekit_light.npz")
    count, rng = 100, np.random.default_rng(4)
    rotation, translation = moving_head(count)
    expression = np.zeros((count, 57))
    named = {name: index for index, name in enumerate(model.expression_names)}
    time = np.arange(count) / 25
    expression[:, named["jawOpen"]] = 0.3 + 0.25 * np.sin(12 * time)
    expression[:, named["mouthSmile_L"]] = expression[:, named["mouthSmile_R"]] = 0.3
    expression[40:44, [named["eyeBlink_L"], named["eyeBlink_R"]]] = 1.0
    identity = rng.normal(scale=0.7, size=100)
    small = model.subset(model.landmark_vertices)
    clean = project(small.vertices(identity, expression)[:, small.landmark_vertices], rotation, translation)
    fit = fit_face(model, clean + rng.normal(scale=1.0, size=clean.shape), np.ones(count, bool), CAMERA)
    assert fit.report.inner_mean < 1.8 and fit.report.lip_gap_correlation > 0.97
    assert np.corrcoef(marks.lip_gap(fit.projected), marks.lip_gap(clean))[0, 1] > 0.97
    turn = fit.rotation @ rotation.transpose(0, 2, 1)
    constant = Rotation.from_matrix(turn).mean()
    assert np.degrees(constant.magnitude()) < 4
    assert np.degrees((Rotation.from_matrix(turn) * constant.inv()).magnitude()).mean() < 1.0


@pytest.mark.slow
def test_real_clip_is_fitted_well(real_data: Path) -> None:
    """Landmarks of real footage: the errors, lips and jitter that the project asks of its preparation."""
    landmarks, matrices, size = _measure(real_data / "clips" / "en_real3d_May.mp4", real_data / "models")
    model = load_face_model("ict", real_data / "morphable" / "ict_facekit_light.npz")
    camera = Camera(1200.0 * min(size) / 512, size[1] / 2, size[0] / 2)
    report = fit_face(model, landmarks, np.ones(len(landmarks), bool), camera).report
    assert report.inner_mean <= 3.5 and report.inner_p95 <= 7
    assert report.lip_gap_correlation >= 0.97
    assert report.rotation_jitter <= poses.rotation_jitter(Rotation.from_matrix(matrices[:, :3, :3]).as_matrix())
    assert report.identity_largest < 4


def _measure(video: Path, models: Path) -> tuple[np.ndarray, np.ndarray, tuple[int, int]]:
    """MediaPipe's 68 landmarks [F, 68, 2] and head matrices [F, 4, 4] of a video, and its size."""
    av = pytest.importorskip("av")
    mediapipe = pytest.importorskip("mediapipe")
    vision = mediapipe.tasks.vision
    settings = vision.FaceLandmarkerOptions(
        base_options=mediapipe.tasks.BaseOptions(model_asset_path=str(models / "face_landmarker.task")),
        running_mode=vision.RunningMode.VIDEO,
        output_facial_transformation_matrixes=True,
    )
    points, matrices = [], []
    with vision.FaceLandmarker.create_from_options(settings) as detector, av.open(str(video)) as container:
        for frame in container.decode(video=0):
            image = np.ascontiguousarray(frame.to_ndarray(format="rgb24"))
            picture = mediapipe.Image(image_format=mediapipe.ImageFormat.SRGB, data=image)
            found = detector.detect_for_video(picture, round(1000 * frame.time))
            points.append([[p.x * frame.width, p.y * frame.height] for p in found.face_landmarks[0]])
            matrices.append(found.facial_transformation_matrixes[0])
            size = (frame.height, frame.width)
    return marks.from_mediapipe(np.array(points)), np.array(matrices), size
