"""Frames as numbered pictures in a folder that appears whole or not at all."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path
from types import TracebackType

import numpy as np
from PIL import Image, PngImagePlugin

from jaxtalk.errors import JaxtalkError

_NAME = re.compile(r"\d{6}\.png")


class FrameFolder:
    """Writes FOLDER/000000.png, ... through FOLDER.partial, each with the comment as PNG text.

    A folder that holds only such pictures is replaced. Raises `JaxtalkError` when it holds anything else.
    """

    def __init__(self, folder: Path, comment: str) -> None:
        if folder.exists() and not folder.is_dir():
            raise JaxtalkError(f"{folder}: a file; name a folder for the frames")
        foreign = [path.name for path in folder.glob("*") if not _NAME.fullmatch(path.name)]
        if foreign:
            raise JaxtalkError(f"{folder}: holds other files ({foreign[0]}); name a new folder for the frames")
        self.folder, self._partial = folder, folder.with_name(folder.name + ".partial")
        self._info = PngImagePlugin.PngInfo()
        self._info.add_itxt("Comment", comment)
        self._count = 0

    def write(self, frame: np.ndarray) -> None:
        """Appends one frame [H, W, 3] uint8."""
        path = self._partial / f"{self._count:06d}.png"
        Image.fromarray(frame).save(path, pnginfo=self._info, compress_level=3)
        self._count += 1

    def __enter__(self) -> FrameFolder:
        shutil.rmtree(self._partial, ignore_errors=True)
        self._partial.mkdir(parents=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            shutil.rmtree(self._partial, ignore_errors=True)
            return
        shutil.rmtree(self.folder, ignore_errors=True)
        os.replace(self._partial, self.folder)
