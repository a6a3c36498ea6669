"""Weight files as people have them, read into plain Python and NumPy: torch (both formats), safetensors, npz.

What a file is, its first bytes say, not its name. No torch is needed, and no code in a file is run.
"""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from jaxtalk.errors import JaxtalkError
from jaxtalk.weights import torch_files

_SHOWN = 6  # names in a message
_KINDS = "a torch checkpoint, a safetensors or an npz file"


def read_checkpoint(path: str | Path) -> Any:
    """Everything in a file: nested dicts, lists and numbers as they were saved, tensors as NumPy arrays.

    bfloat16 comes as `ml_dtypes.bfloat16`. Arrays may be read-only and share memory, as the tensors did.

    Raises:
      JaxtalkError: no such file, not a weight file, cut short, or a file that wants code to be run.
    """
    path = Path(path)
    start = _start(path)
    if start.startswith(b"PK"):
        return _read_zip(path)
    if start.startswith(torch_files.LEGACY_START):
        return torch_files.read_legacy(path)
    if start[8:9] == b"{":
        return _read_safetensors(path)
    raise JaxtalkError(f"{path}: {_what_else(path, start)}; give {_KINDS}")


def read_state_dict(path: str | Path, entry: str | None = None) -> dict[str, np.ndarray]:
    """The arrays of one network by their names.

    Args:
      path: the file.
      entry: where a file holds several things by name, the one to read; 'a/b' for an entry of an entry.

    Raises:
      JaxtalkError: as `read_checkpoint`; no such entry; or what is there is not a dict of arrays.
    """
    tree = read_checkpoint(path)
    for name in entry.split("/") if entry else ():
        if not isinstance(tree, dict) or name not in tree:
            raise JaxtalkError(f"{path}: no entry {name!r}; it holds {_contents(tree)}")
        tree = tree[name]
    if not isinstance(tree, dict) or not tree:
        raise JaxtalkError(f"{path}: {entry or 'the file'} is no state dict but {_contents(tree)}")
    others = [str(name) for name, value in tree.items() if not isinstance(value, np.ndarray)]
    if others:
        raise JaxtalkError(
            f"{path}: {entry or 'the file'} is not one state dict: {_listed(others)} "
            f"{'is' if len(others) == 1 else 'are'} no array; name the entry to read"
        )
    return {str(name): value for name, value in tree.items()}


def _start(path: Path) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read(512)
    except (FileNotFoundError, IsADirectoryError, PermissionError) as error:
        raise JaxtalkError(f"{path}: cannot read ({error.strerror}); give a file that exists") from error


def _read_zip(path: Path) -> Any:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except zipfile.BadZipFile as error:
        raise JaxtalkError(f"{path}: cut short or damaged ({error}); fetch it again") from error
    if not names or not all(name.endswith(".npy") for name in names):
        return torch_files.read_zip(path)
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise JaxtalkError(f"{path}: not a readable npz of plain arrays ({error}); save it again") from error


def _read_safetensors(path: Path) -> dict[str, np.ndarray]:
    import safetensors.numpy

    try:
        return safetensors.numpy.load_file(path)
    except Exception as error:  # the library has its own type, and KeyError for dtypes that it does not know
        raise JaxtalkError(f"{path}: cut short, damaged or not safetensors ({error}); fetch it again") from error


def _what_else(path: Path, start: bytes) -> str:
    if not start:
        return "an empty file, a download that failed"
    if start.lstrip().lower().startswith((b"<!doctype", b"<html", b"<?xml")):
        return "a web page, not a weight file: the download gave an error or a form"
    if start.startswith(b"version https://git-lfs"):
        return "a Git LFS pointer, not the file itself: run `git lfs pull`"
    if start[257:262] == b"ustar":
        return "a tar archive, or torch's first format (before 0.1.10): unpack it, or save it again with a newer torch"
    if start.startswith(b"\x80"):
        return "a Python pickle without torch's header, which is not read"
    return "not a weight file"


def _contents(tree: Any) -> str:
    return _listed([str(name) for name in tree]) if isinstance(tree, dict) and tree else f"a {type(tree).__name__}"


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
