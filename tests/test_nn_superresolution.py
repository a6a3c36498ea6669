"""Modulated convolutions one picture at a time, and EG3D's super-resolution written out."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from jaxtalk.nn.superresolution import Hybrid4x, ModulatedConv
from jaxtalk.nn.unet import doubled
from tests.filled_module import filled
from tests.slow_convolution import leaky, slow_blur, slow_convolution


def _slow_modulated(conv: ModulatedConv, x: np.ndarray, styles: np.ndarray) -> np.ndarray:
    """Picture by picture, the weights themselves changed; zeros between pixels are blurred before the convolution."""
    kernel, bias = np.asarray(conv.kernel[...], np.float64), np.asarray(conv.bias[...])
    results = []
    for picture, style in zip(x, np.broadcast_to(styles, (len(x), kernel.shape[2])), strict=True):
        weights = kernel * style[:, None]
        if conv.demodulate:
            weights = weights / np.sqrt((weights**2).sum((0, 1, 2)) + 1e-8)
        else:
            weights = weights / np.sqrt(np.prod(kernel.shape[:3]))
        maps = picture[None].astype(np.float64)
        if conv.up:
            wide = np.zeros((1, 2 * maps.shape[1], 2 * maps.shape[2], maps.shape[3]))
            wide[:, ::2, ::2] = maps
            maps = 4 * slow_blur(np.pad(wide, ((0, 0), (2, 1), (2, 1), (0, 0))), 0)
        results.append(slow_convolution(maps, weights, bias=bias)[0])
    return np.stack(results)


@pytest.mark.parametrize("demodulate", [True, False])
@pytest.mark.parametrize("kernel", [1, 3])
def test_against_weights_modulated_one_picture_at_a_time(kernel: int, demodulate: bool) -> None:
    rng = np.random.default_rng(0)
    conv = ModulatedConv(5, 4, kernel, demodulate=demodulate, rngs=nnx.Rngs(0))
    conv.bias[...] = jnp.asarray(rng.normal(size=4), jnp.float32)
    x, styles = rng.normal(size=(3, 6, 5, 5)).astype(np.float32), rng.normal(size=(3, 5)).astype(np.float32)
    found = conv(jnp.asarray(x), jnp.asarray(styles))
    np.testing.assert_allclose(found, _slow_modulated(conv, x, styles), atol=2e-5)
    shared = conv(jnp.asarray(x), jnp.asarray(styles[:1]))
    np.testing.assert_allclose(shared, _slow_modulated(conv, x, styles[:1]), atol=2e-5)


@pytest.mark.parametrize("kernel", [1, 3])
def test_up_is_a_blurred_doubling_before_the_convolution(kernel: int) -> None:
    """Convolving between the zeros first is the same away from the border, and less work."""
    rng = np.random.default_rng(0)
    conv = ModulatedConv(3, 4, kernel, up=True, rngs=nnx.Rngs(0))
    x, styles = rng.normal(size=(2, 6, 7, 3)).astype(np.float32), rng.normal(size=(2, 3)).astype(np.float32)
    found = np.asarray(conv(jnp.asarray(x), jnp.asarray(styles)))
    expected = _slow_modulated(conv, x, styles)
    assert found.shape == expected.shape == (2, 12, 14, 4)
    np.testing.assert_allclose(found[:, 2:-2, 2:-2], expected[:, 2:-2, 2:-2], atol=2e-5)
    identity = ModulatedConv(1, 1, kernel, up=True, rngs=nnx.Rngs(0))
    identity.kernel[...] = jnp.zeros((kernel, kernel, 1, 1)).at[kernel // 2, kernel // 2].set(1.0)
    maps = jnp.asarray(rng.normal(size=(1, 6, 6, 1)), jnp.float32)
    np.testing.assert_allclose(identity(maps, jnp.ones((1, 1)))[:, 1:-1, 1:-1], doubled(maps)[:, 1:-1, 1:-1], atol=1e-5)


def test_demodulation_forgets_the_size_of_a_style_and_keeps_variance() -> None:
    conv = ModulatedConv(64, 48, rngs=nnx.Rngs(0))
    x = jax.random.normal(jax.random.key(0), (2, 12, 12, 64))
    style = jax.random.uniform(jax.random.key(1), (1, 64), minval=0.5, maxval=2)
    np.testing.assert_allclose(conv(x, 10 * style), conv(x, style), atol=1e-3)
    np.testing.assert_allclose(conv(x, style)[:, 1:-1, 1:-1].std(), 1, rtol=0.1)
    plain = ModulatedConv(64, 48, demodulate=False, rngs=nnx.Rngs(0))
    np.testing.assert_allclose(plain(x, 10 * style), 10 * plain(x, style), rtol=1e-3, atol=1e-3)


def _hybrid(inputs: int, dtype: type | None = None, plain: bool = False) -> Hybrid4x:
    module = filled(lambda: Hybrid4x(inputs, rngs=nnx.Rngs(0), dtype=dtype), equalised=True, plain=plain)
    for layer in module.source:  # these alone are not equalised
        layer.kernel[...] = layer.kernel[...] * np.prod(layer.kernel.shape[:3]) ** -0.5
    return module


def test_hybrid_written_out() -> None:
    module = _hybrid(5)
    rng = np.random.default_rng(0)
    coarse, source = rng.normal(size=(2, 4, 6, 5)), rng.normal(size=(2, 16, 24, 3))

    def double(x: np.ndarray) -> np.ndarray:
        return np.asarray(doubled(jnp.asarray(x, jnp.float32)))

    def styled(layer: nnx.Module, x: np.ndarray) -> np.ndarray:
        if layer.conv.up:  # compared with the slow one above, and not equal to it at the border
            return np.asarray(layer.conv(jnp.asarray(x, jnp.float32), layer.style[...][None]))
        return _slow_modulated(layer.conv, x, np.asarray(layer.style[...])[None])

    def act(x: np.ndarray) -> np.ndarray:
        return np.sqrt(2) * leaky(x)

    maps, x = [], source
    for layer, stride in zip(module.source, (1, 2, 2), strict=True):
        x = leaky(slow_convolution(x, np.asarray(layer.kernel[...]), 1, stride, np.asarray(layer.bias[...])))
        maps.append(x)
    x = np.concatenate([double(coarse), maps[1], double(maps[2])], -1)
    x = act(styled(module.first[1], act(styled(module.first[0], x))))
    colors = double(double(coarse[..., :3]) + styled(module.first_rgb, x))
    x = np.concatenate([act(styled(module.second[0], x)), maps[0]], -1)
    expected = colors + styled(module.second_rgb, act(styled(module.second[1], x)))
    found = jax.jit(lambda *maps: module(*maps))(jnp.asarray(coarse, jnp.float32), jnp.asarray(source, jnp.float32))
    assert found.shape == (2, 16, 24, 3)
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-3)


def test_parameters_of_hybrid() -> None:
    module = nnx.eval_shape(lambda: Hybrid4x(32, rngs=nnx.Rngs(0)))
    plain = sum(9 * i * o + o for i, o in ((3, 32), (32, 64), (64, 128)))
    modulated = sum(k * i * o + o + i for k, i, o in ((9, 224, 128), (9, 128, 128), (9, 128, 64), (9, 96, 64)))
    modulated += sum(i * 3 + 3 + i for i in (128, 64))
    assert sum(leaf.size for leaf in jax.tree.leaves(nnx.state(module, nnx.Param))) == plain + modulated


def test_gradients_reach_everything_and_half_precision_stays_near() -> None:
    coarse = jax.random.uniform(jax.random.key(0), (2, 4, 4, 3), minval=-1)
    source = jax.random.uniform(jax.random.key(1), (2, 16, 16, 3), minval=-1)
    graph, state = nnx.split(_hybrid(3))

    @jax.jit
    def loss(state: nnx.State, coarse: jax.Array, source: jax.Array) -> jax.Array:
        return jnp.square(nnx.merge(graph, state)(coarse, source) - source).mean()

    gradients = jax.grad(loss, argnums=(0, 1, 2))(state, coarse, source)
    assert all(float(jnp.abs(leaf).max()) > 1e-6 for leaf in jax.tree.leaves(gradients))
    half_graph = nnx.graphdef(_hybrid(3, jnp.bfloat16))
    exact, half = (jax.jit(lambda s, g=g: nnx.merge(g, s)(coarse, source))(state) for g in (graph, half_graph))
    assert half.dtype == jnp.float32
    assert 0 < float(jnp.abs(half - exact).max()) < 0.05 * float(jnp.abs(exact).max())


def test_sizes_that_do_not_fit_are_refused() -> None:
    module = _hybrid(3)
    with pytest.raises(ValueError, match="must be 4 times"):
        module(jnp.zeros((1, 4, 4, 3)), jnp.zeros((1, 8, 8, 3)))
    with pytest.raises(ValueError, match="2 are too few"):
        Hybrid4x(2, rngs=nnx.Rngs(0))


def test_learns_detail_from_the_source() -> None:
    """The coarse picture alone cannot tell what the stripes are; the source can."""
    stripes = jnp.asarray(np.indices((16, 16)).sum(0) % 2 * 2 - 1, jnp.float32)[..., None]
    source = jnp.stack([stripes, -stripes]) * jnp.array([0.5, 0.2, -0.4])
    coarse = jnp.zeros((2, 4, 4, 3))
    graph, state = nnx.split(_hybrid(3, plain=True))
    optimiser = optax.adam(5e-3)

    @jax.jit
    def step(state: nnx.State, moments: optax.OptState) -> tuple[nnx.State, optax.OptState, jax.Array]:
        def loss(state: nnx.State) -> jax.Array:
            return jnp.square(nnx.merge(graph, state)(coarse, source) - source).mean()

        value, gradient = jax.value_and_grad(loss)(state)
        updates, moments = optimiser.update(gradient, moments)
        return optax.apply_updates(state, updates), moments, value

    moments = optimiser.init(state)
    for _ in range(60):
        state, moments, value = step(state, moments)
    assert float(value) < 0.1 * float(jnp.square(source).mean())
