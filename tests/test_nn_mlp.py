"""The radiance MLP: the paper's size, and its products split over parts against plain concatenation."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxtalk.nn.linear import linear
from jaxtalk.nn.mlp import RadianceMLP, split_linear


def _size(module: nnx.Module) -> int:
    return sum(leaf.size for leaf in jax.tree.leaves(nnx.state(module, nnx.Param)))


def test_parameter_counts_of_the_reference() -> None:
    assert _size(RadianceMLP(63 + 64, 27, rngs=nnx.Rngs(0))) == 595_844
    assert _size(RadianceMLP(63 + 256 + 256, 27, rngs=nnx.Rngs(0))) == 825_220  # GDRF's field, card gdrf 2.8


def _plain(mlp: RadianceMLP, x: np.ndarray, view: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The network as the paper draws it: concatenations, one point at a time."""

    def dense(layer: nnx.Linear, value: np.ndarray) -> np.ndarray:
        return value @ np.asarray(layer.kernel[...]) + np.asarray(layer.bias[...])

    hidden = x
    for index, layer in enumerate(mlp.trunk):
        hidden = np.maximum(dense(layer, hidden), 0)
        if index in mlp.skips:
            hidden = np.concatenate([x, hidden], -1)
    density = dense(mlp.density, hidden)[..., 0]
    hidden = np.concatenate([hidden, view], -1)
    for layer in mlp.branch:
        hidden = np.maximum(dense(layer, hidden), 0)
    return density, dense(mlp.color, hidden)


@pytest.mark.parametrize("skips", [(4,), (1, 3), (5,), ()])
def test_equals_the_network_written_plainly(skips: tuple[int, ...]) -> None:
    """Condition and direction are shared by the samples of a ray, and nothing changes by that."""
    mlp = RadianceMLP(9 + 5, 7, rngs=nnx.Rngs(0), width=16, depth=6, skips=skips, branch_width=8)
    rng = np.random.default_rng(0)
    points = rng.normal(size=(2, 3, 4, 9)).astype(np.float32)
    condition, view = rng.normal(size=(2, 1, 1, 5)), rng.normal(size=(2, 3, 1, 7))
    density, color = mlp(jnp.asarray(points), jnp.asarray(condition, jnp.float32), jnp.asarray(view, jnp.float32))
    x = np.concatenate([points, np.broadcast_to(condition, (2, 3, 4, 5))], -1)
    expected = _plain(mlp, x, np.broadcast_to(view, (2, 3, 4, 7)))
    np.testing.assert_allclose(density, expected[0], atol=1e-5)
    np.testing.assert_allclose(color, expected[1], atol=1e-5)


def test_split_linear_equals_concatenation() -> None:
    layer = linear(10, 6, rngs=nnx.Rngs(0))
    a, b = jax.random.normal(jax.random.key(0), (4, 5, 7)), jax.random.normal(jax.random.key(1), (4, 1, 3))
    whole = layer(jnp.concatenate([a, jnp.broadcast_to(b, (4, 5, 3))], -1))
    np.testing.assert_allclose(split_linear(layer, [a, b]), whole, atol=1e-5)


def test_bfloat16_products_give_float32_results_close_to_float32() -> None:
    full = RadianceMLP(9 + 5, 7, rngs=nnx.Rngs(0), width=32, depth=3, skips=())
    half = RadianceMLP(9 + 5, 7, rngs=nnx.Rngs(0), width=32, depth=3, skips=(), dtype=jnp.bfloat16)
    inputs = [jax.random.normal(jax.random.key(i), (4, n)) for i, n in enumerate((9, 5, 7))]
    for a, b in zip(full(*inputs), half(*inputs), strict=True):
        assert b.dtype == jnp.float32
        assert 0 < float(jnp.abs(a - b).max()) < 0.05


def test_initialisation() -> None:
    layer = linear(400, 300, rngs=nnx.Rngs(0))
    for array in (layer.kernel[...], layer.bias[...]):
        assert 0.045 < float(jnp.abs(array).max()) <= 1 / 400**0.5
    he = linear(400, 300, rngs=nnx.Rngs(0), init="he")
    np.testing.assert_allclose(float(he.kernel[...].std()), (2 / 400) ** 0.5, rtol=0.03)
    with pytest.raises(ValueError, match="torch"):
        linear(4, 3, rngs=nnx.Rngs(0), init="xavier")
