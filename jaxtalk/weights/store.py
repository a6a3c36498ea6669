"""The cache of pretrained files: what is there. A file appears in it whole and checked, or not at all."""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from jaxtalk.errors import JaxtalkError
from jaxtalk.weights.register import REGISTER, Weights


class WeightsAbsent(JaxtalkError):
    """A pretrained file is not on this machine. The message says which, its licence and source, and how to get it."""


def names() -> list[str]:
    """The names that `get` and `find` know."""
    return sorted(REGISTER)


def entry(name: str) -> Weights:
    """The register's entry. Raises `JaxtalkError` when there is none, naming those that there are."""
    if name not in REGISTER:
        raise JaxtalkError(f"{name!r}: no such weights; known are {', '.join(names())}")
    return REGISTER[name]


def cache_folder() -> Path:
    """Where files are kept: $JAXTALK_CACHE, or ~/.cache/jaxtalk."""
    return Path(os.environ.get("JAXTALK_CACHE") or Path.home() / ".cache" / "jaxtalk").expanduser()


def find(name: str, path: str | Path | None = None) -> Path:
    """The file called `name`: at `path` where one is given, else in the cache. Never downloads.

    Raises:
      WeightsAbsent: it is not in the cache; the message says how to get it.
      JaxtalkError: no such entry, or no file at `path`.
    """
    wanted = entry(name)
    if path is not None:
        if not Path(path).is_file():
            raise JaxtalkError(f"{path}: no such file; give the file of {name}, or run `jaxtalk weights get {name}`")
        return Path(path)
    cached = cache_folder() / wanted.file
    if not cached.is_file():
        raise WeightsAbsent(
            f"{name} is not on this machine ({cached}; licence: {wanted.licence}; source: {wanted.source}); "
            f"run {how_to_get(wanted)}"
        )
    return cached


def how_to_get(wanted: Weights) -> str:
    """The command that brings an entry into the cache."""
    convert = f"`jaxtalk weights convert {wanted.name} FILE` with the file from there"
    if not wanted.direct:
        return convert
    return f"`jaxtalk weights get {wanted.name}`" + (f", or {convert}" if wanted.layout else "")


@contextlib.contextmanager
def temporary(target: Path) -> Iterator[Path]:
    """A file beside `target` to write to; what is left of it is removed, whatever happens."""
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
    os.close(handle)
    file = Path(name)
    try:
        file.chmod(0o644)
        yield file
    finally:
        file.unlink(missing_ok=True)


def sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def is_published(wanted: Weights, digest: str) -> bool:
    """Whether a file of this hash is the one that the register knows, by as many digits as it knows."""
    return wanted.sha256 is not None and digest.startswith(wanted.sha256)
