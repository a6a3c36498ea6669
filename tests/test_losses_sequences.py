"""Continuity of sequences: card gdrf equation 4 as loops; zero where nothing moves."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from jaxtalk.losses.sequences import continuity, split_pose


def test_constant_sequences_cost_nothing_and_have_no_gradient() -> None:
    """Card gdrf 5.9."""
    x = jnp.broadcast_to(jnp.array([1.0, -2.0, 3.0]), (2, 16, 3))
    value, gradient = jax.value_and_grad(lambda x: continuity(x).sum())(x)
    assert value == 0 and np.all(gradient == 0)


def test_squared_steps_are_summed_over_time_and_coefficients() -> None:
    x = np.random.default_rng(0).normal(size=(3, 5, 4)).astype(np.float32)
    expected = [sum((x[b, t + 1, d] - x[b, t, d]) ** 2 for t in range(4) for d in range(4)) for b in range(3)]
    np.testing.assert_allclose(continuity(jnp.asarray(x)), expected, rtol=1e-5)


def test_steps_to_and_from_frames_that_do_not_count() -> None:
    x = jnp.asarray([[0.0], [1.0], [3.0], [3.5], [4.5]])
    valid = jnp.array([1, 1, 0, 1, 1])
    assert continuity(x, valid) == 1.0 + 1.0
    assert continuity(x, valid > 0) == 2.0


def test_the_pose_is_the_last_six() -> None:
    expression, pose = split_pose(jnp.arange(10.0))
    assert expression.tolist() == [0, 1, 2, 3] and pose.tolist() == [4, 5, 6, 7, 8, 9]
