"""What a pickle may name: stand-ins that build arrays, dicts and dtypes, and nothing else.

None of them is the real function of that name, and none has an attribute that a pickle could change.
"""

from __future__ import annotations

import math
import pickle
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np

STORAGES = {
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


class Storage:
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


def _tensor(storage: Storage, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: Any) -> np.ndarray:
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


ALLOWED: dict[tuple[str, str], Any] = {
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
    **{("torch", name): name for name in STORAGES},
}


def plain(tree: Any) -> Any:
    """Ordered dicts as dicts, and NumPy arrays out of their wrapping."""
    if isinstance(tree, dict):
        return {key: plain(value) for key, value in tree.items()}
    if isinstance(tree, list):
        return [plain(value) for value in tree]
    if isinstance(tree, tuple):
        return tuple(plain(value) for value in tree)
    return tree.values if isinstance(tree, _Array) else tree
