"""Slots over cells and cross-attention: sums, symmetries, and slow references (card s3d_nerf 2.3, 2.5, 5)."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxtalk.nn.cross_attention import CrossAttention
from jaxtalk.nn.spatial_slots import SpatialSlots


def _slots(init: str = "input", iterations: int = 2) -> SpatialSlots:
    return SpatialSlots(6, 8, 9, iterations, init, rngs=nnx.Rngs(0))


def _inputs(seed: int = 0) -> jax.Array:
    return jnp.asarray(np.random.default_rng(seed).normal(size=(2, 9, 6)), jnp.float32)


def test_weights_of_each_slot_sum_to_one_and_compete_over_slots() -> None:
    """Card 5.13. Before they are normalised over inputs, the softmax is over slots: it is not one over inputs."""
    slots, inputs = _slots(), _inputs()
    weights = slots.attention(inputs)
    np.testing.assert_allclose(weights.sum(-1), 1, atol=1e-5)
    normed = slots.norm_inputs(inputs)
    query = slots.query(slots.norm_slots(slots.first(normed) + slots.position[...]))
    scores = jnp.einsum("bsw,biw->bsi", query, slots.key(normed)) / 8**0.5
    shares = np.exp(scores) / np.exp(scores).sum(1, keepdims=True) + 1e-8
    np.testing.assert_allclose(weights, shares / shares.sum(-1, keepdims=True), rtol=1e-4)


def test_permuting_the_inputs_permutes_the_slots_alike() -> None:
    """Card 5.13, where positions are removed: slot k means cell k; with positions it depends on the place."""
    slots, inputs, order = _slots(), _inputs(), np.random.default_rng(1).permutation(9)
    assert float(jnp.abs(slots(inputs[:, order]) - slots(inputs)[:, order]).max()) > 1e-4
    slots.position[...] = jnp.zeros_like(slots.position[...])
    np.testing.assert_allclose(slots(inputs[:, order]), slots(inputs)[:, order], atol=1e-5)


def test_gaussian_slots_do_not_know_their_cells() -> None:
    slots, inputs, order = _slots("gaussian"), _inputs(), np.random.default_rng(1).permutation(9)
    np.testing.assert_allclose(slots(inputs[:, order]), slots(inputs), atol=1e-5)
    with pytest.raises(ValueError, match="init"):
        _slots("random")


def test_more_iterations_give_other_slots() -> None:
    inputs = _inputs()
    assert float(jnp.abs(_slots(iterations=1)(inputs) - _slots(iterations=3)(inputs)).max()) > 1e-3


def test_cross_attention_agrees_with_the_equation() -> None:
    """Equation 3 for each head, by loops."""
    network = CrossAttention(6, 5, 8, 2, rngs=nnx.Rngs(0))
    random = np.random.default_rng(0)
    queries, tokens = (random.normal(size=shape).astype(np.float32) for shape in ((1, 4, 6), (1, 3, 5)))
    q, k, v = (np.asarray(layer.kernel[...]) for layer in (network.query, network.key, network.value))
    heads = []
    for head in range(2):
        part = slice(4 * head, 4 * head + 4)
        scores = (queries[0] @ q[:, part]) @ (tokens[0] @ k[:, part]).T / np.sqrt(4)
        weights = np.exp(scores) / np.exp(scores).sum(-1, keepdims=True)
        heads.append(weights @ (tokens[0] @ v[:, part]))
    expected = np.concatenate(heads, -1) @ np.asarray(network.out.kernel[...])
    np.testing.assert_allclose(network(jnp.asarray(queries), jnp.asarray(tokens))[0], expected, atol=1e-5)


def test_places_hear_different_things() -> None:
    """Card 5.2: with several tokens what is heard varies over the cells; one token is refused."""
    network = CrossAttention(6, 5, 8, 2, rngs=nnx.Rngs(0))
    random = np.random.default_rng(0)
    queries, tokens = (jnp.asarray(random.normal(size=s), jnp.float32) for s in ((2, 9, 6), (2, 4, 5)))
    assert float(network(queries, tokens).var(1).min()) > 0
    with pytest.raises(ValueError, match="at least two"):
        network(queries, tokens[:, :1])
    with pytest.raises(ValueError, match="heads"):
        CrossAttention(6, 5, 8, 3, rngs=nnx.Rngs(0))
