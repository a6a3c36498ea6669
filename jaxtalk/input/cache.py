"""Decoded frames in memory-mapped files: made once, shared by threads, worker processes and later runs."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from jaxtalk.clip import ClipView
from jaxtalk.datasets.files import exclusive, whole_folder
from jaxtalk.input.views import DerivedView
from jaxtalk.progress import track as progress_track


class CachedClip(DerivedView):
    """A clip whose frames and masks are read from memory-mapped arrays. The pages belong to the system: they are
    shared between processes and given up when memory is short."""

    def __init__(self, view: ClipView, folder: Path) -> None:
        super().__init__(view)
        self._folder = folder
        self._map()

    def _map(self) -> None:
        # Plain arrays over the mapping: indexing np.memmap itself costs several times as much.
        self.frames = np.asarray(np.load(self._folder / "frames.npy", mmap_mode="r"))  # [F, H, W, 3] uint8
        self.masks = np.asarray(np.load(self._folder / "masks.npy", mmap_mode="r"))  # [F, H, W] uint8

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in self.__dict__.items() if key not in ("frames", "masks")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._map()

    def frame(self, index: int) -> np.ndarray:
        return self.frames[index]

    def mask(self, index: int) -> np.ndarray:
        return self.masks[index]


def cached(view: ClipView, folder: Path) -> CachedClip:
    """The clip with its frames decoded into `folder`, by several threads and with a progress bar if not done before.

    `folder` must be named after the content (clip, size, hash): what it holds is taken to be this clip's.
    """
    if not folder.is_dir():
        with exclusive(folder):
            if not folder.is_dir():  # another process may have made it meanwhile
                with whole_folder(folder) as partial:
                    _decode_all(view, partial)
    return CachedClip(view, folder)


def _decode_all(view: ClipView, folder: Path) -> None:
    count, (height, width) = view.meta.num_frames, view.meta.size
    frames = _new_array(folder / "frames.npy", (count, height, width, 3))
    masks = _new_array(folder / "masks.npy", (count, height, width))

    def decode(index: int) -> None:
        frames[index], masks[index] = view.frame(index), view.mask(index)

    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        for _ in progress_track(pool.map(decode, range(count)), f"decoding {view.name} at {height} px", count):
            pass
    frames.flush()
    masks.flush()


def _new_array(path: Path, shape: tuple[int, ...]) -> np.memmap:
    array = np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=shape)
    # Reserve the disk space now: a mapping on a full disk would kill the process instead of raising OSError.
    with open(path, "r+b") as file:
        os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
    return array
