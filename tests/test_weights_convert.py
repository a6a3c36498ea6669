"""State dicts of others become parameters of ours by a table, and nothing is left over."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxtalk.errors import JaxtalkError
from jaxtalk.weights import converted
from jaxtalk.weights.convert import Layout, Rule, convert, full_shapes, kernel, module, modules, shapes_of
from jaxtalk.weights.converted import Header


class Small(nnx.Module):
    """One of each kind of layer."""

    def __init__(self, width: int = 4, *, rngs: nnx.Rngs) -> None:
        self.conv = nnx.Conv(3, width, (3, 2), use_bias=False, rngs=rngs)
        self.norm = nnx.BatchNorm(width, use_running_average=True, rngs=rngs)
        self.blocks = nnx.List([nnx.Linear(width, width, rngs=rngs) for _ in range(2)])
        self.out = nnx.Conv(width, 2, (1, 2, 3), rngs=rngs)
        self.drop = nnx.Dropout(0.5, rngs=rngs)


LAYOUT = Layout(
    name="small",
    network=lambda rngs: Small(rngs=rngs),
    rules=(*modules({"conv": "net.0", "norm": "net.1"}), *module("blocks/*", "net.2.layer_*.fc"), *module("**", "**")),
    ignored=("head.*", "aux.**"),
)


def state_dict(width: int = 4) -> dict[str, np.ndarray]:
    """As torch names and shapes them, each array of other values."""
    shapes = {
        "net.0.weight": (width, 3, 3, 2),
        "net.1.weight": (width,),
        "net.1.bias": (width,),
        "net.1.running_mean": (width,),
        "net.1.running_var": (width,),
        "net.1.num_batches_tracked": (),
        **{f"net.2.layer_{i}.fc.weight": (width, width) for i in range(2)},
        **{f"net.2.layer_{i}.fc.bias": (width,) for i in range(2)},
        "out.weight": (2, width, 1, 2, 3),
        "out.bias": (2,),
        "head.weight": (5, 5),
        "aux.deep.er.weight": (1,),
    }
    generator = np.random.default_rng(0)
    return {name: generator.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}


def test_values_go_where_they_belong() -> None:
    theirs = state_dict()
    ours = convert(Small(rngs=nnx.Rngs(0)), theirs, LAYOUT, "file.pth")
    assert set(ours) == {
        *("conv/kernel", "norm/scale", "norm/bias", "norm/mean", "norm/var", "out/kernel", "out/bias"),
        *("blocks/0/kernel", "blocks/0/bias", "blocks/1/kernel", "blocks/1/bias"),
    }
    assert ours["conv/kernel"][2, 1, 0, 3] == theirs["net.0.weight"][3, 0, 2, 1]
    assert ours["out/kernel"][0, 1, 2, 3, 1] == theirs["out.weight"][1, 3, 0, 1, 2]
    np.testing.assert_array_equal(ours["blocks/1/kernel"], theirs["net.2.layer_1.fc.weight"].T)
    for path, name in {"scale": "weight", "bias": "bias", "mean": "running_mean", "var": "running_var"}.items():
        np.testing.assert_array_equal(ours[f"norm/{path}"], theirs[f"net.1.{name}"])


def test_kernels_compute_what_torch_computes() -> None:
    """A dense layer's kernel multiplies from the other side; a convolution's window slides over the middle axes."""
    weight = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)
    x = np.arange(6.0, dtype=np.float32).reshape(2, 3)
    np.testing.assert_allclose(x @ kernel(weight), np.einsum("oi,bi->bo", weight, x), atol=1e-5)
    weight = np.random.default_rng(0).normal(size=(2, 3, 2, 2)).astype(np.float32)
    x = np.random.default_rng(1).normal(size=(1, 2, 2, 3)).astype(np.float32)
    conv = nnx.Conv(3, 2, (2, 2), padding="VALID", use_bias=False, rngs=nnx.Rngs(0))
    conv.kernel[...] = jnp.asarray(kernel(weight))
    np.testing.assert_allclose(conv(x)[0, 0, 0], np.einsum("oihw,hwi->o", weight, x[0]), rtol=1e-5)


def test_floats_become_float32_and_bfloat16_is_read() -> None:
    theirs = state_dict()
    theirs["out.bias"] = np.asarray(jnp.asarray([1.5, -2.0], jnp.bfloat16))
    theirs["net.1.bias"] = theirs["net.1.bias"].astype(np.float64)
    ours = convert(full_shapes(LAYOUT), theirs, LAYOUT, "file.pth")
    assert {array.dtype for array in ours.values()} == {np.dtype(np.float32)}
    np.testing.assert_array_equal(ours["out/bias"], [1.5, -2.0])


def test_every_key_in_error_is_named_and_counted() -> None:
    theirs = state_dict()
    del theirs["net.2.layer_1.fc.bias"], theirs["net.1.running_var"]
    theirs["extra.weight"] = np.zeros(3)
    theirs["out.bias"] = np.zeros(7)
    theirs["net.1.bias"] = np.full(4, np.nan, np.float32)
    with pytest.raises(JaxtalkError) as caught:
        convert(full_shapes(LAYOUT), theirs, LAYOUT, "cut.pth")
    line = str(caught.value)
    assert line.startswith("cut.pth: not a whole file of small; keys ") and "\n" not in line
    assert "2 missing: net.1.running_var, net.2.layer_1.fc.bias" in line
    assert "1 not of this network: extra.weight" in line
    assert "1 of another shape: out.bias (7,) for out/bias (2,)" in line
    assert "1 not finite: net.1.bias" in line
    with pytest.raises(JaxtalkError, match=r"11 missing: net.0.weight, (.*, ){4}[a-z0-9._]* \.\.\."):
        convert(full_shapes(LAYOUT), {}, LAYOUT, "cut.pth")


def test_a_file_of_another_size_is_refused() -> None:
    with pytest.raises(JaxtalkError, match=r"10 of another shape: .*net\.0\.weight \(8, 3, 3, 2\) for conv/kernel"):
        convert(full_shapes(LAYOUT), state_dict(width=8), LAYOUT, "wide.pth")
    theirs = state_dict()
    theirs["net.0.weight"] = theirs["net.0.weight"].reshape(4, -1)  # of another rank
    with pytest.raises(JaxtalkError, match=r"1 of another shape: net\.0\.weight \(4, 18\)"):
        convert(full_shapes(LAYOUT), theirs, LAYOUT, "flat.pth")


def test_prefixes_and_renames() -> None:
    theirs = {f"module.{name}": array for name, array in state_dict().items()}
    theirs["module.exit.w"] = theirs.pop("module.out.weight")
    with pytest.raises(JaxtalkError, match="missing"):
        convert(full_shapes(LAYOUT), theirs, LAYOUT, "file.pth")
    other = dataclasses.replace(LAYOUT, prefix="module.", renames={"exit.w": "out.weight"})
    assert len(convert(full_shapes(LAYOUT), theirs, other, "file.pth")) == 11


def test_a_parameter_made_of_two_arrays() -> None:
    rules = (Rule("conv/kernel", ("g", "v"), lambda g, v: kernel(g * v)),)
    layout = Layout("two", lambda rngs: Small(rngs=rngs), rules)
    v = np.ones((4, 3, 3, 2), np.float32)
    ours = convert({"conv/kernel": (3, 2, 3, 4)}, {"g": np.float32([[[[2]]]]), "v": v}, layout, "file.pth")
    np.testing.assert_array_equal(ours["conv/kernel"], np.full((3, 2, 3, 4), 2.0))


def test_a_layout_without_a_rule_is_a_mistake_of_ours() -> None:
    with pytest.raises(ValueError, match=r"layout two: no rule for conv/kernel"):
        convert({"conv/kernel": (1,)}, {}, Layout("two", lambda rngs: Small(rngs=rngs), ()), "file.pth")


def test_written_and_read_again(tmp_path: Path) -> None:
    parameters = convert(full_shapes(LAYOUT), state_dict(), LAYOUT, "file.pth")
    path, header = tmp_path / "small.npz", Header("small", 1, "file.pth", "ab" * 32)
    converted.save_npz(path, parameters, header)
    assert converted.read_header(path) == header
    loaded = converted.load_npz(path, "small", 1)
    for abstract in (False, True):
        network = Small(rngs=nnx.Rngs(1)) if not abstract else nnx.eval_shape(lambda: Small(rngs=nnx.Rngs(0)))
        converted.put(network, loaded, "small.npz")
        state = dict(nnx.to_flat_state(nnx.state(network, nnx.Not(nnx.RngState))))
        assert {"/".join(map(str, place)) for place in state} == set(parameters)
        for place, variable in state.items():
            assert isinstance(variable[...], jax.Array)
            np.testing.assert_array_equal(variable[...], parameters["/".join(map(str, place))])


def test_converted_files_that_do_not_fit(tmp_path: Path) -> None:
    parameters = convert(full_shapes(LAYOUT), state_dict(), LAYOUT, "file.pth")
    path = tmp_path / "small.npz"
    converted.save_npz(path, parameters, Header("small", 1, "file.pth", ""))
    with pytest.raises(JaxtalkError, match=r"the weights of small, not of big.*jaxtalk weights convert big FILE"):
        converted.load_npz(path, "big", 1)
    with pytest.raises(JaxtalkError, match="converted to layout 1 of small, now it is 2"):
        converted.load_npz(path, "small", 2)
    with pytest.raises(JaxtalkError, match=r"blocks/0/bias has shape \(4,\); the network has \(8,\)"):
        converted.put(Small(8, rngs=nnx.Rngs(0)), parameters, "small.npz")
    with pytest.raises(JaxtalkError, match="out/bias has shape none, it is missing"):
        converted.check_shapes(full_shapes(LAYOUT), {k: v for k, v in parameters.items() if k != "out/bias"}, "x")
    with pytest.raises(JaxtalkError, match="the network has no such parameter"):
        converted.check_shapes(full_shapes(LAYOUT), {**parameters, "zip/kernel": np.zeros(1)}, "x")
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(JaxtalkError, match="damaged, or no file that jaxtalk converted"):
        converted.load_npz(path, "small", 1)


def test_random_keys_are_no_parameters() -> None:
    assert not [path for path in shapes_of(Small(rngs=nnx.Rngs(0))) if "drop" in path]
