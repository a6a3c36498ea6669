"""Checkpoints written by `torch.save`, read without torch and without running what a file asks to run.

A pickle may name any function of any installed package and have it called. Here it may name only what `_ALLOWED`
lists, and none of that is the real function: each stands for building an array, a dict or a dtype. A file that wants
anything else is refused with the name of what it wanted.
"""

from __future__ import annotations

import io
import math
import pickle
import struct
import sys
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import ml_dtypes
import numpy as np

from jaxtalk.errors import JaxtalkError

MAGIC = 0x1950A86A20F9469CFC6C  # first object of files written before torch 1.6
LEGACY_START = b"\x80\x02\x8a\x0a" + MAGIC.to_bytes(10, "little")
_STORAGES = {
    "DoubleStorage": np.dtype(np.float64),
    "FloatStorage": np.dtype(np.float32),
    "HalfStorage": np.dtype(np.float16),
    "BFloat16Storage": np.dtype(ml_dtypes.bfloat16),
    "LongStorage": np.dtype(np.int64),
    "IntStorage": np.dtype(np.int32),
    "ShortStorage": np.dtype(np.int16),
    "CharStorage": np.dtype(np.int8),
    "ByteStorage": np.dtype(np.uint8),
    "BoolStorage": np.dtype(np.bool_),
    "ComplexFloatStorage": np.dtype(np.complex64),
    "ComplexDoubleStorage": np.dtype(np.complex128),
}


class _Storage:
    """The flat array that tensors are views of; a file may name it before its values come."""

    __slots__ = ("values",)

    def __init__(self, values: np.ndarray) -> None:
        self.values = values


class _Call:
    """What the reader calls in place of a global. Has no attribute that a pickle could set."""

    __slots__ = ("_function",)

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function

    def __call__(self, *args: Any) -> Any:
        return self._function(*args)

    def __setstate__(self, state: Any) -> None:
        raise pickle.UnpicklingError("a function has no state")


def _tensor(storage: _Storage, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: Any) -> np.ndarray:
    """A read-only view of the storage, bounds checked."""
    values = storage.values
    if len(size) != len(stride) or min([offset, *size, *stride]) < 0:
        raise pickle.UnpicklingError(f"a tensor of size {size}, stride {stride}, offset {offset}")
    last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
    if math.prod(size) and last >= len(values):
        raise pickle.UnpicklingError(f"a tensor reaches element {last} of a storage of {len(values)}")
    steps = tuple(step * values.itemsize for step in stride)
    start = values[offset:] if math.prod(size) else values[:0]
    return np.lib.stride_tricks.as_strided(start, tuple(size), steps, writeable=False)


class _Dtype:
    """The dtype of a pickled NumPy array, before its byte order is known."""

    __slots__ = ("dtype",)

    def __init__(self, code: str, *_: Any) -> None:
        self.dtype = np.dtype(code)
        if self.dtype.hasobject:
            raise pickle.UnpicklingError("an array of Python objects")

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.dtype = self.dtype.newbyteorder(state[1])


class _Array:
    """A pickled NumPy array; `_plain` takes its values out."""

    __slots__ = ("values",)

    def __init__(self, *_: Any) -> None:
        self.values = np.zeros(0)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, shape, dtype, fortran, data = state
        data = data.encode("latin1") if isinstance(data, str) else data
        self.values = np.frombuffer(data, dtype.dtype).reshape(shape, order="F" if fortran else "C")


def _scalar(dtype: _Dtype, data: bytes | str) -> Any:
    return np.frombuffer(data.encode("latin1") if isinstance(data, str) else data, dtype.dtype)[0].item()


def _encode(text: str, encoding: str = "latin1") -> bytes:
    if encoding not in ("latin1", "latin-1"):
        raise pickle.UnpicklingError(f"text as {encoding!r}")
    return text.encode("latin1")


def _numpy_globals() -> dict[tuple[str, str], Any]:
    names = {"_reconstruct": _Call(_Array), "scalar": _Call(_scalar)}
    modules = ("numpy.core.multiarray", "numpy._core.multiarray")
    return {(module, name): call for module in modules for name, call in names.items()}


_ALLOWED: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): OrderedDict,
    ("collections", "Counter"): _Call(lambda counts=(): dict(counts)),
    ("collections", "defaultdict"): _Call(lambda *_: {}),
    **{("__builtin__", name): name for name in ("float", "int", "list", "dict")},  # factories of defaultdicts
    ("__builtin__", "set"): _Call(set),
    ("torch", "Size"): _Call(tuple),
    ("torch", "device"): _Call(lambda *names: ":".join(str(name) for name in names)),
    ("torch._utils", "_rebuild_tensor"): _Call(_tensor),
    ("torch._utils", "_rebuild_tensor_v2"): _Call(_tensor),
    ("torch._utils", "_rebuild_parameter"): _Call(lambda data, *_: data),
    ("torch._utils", "_rebuild_parameter_with_state"): _Call(lambda data, *_: data),
    ("numpy", "ndarray"): "ndarray",
    ("numpy", "dtype"): _Call(_Dtype),
    ("_codecs", "encode"): _Call(_encode),
    **_numpy_globals(),
    **{("torch", name): name for name in _STORAGES},
}


class _Refused(Exception):
    """What a pickle wanted that it does not get."""


class _Reader(pickle.Unpickler):
    def __init__(self, file: BinaryIO, storage: Callable[..., _Storage]) -> None:
        super().__init__(file, encoding="utf-8")
        self._storage = storage

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ALLOWED:
            wanted = f"{module}.{name}".encode("unicode_escape").decode()
            raise _Refused(f"it wants to call {wanted}; only arrays, numbers, texts, lists and dicts are read")
        return _ALLOWED[module, name]

    def persistent_load(self, pid: Any) -> _Storage:
        kind, *rest = pid
        if kind != "storage":
            raise _Refused(f"it holds a {kind} with its code; only arrays, numbers, texts, lists and dicts are read")
        return self._storage(*rest)


def read_zip(path: Path) -> Any:
    """The object in a zip file of `torch.save`; tensors are read-only arrays that share memory as they did.

    Raises `JaxtalkError` for a file that is cut short, damaged, a TorchScript program, or asks for code.
    """
    with _explained(path), zipfile.ZipFile(path) as archive:
        names = set(archive.namelist())
        root = next((name.removesuffix("data.pkl") for name in sorted(names) if name.endswith("/data.pkl")), None)
        if root is None or f"{root}constants.pkl" in names:
            raise _Refused("it is a TorchScript program or an archive of something else; a state dict is read")
        order = archive.read(f"{root}byteorder") if f"{root}byteorder" in names else b"little"
        limit, known = path.stat().st_size, dict[str, _Storage]()

        def storage(kind: str, key: str, _location: Any, count: int, *_: Any) -> _Storage:
            if key not in known:
                values = _empty(kind, count, limit)
                data = archive.read(f"{root}data/{key}")
                if len(data) != values.nbytes:
                    raise pickle.UnpicklingError(f"storage {key} has {len(data)} bytes, not {values.nbytes}")
                known[key] = _Storage(_ordered(np.frombuffer(data, values.dtype), little=order == b"little"))
            return known[key]

        return _plain(_Reader(io.BytesIO(archive.read(f"{root}data.pkl")), storage).load())


def read_legacy(path: Path) -> Any:
    """The object in a file that torch wrote before 1.6: pickles first, then the values of the storages.

    Raises `JaxtalkError` for a file that is cut short, damaged, or asks for code.
    """
    with _explained(path), open(path, "rb") as file:
        limit, known = path.stat().st_size, dict[str, _Storage]()

        def storage(kind: str, key: str, _location: Any, count: int, view: Any = None) -> _Storage:
            known.setdefault(key, _Storage(_empty(kind, count, limit)))
            if view is None:
                return known[key]
            _, offset, size = view
            return _Storage(known[key].values[offset : offset + size])

        def load() -> Any:
            return _Reader(file, storage).load()

        magic, _version, system = load(), load(), load()
        if magic != MAGIC:
            raise pickle.UnpicklingError("another magic number")
        tree = load()
        for key in load():
            _fill(known[key].values, file, little=bool(system["little_endian"]))
        return _plain(tree)


def _fill(values: np.ndarray, file: BinaryIO, little: bool) -> None:
    (count,) = struct.unpack("<q" if little else ">q", file.read(8))
    data = file.read(values.nbytes)
    if count != len(values) or len(data) != values.nbytes:
        raise EOFError(f"a storage has {count} values in {len(data)} bytes, not {len(values)} in {values.nbytes}")
    values[:] = _ordered(np.frombuffer(data, values.dtype), little)


def _empty(kind: str, count: int, limit: int) -> np.ndarray:
    """Room for a storage; a count that does not fit in the file's `limit` bytes is refused before it is made."""
    dtype = _STORAGES[kind]
    if not 0 <= count * dtype.itemsize <= limit:
        raise EOFError(f"a storage of {count} values in a file of {limit} bytes")
    return np.empty(count, dtype)


def _ordered(values: np.ndarray, little: bool) -> np.ndarray:
    return values if little == (sys.byteorder == "little") else values.byteswap()


def _plain(tree: Any) -> Any:
    """Ordered dicts as dicts, and NumPy arrays out of their wrapping."""
    if isinstance(tree, dict):
        return {key: _plain(value) for key, value in tree.items()}
    if isinstance(tree, list):
        return [_plain(value) for value in tree]
    if isinstance(tree, tuple):
        return tuple(_plain(value) for value in tree)
    return tree.values if isinstance(tree, _Array) else tree


class _explained:
    """Turns what a bad file raises, which can be nearly anything, into one line."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> None: ...

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if isinstance(error, _Refused):
            raise JaxtalkError(
                f"{self._path}: {error}. Nothing was executed; "
                "save the state dict alone (torch.save(model.state_dict(), FILE)) on a machine that trusts the file"
            ) from None
        if isinstance(error, Exception) and not isinstance(error, JaxtalkError):
            raise JaxtalkError(
                f"{self._path}: cut short or damaged, not a whole torch file "
                f"({type(error).__name__}: {' '.join(str(error).split())}); fetch it again"
            ) from error
