"""The warping hourglass and DFRF's point warp: sizes, zero at the start, what they must be able to learn."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxtalk.nn.warping import PointWarp, WarpHourglass
from jaxtalk.ops.grid_sample import warp


def _adain(channels: int, condition: int, hidden: int = 128) -> int:
    return condition * hidden + hidden + 2 * (hidden * channels + channels)


def test_parameter_count_of_the_paper_size() -> None:
    """Card gdrf 2.5 written out: convolutions k x k x in x out + out, norms condition -> 128 -> 2 channels."""
    module = nnx.eval_shape(lambda: WarpHourglass(512, 256, rngs=nnx.Rngs(0)))
    expected = 49 * 512 * 32 + 32
    sizes = (32, 64, 128, 256, 256, 256)
    for i, o in itertools.pairwise(sizes):
        expected += _adain(i, 256) + 16 * i * o + o + _adain(o, 256) + 9 * o * o + o
    for i, middle, o in ((256, 256, 256), (512, 256, 256), (512, 128, 128)):
        expected += 2 * _adain(i, 256) + _adain(middle, 256)
        expected += 9 * i * middle + middle + 9 * middle * o + o + 9 * i * o + o
    expected += 2 * 256 + 49 * 256 * 2 + 2
    assert sum(leaf.size for leaf in jax.tree.leaves(nnx.state(module, nnx.Param))) == expected


def _small(encoder: int = 3, decoder: int = 2, dtype: type | None = None) -> WarpHourglass:
    return WarpHourglass(4, 6, 8, 16, encoder, decoder, 8, rngs=nnx.Rngs(0), dtype=dtype)


@pytest.mark.parametrize(("encoder", "decoder"), [(3, 1), (2, 2), (5, 3)])
def test_flow_has_the_decoder_s_size_and_starts_at_zero(encoder: int, decoder: int) -> None:
    maps = jax.random.normal(jax.random.key(0), (2, 1, 32, 64, 4))
    flow = _compiled(_small(encoder, decoder))(maps, jnp.ones((2, 1, 6)))
    assert flow.shape == (2, 1, 32 * 2**decoder // 2**encoder, 64 * 2**decoder // 2**encoder, 2)
    assert flow.dtype == jnp.float32
    np.testing.assert_array_equal(flow, 0)
    np.testing.assert_allclose(warp(maps, flow), maps, atol=1e-6)


def test_sides_that_cannot_be_halved_are_refused() -> None:
    with pytest.raises(ValueError, match="maps of 32 x 36: 8 must divide both sides"):
        _small()(jnp.zeros((32, 36, 4)), jnp.zeros(6))
    with pytest.raises(ValueError, match="decoder of 4"):
        _small(3, 4)


def _compiled(module: WarpHourglass) -> Callable[[jax.Array, jax.Array], jax.Array]:
    graph, state = nnx.split(module)
    call = jax.jit(lambda state, maps, z: nnx.merge(graph, state)(maps, z))
    return lambda maps, z: call(state, maps, z)


def _with_head(module: WarpHourglass) -> WarpHourglass:
    """A head that is not zero, so that the rest shows."""
    module.flow.kernel[...] = 0.1 * jax.random.normal(jax.random.key(5), module.flow.kernel.shape)
    return module


def test_references_do_not_mix_and_the_code_matters() -> None:
    hourglass = _compiled(_with_head(_small()))
    maps, z = jax.random.normal(jax.random.key(0), (3, 16, 16, 4)), jax.random.normal(jax.random.key(1), (3, 6))
    flow = hourglass(maps, z)
    changed = hourglass(maps.at[1].add(jax.random.normal(jax.random.key(2), (16, 16, 4))), z)
    np.testing.assert_allclose(changed[np.array([0, 2])], flow[np.array([0, 2])], atol=1e-5)
    assert float(jnp.abs(changed[1] - flow[1]).max()) > 1e-3
    assert float(jnp.abs(hourglass(maps, z[::-1]) - flow)[0].max()) > 1e-3
    shared = hourglass(maps, z[:1])  # one code for all of them
    np.testing.assert_allclose(shared[0], flow[0], atol=1e-5)
    half = _compiled(_with_head(_small(dtype=jnp.bfloat16)))(maps, z)
    np.testing.assert_allclose(half, flow, atol=0.1 * float(jnp.abs(flow).max()))


def test_gradients_reach_every_parameter() -> None:
    maps, z = jax.random.normal(jax.random.key(0), (2, 16, 16, 4)), jax.random.normal(jax.random.key(1), (2, 6))
    graph, state = nnx.split(_with_head(_small()))

    def loss(state: nnx.State) -> jax.Array:
        return jnp.square(warp(maps, nnx.merge(graph, state)(maps, z)) - maps[::-1]).sum()

    # Biases of convolutions that a norm follows move nothing: the instance norm takes the mean away.
    moved = [float(jnp.abs(leaf).max()) > 1e-4 for leaf in jax.tree.leaves(jax.jit(jax.grad(loss))(state))]
    assert np.mean(moved) > 0.9


def test_learns_a_shift_that_the_code_asks_for() -> None:
    """Overfits: the code says left or right, the maps must follow."""
    import optax

    y, x = np.mgrid[:16, :16]

    def ball(centre: float) -> np.ndarray:
        return np.exp(-((x - centre) ** 2 + (y - 8) ** 2) / 12).astype(np.float32)[..., None]

    maps = jnp.asarray(np.concatenate([np.stack([ball(8), ball(8)]), np.ones((2, 16, 16, 3))], -1), jnp.float32)
    target = jnp.asarray(np.stack([ball(6), ball(10)]))
    codes = jnp.array([[1.0] * 6, [-1.0] * 6])
    graph, state = nnx.split(_small())
    optimiser = optax.adam(1e-2)

    def loss(state: nnx.State) -> jax.Array:
        return jnp.square(warp(maps, nnx.merge(graph, state)(maps, codes))[..., :1] - target).mean()

    @jax.jit
    def step(state: nnx.State, moments: optax.OptState) -> tuple[nnx.State, optax.OptState, jax.Array]:
        value, gradient = jax.value_and_grad(loss)(state)
        updates, moments = optimiser.update(gradient, moments)
        return optax.apply_updates(state, updates), moments, value

    moments = optimiser.init(state)
    values = []
    for _ in range(60):
        state, moments, value = step(state, moments)
        values.append(float(value))
    assert values[-1] < 0.1 * values[0]


def test_point_warp_is_three_layers_and_a_clamp() -> None:
    module = PointWarp(255, rngs=nnx.Rngs(0))
    assert sum(leaf.size for leaf in jax.tree.leaves(nnx.state(module))) == 36_962
    x = np.random.default_rng(0).normal(size=(4, 9, 255)).astype(np.float32)
    offsets = module(jnp.asarray(x))
    assert offsets.shape == (4, 9, 2) and float(jnp.abs(offsets).max()) < 1e-3
    kernels = [np.asarray(layer.kernel[...]) for layer in module.layers]
    for kernel in kernels[:2]:
        np.testing.assert_allclose(kernel.std(), 1e-3, rtol=0.1)
    for layer in module.layers:
        layer.kernel[...] = 150 * layer.kernel[...]
    hidden = x
    for kernel in kernels[:2]:
        hidden = np.maximum(hidden @ (150 * kernel), 0)
    expected = hidden @ (150 * kernels[2])
    assert np.abs(expected).max() > 0.1
    np.testing.assert_allclose(module(jnp.asarray(x)), expected, atol=1e-4)
    module.layers[2].bias[...] = jnp.array([30.0, -30.0])
    np.testing.assert_array_equal(module(jnp.asarray(x)), np.broadcast_to([10, -10], (4, 9, 2)))
