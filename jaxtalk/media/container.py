"""Opening a media file, with errors that say what is wrong with it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av

from jaxtalk.errors import JaxtalkError


class MediaError(JaxtalkError):
    """A media file that is missing, unreadable, or without the stream that is needed."""


@contextlib.contextmanager
def open_media(path: str | os.PathLike[str]) -> Iterator[Any]:
    """Opens a file for reading. Raises `MediaError` when it is missing, empty or no media file, then or in decoding."""
    path = Path(path)
    if not path.exists():
        raise MediaError(f"{path}: no such file")
    if path.is_dir():
        raise MediaError(f"{path}: a folder, where a sound or video file is needed")
    if path.stat().st_size == 0:
        raise MediaError(f"{path}: the file is empty")
    try:
        with av.open(str(path)) as container:
            yield container
    except av.FFmpegError as error:
        raise MediaError(f"{path}: unreadable as sound or video ({error.strerror or error})") from error
