"""Files brought into the cache: downloaded or copied, checked, converted where a network of ours reads them."""

from __future__ import annotations

import contextlib
import os
import shutil
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from jaxtalk import progress
from jaxtalk.errors import JaxtalkError
from jaxtalk.weights import ict_facekit, networks
from jaxtalk.weights.register import Weights
from jaxtalk.weights.store import cache_folder, entry, is_published, sha256, temporary

_CHUNK = 1 << 20
_TIMEOUT = 30.0  # seconds without an answer
_LARGE = 10  # MB from which a download shows a bar


def get(name: str, *, source: str | Path | None = None) -> Path:
    """Brings a file into the cache and gives its path. What lies there already is kept, unless `source` is given.

    Args:
      name: an entry of `names()`.
      source: a file (for 'ict_facekit' also a folder of OBJ files) on this machine, or a URL, instead of the
        published address. For a network any file that `networks.convert_file` takes.

    Raises:
      JaxtalkError: no such entry, no address, no network, or a file that is not the one that was published.
    """
    wanted = entry(name)
    target = cache_folder() / wanted.file
    if source is None and target.is_file():
        return target
    if source is None and not wanted.direct:
        raise JaxtalkError(
            f"{name} has no address to download from: fetch it as {wanted.source} says (licence: {wanted.licence}) "
            f"and run `jaxtalk weights convert {name} FILE`"
        )
    target.parent.mkdir(parents=True, exist_ok=True)
    where = str(wanted.source if source is None else source)
    if name == "ict_facekit":
        _get_ict(wanted, where, target)
    elif wanted.layout:
        _get_network(wanted, where, target, published=source is None)
    else:
        _get_file(wanted, where, target)
    return target


def _get_file(wanted: Weights, where: str, target: Path) -> None:
    """Copies or downloads one file, checks its hash, and gives it its name."""
    with temporary(target) as file:
        _bring(wanted, where, file)
        _check_published(wanted, where, file)
        os.replace(file, target)


def _get_network(wanted: Weights, where: str, target: Path, published: bool) -> None:
    """Downloads a network's file and converts it; a file of the user's is converted where it lies."""
    if "://" not in where:
        networks.convert_file(wanted.name, where, target)
        return
    with temporary(target) as file:
        _download(wanted, where, file)
        if published:
            _check_published(wanted, where, file)
        networks.convert_file(wanted.name, file, target, called=where)


def _check_published(wanted: Weights, where: str, file: Path) -> None:
    digest = sha256(file)
    if wanted.sha256 is not None and not is_published(wanted, digest):
        raise JaxtalkError(
            f"{where}: not the published {wanted.name} (SHA-256 {digest[:12]}, expected {wanted.sha256[:12]}); "
            "it may be cut short: fetch it again"
        )


def _get_ict(wanted: Weights, where: str, target: Path) -> None:
    """Converts ICT-FaceKit's OBJ files, from a folder or from the net, or takes a file that was converted before."""
    if "://" not in where and Path(where).is_file():
        with temporary(target) as file:
            _copy(where, file)
            ict_facekit.check(file, where)
            os.replace(file, target)
        return
    pieces = target.with_suffix(".partial")  # vertices of each OBJ: a download that was cut goes on from there
    if "://" in where:
        _fetch_pieces(wanted, where.rstrip("/"), pieces)
    else:
        ict_facekit.read_folder(Path(where), pieces)
    with temporary(target) as file:
        ict_facekit.assemble(pieces, file)
        os.replace(file, target)
    shutil.rmtree(pieces)


def _fetch_pieces(wanted: Weights, url: str, pieces: Path) -> None:
    missing = [name for name in ict_facekit.OBJ_NAMES if not ict_facekit.has_piece(pieces, name)]
    done = len(ict_facekit.OBJ_NAMES) - len(missing)
    with progress.bar(f"downloading {wanted.name}", len(ict_facekit.OBJ_NAMES), done) as bar:
        for name in missing:
            with temporary(pieces / f"{name}.obj") as file:
                _download(wanted, f"{url}/{name}.obj", file)
                ict_facekit.write_piece(pieces, name, file)
            bar.advance(note=name)


def _bring(wanted: Weights, where: str, file: Path) -> None:
    if "://" in where:
        _download(wanted, where, file)
    else:
        _copy(where, file)


def _download(wanted: Weights, url: str, file: Path) -> None:
    try:
        with urllib.request.urlopen(url, timeout=_TIMEOUT) as response, open(file, "wb") as out:
            size = _size(response)
            with _bar(wanted.name, size) as bar:
                while block := response.read(_CHUNK):
                    out.write(block)
                    if bar is not None:
                        bar.advance()
            if size is not None and out.tell() != size:
                raise ConnectionError(f"cut after {out.tell()} of {size} bytes")
    except (urllib.error.URLError, TimeoutError, ConnectionError) as error:
        reason = getattr(error, "reason", None) or error
        raise JaxtalkError(
            f"{url}: cannot download ({reason}); fetch it on another machine ({wanted.source}) and give it with "
            f"`jaxtalk weights get {wanted.name} --from FILE`"
        ) from error


def _size(response: Any) -> int | None:
    length = getattr(response, "headers", {}).get("Content-Length")
    return int(length) if length else None


@contextlib.contextmanager
def _bar(name: str, size: int | None) -> Iterator[progress.Bar | None]:
    if size is None or size < _LARGE * _CHUNK:
        yield None
        return
    with progress.bar(f"downloading {name}, MB", -(-size // _CHUNK)) as bar:
        yield bar


def _copy(where: str, file: Path) -> None:
    try:
        shutil.copyfile(where, file)
    except (FileNotFoundError, IsADirectoryError, PermissionError) as error:
        raise JaxtalkError(f"{where}: cannot read ({error.strerror}); give a file that exists") from error
