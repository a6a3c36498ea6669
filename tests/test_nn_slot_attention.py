"""Slot attention against the algorithm as published, one point at a time; order and number of references."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxtalk.nn.slot_attention import ReferenceAttention, SlotAttention


def _size(module: nnx.Module) -> int:
    return sum(leaf.size for leaf in jax.tree.leaves(nnx.state(module, nnx.Param)))


def _shaken(module: nnx.Module, seed: int = 7) -> nnx.Module:
    """Every parameter moved, so that biases and scales that start at 0 and 1 count as well."""
    random = np.random.default_rng(seed)
    moved = jax.tree.map(
        lambda leaf: leaf + 0.3 * random.normal(size=leaf.shape).astype(np.float32), nnx.state(module, nnx.Param)
    )
    nnx.update(module, moved)
    return module


def _compiled(module: nnx.Module) -> Callable[..., jax.Array]:
    graph, state = nnx.split(module)
    call = jax.jit(lambda state, *inputs: nnx.merge(graph, state)(*inputs))
    return lambda *inputs: call(state, *inputs)


def _array(variable: nnx.Variable) -> np.ndarray:
    return np.asarray(variable[...], np.float64)


def _dense(layer: nnx.Linear, x: np.ndarray) -> np.ndarray:
    return x @ _array(layer.kernel) + _array(layer.bias)


def _norm(layer: nnx.LayerNorm, x: np.ndarray) -> np.ndarray:
    x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5)
    return x * _array(layer.scale) + _array(layer.bias)


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def _slow_slots(module: SlotAttention, inputs: np.ndarray, noise: np.ndarray | None) -> np.ndarray:
    """[references, width] to [slots, width], as the algorithm is written: keys, values, queries."""
    width = inputs.shape[-1]
    x = _norm(module.norm_inputs, inputs)
    keys, values = _dense(module.key, x), _dense(module.value, x)
    slots = _array(module.mean)
    if noise is not None:
        slots = slots + np.exp(_array(module.log_deviation)) * noise
    cell = module.cell
    for _ in range(module.iterations):
        before = slots
        queries = _dense(module.query, _norm(module.norm_slots, slots))
        scores = queries @ keys.T / np.sqrt(width)
        attention = np.exp(scores) / np.exp(scores).sum(0, keepdims=True) + 1e-8  # over slots
        attention = attention / attention.sum(1, keepdims=True)  # over references
        update = attention @ values
        from_input = np.split(update @ _array(cell.input_kernel) + _array(cell.input_bias), 3, -1)
        from_state = np.split(before @ _array(cell.hidden_kernel) + _array(cell.hidden_bias), 3, -1)
        r, z = (_sigmoid(from_input[i] + from_state[i]) for i in range(2))
        n = np.tanh(from_input[2] + r * from_state[2])
        slots = (1 - z) * n + z * before
        slots = slots + _dense(module.out, np.maximum(_dense(module.hidden, _norm(module.norm_mlp, slots)), 0))
    return slots


@pytest.mark.parametrize(("init", "noisy"), [("shared", True), ("per_slot", True), ("per_slot", False)])
def test_slot_attention_is_the_published_algorithm(init: str, noisy: bool) -> None:
    module = _shaken(SlotAttention(12, slots=3, iterations=3, init=init, rngs=nnx.Rngs(0)))
    inputs = np.random.default_rng(0).normal(size=(2, 4, 5, 12)).astype(np.float32)
    noise = np.random.default_rng(1).normal(size=(3, 12)).astype(np.float32) if noisy else None
    result = _compiled(module)(inputs, noise)
    assert result.shape == (2, 4, 3, 12)
    for i in np.ndindex(2, 4):
        np.testing.assert_allclose(result[i], _slow_slots(module, inputs[i], noise), atol=2e-4)


def test_noise_per_point_and_shared_noise_agree() -> None:
    module = _shaken(SlotAttention(8, rngs=nnx.Rngs(0)))
    inputs, noise = jax.random.normal(jax.random.key(0), (6, 4, 8)), jax.random.normal(jax.random.key(1), (2, 8))
    each = jnp.broadcast_to(noise, (6, 2, 8)).at[3].add(1.0)
    shared, own = _compiled(module)(inputs, noise), _compiled(module)(inputs, each)
    others = np.array([0, 1, 2, 4, 5])
    np.testing.assert_allclose(shared[others], own[others], atol=1e-5)
    assert float(jnp.abs(shared[3] - own[3]).max()) > 1e-2


def test_slots_of_one_mean_need_noise() -> None:
    module = SlotAttention(8, rngs=nnx.Rngs(0))
    with pytest.raises(ValueError, match="need noise"):
        module(jnp.zeros((3, 8)))
    with pytest.raises(ValueError, match="per_slot"):
        SlotAttention(8, init="learned", rngs=nnx.Rngs(0))


def _reference_inputs(references: int, width: int = 10) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    keys = jax.random.split(jax.random.key(references), 4)
    return (
        jax.random.normal(keys[0], (3, 7, references, width)),
        jax.random.uniform(keys[1], (3, 7, references, 2)),
        jax.random.normal(keys[2], (3, 7, 9)),
        jax.random.normal(keys[3], (2, width)),
    )


def test_parameter_counts_of_the_reference() -> None:
    assert _size(ReferenceAttention(128, 63, project=False, rngs=nnx.Rngs(0))) == 216_832
    assert _size(ReferenceAttention(512, 63, rngs=nnx.Rngs(0))) == 216_832 + 512 * 128 + 128


def test_reference_attention_against_plain_concatenation() -> None:
    """Card gdrf 2.7: append (row, column); h = Linear(ReLU(Linear)); (features, place, encoded point, h) to slots."""
    module = _shaken(ReferenceAttention(6, 9, width=10, hidden=5, rngs=nnx.Rngs(0)))
    _, places, encoded, noise = _reference_inputs(4)
    maps = jax.random.normal(jax.random.key(9), (3, 7, 4, 6))
    sampled = module.project(maps)
    np.testing.assert_allclose(sampled, _dense(module.projection, np.asarray(maps)), atol=1e-5)
    result = _compiled(module)(sampled, places, encoded, noise)
    assert result.shape == (3, 7, 20)
    for i in np.ndindex(3, 7):
        x = np.concatenate([sampled[i], places[i]], -1)
        h = _dense(module.place_out, np.maximum(_dense(module.place, x), 0))
        joined = _dense(module.join, np.concatenate([x, np.tile(encoded[i], (4, 1)), h], -1))
        joined = np.where(joined > 0, joined, 0.01 * joined)
        expected = _slow_slots(module.attention, joined, np.asarray(noise)).ravel()
        np.testing.assert_allclose(result[i], expected, atol=5e-4)


@pytest.mark.parametrize("references", [1, 2, 5])
def test_any_number_and_order_of_references(references: int) -> None:
    """Card gdrf 5.6: the same weights, and an order that does not matter."""
    attend = _compiled(_shaken(ReferenceAttention(10, 9, width=10, project=False, rngs=nnx.Rngs(0))))
    sampled, places, encoded, noise = _reference_inputs(references)
    result = attend(sampled, places, encoded, noise)
    assert result.shape == (3, 7, 20)
    order = np.random.default_rng(0).permutation(references)
    other = attend(sampled[..., order, :], places[..., order, :], encoded, noise)
    np.testing.assert_allclose(other, result, atol=1e-4)
    if references > 1:
        swapped = places.at[..., 0, :].set(places[..., 1, :])
        assert float(jnp.abs(attend(sampled, swapped, encoded, noise) - result).max()) > 1e-3


def test_gradients_reach_every_parameter_and_input() -> None:
    module = ReferenceAttention(10, 9, width=10, rngs=nnx.Rngs(0))
    sampled, places, encoded, noise = _reference_inputs(4)
    graph, state = nnx.split(module)

    def loss(state: nnx.State, *inputs: jax.Array) -> jax.Array:
        merged = nnx.merge(graph, state)
        return jnp.square(merged(merged.project(inputs[0]), *inputs[1:], noise)).sum()

    gradients = jax.jit(jax.grad(loss, argnums=(0, 1, 2, 3)))(state, sampled, places, encoded)
    for path, leaf in jax.tree_util.tree_leaves_with_path(gradients):
        assert bool(jnp.isfinite(leaf).all()) and float(jnp.abs(leaf).max()) > 0, path


def test_half_precision_stays_near() -> None:
    full = ReferenceAttention(10, 9, width=10, project=False, rngs=nnx.Rngs(0))
    half = ReferenceAttention(10, 9, width=10, project=False, rngs=nnx.Rngs(0), dtype=jnp.bfloat16)
    inputs = _reference_inputs(4)
    result = _compiled(half)(*inputs)
    assert result.dtype == jnp.bfloat16
    np.testing.assert_allclose(result.astype(jnp.float32), _compiled(full)(*inputs), atol=0.15)


def test_widths_must_agree_without_a_projection() -> None:
    with pytest.raises(ValueError, match="12 features"):
        ReferenceAttention(12, 9, width=10, project=False, rngs=nnx.Rngs(0))
