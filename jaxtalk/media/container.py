"""Opening a media file, with errors that say what is wrong with it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import av

from jaxtalk.errors import JaxtalkError


class MediaError(JaxtalkError):
    """A media file that is missing, unreadable, or without the stream that is needed."""


@contextlib.contextmanager
def open_media(path: str | os.PathLike[str]) -> Iterator[av.container.InputContainer]:
    """Opens a file for reading. Raises `MediaError` when it is missing, empty or no media file, then or in decoding."""
    path = Path(path)
    if path.is_dir():
        raise MediaError(f"{path}: a folder; give the path of a sound or video file")
    if not path.is_file():
        raise MediaError(f"{path}: no such file; check the path")
    if path.stat().st_size == 0:
        raise MediaError(f"{path}: the file is empty; copy or record it again")
    try:
        with av.open(str(path)) as container:
            yield container
    except av.FFmpegError as error:
        reason = error.strerror or type(error).__name__
        raise MediaError(
            f"{path}: not readable as sound or video ({reason}); re-encode it, e.g. to H.264 mp4 or wav"
        ) from error
