"""The image networks give what torch gives, at 1e-4: see goldens/make_image_networks.py."""

from __future__ import annotations

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxtalk import weights
from jaxtalk.errors import JaxtalkError
from jaxtalk.nn.pretrained.vgg import Vgg
from jaxtalk.weights import layouts
from jaxtalk.weights.convert import convert, full_shapes
from jaxtalk.weights.converted import put
from tests.goldens import drawn
from tests.pretrained_case import GOLDEN, published

TOLERANCE = 1e-4
PARAMETERS = {
    "alexnet": 2_469_696,
    "vgg16": 14_714_688,
    "vgg19": 20_024_384,
    "inception_fid": 21_785_568,
    "lpips_alex": 1_152,
    "lpips_vgg": 1_472,
    "dfa_disentangler": 133_728,
    "dfa_cat": 65_743,
}


@pytest.fixture(scope="module")
def golden() -> dict[str, np.ndarray]:
    with np.load(GOLDEN) as file:
        return dict(file)


def network(golden: dict[str, np.ndarray], name: str) -> nnx.Module:
    layout = layouts.find(name)
    built = nnx.eval_shape(lambda: layout.network(nnx.Rngs(0)))
    put(built, convert(built, published(name), layout, name), name)
    return built


def check_taps(golden: dict[str, np.ndarray], name: str, taps: list[jax.Array]) -> None:
    expected = [golden[f"{name}/tap{index}"] for index in range(len(taps))]
    assert f"{name}/tap{len(taps)}" not in golden
    errors = [drawn.relative_error(np.asarray(tap), value) for tap, value in zip(taps, expected, strict=True)]
    assert max(errors) < TOLERANCE, errors
    assert all(np.std(value) > 1e-3 for value in expected)


@pytest.mark.parametrize("name", PARAMETERS)
def test_sizes_are_those_of_the_published_networks(name: str) -> None:
    shapes = full_shapes(layouts.find(name))
    statistics = {path for path in shapes if path.endswith(("/mean", "/var"))}
    assert sum(int(np.prod(shape)) for path, shape in shapes.items() if path not in statistics) == PARAMETERS[name]


def test_alexnet(golden: dict[str, np.ndarray]) -> None:
    images = drawn.uniform("alexnet pictures", (2, 67, 59, 3), -2, 2)
    check_taps(golden, "alexnet", jax.jit(network(golden, "alexnet"))(images))


def vgg(golden: dict[str, np.ndarray], depth: int, taps: tuple[str, ...]) -> Vgg:
    built = nnx.eval_shape(lambda: Vgg(depth, taps, rngs=nnx.Rngs(0)))
    put(built, convert(built, published(f"vgg{depth}"), layouts.find(f"vgg{depth}"), "vgg"), "vgg")
    return built


@pytest.mark.parametrize("depth", [16, 19])
def test_vgg(golden: dict[str, np.ndarray], depth: int) -> None:
    last = (2, 2, 3, 3, 3) if depth == 16 else (2, 2, 4, 4, 4)
    network = vgg(golden, depth, tuple(f"relu{stage + 1}_{count}" for stage, count in enumerate(last)))
    check_taps(golden, f"vgg{depth}", network(drawn.uniform("vgg pictures", (2, 40, 37, 3), -2, 2)))


def test_vgg_taps_come_in_the_order_of_their_names(golden: dict[str, np.ndarray]) -> None:
    images = jnp.asarray(drawn.uniform("vgg pictures", (1, 16, 16, 3)))
    taps = vgg(golden, 16, ("relu1_2", "relu2_1", "relu3_3"))(images)
    again = vgg(golden, 16, ("relu3_3", "relu1_2"))(images)
    assert [tap.shape for tap in taps] == [(1, 16, 16, 64), (1, 8, 8, 128), (1, 4, 4, 256)]
    np.testing.assert_array_equal(taps[2], again[0])
    np.testing.assert_array_equal(taps[0], again[1])
    for bad in ("relu3_4", "relu6_1", "relu0_1", "relu1_0", "conv1_1"):
        with pytest.raises(ValueError, match=f"VGG16 has no '{bad}'"):
            Vgg(16, (bad,), rngs=nnx.Rngs(0))


def test_inception(golden: dict[str, np.ndarray]) -> None:
    """At a size where all poolings have a border and an inside."""
    images = drawn.uniform("inception pictures", (1, 147, 163, 3))
    inception = network(golden, "inception_fid")
    taps = jax.jit(lambda images: [*inception.taps(images), inception(images)])(images)
    assert taps[-2].shape == (1, 3, 3, 2048)
    check_taps(golden, "inception_fid", taps)


def test_disentangler(golden: dict[str, np.ndarray]) -> None:
    encoder, decoder = network(golden, "dfa_disentangler"), network(golden, "dfa_cat")
    other, mouth = encoder(drawn.uniform("expressions", (3, 79), -2, 2))
    for name, value in {"other": other, "mouth": mouth, "decoded": decoder(other, mouth)}.items():
        expected = golden[f"dfa/{name}"]
        assert np.abs(value - expected).max() < TOLERANCE * np.abs(expected).max(), name


def test_the_released_disentangler_separates_the_mouth(real_data: Path, tmp_path: Path) -> None:
    """What is decoded from A's other code and B's mouth has B's mouth when it is encoded again."""
    files = {"dfa_disentangler": "dfanerf_64_32_dis_ckpt.pth", "dfa_cat": "dfanerf_64_32_cat_ckpt.pth"}
    loaded = {}
    for name, file in files.items():
        if not (real_data / "models" / file).is_file():
            pytest.skip(f"{file} is not in {real_data / 'models'}")
        path = weights.convert_file(name, real_data / "models" / file, tmp_path / f"{name}.npz")
        loaded[name] = weights.load(name, path=path)
    encoder, decoder = loaded["dfa_disentangler"], loaded["dfa_cat"]
    expressions = jax.random.normal(jax.random.key(0), (2, 256, 79))
    (other_a, mouth_a), (_, mouth_b) = encoder(expressions[0]), encoder(expressions[1])
    _, mouth = encoder(decoder(other_a, mouth_b))
    spread = jnp.mean(jnp.square(mouth_b - mouth_b.mean(0)))
    assert jnp.mean(jnp.square(mouth - mouth_b)) < 0.5 * spread  # measured: 0.36
    assert jnp.mean(jnp.square(mouth - mouth_a)) > 1.5 * spread  # 2.1


@pytest.mark.parametrize("name", [name for name in PARAMETERS if not name.startswith("lpips")])
def test_cut_and_foreign_files_are_refused(name: str) -> None:
    shapes, layout = full_shapes(layouts.find(name)), layouts.find(name)
    whole = {key: np.broadcast_to(np.float32(1), value.shape) for key, value in published(name).items()}
    convert(shapes, whole, layout, "whole.pth")
    last = [key for key in whole if not key.startswith(("classifier", "fc.")) and "num_batches" not in key][-1]
    with pytest.raises(JaxtalkError, match=rf"cut\.pth: not a whole file of {name}; keys 1 missing: {last}"):
        convert(shapes, {key: value for key, value in whole.items() if key != last}, layout, "cut.pth")
    with pytest.raises(JaxtalkError, match=r"1 not of this network: AuxLogits\.conv\.weight"):
        convert(shapes, {**whole, "AuxLogits.conv.weight": np.ones(1)}, layout, "other.pth")
    with pytest.raises(JaxtalkError, match=rf"1 of another shape: {last} \(3, 1\)"):
        convert(shapes, {**whole, last: np.ones((3, 1))}, layout, "other.pth")


def test_vgg16_is_not_vgg19() -> None:
    state = {key: np.broadcast_to(np.float32(1), v.shape) for key, v in published("vgg19").items()}
    with pytest.raises(
        JaxtalkError, match=r"not a whole file of vgg16; keys 6 missing: features\.17.* 12 not of this network"
    ):
        convert(full_shapes(layouts.find("vgg16")), state, layouts.find("vgg16"), "vgg19.pth")
