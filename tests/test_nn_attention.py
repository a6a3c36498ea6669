"""Slots over cells and cross-attention: sums, symmetries, and slow references (card s3d_nerf 2.3, 2.5, 5)."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxtalk.nn.cross_attention import CrossAttention
from jaxtalk.nn.spatial_slots import SpatialSlots, place_waves


def _slots(init: str = "input", iterations: int = 2) -> SpatialSlots:
    return SpatialSlots(6, 8, 3, iterations, init, rngs=nnx.Rngs(0))


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


def test_slots_start_at_places_that_differ_by_distance() -> None:
    waves = np.asarray(place_waves(8, 32))
    assert waves.shape == (64, 32) and waves[:, :16].std() > 0.5
    near = np.linalg.norm(waves[:, None] - waves, axis=-1)
    assert near[~np.eye(64, dtype=bool)].min() > 0.5
    row = near[0].reshape(8, 8)[0]
    assert row[1] < row[2] < row[7] and np.allclose(near[0].reshape(8, 8), near[0].reshape(8, 8).T, atol=1e-5)
    np.testing.assert_array_equal(_slots().position[...], place_waves(3, 8))


def test_gaussian_slots_do_not_know_their_cells() -> None:
    slots, inputs, order = _slots("gaussian"), _inputs(), np.random.default_rng(1).permutation(9)
    np.testing.assert_allclose(slots(inputs[:, order]), slots(inputs), atol=1e-5)
    with pytest.raises(ValueError, match="init"):
        _slots("random")


def test_more_iterations_give_other_slots() -> None:
    inputs = _inputs()
    assert float(jnp.abs(_slots(iterations=1)(inputs) - _slots(iterations=3)(inputs)).max()) > 1e-3


@pytest.mark.parametrize("null", [False, True])
def test_cross_attention_agrees_with_the_equation(null: bool) -> None:
    """Equation 3 for each head, by loops; with a null token the softmax has a column more, which says nothing."""
    network = CrossAttention(6, 5, 8, 2, null, rngs=nnx.Rngs(0))
    random = np.random.default_rng(0)
    queries, tokens = (random.normal(size=shape).astype(np.float32) for shape in ((1, 4, 6), (1, 3, 5)))
    q, k, v = (np.asarray(layer.kernel[...]) for layer in (network.query, network.key, network.value))
    key = random.normal(size=(1, 2, 4)).astype(np.float32)
    if network.null is not None:
        network.null[...] = jnp.asarray(key)
    heads, listened = [], []
    for head in range(2):
        part = slice(4 * head, 4 * head + 4)
        asked, told = queries[0] @ q[:, part], tokens[0] @ k[:, part]
        scores = np.exp(asked @ np.concatenate([told, key[:, head]] if null else [told]).T / np.sqrt(4))
        weights = (scores / scores.sum(-1, keepdims=True))[:, :3]
        heads.append(weights @ (tokens[0] @ v[:, part]))
        listened.append(weights.sum(-1))
    expected = np.concatenate(heads, -1) @ np.asarray(network.out.kernel[...])
    found, share = network(jnp.asarray(queries), jnp.asarray(tokens))
    np.testing.assert_allclose(found[0], expected, atol=1e-5)
    np.testing.assert_allclose(share[0], np.mean(listened, 0), atol=1e-5)
    assert (share.max() < 0.99) == null


def test_places_hear_different_things() -> None:
    """Card 5.2: with several tokens what is heard varies over the cells; one token is refused."""
    network = CrossAttention(6, 5, 8, 2, rngs=nnx.Rngs(0))
    random = np.random.default_rng(0)
    queries, tokens = (jnp.asarray(random.normal(size=s), jnp.float32) for s in ((2, 9, 6), (2, 4, 5)))
    assert float(network(queries, tokens)[0].var(1).min()) > 0
    with pytest.raises(ValueError, match="at least two"):
        network(queries, tokens[:, :1])
    with pytest.raises(ValueError, match="heads"):
        CrossAttention(6, 5, 8, 3, rngs=nnx.Rngs(0))
