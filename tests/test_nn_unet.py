"""The U-Net: written out layer by layer, its sizes, what it must be able to learn."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from jaxtalk.nn.unet import UNet, doubled
from tests.filled_module import filled
from tests.slow_convolution import leaky, slow_convolution


def _count(module: nnx.Module) -> int:
    return sum(leaf.size for leaf in jax.tree.leaves(nnx.state(module, nnx.Param)))


def _conv(inputs: int, outputs: int) -> int:
    return 9 * inputs * outputs + outputs


def _call(module: UNet, maps: jax.Array) -> jax.Array:
    return jax.jit(lambda maps: module(maps))(maps)


def test_parameters_of_the_two_sizes_of_the_card() -> None:
    deformation = nnx.eval_shape(lambda: UNet(512, 96, rngs=nnx.Rngs(0)))
    expected = sum(_conv(*pair) for pair in ((512, 128), (128, 256), (256, 256), (512, 256), (384, 128), (128, 96)))
    assert _count(deformation) == expected + 2 * (128 + 256 + 256 + 256 + 128)
    widths = (64, 128, 256, 512)
    fine = nnx.eval_shape(
        lambda: UNet(6, 3, widths, norm="none", activation="leaky_relu", residual_blocks=4, rngs=nnx.Rngs(0))
    )
    pairs = [(6, 64), (64, 128), (128, 256), (256, 512), *8 * [(512, 512)]]
    pairs += [(768, 256), (384, 128), (192, 64), (64, 3)]
    assert _count(fine) == sum(_conv(*pair) for pair in pairs)


@pytest.mark.parametrize("norm", ["group", "none"])
def test_against_the_layers_written_out(norm: str) -> None:
    activation = "silu" if norm == "group" else "leaky_relu"
    options = {"norm": norm, "activation": activation, "residual_blocks": 2}
    module = filled(lambda: UNet(3, 2, (8, 12, 16), rngs=nnx.Rngs(0), **options))
    maps = np.random.default_rng(0).normal(size=(2, 8, 12, 3)).astype(np.float32)

    def act(x: np.ndarray) -> np.ndarray:
        return x / (1 + np.exp(-x)) if norm == "group" else leaky(x)

    def run(layer: nnx.Module, x: np.ndarray, stride: int = 1) -> np.ndarray:
        x = slow_convolution(x, np.asarray(layer.conv.kernel[...]), 1, stride, np.asarray(layer.conv.bias[...]))
        if norm == "none":
            return x
        groups = x.reshape(len(x), -1, x.shape[-1] // 4, 4)  # four channels to a group
        mean, deviation = groups.mean((1, 3), keepdims=True), np.sqrt(groups.var((1, 3), keepdims=True) + 1e-6)
        normal = ((groups - mean) / deviation).reshape(x.shape)
        return normal * np.asarray(layer.norm[0].scale[...]) + np.asarray(layer.norm[0].bias[...])

    def double(x: np.ndarray) -> np.ndarray:
        return np.asarray(jax.image.resize(jnp.asarray(x), (2, 2 * x.shape[1], 2 * x.shape[2], x.shape[3]), "linear"))

    full = act(run(module.first, maps))
    half = act(run(module.down[0], full, 2))
    low = act(run(module.down[1], half, 2))
    for first, second in ((0, 1), (2, 3)):
        low = low + run(module.residual[second], act(run(module.residual[first], low)))
    up = act(run(module.up[0], np.concatenate([double(low), half], -1)))
    up = act(run(module.up[1], np.concatenate([double(up), full], -1)))
    expected = slow_convolution(up, np.asarray(module.last.kernel[...]), 1, 1, np.asarray(module.last.bias[...]))
    np.testing.assert_allclose(_call(module, jnp.asarray(maps)), expected, atol=2e-5)


@pytest.mark.parametrize("shape", [(2, 5, 3, 4), (1, 1, 6, 2), (3, 2, 8, 7, 1)])
def test_doubled_is_bilinear(shape: tuple[int, ...]) -> None:
    maps = jax.random.normal(jax.random.key(0), shape)
    wide = (*shape[:-3], 2 * shape[-3], 2 * shape[-2], shape[-1])
    np.testing.assert_allclose(doubled(maps), jax.image.resize(maps, wide, "linear"), atol=1e-6)


def test_zero_output_and_type() -> None:
    maps = jax.random.normal(jax.random.key(0), (2, 16, 16, 4))
    module = UNet(4, 3, (8,), zero_output=True, rngs=nnx.Rngs(0))  # drawn as users have it
    np.testing.assert_array_equal(_call(module, maps), 0)
    exact, half = (
        filled(lambda d=d: UNet(4, 3, (8, 16), residual_blocks=1, rngs=nnx.Rngs(0), dtype=d))
        for d in (None, jnp.bfloat16)
    )
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(nnx.state(half, nnx.Param)))
    wanted, found = _call(exact, maps), _call(half, maps)
    assert found.dtype == jnp.float32
    assert 0 < float(jnp.abs(found - wanted).max()) < 0.05 * float(jnp.abs(wanted).max())


def test_what_cannot_be_built_or_halved_is_refused() -> None:
    with pytest.raises(ValueError, match="maps of 16 x 18: 4 must divide both sides"):
        filled(lambda: UNet(1, 1, (4, 4, 4), rngs=nnx.Rngs(0)))(jnp.zeros((1, 16, 18, 1)))
    with pytest.raises(ValueError, match="norm must be"):
        UNet(1, 1, norm="batch", rngs=nnx.Rngs(0))
    with pytest.raises(ValueError, match="activation must be one of silu, leaky_relu"):
        UNet(1, 1, activation="relu", rngs=nnx.Rngs(0))


def test_pictures_of_a_batch_do_not_mix_and_far_places_are_seen() -> None:
    module = filled(lambda: UNet(2, 2, (8, 8, 8), rngs=nnx.Rngs(0)))
    maps = jax.random.normal(jax.random.key(0), (3, 16, 16, 2))
    before, after = _call(module, maps), _call(module, maps.at[1, 0, 0].add(5.0))
    np.testing.assert_allclose(after[::2], before[::2], atol=1e-6)
    assert float(jnp.abs(after - before)[1, 12, 12].max()) > 1e-4


def test_gradients_reach_every_parameter() -> None:
    graph, state = nnx.split(filled(lambda: UNet(3, 3, (8, 16), residual_blocks=1, rngs=nnx.Rngs(0))))
    maps = jax.random.normal(jax.random.key(0), (2, 8, 8, 3))
    gradient = jax.jit(jax.grad(lambda state: jnp.square(nnx.merge(graph, state)(maps) - maps).mean()))(state)
    flat = nnx.to_flat_state(gradient)
    # Of groups of four channels the norm takes away the mean alone: no channel's bias is without effect.
    assert all(float(jnp.abs(leaf[...]).max()) > 1e-7 for _, leaf in flat)


def test_learns_to_move_and_invert_a_picture() -> None:
    """Overfits: a local and a non-local change at once."""
    maps = jax.random.uniform(jax.random.key(0), (2, 4, 4, 1)).repeat(4, 1).repeat(4, 2)
    target = 1 - jnp.roll(maps, 3, 2)
    graph, state = nnx.split(
        filled(lambda: UNet(1, 1, (16, 16, 16), norm="none", activation="leaky_relu", rngs=nnx.Rngs(0)), plain=True)
    )
    optimiser = optax.adam(3e-3)

    def loss(state: nnx.State) -> jax.Array:
        return jnp.square(nnx.merge(graph, state)(maps) - target).mean()

    @jax.jit
    def step(state: nnx.State, moments: optax.OptState) -> tuple[nnx.State, optax.OptState, jax.Array]:
        value, gradient = jax.value_and_grad(loss)(state)
        updates, moments = optimiser.update(gradient, moments)
        return optax.apply_updates(state, updates), moments, value

    moments = optimiser.init(state)
    for _ in range(200):
        state, moments, value = step(state, moments)
    assert float(value) < 0.1 * float(jnp.var(target))
