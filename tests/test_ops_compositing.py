"""Volume rendering: the card's golden, a slow reference, and the background as last sample."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from jaxtalk.ops.compositing import composite


def test_the_card_s_golden() -> None:
    """Card trap 4. The last colour stands for the background."""
    color = jnp.array([0.1, 0.2, 0.3, 0.9])[:, None].repeat(3, 1)
    depths, direction = jnp.array([0.5, 0.7, 0.9, 1.1]), jnp.array([0.0, 0.0, -1.0])
    result = composite(jnp.array([0.0, 1.0, 2.0, 5.0]), color, depths, direction, jnp.full(3, 0.9))
    np.testing.assert_allclose(result.weights, [0, 0.181269, 0.269919, 0.548811], atol=2e-6)
    np.testing.assert_allclose(result.color, [0.611160] * 3, atol=1e-5)
    np.testing.assert_allclose(result.weights.sum(), 1, atol=1e-6)


def _slow(density: np.ndarray, color: np.ndarray, depths: np.ndarray, norm: float, background: np.ndarray) -> tuple:
    left, total, weights = 1.0, np.zeros(3), []
    for i in range(len(density)):
        length = (depths[i + 1] - depths[i] if i + 1 < len(depths) else 1e10) * norm
        alpha = 1 - np.exp(-(max(density[i], 0) + 1e-6) * length)
        total += left * alpha * (color[i] if i + 1 < len(depths) else background)
        weights.append(left * alpha)
        left *= 1 - alpha
    return total, weights


def test_equals_the_sum_written_as_a_loop() -> None:
    rng = np.random.default_rng(0)
    density, color = 20 * rng.normal(size=(5, 8)), rng.uniform(size=(5, 8, 3))
    depths = np.sort(rng.uniform(0.5, 1.0, (5, 8)))
    direction, background = rng.normal(size=(5, 3)), rng.uniform(size=(5, 3))
    result = composite(*(jnp.asarray(a, jnp.float32) for a in (density, color, depths, direction, background)))
    for i in range(5):
        total, weights = _slow(density[i], color[i], depths[i], np.linalg.norm(direction[i]), background[i])
        np.testing.assert_allclose(result.color[i], total, atol=1e-5)
        np.testing.assert_allclose(result.weights[i], weights, atol=1e-5)
        np.testing.assert_allclose(result.depth[i], np.dot(weights, depths[i]), atol=1e-5)
    parts = result.foreground + result.background_weight[:, None] * background
    np.testing.assert_allclose(parts, result.color, atol=1e-6)


def test_an_empty_ray_shows_the_background_whatever_the_last_sample_says() -> None:
    depths, direction = jnp.linspace(0.5, 1.0, 6), jnp.array([0.1, 0.0, -1.0])
    background = jnp.array([0.2, 0.4, 0.6])
    for last_density in (-3.0, 0.0, 50.0):
        density = jnp.full(6, -1.0).at[-1].set(last_density)
        result = composite(density, jnp.ones((6, 3)), depths, direction, background)
        np.testing.assert_allclose(result.color, background, atol=1e-5)
        assert float(result.background_weight) > 0.99999


def test_gradients_are_finite_for_opaque_and_empty_rays() -> None:
    depths, direction = jnp.linspace(0.5, 1.0, 6), jnp.array([0.0, 0.0, -1.0])

    def color(density: jax.Array) -> jax.Array:
        return composite(density, jnp.full((6, 3), 0.3), depths, direction, jnp.ones(3)).color.sum()

    for level in (-5.0, 1.0, 1e4):
        assert bool(jnp.isfinite(jax.grad(color)(jnp.full(6, level))).all())
