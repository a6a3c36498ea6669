"""EG3D's ray marcher: the card's golden, a loop over samples, and where importance samples fall."""

from __future__ import annotations

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxtalk.ops.midpoint_marching import importance_depths, march


def test_golden_of_the_card() -> None:
    grey = jnp.broadcast_to(jnp.array([0.0, 0.5, 1.0])[:, None], (3, 3))
    ray = march(jnp.array([1.0, 2.0, 4.0]), jnp.array([0.0, 1.0, 2.0]), grey)
    np.testing.assert_allclose(ray.weights, [0.37754, 0.53374], atol=1e-5)
    np.testing.assert_allclose(ray.color, [0.49469] * 3, atol=1e-5)
    np.testing.assert_allclose(ray.opacity, 0.91128, atol=1e-5)
    np.testing.assert_allclose(ray.depth, (0.37754 * 1.5 + 0.53374 * 3) / 0.91128, atol=1e-4)


@pytest.mark.parametrize("scale", [1.0, 7.5])
def test_against_a_loop(scale: float) -> None:
    rng = np.random.default_rng(0)
    depths = np.sort(rng.uniform(2.2, 3.3, (2, 5, 9)), -1)
    raw, color = rng.normal(2, 3, (2, 5, 9)), rng.uniform(size=(2, 5, 9, 3))
    ray = march(*(jnp.asarray(x, jnp.float32) for x in (depths, raw, color)), scale)
    assert ray.weights.shape == (2, 5, 8)
    for where in np.ndindex(2, 5):
        light, total, middle = 1.0, np.zeros(3), 0.0
        for i in range(8):
            sigma = np.log1p(np.exp((raw[where][i] + raw[where][i + 1]) / 2 - 1))
            alpha = 1 - np.exp(-sigma * (depths[where][i + 1] - depths[where][i]) * scale)
            np.testing.assert_allclose(ray.weights[where][i], light * alpha, atol=1e-5)
            total += light * alpha * (color[where][i] + color[where][i + 1]) / 2
            middle += light * alpha * (depths[where][i] + depths[where][i + 1]) / 2
            light *= 1 - alpha
        np.testing.assert_allclose(ray.color[where], total, atol=1e-5)
        np.testing.assert_allclose(ray.opacity[where], 1 - light, atol=1e-5)
        np.testing.assert_allclose(ray.depth[where], middle / (1 - light), rtol=1e-4)


def test_nothing_is_black_and_a_wall_hides_what_is_behind() -> None:
    depths, color = jnp.linspace(1.0, 2.0, 6), jnp.ones((6, 3)).at[3:].set(0.25)
    nothing = march(depths, jnp.full(6, -60.0), color)
    assert float(nothing.opacity) < 1e-6 and float(nothing.depth) == 2.0
    np.testing.assert_allclose(nothing.color, 0, atol=1e-6)
    wall = march(depths, jnp.array([-60.0, 1e4, 1e4, -60.0, 1e4, 1e4]), color)
    np.testing.assert_allclose(wall.opacity, 1, atol=1e-6)
    np.testing.assert_allclose(wall.weights, [1, 0, 0, 0, 0], atol=1e-6)
    np.testing.assert_allclose(wall.depth, 1.1, rtol=1e-5)


@pytest.mark.parametrize("raw", [-60.0, 0.0, 1e4])
def test_gradients_are_finite_and_point_the_right_way(raw: float) -> None:
    depths = jnp.array([1.0, 1.0, 1.5, 2.0])

    def brightness(density: jax.Array, color: jax.Array) -> jax.Array:
        ray = march(depths, density, color)
        return ray.color.sum() + ray.depth

    to_density, to_color = jax.grad(brightness, argnums=(0, 1))(jnp.full(4, raw), jnp.full((4, 3), 0.5))
    assert np.isfinite(to_density).all() and np.isfinite(to_color).all() and (np.asarray(to_color) >= 0).all()
    opacity = jax.grad(lambda density: march(depths, density, jnp.zeros((4, 3))).opacity)(jnp.zeros(4))
    assert float(opacity[2]) > 0.05 and float(opacity[0]) == 0  # the first interval has no length


def test_splitting_an_interval_changes_nothing() -> None:
    """A sample between two of equal density and colour is not seen."""
    color = jnp.full((2, 3), 0.7)
    coarse = march(jnp.array([1.0, 2.0]), jnp.full(2, 1.3), color)
    fine = march(jnp.array([1.0, 1.4, 1.9, 2.0]), jnp.full(4, 1.3), jnp.full((4, 3), 0.7))
    np.testing.assert_allclose(fine.color, coarse.color, rtol=1e-5)
    np.testing.assert_allclose(fine.opacity, coarse.opacity, rtol=1e-5)


def _slow_depths(depths: np.ndarray, weights: np.ndarray, quantiles: np.ndarray) -> list[float]:
    best = [max(a, b) for a, b in zip([0, *weights], [*weights, 0], strict=True)]
    smooth = [(a + b) / 2 + 0.01 for a, b in itertools.pairwise(best)]
    total, result = sum(smooth), []
    for quantile in quantiles:
        left = quantile * total
        for bin_, share in enumerate(smooth):
            if left <= share or bin_ == len(smooth) - 1:
                result.append(depths[bin_] + min(left / share, 1.0) * (depths[bin_ + 1] - depths[bin_]))
                break
            left -= share
    return result


def test_importance_depths_against_a_loop() -> None:
    rng = np.random.default_rng(1)
    depths, weights = np.sort(rng.uniform(2.2, 3.3, (3, 8)), -1), rng.uniform(0, 0.3, (3, 7)) ** 3
    found = importance_depths(jnp.asarray(depths, jnp.float32), jnp.asarray(weights, jnp.float32), 12, None)
    for row in range(3):
        expected = _slow_depths(depths[row], weights[row], np.linspace(0, 1, 12))
        np.testing.assert_allclose(found[row], expected, atol=1e-3)
        assert (np.diff(found[row]) >= 0).all()


def test_importance_depths_fall_on_the_surface_and_stay_inside() -> None:
    depths = jnp.broadcast_to(jnp.linspace(2.25, 3.3, 49), (50, 49))
    surface = 2.25 + 1.05 / 48 * 20.5  # the middle of interval 20
    weights = jnp.zeros((50, 48)).at[:, 20].set(1.0)
    found = np.asarray(importance_depths(depths, weights, 40, jax.random.key(0)))
    assert found.shape == (50, 40) and found.min() >= 2.25 and found.max() <= 3.3
    near = np.abs(found - surface) < 1.5 * 1.05 / 48 + 1e-6
    # weights after smoothing: 0.5, 1, 0.5 around the surface and 0.01 in each of 48
    np.testing.assert_allclose(near.mean(), 2.03 / 2.48, atol=0.03)
    np.testing.assert_allclose(found[near].mean(), surface, atol=1e-3)  # centred on it
    other = importance_depths(depths, weights, 40, jax.random.key(1))
    assert float(jnp.abs(other - found).max()) > 0.01


def test_importance_depths_have_no_gradient() -> None:
    depths, weights = jnp.linspace(1.0, 2.0, 5), jnp.full(4, 0.2)
    for argument in (0, 1):
        gradient = jax.grad(lambda *x: importance_depths(*x, 6, None).sum(), argument)(depths, weights)
        np.testing.assert_array_equal(gradient, 0)
