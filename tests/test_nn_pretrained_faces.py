"""Networks that look at faces: equal to their torch declarations, and their published files readable."""

from __future__ import annotations

import json
from pathlib import Path

import jax
import numpy as np
import pytest
from flax import nnx

from jaxtalk.errors import JaxtalkError
from jaxtalk.nn.pretrained.deep3d import HEADS
from jaxtalk.nn.pretrained.iresnet import PReLU
from jaxtalk.weights import layouts
from jaxtalk.weights.convert import Layout, convert, full_shapes
from jaxtalk.weights.converted import put
from jaxtalk.weights.layouts import deep3d, iresnet, resnet
from tests.goldens.drawn import relative_error, uniform, weights

GOLDEN = np.load(Path(__file__).parent / "goldens" / "face_networks.npz")
MANIFESTS = {
    name: {key: tuple(shape) for key, shape in shapes.items()}
    for name, shapes in json.loads(str(GOLDEN["manifests"])).items()
}
TOLERANCE = 1e-4
PICTURES = uniform("pictures", (2, 64, 64, 3))


def _loaded(layout: Layout) -> nnx.Module:
    network = nnx.eval_shape(lambda: layout.network(nnx.Rngs(0)))
    put(network, convert(network, weights(MANIFESTS[layout.name]), layout, "golden"), "golden")
    return network


@nnx.jit
def _called(network: nnx.Module, images: jax.Array) -> list[jax.Array]:
    result = network(images)
    return result if isinstance(result, list) else [result]


@nnx.jit
def _face_taps(network: nnx.Module, faces: jax.Array) -> list[jax.Array]:
    return [*network.taps(faces), network(faces)]


def _compare(name: str, taps: list[jax.Array]) -> None:
    assert len(taps) == len([key for key in GOLDEN.files if key.startswith(f"{name}/")])
    errors = [relative_error(np.asarray(tap), GOLDEN[f"{name}/tap{index}"]) for index, tap in enumerate(taps)]
    print(name, max(errors))
    assert max(errors) < TOLERANCE, errors


def test_iresnet50_equals_torch() -> None:
    taps = _face_taps(_loaded(iresnet.IRESNET50), uniform("aligned faces", (2, 112, 112, 3), -1, 1))
    assert [tap.shape[1] for tap in taps] == [112, 56, 28, 14, 7, 512]
    _compare("iresnet50", taps)


@pytest.mark.parametrize(
    "layout", [resnet.RESNET34, resnet.RESNET50, deep3d.DEEP3D_RESNET50], ids=lambda layout: layout.name
)
def test_resnets_equal_torch(layout: Layout) -> None:
    _compare(layout.name, _called(_loaded(layout), PICTURES))


def test_deep3d_gives_257_coefficients() -> None:
    faces = np.zeros((3, 224, 224, 3), np.float32)
    assert nnx.eval_shape(lambda: deep3d.DEEP3D_RESNET50.network(nnx.Rngs(0))(faces)).shape == (3, 257)
    assert sum(size for _, size in HEADS) == 257


def test_prelu() -> None:
    layer = PReLU(2)
    layer.slope[...] = np.array([0.5, -1.0])
    np.testing.assert_allclose(layer(np.array([[2.0, 3.0], [-2.0, -3.0]])), [[2, 3], [-1, 3]])


@pytest.mark.parametrize(
    ("layout", "parameters"),
    [
        (iresnet.IRESNET50, 43_590_848),
        (iresnet.IRESNET100, 65_156_160),
        (resnet.RESNET34, 21_797_672),
        (resnet.RESNET50, 25_557_032),
        (deep3d.DEEP3D_RESNET50, 24_034_625),
    ],
    ids=lambda value: getattr(value, "name", value),
)
def test_published_files_fit(layout: Layout, parameters: int) -> None:
    """`parameters` counts the torch network's, with the classifier that we leave out of ResNets."""
    assert layouts.find(layout.name) is layout
    state = {key: np.broadcast_to(np.float32(0), shape) for key, shape in MANIFESTS[layout.name].items()}
    buffers = ("running_mean", "running_var", "num_batches_tracked")
    assert sum(array.size for key, array in state.items() if not key.endswith(buffers)) == parameters
    shapes = full_shapes(layout)
    converted = convert(shapes, state, layout, "file")
    assert {path: array.shape for path, array in converted.items()} == shapes
    extra = {**state, "layer5.0.conv1.weight": np.zeros((1, 1, 3, 3))}
    with pytest.raises(JaxtalkError, match=r"1 not of this network: layer5\.0\.conv1\.weight"):
        convert(shapes, extra, layout, "file")
    narrow = {**state, next(iter(state)): np.zeros((1, 3, 3, 3))}
    with pytest.raises(JaxtalkError, match=r"1 of another shape: .*conv1\.weight \(1, 3, 3, 3\)"):
        convert(shapes, narrow, layout, "file")
