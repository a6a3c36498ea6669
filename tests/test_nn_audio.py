"""AD-NeRF's speech networks: sizes, convolution against the definition, and which rows each window reads."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxtalk.nn.audio import AudioAttNet, AudioNet, Conv1d, neighbour_windows


def _size(module: nnx.Module) -> int:
    return sum(leaf.size for leaf in jax.tree.leaves(nnx.state(module, nnx.Param)))


def test_parameter_counts_of_the_reference() -> None:
    assert _size(AudioNet(rngs=nnx.Rngs(0))) == 32_800
    assert _size(AudioAttNet(rngs=nnx.Rngs(0))) == 2_149


@pytest.mark.parametrize("stride", [1, 2])
def test_convolution_against_the_definition(stride: int) -> None:
    layer = Conv1d(5, 4, stride, rngs=nnx.Rngs(0))
    x = np.random.default_rng(0).normal(size=(8, 5)).astype(np.float32)
    kernel = np.asarray(layer.linear.kernel[...]).reshape(3, 5, 4)
    expected = []
    for t in range(0, 8, stride):
        rows = [(tap, t + tap - 1) for tap in range(3) if 0 <= t + tap - 1 < 8]
        expected.append(sum(x[row] @ kernel[tap] for tap, row in rows) + np.asarray(layer.linear.bias[...]))
    np.testing.assert_allclose(layer(jnp.asarray(x)), expected, atol=1e-5)


def test_attention_is_a_weighted_mean_of_the_codes() -> None:
    attention = AudioAttNet(rngs=nnx.Rngs(1))
    code = jax.random.normal(jax.random.key(0), (64,))
    np.testing.assert_allclose(attention(jnp.broadcast_to(code, (8, 64))), code, atol=1e-5)
    codes = jax.random.normal(jax.random.key(1), (3, 8, 64))
    result = attention(codes)
    assert result.shape == (3, 64)
    assert bool((result <= codes.max(1) + 1e-6).all() and (result >= codes.min(1) - 1e-6).all())


def test_an_impulse_in_one_row_reaches_exactly_the_windows_that_hold_it() -> None:
    """Window k holds rows 2 k ... 2 k + 15 of 32; the frame's own, number 4, is centred."""
    for row in range(32):
        rows = jnp.zeros((32, 3)).at[row, 1].set(1.0)
        windows = np.asarray(neighbour_windows(rows, 8, 2))
        assert windows.shape == (8, 16, 3)
        touched = set(np.flatnonzero(windows.any((1, 2))))
        assert touched == {k for k in range(8) if 2 * k <= row < 2 * k + 16}
    own = np.asarray(neighbour_windows(jnp.arange(32.0)[:, None], 8, 2))[4, :, 0]
    np.testing.assert_array_equal(own, np.arange(8, 24))


def test_too_few_rows_are_refused() -> None:
    with pytest.raises(ValueError, match="need more than 28 rows"):
        neighbour_windows(jnp.zeros((28, 3)), 8, 2)
