"""Reads a packed dataset: each clip as a `ClipView`, without its folder and without TensorFlow."""

from __future__ import annotations

import functools
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from PIL import Image

from jaxtalk.clip import ClipMeta, Track
from jaxtalk.datasets.files import file_sha256
from jaxtalk.datasets.splits import TEST, TRAIN, Manifest
from jaxtalk.errors import JaxtalkError

INDEX_FILE = "dataset.json"
SCHEMA = 1
_VERSION = "1.0.0"  # TalkingClips.VERSION, without importing TFDS


class PackedClip:
    """One clip of a packed dataset (a `ClipView`). Frames are decoded when asked for; safe to share and to pickle."""

    def __init__(self, folder: Path, entry: Mapping[str, Any], record: Mapping[str, Any]) -> None:
        self.name: str = entry["name"]
        self.sha256: str = entry["sha256"]
        self._folder, self._split, self._first = folder, entry["split"], entry["first"]
        self._record = dict(record)
        where = f"{folder}: clip {self.name}"
        self.meta = ClipMeta.from_json(json.loads(record["meta"]), where)
        self.track = Track.load(io.BytesIO(record["track"]))  # type: ignore[arg-type]

    def frame_bytes(self, index: int) -> bytes:
        """The picture of frame `index` as it was encoded (PNG or JPEG)."""
        return self._frame_record(index)["image"]

    def mask_bytes(self, index: int) -> bytes:
        return self._frame_record(index)["mask"]

    def frame(self, index: int) -> np.ndarray:
        return _decoded(self.frame_bytes(index), "RGB", f"{self._folder}: clip {self.name}, frame {index}")

    def mask(self, index: int) -> np.ndarray:
        return _decoded(self.mask_bytes(index), "L", f"{self._folder}: clip {self.name}, mask {index}")

    def background(self) -> np.ndarray:
        return _decoded(self._record["background"], "RGB", f"{self._folder}: clip {self.name}, background")

    def audio(self) -> np.ndarray:
        samples, _ = soundfile.read(io.BytesIO(self._record["audio"]), dtype="float32")
        return samples

    def feature(self, name: str) -> np.ndarray | None:
        with np.load(io.BytesIO(self._record["features"]), allow_pickle=False) as stored:
            return stored.get(name)

    def _frame_record(self, index: int) -> dict[str, Any]:
        if not 0 <= index < self.meta.num_frames:
            raise IndexError(f"clip {self.name} has {self.meta.num_frames} frames, asked for {index}")
        return _record(self._folder, "frames", self._split, self._first + index)


def open_packed(
    folder: Path | str, split: str = "all", identities: Sequence[str] = (), *, verify: bool = True
) -> list[PackedClip]:
    """The clips of a packed dataset, training split first, in the order in which they were packed.

    Args:
        folder: what `pack` made.
        split: 'train', 'test' or 'all'.
        identities: only these; empty: everybody.
        verify: read every file and compare its hash (about 1 s per GB). Sizes are compared in any case, and ArrayRecord
            checks each block that it reads.

    Raises:
        JaxtalkError: no dataset here, a damaged file, an unknown split or identity, or nothing left.
    """
    folder = Path(folder).resolve()
    index = read_index(folder)
    damaged = damaged_file(folder, index["files"], verify)
    if damaged is not None:
        what = "damaged (its content is not what was packed)" if damaged.is_file() else "missing"
        raise JaxtalkError(f"{damaged}: {what}; delete {folder} and pack the clips again (a run does so itself)")
    if split not in (TRAIN, TEST, "all"):
        raise JaxtalkError(f"split {split!r} is unknown; use {TRAIN!r}, {TEST!r} or 'all'")
    known = {entry["identity"] for entry in index["clips"]}
    unknown = sorted(set(identities) - known)
    if unknown:
        raise JaxtalkError(f"{folder}: identity {unknown[0]!r} has no clip; known are {', '.join(sorted(known))}")
    clips, position = [], {TRAIN: 0, TEST: 0}
    for entry in index["clips"]:
        number = position[entry["split"]]
        position[entry["split"]] += 1
        if split in ("all", entry["split"]) and (not identities or entry["identity"] in identities):
            clips.append(PackedClip(folder, entry, _record(folder, "clips", entry["split"], number)))
    if not clips:
        raise JaxtalkError(f"{folder}: no clips in split {split!r}" + (" of these identities" if identities else ""))
    return clips


def read_manifest(folder: Path | str) -> Manifest:
    """Who is in a packed dataset, and on which side of the split."""
    path = Path(folder) / INDEX_FILE
    return Manifest.from_json(read_index(Path(folder))["manifest"], str(path))


def read_index(folder: Path) -> dict[str, Any]:
    """The parsed dataset.json. Raises `JaxtalkError` where there is none."""
    path = folder / INDEX_FILE
    try:
        index = json.loads(path.read_text())
    except FileNotFoundError as error:
        raise JaxtalkError(
            f"{folder}: no packed dataset here ({INDEX_FILE} is missing); pack the clips again"
        ) from error
    except (OSError, ValueError) as error:
        raise JaxtalkError(f"{path}: unreadable ({error}); pack the clips again") from error
    if not isinstance(index, dict) or index.get("schema") != SCHEMA:
        raise JaxtalkError(f"{path}: not of schema {SCHEMA}, which this version reads; pack the clips again")
    return index


def damaged_file(folder: Path, files: Mapping[str, Mapping[str, Any]], verify: bool) -> Path | None:
    """The first file that is missing, of another size or, with `verify`, of another hash than when it was packed."""
    for name, expected in files.items():
        path = folder / name
        if not path.is_file() or path.stat().st_size != expected["bytes"]:
            return path
        if verify and file_sha256(path) != expected["sha256"]:
            return path
    return None


def _record(folder: Path, config: str, split: str, index: int) -> dict[str, Any]:
    try:
        return _source(folder, config, split)[index]
    except JaxtalkError:
        raise
    except Exception as error:  # the reader's C++ raises whatever its status maps to; all mean a damaged file
        where = f"{folder}: {config}, split {split}, record {index}"
        raise JaxtalkError(f"{where}: unreadable ({error}); pack the clips again") from error


@functools.lru_cache(maxsize=64)
def _source(folder: Path, config: str, split: str) -> Sequence[dict[str, Any]]:
    """Random access to the records of a split, pictures as bytes. Cached per process: each has its own readers."""
    import tensorflow_datasets as tfds

    builder = tfds.builder_from_directory(folder / "talking_clips" / config / _VERSION)
    pictures = ("image", "mask") if config == "frames" else ("background",)
    return builder.as_data_source(split, decoders={name: tfds.decode.SkipDecoding() for name in pictures})


def _decoded(data: bytes, mode: str, where: str) -> np.ndarray:
    try:
        with Image.open(io.BytesIO(data)) as image:
            return np.asarray(image.convert(mode))
    except OSError as error:
        raise JaxtalkError(f"{where}: not a readable picture ({error}); pack the clips again") from error
