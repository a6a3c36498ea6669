"""StyleGAN2's discriminator: written out in NumPy, its blur, its groups, its gradients."""

from __future__ import annotations

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from jaxtalk.nn.stylegan_discriminator import EqualisedConv, StyleGanDiscriminator, blurred, minibatch_deviation
from tests.filled_module import filled
from tests.slow_convolution import leaky, slow_blur, slow_convolution


def _count(module: nnx.Module) -> int:
    return sum(leaf.size for leaf in jax.tree.leaves(nnx.state(module, nnx.Param)))


def _small(size: int = 16, dtype: type | None = None, plain: bool = True) -> StyleGanDiscriminator:
    def make() -> StyleGanDiscriminator:
        return StyleGanDiscriminator(size, base=64, limit=12, rngs=nnx.Rngs(0), dtype=dtype)

    return filled(make, equalised=True, plain=plain)


def _logits(module: StyleGanDiscriminator, images: jax.Array) -> jax.Array:
    return jax.jit(lambda images: module(images))(images)


@pytest.mark.parametrize(("size", "known"), [(256, 28_864_129), (64, None)])
def test_parameters_of_the_paper_s_sizes(size: int, known: int | None) -> None:
    widths = [min(32768 // 2**k, 512) for k in range(size.bit_length() - 1, 1, -1)]  # from the picture down to 4 x 4
    expected = 3 * widths[0] + widths[0]
    for i, o in itertools.pairwise(widths):
        expected += (9 * i * i + i) + (9 * i * o + o) + i * o
    expected += (9 * 513 * 512 + 512) + (16 * 512 * 512 + 512) + (512 + 1)
    module = nnx.eval_shape(lambda: StyleGanDiscriminator(size, rngs=nnx.Rngs(0)))
    assert _count(module) == expected and known in (None, expected)


def test_against_the_layers_written_out() -> None:
    module = _small(plain=False)
    images = np.random.default_rng(0).uniform(-1, 1, (6, 16, 16, 3)).astype(np.float32)

    def conv(layer: EqualisedConv, x: np.ndarray) -> np.ndarray:
        kernel = np.asarray(layer.kernel[...], np.float64)
        bias = 0.0 if layer.bias is None else np.asarray(layer.bias[...])
        kernel = kernel / np.sqrt(np.prod(kernel.shape[:3]))
        if layer.stride == 1:
            return slow_convolution(x, kernel, bias=bias)
        side = len(kernel)
        return slow_convolution(slow_blur(x, (side + 1) // 2), kernel, 0, 2, bias)

    def act(x: np.ndarray) -> np.ndarray:
        return np.sqrt(2) * leaky(x)

    x = act(conv(module.from_rgb, images))
    for block, side in zip(module.blocks, (8, 4), strict=True):
        x = (act(conv(block.conv2, act(conv(block.conv1, x)))) + conv(block.skip, x)) / np.sqrt(2)
        assert x.shape == (6, side, side, min(64 // side, 12))
    deviation = np.sqrt(x.var(0) + 1e-8).mean()  # 4 does not divide 6: one group of all
    x = np.concatenate([x, np.full((6, 4, 4, 1), deviation)], -1)
    x = act(conv(module.conv, x)).reshape(6, 1, 1, -1)
    expected = conv(module.out, act(conv(module.hidden, x)))[:, 0, 0, 0]
    np.testing.assert_allclose(_logits(module, images), expected, rtol=1e-4, atol=1e-5)
    assert np.ptp(expected) > 0.05


@pytest.mark.parametrize(("pad", "stride"), [(1, 2), (2, 1), (1, 1)])
def test_blur_is_the_kernel_written_out(pad: int, stride: int) -> None:
    maps = np.random.default_rng(0).normal(size=(2, 8, 6, 3)).astype(np.float32)
    expected = slow_blur(maps, pad)[:, ::stride, ::stride]
    np.testing.assert_allclose(blurred(jnp.asarray(maps), pad, stride), expected, atol=1e-6)
    point = np.zeros((1, 9, 9, 1), np.float32)
    point[0, 4, 4] = 64
    np.testing.assert_allclose(
        blurred(jnp.asarray(point), 2)[0, 3:7, 3:7, 0], np.outer([1, 3, 3, 1], [1, 3, 3, 1]), atol=1e-5
    )
    np.testing.assert_allclose(blurred(jnp.ones((1, 9, 9, 1)), 0), 1.0, atol=1e-6)


def test_mirrored_pictures_and_kernels_give_the_same() -> None:
    """Blur and stride are centred: neither side of the picture is preferred."""
    module = _small(32, plain=False)
    images = jax.random.uniform(jax.random.key(0), (4, 32, 32, 3))
    graph, state = nnx.split(module)
    flat = [(path, leaf) for path, leaf in nnx.to_flat_state(state)]

    def turned(path: tuple, leaf: nnx.Variable) -> nnx.Variable:
        value = leaf[...]
        if path == ("hidden", "kernel"):  # reads flattened maps of 4 x 4
            value = value.reshape(4, 4, -1, value.shape[-1])[:, ::-1].reshape(value.shape)
        elif path[-1] == "kernel":
            value = value[:, ::-1]
        return leaf.replace(value)

    mirrored = nnx.merge(graph, nnx.from_flat_state([(path, turned(path, leaf)) for path, leaf in flat]))
    np.testing.assert_allclose(_logits(mirrored, images[:, :, ::-1]), _logits(module, images), rtol=1e-4, atol=1e-5)


def test_minibatch_deviation_by_hand() -> None:
    maps = np.random.default_rng(0).normal(size=(8, 2, 3, 5)).astype(np.float32)
    found = np.asarray(minibatch_deviation(jnp.asarray(maps)))
    for which in (0, 1):  # two groups of four
        values = maps[which::2].reshape(4, -1)
        expected = np.mean([np.std(values[:, place]) for place in range(values.shape[1])])
        np.testing.assert_allclose(found[which], expected, rtol=1e-4)
    np.testing.assert_array_equal(found[2:], found[:-2])
    assert abs(found[0] - found[1]) > 1e-3


@pytest.mark.parametrize(
    ("batch", "groups"), [(1, 1), (2, 1), (3, 1), (4, 1), (5, 1), (6, 1), (10, 2), (12, 3), (40, 10)]
)
def test_groups_of_batches_that_four_does_not_divide(batch: int, groups: int) -> None:
    maps = jax.random.normal(jax.random.key(batch), (batch, 2, 2, 3))
    found = np.asarray(minibatch_deviation(maps))
    assert found.shape == (batch,) and len(np.unique(found)) == groups
    if batch == 1:
        np.testing.assert_allclose(found, 1e-4, rtol=1e-3)


def test_a_collapsed_batch_is_seen() -> None:
    """The same picture four times differs from that picture among others, by the deviation alone."""
    module = _small()
    images = jnp.broadcast_to(jnp.array([1.0, -1.0, 0.5, -0.5])[:, None, None, None], (4, 16, 16, 3))
    same = jnp.broadcast_to(images[:1], images.shape)
    assert abs(float(_logits(module, images)[0] - _logits(module, same)[0])) > 1e-3


def test_variance_is_kept_at_the_start_at_any_width() -> None:
    """Equalised: weights of N(0, 1), whatever the fan in, and outputs of about the inputs' size."""
    for inputs in (4, 400):
        layer = EqualisedConv(inputs, 64, 3, rngs=nnx.Rngs(0))
        np.testing.assert_allclose(np.asarray(layer.kernel[...]).std(), 1.0, rtol=0.05)
        x = jnp.asarray(np.random.default_rng(0).normal(size=(4, 16, 16, inputs)), jnp.float32)
        np.testing.assert_allclose(layer(x)[:, 1:-1, 1:-1].std(), 1.0, rtol=0.2)


def test_gradients_reach_every_parameter_and_the_picture() -> None:
    graph, state = nnx.split(_small())
    images = jax.random.uniform(jax.random.key(0), (4, 16, 16, 3), minval=-1)

    @jax.jit
    def gradients(state: nnx.State, images: jax.Array) -> tuple[nnx.State, jax.Array]:
        return jax.grad(lambda s, x: nnx.merge(graph, s)(x).sum(), argnums=(0, 1))(state, images)

    to_state, to_images = gradients(state, images)
    assert all(float(jnp.abs(leaf).max()) > 1e-4 for leaf in jax.tree.leaves(to_state))
    assert (np.abs(to_images).max((1, 2, 3)) > 1e-4).all()


def test_half_precision_keeps_parameters_and_logits_exact() -> None:
    images = jax.random.uniform(jax.random.key(0), (4, 16, 16, 3), minval=-1)
    exact, half = _logits(_small(), images), _small(dtype=jnp.bfloat16)
    logits = _logits(half, images)
    assert logits.dtype == jnp.float32
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(nnx.state(half)))
    difference = float(jnp.abs(logits - exact).max())
    assert 0 < difference < 0.05 * float(jnp.abs(exact).max())


def test_other_sizes_are_refused() -> None:
    for size in (4, 24):
        with pytest.raises(ValueError, match=f"power of two of at least 8, not {size}"):
            _small(size)
    with pytest.raises(ValueError, match="reads 16 x 16 x 3"):
        _small()(jnp.zeros((2, 32, 32, 3)))


def test_learns_to_tell_sharp_from_blurred() -> None:
    graph, state = nnx.split(_small(8))
    optimiser = optax.adam(1e-2, b1=0.0, b2=0.99)

    def pictures(key: jax.Array) -> jax.Array:
        sharp = jnp.sign(jax.random.normal(key, (16, 8, 8, 3)))
        return jnp.concatenate([sharp[:8], (sharp + jnp.roll(sharp, 1, 1) + jnp.roll(sharp, 1, 2))[8:] / 3])

    labels = jnp.where(jnp.arange(16) < 8, 1.0, -1.0)

    @jax.jit
    def step(state: nnx.State, moments: optax.OptState, key: jax.Array) -> tuple[nnx.State, optax.OptState]:
        def loss(state: nnx.State) -> jax.Array:
            return jax.nn.softplus(-labels * nnx.merge(graph, state)(pictures(key))).mean()

        updates, moments = optimiser.update(jax.grad(loss)(state), moments)
        return optax.apply_updates(state, updates), moments

    moments = optimiser.init(state)
    for key in jax.random.split(jax.random.key(0), 60):
        state, moments = step(state, moments, key)
    logits = nnx.merge(graph, state)(pictures(jax.random.key(77)))
    assert float((logits * labels > 0).mean()) >= 15 / 16
