"""The speech network against loops, its reference sizes, its batch statistics; the normaliser."""

from __future__ import annotations

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxtalk.nn.speech_coefficients import Normaliser, SpeechToCoefficients


def _small(norm: str = "none", seed: int = 0) -> SpeechToCoefficients:
    return SpeechToCoefficients(
        9, widths=(3, 4, 5), embedding=(8, 6), hidden=7, layers=2, norm=norm, rngs=nnx.Rngs(seed)
    )


def _windows(*shape: int, seed: int = 0) -> jax.Array:
    return jnp.asarray(np.random.default_rng(seed).normal(size=(*shape, 28, 12)), jnp.float32)


def _pool(x: np.ndarray, rows: int, columns: int) -> np.ndarray:
    """Maximum over 3 x 3, channels first, no padding."""
    height, width = (x.shape[1] - 3) // rows + 1, (x.shape[2] - 3) // columns + 1
    out = np.zeros((x.shape[0], height, width))
    for r in range(height):
        for c in range(width):
            out[:, r, c] = x[:, r * rows : r * rows + 3, c * columns : c * columns + 3].max((1, 2))
    return out


def _reference_code(net: SpeechToCoefficients, window: np.ndarray) -> np.ndarray:
    """The code of one window, channels first as in the reference, convolutions as loops."""
    x = window[None]
    for index, layer in enumerate(net.convolutions):
        kernel = np.asarray(layer.kernel[...])  # [3, 3, in, out]
        padded = np.pad(x, ((0, 0), (1, 1), (1, 1)))
        y = np.zeros((kernel.shape[3], *x.shape[1:]))
        for r in range(x.shape[1]):
            for c in range(x.shape[2]):
                y[:, r, c] = np.einsum("irc,rcio->o", padded[:, r : r + 3, c : c + 3], kernel)
        if net.norms:
            norm = net.norms[index]
            mean, var, scale, bias = (np.asarray(v[...]) for v in (norm.mean, norm.var, norm.scale, norm.bias))
            y = ((y.T - mean) / np.sqrt(var + 1e-5) * scale + bias).T
        else:
            y += np.asarray(layer.bias[...])[:, None, None]
        x = np.maximum(y, 0)
        if index == 1:
            x = _pool(x, 1, 2)
            assert x.shape[1:] == (26, 5)
    x = _pool(x, 2, 2)
    assert x.shape[1:] == (12, 2)
    x = x.reshape(-1)  # channel, row, column
    for dense in net.dense:
        x = np.maximum(x @ np.asarray(dense.kernel[...]) + np.asarray(dense.bias[...]), 0)
    return x


@pytest.mark.parametrize("norm", ["none", "batch"])
def test_the_code_of_a_window_is_the_reference_s(norm: str) -> None:
    net = _small(norm)
    rng = np.random.default_rng(1)
    for layer in net.norms if norm == "batch" else net.convolutions:
        layer.bias[...] = jnp.asarray(rng.normal(size=layer.bias[...].shape), jnp.float32)
    for layer in net.norms:
        layer.mean[...] = jnp.asarray(rng.normal(size=layer.mean[...].shape), jnp.float32)
        layer.var[...] = jnp.asarray(rng.uniform(0.5, 2, size=layer.var[...].shape), jnp.float32)
    windows = _windows(2)
    codes = jax.jit(lambda x: net.encode(x))(windows)
    for i in range(2):
        np.testing.assert_allclose(codes[i], _reference_code(net, np.asarray(windows[i])), atol=1e-4)


def test_full_size_is_the_reference_s() -> None:
    net = nnx.eval_shape(lambda: SpeechToCoefficients(70, rngs=nnx.Rngs(0)))
    widths = (1, 64, 128, 256, 256, 512)
    convolutions = sum(9 * a * b for a, b in itertools.pairwise(widths))  # without bias
    norms = 2 * sum(widths[1:])
    dense = 12288 * 2048 + 2048 + 2048 * 256 + 256
    lstm = 3 * (4 * 256 * 512 + 2 * 1024)
    expected = convolutions + norms + dense + lstm + 256 * 70 + 70
    assert sum(leaf.size for leaf in jax.tree.leaves(nnx.state(net, nnx.Param))) == expected
    values, _ = nnx.eval_shape(lambda: SpeechToCoefficients(70, rngs=nnx.Rngs(0))(jnp.zeros((2, 16, 28, 12))))
    assert values.shape == (2, 16, 70)


def test_sequences_are_consecutive_frames_and_may_be_continued() -> None:
    net, windows = _small(), _windows(2, 10)
    hear = jax.jit(lambda x, state=None: net(x, state))
    whole, _ = hear(windows)
    first, state = hear(windows[:, :3])
    second, _ = hear(windows[:, 3:], state)
    np.testing.assert_allclose(jnp.concatenate([first, second], 1), whole, atol=1e-6)
    np.testing.assert_allclose(jax.jit(lambda x: net.decode(net.encode(x))[0])(windows), whole, atol=1e-6)


def test_batch_statistics_move_in_training_alone() -> None:
    net, windows = _small("batch"), 3 + 2 * _windows(4, 5)

    def statistics() -> np.ndarray:
        return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(nnx.state(net, nnx.BatchStat))])

    before = statistics()
    net(windows)
    np.testing.assert_array_equal(statistics(), before)
    codes = net.encode(windows, use_running_average=False)
    after = statistics()
    assert np.all(after != before)
    # Torch's momentum 0.1: a tenth of the batch's mean. The first layer's mean is that of its convolution.
    mean = np.asarray(net.convolutions[0](windows.reshape(-1, 28, 12, 1)).mean((0, 1, 2)))
    np.testing.assert_allclose(net.norms[0].mean[...], 0.1 * mean, rtol=1e-3, atol=1e-5)
    assert not np.allclose(codes, net.encode(windows), atol=1e-3), "evaluation uses the running statistics"


@pytest.mark.parametrize("norm", ["none", "batch"])
def test_gradients_reach_every_parameter(norm: str) -> None:
    net = SpeechToCoefficients(9, widths=(8, 8, 8), embedding=(16,), hidden=8, layers=1, norm=norm, rngs=nnx.Rngs(0))
    graph, params, rest = nnx.split(net, nnx.Param, ...)
    params, rest = nnx.to_pure_dict(params), nnx.to_pure_dict(rest)
    windows = _windows(4, 6)

    def loss(params: dict) -> jax.Array:
        return jnp.square(nnx.merge(graph, params, rest)(windows, use_running_average=False)[0] - 1).mean()

    for path, leaf in jax.tree_util.tree_leaves_with_path(jax.jit(jax.grad(loss))(params)):
        assert np.abs(leaf).max() > 0, jax.tree_util.keystr(path)


def test_normaliser() -> None:
    normaliser = Normaliser(3)
    mean, std = np.array([1.0, -2.0, 0.0]), np.array([0.5, 4.0, 0.01])
    normaliser.fit_to(mean, std)
    x = np.random.default_rng(0).normal(size=(5, 2, 3)).astype(np.float32)
    np.testing.assert_allclose(normaliser.standardise(x), (x - mean) / std, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(normaliser.restore(normaliser.standardise(x)), x, atol=1e-5)
    assert not jax.tree.leaves(nnx.state(normaliser, nnx.Param)), "statistics are not trained"


def test_unknown_norm() -> None:
    with pytest.raises(ValueError, match="'batch' or 'none'"):
        _small("layer")
