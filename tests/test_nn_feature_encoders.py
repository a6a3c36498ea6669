"""The encoders: reference sizes, where each feature looks, ImageNet weights and what is wrong with them."""

from __future__ import annotations

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxtalk.errors import JaxtalkError
from jaxtalk.nn.feature_encoders import DfrfFeatures, Resnet34Features, SmallFeatures, make_encoder
from jaxtalk.nn.resnet import ResNet34, load_imagenet
from jaxtalk.ops.encodings import positional_encoding


def _size(module: nnx.Module) -> int:
    return sum(leaf.size for leaf in jax.tree.leaves(nnx.state(module, nnx.Param)))


def _run(module: nnx.Module, *inputs: jax.Array | np.ndarray) -> jax.Array:
    graph, state = nnx.split(module)
    return jax.jit(lambda state, *inputs: nnx.merge(graph, state)(*inputs))(state, *inputs)


def _correlate(x: np.ndarray, kernel: np.ndarray, stride: int) -> np.ndarray:
    """A zero padded convolution of one picture [H, W, inputs], by its definition; kernel [k, k, inputs, outputs]."""
    size, pad = kernel.shape[0], (kernel.shape[0] - 1) // 2
    padded = np.pad(x, ((pad, size), (pad, size), (0, 0)))
    rows, columns = range(0, x.shape[0], stride), range(0, x.shape[1], stride)
    return np.array(
        [[np.einsum("abi,abio->o", padded[r : r + size, c : c + size], kernel) for c in columns] for r in rows]
    )


def _conv(layer: nnx.Conv, x: np.ndarray, stride: int = 1) -> np.ndarray:
    y = _correlate(x, np.asarray(layer.kernel[...]), stride)
    return y if layer.bias is None else y + np.asarray(layer.bias[...])


def test_parameter_counts_of_the_references() -> None:
    assert _size(nnx.eval_shape(lambda: DfrfFeatures(rngs=nnx.Rngs(0)))) == 83_328
    for norm in ("group", "frozen_batch"):
        assert _size(nnx.eval_shape(lambda norm=norm: ResNet34(norm, rngs=nnx.Rngs(0)))) == 21_284_672
        features = nnx.eval_shape(lambda norm=norm: Resnet34Features(norm, rngs=nnx.Rngs(0)))
        # layer4: 512 wide, three blocks of two convolutions and norms, one of them with a shortcut
        layer4 = 9 * 256 * 512 + 5 * 9 * 512 * 512 + 256 * 512 + 7 * 2 * 512
        assert _size(features) == 21_284_672 - layer4


def test_dfrf_features_are_their_definition() -> None:
    module = DfrfFeatures(rngs=nnx.Rngs(0))
    images = np.random.default_rng(0).uniform(size=(2, 5, 6, 3)).astype(np.float32)
    centre = np.array([[0.1, -0.2, 0.7], [0.0, 0.1, 0.9]], np.float32)
    result = _run(module, images, centre)
    assert result.shape == (2, 5, 6, 128) and module.channels == 128
    for i in range(2):
        place = np.broadcast_to(positional_encoding(centre[i], 5), (5, 6, 33))
        x = np.concatenate([positional_encoding(images[i], 5), place], -1)
        for layer in module.convolutions:
            x = np.maximum(_conv(layer, x), 0)
        expected = x @ np.asarray(module.out.kernel[...]) + np.asarray(module.out.bias[...])
        np.testing.assert_allclose(result[i], expected, atol=1e-4)


def test_small_features_hold_the_picture_and_keep_places() -> None:
    module = make_encoder("small", channels=(4, 6, 8), rngs=nnx.Rngs(0))
    images = np.random.default_rng(0).uniform(size=(2, 16, 24, 3)).astype(np.float32)
    result = np.asarray(_run(module, images))
    assert result.shape == (2, 16, 24, 21) and module.channels == 21
    np.testing.assert_array_equal(result[..., :3], images)
    # A change of one pixel moves the features around it, evenly to both sides.
    changed = images.copy()
    changed[0, 9, 12] += 0.5
    moved = np.abs(np.asarray(_run(module, changed)) - result)[0] > 1e-6
    for channels, least, most in ((slice(3, 7), 0, 1), (slice(7, 13), 1, 5), (slice(13, 21), 1, 11)):
        rows, columns = np.nonzero(moved[..., channels].any(-1))
        for places, pixel in ((rows, 9), (columns, 12)):
            assert least <= places.max() - pixel <= most and least <= pixel - places.min() <= most


def test_small_features_of_flipped_kernels_are_flipped() -> None:
    """The centres stay: mirrored pictures under mirrored kernels give mirrored features."""
    module = SmallFeatures((4, 6, 8), rngs=nnx.Rngs(0))
    images = np.random.default_rng(1).uniform(size=(1, 16, 16, 3)).astype(np.float32)
    result = np.asarray(_run(module, images))
    for layer in module.convolutions:
        layer.kernel[...] = layer.kernel[...][:, ::-1]
    np.testing.assert_allclose(_run(module, images[:, :, ::-1]), result[:, :, ::-1], atol=1e-5)


def test_unknown_encoders_are_refused() -> None:
    with pytest.raises(ValueError, match="'vgg'"):
        make_encoder("vgg", rngs=nnx.Rngs(0))
    with pytest.raises(ValueError, match="'batch'"):
        Resnet34Features("batch", rngs=nnx.Rngs(0))


@pytest.fixture(scope="module")
def resnet() -> Resnet34Features:
    module = make_encoder("resnet34", norm="group", rngs=nnx.Rngs(0))
    assert isinstance(module, Resnet34Features)
    return module


def test_resnet_features_at_half_size(resnet: Resnet34Features) -> None:
    images = np.random.default_rng(0).uniform(size=(1, 2, 64, 32, 3)).astype(np.float32)
    graph, state = nnx.split(resnet)
    features = jax.jit(lambda state, images: nnx.merge(graph, state)(images))
    result = np.asarray(features(state, images))
    assert result.shape == (1, 2, 32, 16, 512) and resnet.channels == 512
    maps = _run(resnet.network, images)
    assert [x.shape[2:] for x in maps] == [(32, 16, 64), (16, 8, 64), (8, 4, 128), (4, 2, 256)]
    np.testing.assert_array_equal(result[..., :64], maps[0])
    corners = np.array([0, -1])[:, None], np.array([0, -1])  # resizing keeps corners
    for x, channels in zip(maps[1:], (slice(64, 128), slice(128, 256), slice(256, 512)), strict=True):
        np.testing.assert_allclose(result[0, 1][corners][..., channels], np.asarray(x)[0, 1][corners], atol=1e-4)
    other = features(state, images[:, [0, 0]])  # pictures do not mix
    np.testing.assert_allclose(other[:, 0], result[:, 0], atol=1e-3)
    assert 0.05 < result.std() < 20  # neither faded nor blown up


def _torchvision_arrays(seed: int = 0) -> dict[str, np.ndarray]:
    """Random arrays with the names and shapes of torchvision's resnet34 state dict."""
    random = np.random.default_rng(seed)
    arrays: dict[str, np.ndarray] = {}

    def conv(name: str, inputs: int, outputs: int, kernel: int) -> None:
        scale = (2 / (inputs * kernel**2)) ** 0.5
        arrays[f"{name}.weight"] = random.normal(0, scale, (outputs, inputs, kernel, kernel)).astype(np.float32)

    def norm(name: str, channels: int) -> None:
        for part, low in (("weight", 0.5), ("bias", -0.5), ("running_mean", -0.5), ("running_var", 0.5)):
            arrays[f"{name}.{part}"] = random.uniform(low, low + 1, channels).astype(np.float32)
        arrays[f"{name}.num_batches_tracked"] = np.array(7)

    conv("conv1", 3, 64, 7)
    norm("bn1", 64)
    width = 64
    for layer, (depth, outputs) in enumerate(((3, 64), (4, 128), (6, 256), (3, 512)), 1):
        for block in range(depth):
            name = f"layer{layer}.{block}"
            conv(f"{name}.conv1", width, outputs, 3)
            norm(f"{name}.bn1", outputs)
            conv(f"{name}.conv2", outputs, outputs, 3)
            norm(f"{name}.bn2", outputs)
            if width != outputs:
                conv(f"{name}.downsample.0", width, outputs, 1)
                norm(f"{name}.downsample.1", outputs)
            width = outputs
    arrays["fc.weight"], arrays["fc.bias"] = np.zeros((1000, 512), np.float32), np.zeros(1000, np.float32)
    return arrays


def _slow_resnet(arrays: dict[str, np.ndarray], image: np.ndarray, layers: int) -> list[np.ndarray]:
    """torchvision's forward pass in evaluation mode, by definitions."""

    def conv(x: np.ndarray, name: str, stride: int) -> np.ndarray:
        return _correlate(x, arrays[f"{name}.weight"].transpose(2, 3, 1, 0), stride)

    def norm(x: np.ndarray, name: str) -> np.ndarray:
        weight, bias, mean, var = (
            arrays[f"{name}.{part}"] for part in ("weight", "bias", "running_mean", "running_var")
        )
        return (x - mean) / np.sqrt(var + 1e-5) * weight + bias

    x = (image - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    x = np.maximum(norm(conv(x, "conv1", 2), "bn1"), 0)
    outputs = [x]
    padded = np.pad(x, ((1, 1), (1, 1), (0, 0)), constant_values=-np.inf)
    x = np.array(
        [[padded[r : r + 3, c : c + 3].max((0, 1)) for c in range(0, x.shape[1], 2)] for r in range(0, x.shape[0], 2)]
    )
    for layer, depth in zip(range(1, layers + 1), (3, 4, 6, 3), strict=False):
        for block in range(depth):
            name, stride = f"layer{layer}.{block}", 2 if layer > 1 and block == 0 else 1
            y = np.maximum(norm(conv(x, f"{name}.conv1", stride), f"{name}.bn1"), 0)
            y = norm(conv(y, f"{name}.conv2", 1), f"{name}.bn2")
            if f"{name}.downsample.0.weight" in arrays:
                x = norm(conv(x, f"{name}.downsample.0", stride), f"{name}.downsample.1")
            x = np.maximum(x + y, 0)
        outputs.append(x)
    return outputs


def test_imagenet_weights_give_torchvision_s_network(tmp_path: Path) -> None:
    """Every layer, stride, norm and shortcut, through the file."""
    arrays = _torchvision_arrays()
    np.savez(tmp_path / "resnet34.npz", **arrays)
    module = Resnet34Features("frozen_batch", rngs=nnx.Rngs(0))
    module.load_imagenet(tmp_path / "resnet34.npz")
    image = np.random.default_rng(1).uniform(size=(32, 16, 3)).astype(np.float32)
    for result, expected in zip(_run(module.network, image[None]), _slow_resnet(arrays, image, 3), strict=True):
        np.testing.assert_allclose(result[0], expected, rtol=2e-3, atol=2e-3 * np.abs(expected).max())


def test_wrong_weights_are_named(tmp_path: Path, resnet: Resnet34Features) -> None:
    network = ResNet34("frozen_batch", layers=1, rngs=nnx.Rngs(0))
    path, whole = tmp_path / "weights.npz", _torchvision_arrays()
    whole = {name: value for name, value in whole.items() if not name.startswith(("layer3", "layer4"))}

    def refused(arrays: dict[str, np.ndarray], message: str) -> None:
        np.savez(path, **arrays)
        with pytest.raises(JaxtalkError, match=message) as error:
            load_imagenet(network, path)
        assert str(path) in str(error.value) and "\n" not in str(error.value)

    before = np.asarray(network.conv1.kernel[...])
    refused({name: value for name, value in whole.items() if name != "layer1.2.bn2.bias"}, "layer1.2.bn2.bias is miss")
    refused({**whole, "conv1.weights": whole["conv1.weight"]}, "conv1.weights is no array")
    refused({**whole, "layer1.0.conv1.weight": whole["conv1.weight"]}, r"layer1.0.conv1.weight has shape \(64, 3, 7, 7")
    refused({**whole, "bn1.running_var": np.ones(63)}, r"bn1.running_var has shape \(63,\)")
    np.testing.assert_array_equal(network.conv1.kernel[...], before)  # nothing is half loaded
    path.write_bytes(b"no zip")
    with pytest.raises(JaxtalkError, match="numpy can read"):
        load_imagenet(network, path)
    with pytest.raises(JaxtalkError, match="frozen_batch"):
        resnet.load_imagenet(path)
    np.savez(path, **whole)
    load_imagenet(network, path)
    np.testing.assert_array_equal(network.conv1.kernel[...], whole["conv1.weight"].transpose(2, 3, 1, 0))


def test_frozen_statistics_are_no_parameters_and_scales_are(tmp_path: Path) -> None:
    network = ResNet34("frozen_batch", layers=1, rngs=nnx.Rngs(0))
    statistics = jax.tree.leaves(nnx.state(network, nnx.BatchStat))
    assert len(statistics) == 2 * 7  # mean and variance of conv1's norm and of two in each of three blocks
    graph, parameters, rest = nnx.split(network, nnx.Param, ...)
    images = jax.random.uniform(jax.random.key(0), (1, 16, 16, 3))
    gradient = jax.jit(jax.grad(lambda p: jnp.square(nnx.merge(graph, p, rest)(images)[-1]).mean()))(parameters)
    assert all(float(jnp.abs(leaf).max()) > 0 for leaf in jax.tree.leaves(gradient))
