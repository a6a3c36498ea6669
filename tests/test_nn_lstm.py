"""The LSTM against torch's definition written as loops, and continued where it stopped."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxtalk.nn.lstm import LSTM


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def _reference(lstm: LSTM, x: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """torch.nn.LSTM's equations, [time, inputs]: each gate from its own rows, in the order i, f, g, o."""
    hiddens, cells = [], []
    for layer in lstm.layers:
        w_ih, w_hh = np.asarray(layer.kernel_input[...]).T, np.asarray(layer.kernel_hidden[...]).T
        b_ih, b_hh = np.asarray(layer.bias_input[...]), np.asarray(layer.bias_hidden[...])
        size = w_hh.shape[1]
        hidden, cell, outputs = np.zeros(size), np.zeros(size), []
        for row in x:
            i, f, g, o = (
                w_ih[k * size : (k + 1) * size] @ row
                + b_ih[k * size : (k + 1) * size]
                + w_hh[k * size : (k + 1) * size] @ hidden
                + b_hh[k * size : (k + 1) * size]
                for k in range(4)
            )
            cell = _sigmoid(f) * cell + _sigmoid(i) * np.tanh(g)
            hidden = _sigmoid(o) * np.tanh(cell)
            outputs.append(hidden)
        x = np.array(outputs)
        hiddens.append(hidden)
        cells.append(cell)
    return x, np.array(hiddens), np.array(cells)


def test_equations_and_gate_order_are_torch_s() -> None:
    lstm = LSTM(5, 7, 3, rngs=nnx.Rngs(0))
    x = np.random.default_rng(0).normal(size=(2, 9, 5)).astype(np.float32)
    y, (hidden, cell) = jax.jit(lambda x: lstm(x))(jnp.asarray(x))
    for i in range(2):
        expected = _reference(lstm, x[i])
        for ours, theirs in zip((y[i], hidden[i], cell[i]), expected, strict=True):
            np.testing.assert_allclose(ours, theirs, atol=1e-5)


def test_parameters_are_torch_s() -> None:
    lstm = nnx.eval_shape(lambda: LSTM(256, 256, 3, rngs=nnx.Rngs(0)))
    # torch: 4 x 256 x (256 + 256) + 2 x 1024 a layer
    assert sum(leaf.size for leaf in jax.tree.leaves(nnx.state(lstm, nnx.Param))) == 3 * (4 * 256 * 512 + 2 * 1024)


def test_a_sequence_may_be_heard_in_parts() -> None:
    lstm = LSTM(4, 6, 2, rngs=nnx.Rngs(1))
    hear = jax.jit(lambda x, state=None: lstm(x, state))
    x = jax.random.normal(jax.random.key(0), (3, 2, 11, 4))
    whole, end = hear(x)
    first, state = hear(x[..., :4, :])
    second, last = hear(x[..., 4:, :], state)
    np.testing.assert_allclose(jnp.concatenate([first, second], -2), whole, atol=1e-6)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), last, end)
    assert not np.allclose(hear(x[..., 4:, :])[0], second, atol=1e-3), "the state matters"


def test_later_input_does_not_change_earlier_output_and_gradients_reach_the_first() -> None:
    lstm = LSTM(4, 6, 2, rngs=nnx.Rngs(2))
    x = jax.random.normal(jax.random.key(0), (8, 4))
    jacobian = jax.jit(jax.jacobian(lambda x: lstm(x)[0]))(x)  # [8, 6, 8, 4]
    reach = np.abs(jacobian).max((1, 3))
    assert np.all(reach[np.triu_indices(8, 1)] == 0) and np.all(reach[np.tril_indices(8)] > 0)
