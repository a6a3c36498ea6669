"""Samples along rays, against the definition written as loops."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from jaxtalk.ops.sampling import importance, sample_pdf, stratified


def test_one_sample_in_each_stratum_and_the_last_at_far() -> None:
    near, far = jnp.full(200, 0.5), jnp.full(200, 1.1)
    depths = np.asarray(stratified(near, far, 7, jax.random.key(0)))
    grid = np.linspace(0.5, 1.1, 7)
    middle = (grid[1:] + grid[:-1]) / 2
    low, high = np.concatenate([grid[:1], middle]), np.concatenate([middle, grid[-1:]])
    assert (depths >= low - 1e-6).all() and (depths <= high + 1e-6).all()
    np.testing.assert_allclose(depths[:, -1], 1.1, rtol=1e-6)
    spread = depths[:, 3]
    assert spread.min() < low[3] + 0.02 * (high - low)[3] and spread.max() > high[3] - 0.02 * (high - low)[3]


def test_without_key_samples_are_even() -> None:
    depths = stratified(jnp.array([0.2]), jnp.array([0.6]), 5, None)
    np.testing.assert_allclose(depths, [[0.2, 0.3, 0.4, 0.5, 0.6]], atol=1e-6)


def _slow_pdf(edges: np.ndarray, weights: np.ndarray, quantiles: np.ndarray) -> list[float]:
    weights = weights + 1e-5
    cumulative = np.concatenate([[0.0], np.cumsum(weights / weights.sum())])
    result = []
    for u in quantiles:
        bin_ = max(i for i in range(len(cumulative)) if cumulative[i] <= u)
        if bin_ == len(cumulative) - 1:
            result.append(edges[-1])
            continue
        width = cumulative[bin_ + 1] - cumulative[bin_]
        fraction = (u - cumulative[bin_]) / (width if width >= 1e-5 else 1.0)
        result.append(edges[bin_] + fraction * (edges[bin_ + 1] - edges[bin_]))
    return result


def test_sample_pdf_is_the_inverse_of_the_cumulative_histogram() -> None:
    rng = np.random.default_rng(0)
    edges, weights = np.sort(rng.uniform(size=(4, 9))), rng.uniform(size=(4, 8)) ** 3
    weights[1, 2:5] = 0
    found = sample_pdf(jnp.asarray(edges, jnp.float32), jnp.asarray(weights, jnp.float32), 21, None)
    for row in range(4):
        np.testing.assert_allclose(
            found[row, :-1], _slow_pdf(edges[row], weights[row], np.linspace(0, 1, 21)[:-1]), atol=1e-4
        )


def test_random_samples_fall_where_the_weight_is() -> None:
    edges = jnp.linspace(0.0, 1.0, 5)[None]
    samples = sample_pdf(edges, jnp.array([[0.0, 3.0, 1.0, 0.0]]), 4000, jax.random.key(1))
    share = [float(((samples >= low) & (samples < low + 0.25)).mean()) for low in (0.0, 0.25, 0.5, 0.75)]
    np.testing.assert_allclose(share, [0, 0.75, 0.25, 0], atol=0.03)


def test_importance_is_sorted_keeps_the_coarse_and_uses_inner_weights_only() -> None:
    depths = jnp.linspace(0.5, 1.0, 6)[None]
    weights = jnp.array([[50.0, 0.0, 1.0, 0.0, 0.0, 50.0]])  # the ends must not count
    fine = np.asarray(importance(depths, weights, 12, None))[0]
    assert (np.diff(fine) >= 0).all() and len(fine) == 18
    assert all(np.abs(fine - d).min() < 1e-6 for d in np.asarray(depths[0]))
    new = [z for z in fine if np.abs(z - np.asarray(depths[0])).min() > 1e-6]
    assert np.mean([0.65 <= z <= 0.75 for z in new]) > 0.8


def test_no_gradient_through_importance() -> None:
    depths = jnp.linspace(0.5, 1.0, 6)[None]
    gradient = jax.grad(lambda w: importance(depths, w, 4, None).sum())(jnp.ones((1, 6)))
    assert float(jnp.abs(gradient).max()) == 0
