"""Clips at the size a run works at: packed, made smaller, decoded once into memory-mapped files, cut into frames."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import ml_collections
import numpy as np

from jaxtalk.clip import Clip, ClipView
from jaxtalk.datasets import Manifest, changed_clips, make_manifest, open_packed, pack, read_manifest, time_split
from jaxtalk.datasets.packed import INDEX_FILE, PackedClip, read_index
from jaxtalk.datasets.packing import clip_digest
from jaxtalk.datasets.splits import TEST, TRAIN
from jaxtalk.errors import JaxtalkError
from jaxtalk.input.cache import cached
from jaxtalk.input.resize import resize_area, resize_labels
from jaxtalk.input.views import DerivedView


def open_clips(config: ml_collections.ConfigDict, workdir: Path | str) -> list[ClipView]:
    """The clips that a run learns from, whole (test frames included), at `config.data.size`.

    `config.data.dataset` names a packed dataset, of which the training split is opened, or `config.data.clips` the
    folders that are packed into WORKDIR/dataset at the first run. Afterwards the folders are not needed, and where
    they are there they must not have changed. Held-out persons are left out (`held_out_clips` opens them). Decoded
    frames lie in WORKDIR/cache up to `config.data.cache_bytes`.

    Raises:
        JaxtalkError: nothing to open, a clip that changed, was damaged, or is smaller than `config.data.size`.
    """
    return _open_side(config, Path(workdir), TRAIN)


def reopen_clips(config: ml_collections.ConfigDict, workdir: Path | str) -> list[ClipView]:
    """What a run learns from, as `open_clips` opened it, wherever the clip folders are now and whatever became of them.

    For what comes after training: it needs nothing but the run folder.
    """
    return open_clips(_packed_already(config, Path(workdir)), workdir)


def held_out_clips(config: ml_collections.ConfigDict, workdir: Path | str) -> list[ClipView]:
    """The clips of persons that the run never learns from: `config.data.held_out` and whoever is the same person, and
    the test split of a packed dataset. Empty where there are none. Opened as `reopen_clips` does, from the run folder.
    """
    return _open_side(_packed_already(config, Path(workdir)), Path(workdir), TEST)


def strangers(
    config: ml_collections.ConfigDict, workdir: Path | str, folders: Sequence[Path], *, allow_seen: bool = False
) -> list[ClipView]:
    """Clips of people whom a run was not trained on: those of FOLDERS, or where none is named its held-out ones.

    Raises:
        JaxtalkError: nobody was held out and no folder is named, or what `unseen_folders` raises.
    """
    if folders:
        return unseen_folders(config, workdir, folders, allow_seen=allow_seen)
    found = held_out_clips(config, workdir)
    if not found:
        raise JaxtalkError(
            f"{workdir}: nobody was held out (config.data.held_out is empty); name folders of clips of somebody else"
        )
    return found


def unseen_folders(
    config: ml_collections.ConfigDict, workdir: Path | str, folders: Sequence[Path], *, allow_seen: bool = False
) -> list[ClipView]:
    """Clips from their folders, of people that a run was not trained on, at `config.data.size`, decoded as its own.

    Raises:
        JaxtalkError: no clip there, two of one name, or somebody whom the run was trained on, under any name of
            `config.data.same_person` or as the very same clip.
    """
    workdir = Path(workdir)
    split = run_split(config, workdir)
    opened: dict[str, Clip] = {}
    for folder in folders:
        clip = Clip.open(folder.resolve())
        if clip.name in opened:
            raise JaxtalkError(
                f"{clip.path} and {opened[clip.name].path} have the same name; rename one of the folders"
            )
        clip.validate()
        opened[clip.name] = clip
    digests = {name: clip_digest(clip) for name, clip in opened.items()}
    for name, clip in opened.items():
        known = learnt_of(config, split, clip.meta.identity, digests[name])
        if known and not allow_seen:
            raise JaxtalkError(
                f"{clip.path}: {clip.meta.identity} is no stranger: the run was trained on {known}; "
                "name clips of somebody else, or say --allow_seen, which marks the results"
            )
    return _views(
        list(opened.values()), list(digests.values()), config.data.size, workdir / "cache", config.data.cache_bytes
    )


def learnt_of(config: ml_collections.ConfigDict, split: Manifest, identity: str, sha256: str) -> str:
    """A clip of this person that the run was trained on, under any name of theirs, or this very clip; empty: none."""
    only = set(config.data.identities)
    learnt = {
        name: entry
        for name, entry in split.clips.items()
        if entry.split == TRAIN and (not only or entry.identity in only)
    }
    others = {name: (entry.identity, entry.sha256) for name, entry in learnt.items()}
    pairs = (*split.same_person, *same_person(config.data))
    asked = make_manifest({**others, "": (identity, sha256)}, [identity], same_person=pairs)
    known = (name for name in learnt if asked.clips[name].split == TEST or learnt[name].sha256 == sha256)
    return next(known, "")


def run_split(config: ml_collections.ConfigDict, workdir: Path | str) -> Manifest:
    """`split_by_person` of a run whose clips have been packed. Raises `JaxtalkError` where they have not."""
    return split_by_person(_packed_already(config, Path(workdir)), workdir)


def manifest_folders(file: Path) -> list[Path]:
    """The folders, beside a manifest, of its clips to test on.

    Raises:
        JaxtalkError: no manifest, one that was changed, or without clips of held-out people.
    """
    manifest = Manifest.load(file)
    names = [name for name, entry in manifest.clips.items() if entry.split == TEST]
    if not names:
        raise JaxtalkError(f"{file}: no clip of it is held out; name folders of clips instead")
    return [file.parent / name for name in names]


def split_by_person(config: ml_collections.ConfigDict, workdir: Path | str) -> Manifest:
    """Who of the packed collection of a run is learnt from, and who is held out.

    Raises:
        JaxtalkError: a held-out identity that no clip has, or a pair of `config.data.same_person` that is no "a=b".
    """
    manifest, pairs = read_manifest(_dataset(config, Path(workdir))), same_person(config.data)
    apart = {entry.identity for entry in manifest.clips.values() if entry.split == TEST}
    clips = {name: (entry.identity, entry.sha256) for name, entry in manifest.clips.items()}
    held_out = sorted(apart | set(config.data.get("held_out", ())))
    return make_manifest(clips, held_out, same_person=dict.fromkeys((*manifest.same_person, *pairs)))


def same_person(data: ml_collections.ConfigDict) -> tuple[tuple[str, str], ...]:
    """The pairs of `config.data.same_person`. Raises `JaxtalkError` for one that is no "a=b"."""
    pairs = []
    for text in data.get("same_person", ()):
        first, _, second = text.partition("=")
        if not first or not second or "=" in second:
            raise JaxtalkError(f"config.data.same_person: {text!r} is no pair; write two identities as 'a=b'")
        pairs.append((first, second))
    return tuple(pairs)


def _packed_already(config: ml_collections.ConfigDict, workdir: Path) -> ml_collections.ConfigDict:
    """The config without the folders of clips. Raises `JaxtalkError` where they have not been packed yet."""
    if not config.data.dataset and not (workdir / "dataset" / INDEX_FILE).is_file():
        raise JaxtalkError(f"{workdir}: training has not begun; run train.py with this --workdir")
    config = config.copy_and_resolve_references()
    with config.unlocked():
        config.data.clips = ()
    return config


def _dataset(config: ml_collections.ConfigDict, workdir: Path) -> Path:
    """The packed collection of a run; packs it at the first run."""
    data = config.data
    if not data.dataset:
        return _packed_here(data, workdir / "dataset")
    if data.clips:
        raise JaxtalkError("config.data: both clips and dataset are set; leave one of them empty")
    return Path(data.dataset)


def _open_side(config: ml_collections.ConfigDict, workdir: Path, side: str) -> list[ClipView]:
    data = config.data
    folder, manifest = _dataset(config, workdir), split_by_person(config, workdir)
    only = tuple(data.identities) if side == TRAIN else ()
    opened = open_packed(folder, "all", only, verify=not data.dataset)
    packed = [clip for clip in opened if manifest.clips[clip.name].split == side]
    if side == TRAIN and not packed:
        raise JaxtalkError(f"{folder}: every clip is held out; leave some identities to train on")
    return working_clips(packed, data.size, workdir / "cache", data.cache_bytes)


def working_clips(clips: Sequence[PackedClip], size: int, cache: Path, cache_bytes: int) -> list[ClipView]:
    """Views of packed clips whose shorter side has `size` pixels, with decoded frames in `cache`, the first clips
    first, up to `cache_bytes`; frames of clips beyond are decoded at each access."""
    return _views(clips, [clip.sha256 for clip in clips], size, cache, cache_bytes)


def _views(
    clips: Sequence[ClipView], digests: Sequence[str], size: int, cache: Path, cache_bytes: int
) -> list[ClipView]:
    views: list[ClipView] = []
    left = cache_bytes
    for clip, digest in zip(clips, digests, strict=True):
        view: ClipView = ResizedClip(clip, size)
        height, width = view.meta.size
        needed = clip.meta.num_frames * height * width * 4
        if needed <= left:
            left -= needed
            view = cached(view, cache / f"{clip.name}-{size}-{digest[:16]}")
        views.append(view)
    return views


def training_part(view: ClipView, data: ml_collections.ConfigDict) -> ClipView:
    """The frames of a clip that may be trained on: all but the last `data.test_seconds` and the guard before them.

    Raises:
        JaxtalkError: the clip is too short to leave any.
    """
    try:
        train, _ = time_split(view.track.time, data.test_seconds, data.guard_seconds)
    except JaxtalkError as error:
        raise JaxtalkError(f"clip {view.name}: {error}") from error
    return select_frames(view, train)


def select_frames(view: ClipView, index: np.ndarray) -> SelectedClip:
    """Some of the frames of a clip, as a clip. Sound and stored features stay whole: frames keep their times."""
    return SelectedClip(view, index)


class ResizedClip(DerivedView):
    """A clip made smaller by an exact factor: pictures, camera and pixel measurements alike."""

    def __init__(self, view: ClipView, size: int) -> None:
        shorter = min(view.meta.size)
        if size > shorter:
            raise JaxtalkError(
                f"clip {view.name} is {shorter} pixels wide, too small for config.data.size={size}; "
                f"lower the size, or prepare the clip with --size {size}"
            )
        super().__init__(view)
        self._factor = size / shorter
        height, width = (int(np.floor(side * self._factor + 1e-6)) for side in view.meta.size)
        self.meta = dataclasses.replace(view.meta, size=(height, width), camera=view.meta.camera.scaled(self._factor))
        self.track = view.track.scaled(self._factor)

    def frame(self, index: int) -> np.ndarray:
        image = self._view.frame(index)
        return image if self._factor == 1 else resize_area(image, self._factor)

    def mask(self, index: int) -> np.ndarray:
        labels = self._view.mask(index)
        return labels if self._factor == 1 else resize_labels(labels, self._factor)

    def background(self) -> np.ndarray:
        image = self._view.background()
        return image if self._factor == 1 else resize_area(image, self._factor)


class SelectedClip(DerivedView):
    """Frames `index` [F'] of a clip, in that order."""

    def __init__(self, view: ClipView, index: np.ndarray) -> None:
        index = np.asarray(index)
        if index.dtype == bool or index.ndim != 1 or not index.size:
            raise ValueError("select_frames needs a list of frame numbers that is not empty")
        if index.min() < 0 or index.max() >= view.meta.num_frames:
            raise IndexError(f"clip {view.name} has {view.meta.num_frames} frames, asked for {index.max()}")
        super().__init__(view)
        self._index = index.astype(np.int64)
        self.meta = dataclasses.replace(view.meta, num_frames=len(index))
        self.track = view.track.take(self._index)

    def frame(self, index: int) -> np.ndarray:
        return self._view.frame(int(self._index[index]))

    def mask(self, index: int) -> np.ndarray:
        return self._view.mask(int(self._index[index]))


def _packed_here(data: ml_collections.ConfigDict, folder: Path) -> Path:
    """WORKDIR/dataset, packed at the first run; afterwards it must still be what the config names."""
    clips = tuple(data.clips)
    if not (folder / INDEX_FILE).is_file():
        if not clips:
            raise JaxtalkError("config.data.clips is empty: name at least one folder made by `jaxtalk prepare`")
        return pack(clips, folder, held_out=tuple(data.get("held_out", ())), same_person=same_person(data))
    changed = changed_clips(folder, clips)
    if changed:
        raise JaxtalkError(
            f"clip {changed[0]} is not the one that this run packed into {folder}; "
            "use a new --workdir, or restore the clip"
        )
    extra = sorted({entry["name"] for entry in read_index(folder)["clips"]} - {Path(clip).name for clip in clips})
    if clips and extra:
        raise JaxtalkError(f"{folder} holds clip {extra[0]}, config.data.clips does not; use a new --workdir")
    return folder
