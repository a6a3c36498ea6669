"""Levenberg-Marquardt for a linear face under a pinhole camera, batched over frames.

Unknown are, per frame, six numbers of pose and E of expression, and, shared, I of identity. Residuals of a frame are
K linear combinations of the landmarks' errors (`Problem.mix`: the points themselves, and differences of lips and
eyelids), each a 2-vector under Huber's loss, plus quadratic priors. Two linear systems occur:

* key frames, no coupling in time: the frames' blocks are eliminated (Schur complement), identity is solved, then they.
* all frames, identity known, expression coupled to the next frame's: block tridiagonal, solved exactly by a scan.

Bounds on expression are kept by freezing a coefficient that rests on a bound and is pushed outwards (active set) and
by clipping the step. Pixels are scaled so that lengths are those of a face of a fixed size (`fit.FACE_UNIT`).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp

_CHUNK = 128  # frames whose Jacobians are held at a time
S = TypeVar("S")


class Problem(NamedTuple):
    """What is given. F frames (padding has weight 0), K residuals of a frame."""

    template: jax.Array  # [68, 3]
    identity_basis: jax.Array  # [I, 68, 3]
    expression_basis: jax.Array  # [E, 68, 3], E >= 1
    lower: jax.Array  # [E]
    upper: jax.Array  # [E]
    mix: jax.Array  # [K, 68]
    observed: jax.Array  # [F, 68, 2]
    weight: jax.Array  # [F] 1 where measured, else 0
    link: jax.Array  # [F] 1 where the next frame belongs to the same clip, else 0
    focal: jax.Array  # []
    centre: jax.Array  # [2]
    huber: jax.Array  # []
    identity_prior: jax.Array  # [] weight of a squared coefficient, once per measured frame
    expression_prior: jax.Array  # [E]
    expression_step_prior: jax.Array  # [E] of the squared difference to the next frame


class Frames(NamedTuple):
    """What is sought per frame."""

    rotation: jax.Array  # [F, 3, 3] head to camera
    translation: jax.Array  # [F, 3]
    expression: jax.Array  # [F, E]


class Joint(NamedTuple):
    """Everything at once: the unknowns of the key frames' problem."""

    identity: jax.Array  # [I]
    frames: Frames


class _Blocks(NamedTuple):
    """Normal equations of one frame (or, batched, of all): hessian @ step = -gradient."""

    hessian: jax.Array  # [N, N]
    gradient: jax.Array  # [N]
    cross: Any  # [N, I] to identity; None, like those below, where identity is known
    identity_hessian: Any  # [I, I]
    identity_gradient: Any  # [I]


def project(problem: Problem, identity: jax.Array, frames: Frames) -> jax.Array:
    """Landmarks [F, 68, 2] on the picture."""
    return jax.vmap(lambda frame: _project(problem, identity, frame)[0])(frames)


def _project(problem: Problem, identity: jax.Array, frame: Frames) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Of one frame: points [68, 2], their derivative by camera coordinates [68, 2, 3], and the rotated head [68, 3]."""
    head = problem.template + jnp.tensordot(identity, problem.identity_basis, 1)
    head = head + jnp.tensordot(frame.expression, problem.expression_basis, 1)
    turned = head @ frame.rotation.T
    x, y, z = jnp.moveaxis(turned + frame.translation, -1, 0)
    scale = problem.focal / z
    points = problem.centre + jnp.stack([-scale * x, scale * y], axis=-1)
    zero = jnp.zeros_like(z)
    derivative = jnp.stack(
        [jnp.stack([-scale, zero, scale * x / z], -1), jnp.stack([zero, scale, -scale * y / z], -1)], axis=-2
    )
    return points, derivative, turned


def _frame_cost(problem: Problem, identity: jax.Array, frame: Frames, observed: jax.Array) -> jax.Array:
    points, _, _ = _project(problem, identity, frame)
    length = jnp.linalg.norm(problem.mix @ (points - observed), axis=-1)
    huber = problem.huber
    loss = jnp.where(length < huber, 0.5 * length**2, huber * (length - 0.5 * huber))
    return loss.sum()


def cost(problem: Problem, identity: jax.Array, frames: Frames) -> jax.Array:
    """The scalar that is minimised."""
    data = jax.vmap(lambda frame, seen: _frame_cost(problem, identity, frame, seen))(frames, problem.observed)
    change = jnp.diff(frames.expression, axis=0)
    return (
        jnp.sum(problem.weight * data)
        + 0.5 * problem.identity_prior * problem.weight.sum() * jnp.sum(identity**2)
        + 0.5 * jnp.sum(problem.expression_prior * frames.expression**2 * _real(problem)[:, None])
        + 0.5 * jnp.sum(problem.expression_step_prior * problem.link[:-1, None] * change**2)
    )


frames_cost = jax.jit(cost)


@jax.jit
def joint_cost(problem: Problem, state: Joint) -> jax.Array:
    """The same for the key frames' unknowns."""
    return cost(problem, state.identity, state.frames)


def _real(problem: Problem) -> jax.Array:
    """[F] 1 for frames of the clip (measured or not), 0 for padding."""
    return jnp.maximum(problem.weight, jnp.maximum(problem.link, jnp.roll(problem.link, 1)))


def _blocks(problem: Problem, identity: jax.Array, frames: Frames, pose: bool, shared: bool) -> _Blocks:
    """Normal equations of every frame's data and prior terms, Huber's loss by reweighting."""

    def one(args: tuple[Frames, jax.Array, jax.Array, jax.Array]) -> _Blocks:
        frame, observed, weight, real = args
        points, derivative, turned = _project(problem, identity, frame)
        by_head = derivative @ frame.rotation  # [68, 2, 3]
        columns = [jnp.einsum("jcd,ejd->jce", by_head, problem.expression_basis)]
        if pose:
            spin = jnp.cross(jnp.eye(3)[None], turned[:, None])  # d(turned)/d(rotation vector), [68, axis, 3]
            columns = [jnp.einsum("jcd,jad->jca", derivative, spin), derivative, *columns]
        jacobian = jnp.einsum("kj,jcn->kcn", problem.mix, jnp.concatenate(columns, axis=-1))
        residual = problem.mix @ (points - observed)
        length = jnp.linalg.norm(residual, axis=-1)
        robust = weight * jnp.minimum(1.0, problem.huber / jnp.maximum(length, 1e-6))
        weighted = robust[:, None, None] * jacobian
        prior = jnp.concatenate([jnp.zeros(6 if pose else 0), real * problem.expression_prior])
        values = jnp.concatenate([jnp.zeros(6 if pose else 0), frame.expression])
        hessian = jnp.einsum("kcn,kcm->nm", weighted, jacobian) + jnp.diag(prior)
        gradient = jnp.einsum("kcn,kc->n", weighted, residual) + prior * values
        if not shared:
            return _Blocks(hessian, gradient, None, None, None)
        to_identity = jnp.einsum("jcd,ijd->jci", by_head, problem.identity_basis)
        to_identity = jnp.einsum("kj,jci->kci", problem.mix, to_identity)
        weighted_identity = robust[:, None, None] * to_identity
        return _Blocks(
            hessian,
            gradient,
            jnp.einsum("kcn,kci->ni", weighted, to_identity),
            jnp.einsum("kci,kch->ih", weighted_identity, to_identity),
            jnp.einsum("kci,kc->i", weighted_identity, residual),
        )

    return jax.lax.map(one, (frames, problem.observed, problem.weight, _real(problem)), batch_size=_CHUNK)


def _frozen(problem: Problem, frames: Frames, gradient: jax.Array, pose: bool) -> jax.Array:
    """[F, N] expression coefficients that rest on a bound and are pushed outwards."""
    push = gradient[:, 6:] if pose else gradient
    held = ((frames.expression <= problem.lower) & (push > 0)) | ((frames.expression >= problem.upper) & (push < 0))
    return jnp.concatenate([jnp.zeros((len(held), 6), bool), held], axis=1) if pose else held


def _damped(hessian: jax.Array, frozen: jax.Array, damping: jax.Array) -> jax.Array:
    """Marquardt's scaled damping; frozen unknowns become identity rows."""
    free = jnp.where(frozen, 0.0, 1.0)
    diagonal = jnp.diagonal(hessian, axis1=-2, axis2=-1)
    added = free * (damping * diagonal + 1e-4) + (1 - free)
    return hessian * free[..., :, None] * free[..., None, :] + added[..., None] * jnp.eye(hessian.shape[-1])


def _moved(problem: Problem, frames: Frames, step: jax.Array, pose: bool) -> Frames:
    expression = jnp.clip(frames.expression + (step[:, 6:] if pose else step), problem.lower, problem.upper)
    if not pose:
        return frames._replace(expression=expression)
    return Frames(jax.vmap(_rotation)(step[:, :3]) @ frames.rotation, frames.translation + step[:, 3:6], expression)


def _rotation(vector: jax.Array) -> jax.Array:
    """Rodrigues' formula: rotation vector [3], radians -> matrix [3, 3]."""
    squared = jnp.sum(vector**2)
    angle = jnp.sqrt(jnp.maximum(squared, 1e-12))
    x, y, z = vector
    skew = jnp.array([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]])
    return jnp.eye(3) + jnp.sinc(angle / jnp.pi) * skew + (1 - jnp.cos(angle)) / angle**2 * skew @ skew


@jax.jit
def joint_step(problem: Problem, state: Joint, damping: jax.Array) -> tuple[Joint, jax.Array]:
    """One damped step of identity, poses and expressions by Schur complement; links in time must be 0."""
    identity, frames = state
    blocks = _blocks(problem, identity, frames, pose=True, shared=True)
    frozen = _frozen(problem, frames, blocks.gradient, pose=True)
    free = jnp.where(frozen, 0.0, 1.0)
    gradient, cross = free * blocks.gradient, free[..., None] * blocks.cross
    prior = problem.identity_prior * problem.weight.sum()
    hessian = blocks.identity_hessian.sum(axis=0) + prior * jnp.eye(len(identity))
    identity_gradient = blocks.identity_gradient.sum(axis=0) + prior * identity
    factor = jnp.linalg.cholesky(_damped(blocks.hessian, frozen, damping))
    solved = jax.scipy.linalg.cho_solve((factor, True), jnp.concatenate([cross, gradient[..., None]], axis=-1))
    to_identity, own = solved[..., :-1], solved[..., -1]
    reduced = hessian + damping * jnp.diag(jnp.diagonal(hessian)) - jnp.einsum("fni,fnh->ih", cross, to_identity)
    right = identity_gradient - jnp.einsum("fni,fn->i", cross, own)
    change = -jax.scipy.linalg.solve(reduced, right, assume_a="pos")
    step = -own - jnp.einsum("fni,i->fn", to_identity, change)
    new = Joint(identity + change, _moved(problem, frames, step, pose=True))
    return new, cost(problem, new.identity, new.frames)


@partial(jax.jit, static_argnames="pose")
def frames_step(
    problem: Problem, identity: jax.Array, frames: Frames, damping: jax.Array, pose: bool = True
) -> tuple[Frames, jax.Array]:
    """One damped step of all frames, expression coupled in time, identity known; `pose=False` leaves poses alone."""
    blocks = _blocks(problem, identity, frames, pose=pose, shared=False)
    size = blocks.gradient.shape[-1]
    before = size - frames.expression.shape[-1]

    def padded(values: jax.Array) -> jax.Array:
        return jnp.pad(values, ((0, 0), (before, 0)))

    coupling = padded(problem.link[:, None] * problem.expression_step_prior)  # to the next frame, [F, N]
    expression = padded(frames.expression)
    pull = coupling * (jnp.roll(expression, -1, axis=0) - expression)
    gradient = blocks.gradient - pull + jnp.roll(pull, 1, axis=0)
    own = coupling + jnp.roll(coupling, 1, axis=0)
    hessian = blocks.hessian + own[..., None] * jnp.eye(size)
    frozen = _frozen(problem, frames, gradient, pose)
    free = jnp.where(frozen, 0.0, 1.0)
    coupling = coupling * free * jnp.roll(free, -1, axis=0)
    step = _block_tridiagonal(_damped(hessian, frozen, damping), -coupling, -free * gradient)
    new = _moved(problem, frames, step, pose)
    return new, cost(problem, identity, new)


def _block_tridiagonal(diagonal: jax.Array, beside: jax.Array, right: jax.Array) -> jax.Array:
    """Solves the symmetric system with blocks diagonal[f] [N, N] and diag(beside[f]) between f and f + 1. [F, N]."""
    size = right.shape[-1]

    def eliminate(carry: tuple[jax.Array, jax.Array, jax.Array], block: Any) -> tuple[Any, Any]:
        inverse, value, link = carry  # of the frame before
        matrix, vector, next_link = block
        matrix = matrix - link[:, None] * inverse * link[None, :]
        factor = jnp.linalg.cholesky(matrix)
        inverse_next = jax.scipy.linalg.cho_solve((factor, True), jnp.eye(size))
        vector = vector - link * (inverse @ value)
        return (inverse_next, vector, next_link), (inverse_next, vector)

    start = (jnp.zeros((size, size)), jnp.zeros(size), jnp.zeros(size))
    _, (inverses, values) = jax.lax.scan(eliminate, start, (diagonal, right, beside))

    def substitute(after: jax.Array, block: Any) -> tuple[jax.Array, jax.Array]:
        inverse, value, link = block
        solution = inverse @ (value - link * after)
        return solution, solution

    _, solution = jax.lax.scan(substitute, jnp.zeros(size), (inverses, values, beside), reverse=True)
    return solution


def minimise(
    step: Callable[[S, jax.Array], tuple[S, jax.Array]],
    state: S,
    start_cost: float,
    max_steps: int,
    tolerance: float = 1e-4,
) -> tuple[S, list[float]]:
    """Levenberg-Marquardt: a step that does not lower the cost is refused and tried again with more damping.

    Ends when an accepted step lowers the cost by less than `tolerance` of it, or after `max_steps` trials.

    Returns:
      The last accepted state and the cost after each accepted step, the start's first: it never rises.
    """
    damping, costs = 1e-2, [start_cost]
    for _ in range(max_steps):
        candidate, value = step(state, jnp.float32(damping))
        new_cost = float(value)
        if new_cost < costs[-1]:
            state, damping = candidate, max(damping / 5, 1e-5)
            costs.append(new_cost)
            if costs[-2] - new_cost < tolerance * new_cost:
                break
        else:  # also for a cost that is not a number
            damping *= 8
            if damping > 1e6:
                break
    return state, costs
