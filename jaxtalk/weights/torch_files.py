"""Checkpoints written by `torch.save`, read without torch and without running what a file asks to run.

A pickle may name any function of any installed package and have it called. Here it may name only what
`torch_globals` lists. A file that wants anything else is refused with the name of what it wanted.
"""

from __future__ import annotations

import io
import pickle
import struct
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from jaxtalk.errors import JaxtalkError
from jaxtalk.weights.torch_globals import ALLOWED, STORAGES, Storage, plain

MAGIC = 0x1950A86A20F9469CFC6C  # first object of files written before torch 1.6
LEGACY_START = b"\x80\x02\x8a\x0a" + MAGIC.to_bytes(10, "little")


class _Refused(Exception):
    """What a pickle wanted that it does not get."""


class _Reader(pickle.Unpickler):
    def __init__(self, file: BinaryIO, storage: Callable[..., Storage]) -> None:
        super().__init__(file, encoding="utf-8")
        self._storage = storage

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in ALLOWED:
            raise _Refused(f"it wants to call {module}.{name}; only arrays, numbers, texts, lists and dicts are read")
        return ALLOWED[module, name]

    def persistent_load(self, pid: Any) -> Storage:
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
        limit, known = path.stat().st_size, dict[str, Storage]()

        def storage(kind: str, key: str, _location: Any, count: int, *_: Any) -> Storage:
            if key not in known:
                values = _empty(kind, count, limit)
                data = archive.read(f"{root}data/{key}")
                if len(data) != values.nbytes:
                    raise pickle.UnpicklingError(f"storage {key} has {len(data)} bytes, not {values.nbytes}")
                known[key] = Storage(_ordered(np.frombuffer(data, values.dtype), little=order == b"little"))
            return known[key]

        return plain(_Reader(io.BytesIO(archive.read(f"{root}data.pkl")), storage).load())


def read_legacy(path: Path) -> Any:
    """The object in a file that torch wrote before 1.6: pickles first, then the values of the storages.

    Raises `JaxtalkError` for a file that is cut short, damaged, or asks for code.
    """
    with _explained(path), open(path, "rb") as file:
        limit, known = path.stat().st_size, dict[str, Storage]()

        def storage(kind: str, key: str, _location: Any, count: int, view: Any = None) -> Storage:
            known.setdefault(key, Storage(_empty(kind, count, limit)))
            if view is None:
                return known[key]
            _, offset, size = view
            return Storage(known[key].values[offset : offset + size])

        def load() -> Any:
            return _Reader(file, storage).load()

        magic, _version, system = load(), load(), load()
        if magic != MAGIC:
            raise pickle.UnpicklingError("another magic number")
        tree = load()
        for key in load():
            _fill(known[key].values, file, little=bool(system["little_endian"]))
        return plain(tree)


def _fill(values: np.ndarray, file: BinaryIO, little: bool) -> None:
    (count,) = struct.unpack("<q" if little else ">q", file.read(8))
    data = file.read(values.nbytes)
    if count != len(values) or len(data) != values.nbytes:
        raise EOFError(f"a storage has {count} values in {len(data)} bytes, not {len(values)} in {values.nbytes}")
    values[:] = _ordered(np.frombuffer(data, values.dtype), little)


def _empty(kind: str, count: int, limit: int) -> np.ndarray:
    """Room for a storage; a count that does not fit in the file's `limit` bytes is refused before it is made."""
    dtype = STORAGES[kind]
    if not 0 <= count * dtype.itemsize <= limit:
        raise EOFError(f"a storage of {count} values in a file of {limit} bytes")
    return np.empty(count, dtype)


def _ordered(values: np.ndarray, little: bool) -> np.ndarray:
    return values if little == (sys.byteorder == "little") else values.byteswap()


class _explained:
    """Turns what a bad file raises, which can be nearly anything, into one line."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> None: ...

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        line = str(error).encode("unicode_escape").decode()  # it may quote the file
        if isinstance(error, _Refused):
            raise JaxtalkError(
                f"{self._path}: {line}. Nothing was executed; "
                "save the state dict alone (torch.save(model.state_dict(), FILE)) on a machine that trusts the file"
            ) from None
        if isinstance(error, Exception) and not isinstance(error, JaxtalkError):
            raise JaxtalkError(
                f"{self._path}: cut short or damaged, not a whole torch file "
                f"({type(error).__name__}: {line}); fetch it again"
            ) from error
