"""AdaIN and the semantic mapping against their formulas."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxtalk.nn.adain import AdaIN
from jaxtalk.nn.mapping import SemanticMapping


def _dense(layer: nnx.Linear, x: np.ndarray) -> np.ndarray:
    return x @ np.asarray(layer.kernel[...]) + np.asarray(layer.bias[...])


def _leaky(x: np.ndarray) -> np.ndarray:
    return np.where(x > 0, x, 0.1 * x)


def _picture() -> np.ndarray:
    scale = np.array([1, 5, 0.2], np.float32)
    return np.random.default_rng(0).normal(3.0, scale, size=(2, 6, 8, 3)).astype(np.float32)


def test_without_a_condition_channels_have_mean_0_and_variance_1() -> None:
    """Card gdrf 5.7."""
    module = AdaIN(3, 4, rngs=nnx.Rngs(0))
    module.heads.kernel[...], module.heads.bias[...] = jnp.zeros((128, 6)), jnp.zeros(6)
    result = np.asarray(module(jnp.asarray(_picture()), jnp.ones((2, 4))))
    np.testing.assert_allclose(result.mean((1, 2)), 0, atol=1e-4)
    np.testing.assert_allclose(result.var((1, 2)), 1, atol=1e-2)


def test_adain_is_its_formula() -> None:
    module, x = AdaIN(3, 4, hidden=5, rngs=nnx.Rngs(0)), _picture()
    z = np.random.default_rng(1).normal(size=(2, 4)).astype(np.float32)
    result = module(jnp.asarray(x), jnp.asarray(z))
    for i in range(2):
        heads = _dense(module.heads, np.maximum(_dense(module.hidden, z[i]), 0))
        for channel in range(3):
            values = x[i, ..., channel]
            normal = (values - values.mean()) / np.sqrt(values.var() + 1e-5)
            np.testing.assert_allclose(
                result[i, ..., channel], normal * (1 + heads[channel]) + heads[3 + channel], atol=1e-3
            )


def test_adain_forgets_scale_and_shift_of_its_input() -> None:
    module, x, z = AdaIN(3, 4, rngs=nnx.Rngs(0)), jnp.asarray(_picture()), jnp.ones((2, 4))
    np.testing.assert_allclose(module(7 * x - 4, z), module(x, z), atol=1e-3)
    assert module(x.astype(jnp.bfloat16), z).dtype == jnp.bfloat16


def test_mapping_is_residual_blocks() -> None:
    module = SemanticMapping(150, rngs=nnx.Rngs(0))
    assert sum(leaf.size for leaf in jax.tree.leaves(nnx.state(module))) == 150 * 256 + 256 + 2 * (256 * 256 + 256)
    x = np.random.default_rng(0).normal(size=(2, 3, 150)).astype(np.float32)
    expected = _dense(module.first, x)
    for block in module.blocks:
        expected = expected + _dense(block, _leaky(expected))
    np.testing.assert_allclose(module(jnp.asarray(x)), expected, atol=1e-4)


def test_mapping_of_a_window_against_loops() -> None:
    module = SemanticMapping(5, width=4, window=27, rngs=nnx.Rngs(0))
    assert len(module.blocks) == 3
    x = np.random.default_rng(0).normal(size=(2, 27, 5)).astype(np.float32)
    result = module(jnp.asarray(x))
    for i in range(2):
        frames = [_dense(module.first, x[i, t : t + 7].ravel()) for t in range(21)]
        for block in module.blocks:
            active = _leaky(np.stack(frames))
            frames = [frames[t] + _dense(block, active[[t - 3, t, t + 3]].ravel()) for t in range(3, len(frames) - 3)]
        assert len(frames) == 3
        np.testing.assert_allclose(result[i], np.mean(frames, 0), atol=1e-5)


def test_windows_of_the_wrong_length_are_refused() -> None:
    with pytest.raises(ValueError, match="window of 25"):
        SemanticMapping(5, window=24, rngs=nnx.Rngs(0))
    with pytest.raises(ValueError, match="27 frames, not 26"):
        SemanticMapping(5, window=27, rngs=nnx.Rngs(0))(jnp.zeros((26, 5)))
