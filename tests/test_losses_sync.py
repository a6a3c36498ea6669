"""Losses of lip sync on numbers that are worked out by hand, and their gradients' direction."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from jaxtalk.losses.sync import MARGIN, contrast, sync_loss, triplet


def test_golden() -> None:
    """Card s3d_nerf 5.11: the printed equation would give 1.3 and 0, the other way round."""
    assert MARGIN == 0.5
    values = triplet(jnp.array([0.9, 0.1, 0.4]), jnp.array([0.1, 0.9, 0.1]))
    np.testing.assert_allclose(values, [0, 1.3, 0.2], atol=1e-6)
    np.testing.assert_allclose(triplet(jnp.float32(0.4), jnp.float32(0.1), margin=1.0), 0.7, atol=1e-6)


def test_hinge_pulls_positives_up_and_negatives_down() -> None:
    up, down = jax.grad(triplet, argnums=(0, 1))(0.2, 0.1)
    assert (up, down) == (-1, 1)
    assert jax.grad(triplet)(0.9, 0.1) == 0, "far enough apart"


def test_generator_loss_falls_as_the_cosine_rises() -> None:
    np.testing.assert_allclose(sync_loss(jnp.array([-1.0, 0.0, 1.0])), [2, 1, 0])


def test_contrast_equals_cross_entropies_written_out() -> None:
    rng = np.random.default_rng(0)
    cosines = rng.uniform(-1, 1, (4, 4))
    comparable = rng.random((4, 4)) < 0.6
    comparable |= comparable.T
    comparable[0, 2] = comparable[2, 0] = False
    np.fill_diagonal(comparable, False)
    expected = []
    for i in range(4):
        rows = [cosines[i, j] for j in range(4) if j == i or comparable[i, j]]
        columns = [cosines[j, i] for j in range(4) if j == i or comparable[j, i]]
        own = np.exp(cosines[i, i] / 0.3)
        expected.append(-np.mean([np.log(own / np.exp(np.array(part) / 0.3).sum()) for part in (rows, columns)]))
    np.testing.assert_allclose(contrast(jnp.asarray(cosines), jnp.asarray(comparable), 0.3), expected, rtol=1e-5)


def test_contrast_with_nothing_to_compare_is_zero_and_has_a_gradient() -> None:
    cosines, none = jnp.array([[0.3, 0.9], [0.8, 0.1]]), jnp.zeros((2, 2), bool)
    np.testing.assert_allclose(contrast(cosines, none, 0.1), 0, atol=1e-6)
    gradient = jax.grad(lambda c: contrast(c, none, 0.1).sum())(cosines)
    np.testing.assert_allclose(gradient, 0, atol=1e-5)
