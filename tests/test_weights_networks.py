"""From a published file to a network with its weights: converted, found, loaded, checked; and the same by command."""

from __future__ import annotations

import dataclasses
import hashlib
import urllib.error
from pathlib import Path

import click.testing
import numpy as np
import pytest
from flax import nnx

from jaxtalk import weights
from jaxtalk.cli import main
from jaxtalk.errors import JaxtalkError
from jaxtalk.nn.pretrained.alexnet import AlexNet
from jaxtalk.nn.pretrained.lpips import LpipsHeads
from jaxtalk.weights import WeightsAbsent, converted, fetch, layouts, networks, store
from jaxtalk.weights.convert import full_shapes
from tests.pretrained_case import drawn_heads, put_in_cache


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("JAXTALK_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def heads(tmp_path: Path) -> Path:
    """A file of the heads of LPIPS as somebody may have it."""
    np.savez(tmp_path / "heads.npz", **drawn_heads("alex"))
    return tmp_path / "heads.npz"


@pytest.fixture
def published(heads: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The same file at a file:// address that the register takes for the published one."""
    digest = hashlib.sha256(heads.read_bytes()).hexdigest()
    entry = dataclasses.replace(weights.REGISTER["lpips_alex"], source=heads.as_uri(), sha256=digest[:8])
    monkeypatch.setattr(store, "REGISTER", {**weights.REGISTER, "lpips_alex": entry})
    return heads


def run(*words: object) -> click.testing.Result:
    return click.testing.CliRunner().invoke(main, ["weights", *map(str, words)])


def values(network: nnx.Module) -> np.ndarray:
    assert isinstance(network, LpipsHeads)
    return np.concatenate([np.asarray(head[...]) for head in network.weights])


EXPECTED = np.concatenate([head.reshape(-1) for head in drawn_heads("alex").values()])


def test_every_network_of_the_register_has_its_layout() -> None:
    """Found by name, named alike, its module imported only now, and with a rule for each parameter."""
    for name, entry in weights.REGISTER.items():
        if entry.layout is None:
            with pytest.raises(JaxtalkError, match=f"{name} is no network with converted weights; those are alexnet, "):
                layouts.find(name)
            continue
        layout = layouts.find(name)
        assert layout.name == name
        assert full_shapes(layout)


def test_converted_found_and_loaded(cache: Path, heads: Path) -> None:
    path = weights.convert_file("lpips_alex", heads)
    assert path == cache / "lpips_alex.npz" == weights.find("lpips_alex")
    np.testing.assert_array_equal(values(weights.load("lpips_alex")), EXPECTED)
    mine = LpipsHeads("alex")
    assert weights.load("lpips_alex", mine) is mine
    np.testing.assert_array_equal(values(mine), EXPECTED)
    assert sorted(file.name for file in cache.iterdir()) == ["lpips_alex.npz"]


def test_a_network_that_is_not_here(cache: Path) -> None:
    with pytest.raises(WeightsAbsent, match=r"lpips_alex is not on this machine .*licence: BSD-2-Clause.*weights get"):
        weights.load("lpips_alex")
    with pytest.raises(WeightsAbsent) as caught:
        weights.load("iresnet50")
    assert "non-commercial research" in str(caught.value) and "`jaxtalk weights convert iresnet50 FILE`" in str(caught)
    assert "weights get" not in str(caught.value)  # there is no address to get it from
    with pytest.raises(JaxtalkError, match=r"face_landmarker is no network"):
        put_in_cache(cache.parent, "face_landmarker", {"a": np.zeros(1)})


def test_a_path_of_ones_own(cache: Path, heads: Path, tmp_path: Path) -> None:
    out = weights.convert_file("lpips_alex", heads, tmp_path / "deep" / "mine.npz")
    assert not cache.exists()
    np.testing.assert_array_equal(values(weights.load("lpips_alex", path=out)), EXPECTED)
    with pytest.raises(JaxtalkError, match="the weights of lpips_alex, not of lpips_vgg"):
        weights.load("lpips_vgg", path=out)
    with pytest.raises(JaxtalkError, match="damaged, or no file that jaxtalk converted"):
        weights.load("lpips_alex", path=heads)


def test_a_network_of_another_size(cache: Path, heads: Path) -> None:
    weights.convert_file("lpips_alex", heads)
    with pytest.raises(JaxtalkError, match=r"weights/1 has shape \(192,\); the network has \(128,\)"):
        weights.load("lpips_alex", LpipsHeads("vgg"))


def test_a_bad_file_does_not_replace_a_good_one(cache: Path, heads: Path, tmp_path: Path) -> None:
    good = weights.convert_file("lpips_alex", heads).read_bytes()
    state = drawn_heads("alex")
    del state["lin3.model.1.weight"]
    np.savez(tmp_path / "cut.npz", **state)
    with pytest.raises(JaxtalkError, match=r"cut\.npz: not a whole file of lpips_alex; keys 1 missing: lin3\.model"):
        weights.get("lpips_alex", source=tmp_path / "cut.npz")
    assert (cache / "lpips_alex.npz").read_bytes() == good
    assert sorted(file.name for file in cache.iterdir()) == ["lpips_alex.npz"]


def test_downloaded_checked_and_converted(cache: Path, published: Path) -> None:
    assert weights.get("lpips_alex") == cache / "lpips_alex.npz"
    np.testing.assert_array_equal(values(weights.load("lpips_alex")), EXPECTED)
    assert weights.check("lpips_alex") == "1,152 parameters, from the published heads.npz"
    published.unlink()
    weights.get("lpips_alex")  # is there


def test_a_download_with_another_hash_is_refused(cache: Path, published: Path) -> None:
    np.savez(published, **{key: 2 * value for key, value in drawn_heads("alex").items()})
    with pytest.raises(JaxtalkError, match=r"not the published lpips_alex \(SHA-256 [0-9a-f]{12}, expected"):
        weights.get("lpips_alex")
    assert not list(cache.iterdir())
    weights.get("lpips_alex", source=published)  # one's own file is converted all the same, and said to be another
    assert "which is not the published file" in weights.check("lpips_alex")
    weights.get("lpips_alex", source=published.as_uri())
    assert "which is not the published file" in weights.check("lpips_alex")


def test_a_download_cut_short_is_refused(cache: Path, published: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = fetch.urllib.request.urlopen

    def urlopen(url: str, timeout: float) -> object:
        response = real(url, timeout=timeout)
        response.headers.replace_header("Content-Length", str(published.stat().st_size + 1))
        return response

    monkeypatch.setattr(fetch.urllib.request, "urlopen", urlopen)
    size = published.stat().st_size
    with pytest.raises(JaxtalkError, match=rf"cannot download \(cut after {size} of {size + 1} bytes\)"):
        weights.get("lpips_alex")
    assert not list(cache.iterdir())


def test_files_without_an_address(cache: Path) -> None:
    with pytest.raises(JaxtalkError, match=r"fetch it as https://.*jaxtalk weights convert iresnet100 FILE"):
        weights.get("iresnet100")


def test_a_converted_file_may_be_given_again(cache: Path, heads: Path, tmp_path: Path) -> None:
    """Carried to a machine without the network, for example."""
    kept = weights.convert_file("lpips_alex", heads, tmp_path / "kept.npz")
    weights.get("lpips_alex", source=kept)
    np.testing.assert_array_equal(values(weights.load("lpips_alex")), EXPECTED)
    header = converted.read_header(cache / "lpips_alex.npz")
    assert header is not None and header.source == "heads.npz"
    assert header.source_sha256 == hashlib.sha256(heads.read_bytes()).hexdigest()
    with pytest.raises(JaxtalkError, match="the weights of lpips_alex, not of lpips_vgg"):
        weights.get("lpips_vgg", source=kept)


def test_damage_in_the_cache_is_found(cache: Path, heads: Path) -> None:
    path = weights.convert_file("lpips_alex", heads)
    whole = path.read_bytes()
    position = whole.index(np.float32(EXPECTED[100]).tobytes())
    path.write_bytes(whole[:position] + b"\x00" + whole[position + 1 :])
    with pytest.raises(JaxtalkError, match=r"lpips_alex\.npz: damaged"):
        weights.check("lpips_alex")
    with pytest.raises(JaxtalkError, match=r"lpips_alex\.npz: damaged"):
        weights.load("lpips_alex")
    header = converted.Header("lpips_alex", 1, "x", "")
    wild = {f"weights/{i}": head.reshape(-1).copy() for i, head in enumerate(drawn_heads("alex").values())}
    wild["weights/2"][5] = np.nan
    converted.save_npz(path, wild, header)
    with pytest.raises(JaxtalkError, match="weights/2 is not finite"):
        weights.check("lpips_alex")


def test_files_that_are_used_as_published_are_checked_by_hash(cache: Path) -> None:
    cache.mkdir()
    (cache / "face_landmarker.task").write_bytes(b"another model")
    with pytest.raises(JaxtalkError, match=r"face_landmarker\.task: not the published face_landmarker; remove it"):
        weights.check("face_landmarker")
    (cache / "ict_facekit.npz").write_bytes(b"another model")
    with pytest.raises(JaxtalkError, match="not a converted ICT-FaceKit file"):
        weights.check("ict_facekit")


def test_the_entry_of_a_checkpoint_or_the_state_dict_alone(cache: Path, tmp_path: Path) -> None:
    """DFA-NeRF's checkpoints hold the state dict in `net`; one saved by itself is read as well."""
    with np.load(Path(__file__).parent / "goldens" / "torch_files.npz") as golden:
        (tmp_path / "model.pth").write_bytes(golden["zip"].tobytes())
    layout = layouts.find("dfa_cat")
    assert set(networks._read_entry(tmp_path / "model.pth", layout)) >= {"plain", "half", "parameter"}
    sizes = {"fc1": (128, 96), "fc2": (256, 128), "fc3": (79, 256)}
    state = {f"{name}.weight": np.zeros(size, np.float32) for name, size in sizes.items()}
    state |= {f"{name}.bias": np.zeros(size[0], np.float32) for name, size in sizes.items()}
    put_in_cache(tmp_path, "dfa_cat", state)
    assert weights.check("dfa_cat").startswith("65,743 parameters")


def test_a_network_is_built_without_random_weights(cache: Path) -> None:
    """An abstract module takes the arrays; nothing is drawn first."""
    network = nnx.eval_shape(lambda: AlexNet(rngs=nnx.Rngs(0)))
    shapes = full_shapes(layouts.find("alexnet"))
    converted.put(network, {path: np.ones(shape, np.float32) for path, shape in shapes.items()}, "ones")
    assert float(network.convs[0].kernel[...].sum()) == 64 * 3 * 11 * 11


def test_command_convert_and_check(cache: Path, heads: Path, tmp_path: Path) -> None:
    result = run("convert", "lpips_alex", heads)
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith(f"{cache / 'lpips_alex.npz'}: 1,152 parameters, from heads.npz (SHA-256 ")
    result = run("convert", "lpips_alex", heads, "--out", tmp_path / "mine.npz")
    assert result.exit_code == 0 and (tmp_path / "mine.npz").is_file()
    result = run("check")
    assert result.exit_code == 0 and result.stdout.startswith("lpips_alex: good, 1,152 parameters")
    (cache / "dfa_cat.npz").write_bytes(b"PK?")
    result = run("check")
    assert result.exit_code == 2 and "lpips_alex: good" in result.stdout
    assert "dfa_cat.npz: damaged" in result.stderr and "Traceback" not in result.output
    result = run("check", "vgg16")
    assert result.exit_code == 2 and "vgg16 is not on this machine" in result.stderr
    result = run("convert", "lpips_vgg", heads)
    assert result.exit_code == 2 and result.stderr.startswith("error: ") and "of another shape" in result.stderr


def test_command_list_and_get(cache: Path, published: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    assert run("check").stdout.startswith(f"{cache}: nothing is here yet")
    rows = [line for line in run("list").stdout.splitlines() if "lpips_alex" in line]
    assert len(rows) == 1 and " no " in rows[0] and "BSD-2-Clause" in rows[0]
    result = run("get", "lpips_alex")
    assert result.exit_code == 0 and result.stdout.strip() == str(cache / "lpips_alex.npz")
    rows = [line for line in run("list").stdout.splitlines() if "lpips_alex" in line]
    assert " yes " in rows[0]

    def offline(*_: object, **__: object) -> None:
        raise urllib.error.URLError("no route")

    monkeypatch.setattr(fetch.urllib.request, "urlopen", offline)
    result = run("get", "alexnet")
    assert result.exit_code == 2 and "--from FILE" in result.stderr and "no route" in result.stderr
