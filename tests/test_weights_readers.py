"""Weight files of every kind, read without torch and without running what they ask for."""

from __future__ import annotations

import collections
import io
import json
import os
import pickle
import struct
import zipfile
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from jaxtalk.errors import JaxtalkError
from jaxtalk.weights.readers import read_checkpoint, read_state_dict

GOLDEN = Path(__file__).parent / "goldens" / "torch_files.npz"
BOTH = pytest.mark.parametrize("kind", ["zip", "legacy"])


@pytest.fixture
def written(tmp_path: Path) -> Any:
    """Writes bytes, or a file of the golden by name, and gives the path."""

    def write(content: bytes | str) -> Path:
        if isinstance(content, str):
            with np.load(GOLDEN) as golden:
                content = golden[content].tobytes()
        path = tmp_path / "model.pth"
        path.write_bytes(content)
        return path

    return write


@BOTH
def test_a_checkpoint_of_torch_is_read_as_it_was_saved(written: Any, kind: str) -> None:
    tree = read_checkpoint(written(kind))
    with np.load(GOLDEN) as golden:
        expected = {name.removeprefix("net/"): golden[name] for name in golden.files if name.startswith("net/")}
    assert set(tree["net"]) == set(expected) and len(expected) == 14
    for name, values in expected.items():
        assert tree["net"][name].dtype == (ml_dtypes.bfloat16 if name == "bfloat16" else values.dtype), name
        np.testing.assert_array_equal(tree["net"][name].astype(values.dtype), values, err_msg=name)
    assert tree["epoch"] == 49 and tree["names"] == ["a", "b"] and tree["none"] is None
    np.testing.assert_array_equal(tree["extra"].pop("array"), np.arange(6.0).reshape(2, 3))
    assert tree["extra"] == {"number": 1.5, "size": (2, 3)}
    assert tree["schedule"] == {"milestones": {3: 1}, "losses": {"l1": 0.5}}


@BOTH
def test_tensors_that_shared_memory_still_do(written: Any, kind: str) -> None:
    net = read_checkpoint(written(kind))["net"]
    start = {name: net[name].__array_interface__["data"][0] for name in ("slice", "tail")}
    assert start["tail"] - start["slice"] == (20 - 6) * 4  # elements 20 and 6 of one storage
    with pytest.raises(ValueError, match="read-only"):
        net["slice"][0, 0] = 1.0


@BOTH
def test_an_entry_is_chosen_by_name(written: Any, kind: str) -> None:
    path = written(kind)
    assert len(read_state_dict(path, "net")) == 14
    with pytest.raises(JaxtalkError, match=r"no entry 'state_dict'; it holds net, epoch, names, extra, schedule, none"):
        read_state_dict(path, "state_dict")
    with pytest.raises(JaxtalkError, match=r"not one state dict: net, epoch.* are no array; name the entry"):
        read_state_dict(path)
    with pytest.raises(JaxtalkError, match="epoch is no state dict but a int"):
        read_state_dict(path, "epoch")
    with pytest.raises(JaxtalkError, match="no entry 'array'"):
        read_state_dict(path, "net/array")


class Evil:
    """Asks to write a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.path}",)


def torch_zip(pickled: bytes, records: dict[str, bytes] | None = None) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("archive/data.pkl", pickled)
        for name, data in (records or {}).items():
            archive.writestr(f"archive/data/{name}", data)
    return out.getvalue()


def torch_legacy(thing: bytes) -> bytes:
    start = (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True})
    return b"".join(pickle.dumps(part, 2) for part in start) + thing + pickle.dumps([], 2)


@pytest.mark.parametrize("wrap", [torch_zip, torch_legacy])
def test_a_file_that_wants_code_to_run_is_refused(tmp_path: Path, written: Any, wrap: Any) -> None:
    mark = tmp_path / "it_ran"
    pickled = pickle.dumps({"state_dict": Evil(mark)}, 2)
    pickle.loads(pickled)
    assert mark.exists()  # the attack works on Python's own reader
    mark.unlink()
    with pytest.raises(JaxtalkError, match=r"model\.pth: it wants to call (posix|nt)\.system;.*Nothing was executed"):
        read_checkpoint(written(wrap(pickled)))
    assert not mark.exists()


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("builtins", "eval"),
        ("builtins", "getattr"),
        ("numpy", "load"),
        ("numpy.core.multiarray", "fromfile"),
        ("torch", "load"),
        ("torch._utils", "_rebuild_tensor_v2.__globals__"),
        ("collections", "OrderedDict.fromkeys"),
        ("functools", "partial"),
        ("a\x1b[31m\n", "b"),
    ],
)
def test_only_listed_names_are_given(written: Any, module: str, name: str) -> None:
    pickled = b"\x80\x04" + b"".join(b"\x8c" + bytes([len(text)]) + text.encode() for text in (module, name)) + b"\x93."
    with pytest.raises(JaxtalkError) as caught:
        read_checkpoint(written(torch_zip(pickled)))
    wanted = f"{module}.{name}".replace("\x1b", "\\x1b").replace("\n", "\\n")
    assert f"wants to call {wanted};" in str(caught.value)


@pytest.mark.parametrize("state", [{"_function": "x"}, (None, {"_function": "x"})])
def test_a_pickle_cannot_change_the_reader(written: Any, state: Any) -> None:
    name = b"ctorch._utils\n_rebuild_parameter\n"
    pickled = b"\x80\x02" + name + pickle.dumps(state, 2)[2:-1] + b"b."
    with pytest.raises(JaxtalkError, match="a function has no state"):
        read_checkpoint(written(torch_zip(pickled)))
    assert len(read_checkpoint(written("zip"))["net"]) == 14


class Tensor:
    """Pickles as a tensor of torch with a size, stride and offset of one's choice, over storage '0'."""

    def __init__(self, kind: str, count: int, offset: int, size: tuple[int, ...], stride: tuple[int, ...]) -> None:
        self.storage, self.rest = (kind, count), (offset, size, stride, False, collections.OrderedDict())


class TorchPickler(pickle._Pickler):
    """Writes `Tensor` as torch writes its tensors; Python's own pickler would look torch's functions up."""

    def save(self, thing: Any, *args: Any, **kwargs: Any) -> None:
        if not isinstance(thing, Tensor):
            super().save(thing, *args, **kwargs)
            return
        kind, count = thing.storage
        self.write(b"ctorch._utils\n_rebuild_tensor_v2\n(")
        self.write(b"(")
        super().save("storage")
        self.write(f"ctorch\n{kind}\n".encode())
        for part in ("0", "cpu", count):
            super().save(part)
        self.write(b"tQ")
        for part in thing.rest:
            super().save(part)
        self.write(b"tR")


def with_tensor(*tensor: Any, data: bytes = np.arange(6, dtype="<f4").tobytes()) -> bytes:
    out = io.BytesIO()
    TorchPickler(out, 2).dump({"weight": Tensor(*tensor)})
    return torch_zip(out.getvalue(), {"0": data})


def test_strides_and_offsets(written: Any) -> None:
    def read(*tensor: Any) -> np.ndarray:
        return read_state_dict(written(with_tensor("FloatStorage", 6, *tensor)))["weight"]

    np.testing.assert_array_equal(read(0, (2, 3), (3, 1)), [[0, 1, 2], [3, 4, 5]])
    np.testing.assert_array_equal(read(1, (2, 2), (1, 2)), [[1, 3], [2, 4]])
    np.testing.assert_array_equal(read(4, (2, 3), (1, 0)), [[4, 4, 4], [5, 5, 5]])
    assert read(6, (0, 3), (3, 1)).shape == (0, 3)


@pytest.mark.parametrize(
    "tensor",
    [
        ("FloatStorage", 6, 0, (7,), (1,)),
        ("FloatStorage", 6, 3, (2, 2), (2, 2)),
        ("FloatStorage", 6, -1, (2,), (1,)),
        ("FloatStorage", 6, 3, (2,), (-1,)),
        ("FloatStorage", 6, 0, (2, 2), (1,)),
        ("FloatStorage", 7, 0, (6,), (1,)),
        ("FloatStorage", -6, 0, (6,), (1,)),
        ("DoubleStorage", 6, 0, (6,), (1,)),
        ("FloatStorage", 1 << 60, 0, (6,), (1,)),
    ],
)
def test_tensors_outside_of_their_storage_are_refused(written: Any, tensor: tuple[Any, ...]) -> None:
    with pytest.raises(JaxtalkError, match="cut short or damaged, not a whole torch file"):
        read_checkpoint(written(with_tensor(*tensor)))


def test_big_endian_zip(written: Any) -> None:
    content = with_tensor("FloatStorage", 6, 0, (6,), (1,), data=np.arange(6, dtype=">f4").tobytes())
    path = written(content)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("archive/byteorder", b"big")
    np.testing.assert_array_equal(read_state_dict(path)["weight"], np.arange(6))


@BOTH
def test_a_file_cut_anywhere_is_one_clear_line(written: Any, kind: str) -> None:
    whole = written(kind).read_bytes()
    for size in range(20, len(whole) - 1, max(len(whole) // 40, 1)):
        with pytest.raises(JaxtalkError, match=r"model\.pth: cut short or damaged") as caught:
            read_checkpoint(written(whole[:size]))
        assert "\n" not in str(caught.value)


def test_what_is_no_weight_file(written: Any, tmp_path: Path) -> None:
    cases = {
        b"": "an empty file",
        b"<!DOCTYPE html><html>quota exceeded</html>": "a web page",
        b"\n  <html><body>sign in</body></html>": "a web page",
        b"version https://git-lfs.github.com/spec/v1\noid sha256:0": "Git LFS pointer",
        b"a" * 257 + b"ustar" + b"\0" * 250: "tar archive",
        pickle.dumps({"a": 1}, 2): "a Python pickle without torch's header",
        b"hello": "not a weight file",
    }
    for content, line in cases.items():
        with pytest.raises(JaxtalkError, match=rf"model\.pth: .*{line}"):
            read_checkpoint(written(content))
    with pytest.raises(JaxtalkError, match=r"absent\.pth: cannot read"):
        read_checkpoint(tmp_path / "absent.pth")


def test_whole_modules_and_torchscript_are_refused(written: Any) -> None:
    with pytest.raises(JaxtalkError, match=r"wants to call torch\.nn\.modules\.linear\.Linear.*save the state dict"):
        read_checkpoint(written("module"))
    with pytest.raises(JaxtalkError, match="a TorchScript program"):
        read_checkpoint(written("script"))
    pickled = pickle.dumps(None, 2)[:-2] + b"(X\x06\x00\x00\x00moduleX\x03\x00\x00\x00srctQ."
    with pytest.raises(JaxtalkError, match="it holds a module with its code"):
        read_checkpoint(written(torch_zip(pickled)))


def test_safetensors(tmp_path: Path, written: Any) -> None:
    tensors = {
        "a.weight": np.arange(6, dtype=np.float32).reshape(2, 3),
        "b": np.arange(3, dtype=np.float16),
        "c": np.arange(3).astype(ml_dtypes.bfloat16),
        "d": np.arange(4),
    }
    kinds = {"float32": "F32", "float16": "F16", "bfloat16": "BF16", "int64": "I64"}
    header, body = {}, b""
    for name, array in tensors.items():
        offsets = [len(body), len(body) + array.nbytes]
        header[name] = {"dtype": kinds[array.dtype.name], "shape": list(array.shape), "data_offsets": offsets}
        body += array.tobytes()
    text = json.dumps(header).encode()
    content = struct.pack("<Q", len(text)) + text + body
    read = read_state_dict(written(content))
    assert set(read) == set(tensors)
    for name, array in tensors.items():
        assert read[name].dtype == array.dtype
        np.testing.assert_array_equal(read[name], array)
    for cut in (len(content) - 1, len(text), 20):
        with pytest.raises(JaxtalkError, match="cut short, damaged or not safetensors"):
            read_checkpoint(written(content[:cut]))


def test_npz(tmp_path: Path) -> None:
    path = tmp_path / "model.npz"
    np.savez(path, **{"conv.weight": np.ones((2, 3))})
    assert read_state_dict(path)["conv.weight"].shape == (2, 3)
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(JaxtalkError, match=r"model\.npz: cut short or damaged"):
        read_checkpoint(path)
    np.savez(path, evil=np.array([Evil(tmp_path / "it_ran")], object))
    with pytest.raises(JaxtalkError, match="not a readable npz of plain arrays"):
        read_checkpoint(path)
    assert not (tmp_path / "it_ran").exists()


def test_real_files(real_data: Path) -> None:
    models = real_data / "models"
    if not (models / "lpips_lin_v0.1_alex.pth").is_file():
        pytest.skip(f"no released weights in {models}")
    heads = read_state_dict(models / "lpips_lin_v0.1_alex.pth")  # legacy, written by Python 2
    assert [heads[f"lin{i}.model.1.weight"].shape[1] for i in range(5)] == [64, 192, 384, 256, 256]
    assert all(head.min() >= 0 and head.max() > 0.1 for head in heads.values())
    encoder = read_state_dict(models / "dfanerf_64_32_dis_ckpt.pth", "net")
    assert encoder["fc1.weight"].shape == (128, 79) and np.abs(encoder["fc1.weight"]).max() < 10
