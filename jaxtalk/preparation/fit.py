"""Fits a parametric face to the landmarks of a clip: one identity, and expression and head pose for every frame.

In order: poses with the average face; identity, poses and expressions together on key frames spread over the clip;
poses and expressions of all frames, expression smooth in time; poses smoothed by a Gaussian; expressions again, so that
they make up for what the smoothing moved. Every step is Levenberg-Marquardt and never raises its cost (`fit_solver`).

The focal length is not observable from landmarks (errors from 600 to 4800 px are alike), so it is given and fixed. The
jaw line weighs little: MediaPipe's is not iBUG's. Openings of lips and eyes have residuals of their own, since they
are what a viewer reads, and a small error of two points is a large one of the slit between them.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from threadpoolctl import threadpool_limits

from jaxtalk import progress
from jaxtalk.clip import Camera
from jaxtalk.errors import JaxtalkError
from jaxtalk.faces import landmarks as marks
from jaxtalk.faces.model import FaceModel
from jaxtalk.preparation import fit_solver, poses
from jaxtalk.preparation.fit_report import FitReport, fit_report
from jaxtalk.preparation.fit_solver import Frames, Joint, Problem

FACE_UNIT = 100.0  # inside the fit the outer eye corners are this far apart (median over the clip)
_PADDING = 256  # frames are padded to a multiple of it, so that clips share compiled programs
_LID_PAIRS = np.array([[37, 41], [38, 40], [43, 47], [44, 46]])


@dataclasses.dataclass(frozen=True)
class FitOptions:
    """Weights of the fit. Lengths are hundredths of the distance between the outer eye corners."""

    contour_weight: float = 0.2  # of a point of the jaw line; inner points weigh 1
    mouth_weight: float = 1.3  # of a point of the lips
    lip_gap_weight: float = 2.0
    eye_gap_weight: float = 1.5
    huber: float = 5.0
    noise: float = 2.5  # expected error of a landmark, with the model's own
    identity_prior: float = 10.0  # of a squared coefficient, per frame
    expression_deviation: float = 0.25  # expected size of a coefficient, as a part of its range (1 if unbounded)
    step_deviation: float = 0.12  # expected change from frame to frame, likewise
    # By beginning. Landmarks do not show the first two; the third undoes jawOpen: without it jawOpen follows the lips
    # (correlation 0.85 to 0.99 on real clips, 0.5 to 0.8 with it) at the same error.
    unused_expressions: tuple[str, ...] = ("PupilDilate", "eyeLook", "mouthClose")
    key_frames: int = 128
    pose_sigma: float = 1.25  # Gaussian smoothing of poses, frames: the least that stays below MediaPipe's own jitter
    max_steps: int = 20


@dataclasses.dataclass(frozen=True)
class FaceFit:
    """The fitted face of F frames; poses are head to camera."""

    identity: np.ndarray  # [I]
    expression: np.ndarray  # [F, E]
    rotation: np.ndarray  # [F, 3, 3]
    translation: np.ndarray  # [F, 3] metres
    projected: np.ndarray  # [F, 68, 2] pixels: where the fitted face has its landmarks
    report: FitReport


def fit_face(
    model: FaceModel,
    landmarks: np.ndarray,
    valid: np.ndarray,
    camera: Camera,
    options: FitOptions | None = None,
    starts: Sequence[int] = (),
) -> FaceFit:
    """Fits `model` to a clip.

    Args:
      model: any face model.
      landmarks: [F, 68, 2] pixels in iBUG order; frames that are not valid may hold anything.
      valid: [F] bool. Frames without landmarks get the pose and expression between their neighbours'.
      camera: the clip's camera; its focal length is taken as it is.
      options: weights of the fit.
      starts: frames that do not continue the one before (a cut, dropped frames); nothing is smoothed across them.

    Raises:
      JaxtalkError: fewer than two frames are valid (of a picture, a clip of one frame: none), or a valid frame's
        landmarks are not finite.
    """
    options = options or FitOptions()
    started = time.monotonic()
    landmarks, valid = np.asarray(landmarks, np.float64), np.asarray(valid, bool)
    _check(landmarks, valid)
    used = _used_expressions(model, options)
    problem = _problem(model.subset(model.landmark_vertices), used, landmarks, valid, starts, camera, options)
    # Thousands of small factorisations in a row: BLAS threads that wait for each other take most of the time (30x).
    with threadpool_limits(1, user_api="blas"), progress.bar("fitting the face", 4) as bar:
        frames, steps = _first_poses(problem, model, landmarks, valid, camera, options)
        bar.advance(note="identity")
        identity, count = _key_frame_identity(problem, frames, valid, options)
        bar.advance(note="poses")
        frames, further = _minimise_frames(problem, identity, frames, options, pose=True)
        bar.advance(note="expressions")
        frames = _smoothed(frames, valid, starts, options)
        frames, last = _minimise_frames(problem, identity, frames, options, pose=False)
        bar.advance()
    return _result(model, used, problem, identity, frames, landmarks, valid, camera,
                   steps + count + further + last, started)  # fmt: skip


def _check(landmarks: np.ndarray, valid: np.ndarray) -> None:
    if landmarks.shape != (len(valid), 68, 2):
        raise JaxtalkError(f"face fit: landmarks have shape {landmarks.shape}, expected {(len(valid), 68, 2)}")
    least = min(2, len(valid))  # a picture is a clip of one frame
    if valid.sum() < max(least, 1):
        raise JaxtalkError(f"face fit: {valid.sum()} frames with a face, at least {least} are needed; use another clip")
    bad = np.flatnonzero(valid & ~np.isfinite(landmarks).all(axis=(1, 2)))
    if bad.size:
        raise JaxtalkError(f"face fit: landmarks of frame {bad[0]} are not finite; mark the frame as not valid")


def _used_expressions(model: FaceModel, options: FitOptions) -> np.ndarray:
    """Indices of the expressions that landmarks can show."""
    unseen = np.abs(model.expression_basis[:, model.landmark_vertices]).max(axis=(1, 2)) < 1e-6
    named = [name.startswith(options.unused_expressions) for name in model.expression_names]
    return np.flatnonzero(~(unseen | np.array(named, bool)))


def _mix(options: FitOptions) -> np.ndarray:
    """[K, 68] the points with their weights, then the openings of lips and eyelids."""
    weights = np.ones(68)
    weights[marks.JAW], weights[marks.MOUTH] = options.contour_weight, options.mouth_weight
    pairs = np.concatenate([marks.LIP_PAIRS, _LID_PAIRS])
    gaps = np.zeros((len(pairs), 68))
    gaps[np.arange(len(pairs)), pairs[:, 0]], gaps[np.arange(len(pairs)), pairs[:, 1]] = -1, 1
    gaps[: len(marks.LIP_PAIRS)] *= options.lip_gap_weight
    gaps[len(marks.LIP_PAIRS) :] *= options.eye_gap_weight
    return np.concatenate([np.diag(weights), gaps])


def _problem(
    model: FaceModel,
    used: np.ndarray,
    landmarks: np.ndarray,
    valid: np.ndarray,
    starts: Sequence[int],
    camera: Camera,
    options: FitOptions,
) -> Problem:
    """The whole clip's problem, padded; `model` is cut down to its landmarks."""
    order = model.landmark_vertices
    count = len(valid)
    total = -(-count // _PADDING) * _PADDING
    unit = FACE_UNIT / np.median(marks.eye_distance(landmarks[valid]))
    low, high = model.expression_range or (-np.inf, np.inf)
    spread = high - low if model.expression_range else 1.0
    observed, weight, link = np.zeros((total, 68, 2)), np.zeros(total), np.zeros(total)
    observed[:count] = np.where(valid[:, None, None], unit * landmarks, 0)
    weight[:count], link[: count - 1] = valid, 1
    link[[start - 1 for start in starts if start > 0]] = 0
    ones = np.ones(len(used))
    values = (
        model.template[order],
        model.identity_basis[:, order],
        model.expression_basis[used][:, order],
        low * ones,
        high * ones,
        _mix(options),
        observed,
        weight,
        link,
        unit * camera.focal,
        unit * np.array([camera.cx, camera.cy]),
        options.huber,
        options.identity_prior,
        (options.noise / (spread * options.expression_deviation)) ** 2 * ones,
        (options.noise / (spread * options.step_deviation)) ** 2 * ones,
    )
    return Problem(*(jnp.asarray(value, jnp.float32) for value in values))


def _rigid(problem: Problem) -> Problem:
    """The same problem without expressions: a single one that does nothing."""
    none, one = jnp.zeros(1), jnp.ones(1)
    return problem._replace(
        expression_basis=jnp.zeros((1, 68, 3)),
        lower=none,
        upper=none,
        expression_prior=one,
        expression_step_prior=one,
    )


def _first_poses(
    problem: Problem, model: FaceModel, landmarks: np.ndarray, valid: np.ndarray, camera: Camera, options: FitOptions
) -> tuple[Frames, int]:
    """Poses of all frames with the average face, at rest."""
    inner = model.template[model.landmark_vertices[marks.INNER]]
    known = np.where(valid[:, None, None], landmarks, landmarks[np.argmax(valid)])
    rotation, translation = poses.scaled_orthographic(inner, known[:, marks.INNER], camera)
    rotation, translation = poses.fill_gaps(rotation, translation, valid)
    start = _padded(len(problem.weight), rotation, translation, np.zeros((len(valid), 1)))
    identity = jnp.zeros(len(problem.identity_basis))
    frames, steps = _minimise_frames(_rigid(problem), identity, start, options, pose=True)
    rest = jnp.clip(jnp.zeros((len(problem.weight), len(problem.lower))), problem.lower, problem.upper)
    return frames._replace(expression=rest), steps


def _key_frame_identity(
    problem: Problem, frames: Frames, valid: np.ndarray, options: FitOptions
) -> tuple[jnp.ndarray, int]:
    """Identity [I] from key frames evenly spread over the valid ones."""
    known = np.flatnonzero(valid)
    pick = known[np.unique(np.linspace(0, len(known) - 1, options.key_frames).round().astype(int))]
    index = np.resize(pick, options.key_frames)  # short clips: repeated frames fill up, without weight
    few = problem._replace(
        observed=problem.observed[index],
        weight=jnp.asarray(np.arange(options.key_frames) < len(pick), jnp.float32),
        link=jnp.zeros(options.key_frames),
    )
    state = Joint(jnp.zeros(len(problem.identity_basis)), Frames(*(values[index] for values in frames)))
    start = float(fit_solver.joint_cost(few, state))
    state, costs = fit_solver.minimise(
        lambda now, damping: fit_solver.joint_step(few, now, damping), state, start, options.max_steps
    )
    return state.identity, len(costs) - 1


def _minimise_frames(
    problem: Problem, identity: jnp.ndarray, frames: Frames, options: FitOptions, pose: bool
) -> tuple[Frames, int]:
    start = float(fit_solver.frames_cost(problem, identity, frames))
    frames, costs = fit_solver.minimise(
        lambda now, damping: fit_solver.frames_step(problem, identity, now, damping, pose=pose),
        frames,
        start,
        options.max_steps,
    )
    return frames, len(costs) - 1


def _padded(total: int, *values: np.ndarray) -> Frames:
    """Rotation, translation and expression of the clip's frames; the last frame is repeated up to `total`."""
    grown = (np.pad(v, ((0, total - len(v)), *((0, 0),) * (v.ndim - 1)), "edge") for v in values)
    return Frames(*(jnp.asarray(v, jnp.float32) for v in grown))


def _smoothed(frames: Frames, valid: np.ndarray, starts: Sequence[int], options: FitOptions) -> Frames:
    """Poses filled in where nothing was measured, and smoothed from start to start."""
    count = len(valid)
    rotation, translation = np.asarray(frames.rotation, np.float64), np.asarray(frames.translation, np.float64)
    filled = poses.fill_gaps(rotation[:count], translation[:count], valid)
    for part in np.split(np.arange(count), sorted(starts)):
        rotation[part], translation[part] = poses.smooth_poses(filled[0][part], filled[1][part], options.pose_sigma)
    return Frames(jnp.asarray(rotation, jnp.float32), jnp.asarray(translation, jnp.float32), frames.expression)


def _result(
    model: FaceModel,
    used: np.ndarray,
    problem: Problem,
    identity: jnp.ndarray,
    frames: Frames,
    landmarks: np.ndarray,
    valid: np.ndarray,
    camera: Camera,
    steps: int,
    started: float,
) -> FaceFit:
    count = len(valid)
    unit = float(problem.focal) / camera.focal
    projected = np.asarray(fit_solver.project(problem, identity, frames))[:count] / unit
    expression = np.zeros((count, model.num_expression), np.float32)
    if model.expression_range is not None:
        expression = np.clip(expression, *model.expression_range)
    expression[:, used] = np.asarray(frames.expression)[:count]
    rotation = np.asarray(frames.rotation)[:count]
    report = fit_report(
        projected, landmarks, valid, rotation, np.asarray(identity), camera, steps, time.monotonic() - started
    )
    return FaceFit(
        np.asarray(identity), expression, rotation, np.asarray(frames.translation)[:count], projected, report
    )
