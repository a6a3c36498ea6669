"""The VGG perceptual loss, its taps and where its gradient flows."""

from __future__ import annotations

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxtalk.losses.perceptual import VGG19_TAPS, load_vgg16, load_vgg19, perceptual
from jaxtalk.nn.pretrained.vgg import PERCEPTUAL_TAPS, Vgg
from jaxtalk.weights import WeightsAbsent
from tests.goldens import drawn
from tests.pretrained_case import published, put_in_cache


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Vgg:
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JAXTALK_CACHE", str(folder))
        with pytest.raises(WeightsAbsent, match="jaxtalk weights get vgg16"):
            load_vgg16()
        put_in_cache(folder, "vgg16")
        return load_vgg16()


@pytest.fixture(scope="module")
def pair() -> tuple[jax.Array, jax.Array]:
    image, target = (jnp.asarray(drawn.uniform(which, (2, 24, 20, 3))) for which in ("image", "target"))
    return image, target


def test_by_hand(network: Vgg, pair: tuple[jax.Array, jax.Array]) -> None:
    """One tap after the other, one picture after the other."""
    assert PERCEPTUAL_TAPS == ("relu1_2", "relu2_2", "relu3_3", "relu4_3")
    normal = [(np.asarray(x) - np.float32([0.485, 0.456, 0.406])) / np.float32([0.229, 0.224, 0.225]) for x in pair]
    expected = np.zeros(2)
    for index in range(2):
        for ours, theirs in zip(*(network(jnp.asarray(x[index : index + 1])) for x in normal), strict=True):
            expected[index] += np.mean(np.abs(np.asarray(ours) - np.asarray(theirs)))
    values = jax.jit(lambda image, target: perceptual(network, image, target))(*pair)
    np.testing.assert_allclose(values, expected, rtol=1e-4)
    assert len(network(pair[0])) == 4 and expected[0] != expected[1]


def test_zero_for_the_same_picture(network: Vgg, pair: tuple[jax.Array, jax.Array]) -> None:
    np.testing.assert_array_equal(perceptual(network, pair[0], pair[0]), 0.0)


def test_gradients_flow_to_the_image_alone(network: Vgg, pair: tuple[jax.Array, jax.Array]) -> None:
    graph, state = nnx.split(network)

    def loss(image: jax.Array, target: jax.Array, state: nnx.State) -> jax.Array:
        return perceptual(nnx.merge(graph, state), image, target).sum()

    to_image, to_target, to_state = jax.jit(jax.grad(loss, argnums=(0, 1, 2)))(*pair, state)
    assert float(jnp.abs(to_image).max()) > 1e-4
    np.testing.assert_array_equal(to_target, 0.0)
    assert all(not np.asarray(leaf).any() for leaf in jax.tree.leaves(to_state))


def test_following_the_gradient_lowers_the_loss(network: Vgg, pair: tuple[jax.Array, jax.Array]) -> None:
    @jax.jit
    def loss(image: jax.Array) -> jax.Array:
        return perceptual(network, image, pair[1]).sum()

    value, gradient = jax.value_and_grad(loss)(pair[0])
    step = 1e-3 * value / jnp.sum(gradient**2)
    assert loss(pair[0] - step * gradient) < value


def test_vgg19_with_its_taps_equally_weighted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, network: Vgg, pair: tuple[jax.Array, jax.Array]
) -> None:
    """The first convolution of each stage, by the published file's numbers of the layers (0, 5, 10, 19, 28)."""
    monkeypatch.setenv("JAXTALK_CACHE", str(tmp_path))
    with pytest.raises(WeightsAbsent, match="jaxtalk weights get vgg19"):
        load_vgg19()
    put_in_cache(tmp_path, "vgg19")
    deep = load_vgg19()
    theirs = published("vgg19")
    for stage, place in enumerate((0, 5, 10, 19, 28)):
        kernel = deep.stages[stage][0].kernel[...]
        np.testing.assert_array_equal(kernel, theirs[f"features.{place}.weight"].transpose(2, 3, 1, 0))
    assert [f"relu{stage}_1" for stage in range(1, 6)] == list(VGG19_TAPS)
    normal = [(x - jnp.array([0.485, 0.456, 0.406])) / jnp.array([0.229, 0.224, 0.225]) for x in pair]
    features = jax.jit(deep.__call__)(jnp.concatenate(normal))
    assert [(maps.shape[1], maps.shape[-1]) for maps in features] == [(24, 64), (12, 128), (6, 256), (3, 512), (1, 512)]
    expected = sum(jnp.abs(maps[:2] - maps[2:]).mean((1, 2, 3)) for maps in features)
    np.testing.assert_allclose(perceptual(deep, *pair), expected, rtol=1e-4)
    assert float(jnp.abs(expected - perceptual(network, *pair)).max()) > 1e-3
