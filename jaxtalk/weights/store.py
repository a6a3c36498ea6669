"""The cache of pretrained files: looking up, downloading, checking. A file appears there whole and checked or not."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from jaxtalk import progress
from jaxtalk.errors import JaxtalkError
from jaxtalk.weights import ict_facekit
from jaxtalk.weights.register import REGISTER, Weights

_CHUNK = 1 << 16
_TIMEOUT = 30.0  # seconds without an answer


def names() -> list[str]:
    """The names that `get` and `find` know."""
    return sorted(REGISTER)


def cache_folder() -> Path:
    """Where files are kept: $JAXTALK_CACHE, or ~/.cache/jaxtalk."""
    return Path(os.environ.get("JAXTALK_CACHE") or Path.home() / ".cache" / "jaxtalk").expanduser()


def find(name: str, path: str | Path | None = None) -> Path:
    """The file called `name`: at `path` where one is given, else in the cache. Never downloads.

    Raises:
      JaxtalkError: no such entry, or the file is not there; the message says how to get it.
    """
    entry = _entry(name)
    if path is not None:
        if not Path(path).is_file():
            raise JaxtalkError(f"{path}: no such file; give the file of {name}, or run `jaxtalk weights get {name}`")
        return Path(path)
    cached = cache_folder() / entry.file
    if not cached.is_file():
        raise JaxtalkError(f"{name} is not on this machine ({cached}); run `jaxtalk weights get {name}`")
    return cached


def get(name: str, *, source: str | Path | None = None) -> Path:
    """Brings a file into the cache and gives its path. What lies there already is kept, unless `source` is given.

    Args:
      name: an entry of `names()`.
      source: a file (for 'ict_facekit' also a folder of OBJ files) on this machine, or a URL, instead of the
        published address.

    Raises:
      JaxtalkError: no such entry, no network, or a file that is not the one that was published.
    """
    entry = _entry(name)
    target = cache_folder() / entry.file
    if source is None and target.is_file():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    where = str(entry.source if source is None else source)
    if name == "ict_facekit":
        _get_ict(entry, where, target)
    else:
        _get_file(entry, where, target)
    return target


def _entry(name: str) -> Weights:
    if name not in REGISTER:
        raise JaxtalkError(f"{name!r}: no such weights; known are {', '.join(names())}")
    return REGISTER[name]


def _get_file(entry: Weights, where: str, target: Path) -> None:
    """Copies or downloads one file, checks its hash, and gives it its name."""
    with _temporary(target) as file:
        if "://" in where:
            _download(entry, where, file)
        else:
            _copy(where, file)
        digest = _sha256(file)
        if digest != entry.sha256:
            raise JaxtalkError(
                f"{where}: not the published {entry.name} (SHA-256 {digest[:12]}, expected {str(entry.sha256)[:12]}); "
                "it may be cut short: fetch it again"
            )
        os.replace(file, target)


def _get_ict(entry: Weights, where: str, target: Path) -> None:
    """Converts ICT-FaceKit's OBJ files, from a folder or from the net, or takes a file that was converted before."""
    if "://" not in where and Path(where).is_file():
        with _temporary(target) as file:
            _copy(where, file)
            ict_facekit.check(file, where)
            os.replace(file, target)
        return
    pieces = target.with_suffix(".partial")  # vertices of each OBJ: a download that was cut goes on from there
    if "://" in where:
        _fetch_pieces(entry, where.rstrip("/"), pieces)
    else:
        ict_facekit.read_folder(Path(where), pieces)
    with _temporary(target) as file:
        ict_facekit.assemble(pieces, file)
        os.replace(file, target)
    shutil.rmtree(pieces)


def _fetch_pieces(entry: Weights, url: str, pieces: Path) -> None:
    missing = [name for name in ict_facekit.OBJ_NAMES if not ict_facekit.has_piece(pieces, name)]
    done = len(ict_facekit.OBJ_NAMES) - len(missing)
    with progress.bar(f"downloading {entry.name}", len(ict_facekit.OBJ_NAMES), done) as bar:
        for name in missing:
            with _temporary(pieces / f"{name}.obj") as file:
                _download(entry, f"{url}/{name}.obj", file)
                ict_facekit.write_piece(pieces, name, file)
            bar.advance(note=name)


def _download(entry: Weights, url: str, file: Path) -> None:
    try:
        with urllib.request.urlopen(url, timeout=_TIMEOUT) as response, open(file, "wb") as out:
            shutil.copyfileobj(response, out, _CHUNK)
    except (urllib.error.URLError, TimeoutError, ConnectionError) as error:
        reason = getattr(error, "reason", None) or error
        raise JaxtalkError(
            f"{url}: cannot download ({reason}); fetch it on another machine ({entry.source}) and give it with "
            f"`jaxtalk weights get {entry.name} --from FILE`"
        ) from error


def _copy(where: str, file: Path) -> None:
    try:
        shutil.copyfile(where, file)
    except (FileNotFoundError, IsADirectoryError, PermissionError) as error:
        raise JaxtalkError(f"{where}: cannot read ({error.strerror}); give a file that exists") from error


@contextlib.contextmanager
def _temporary(target: Path) -> Iterator[Path]:
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


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
