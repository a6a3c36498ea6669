"""Writes clip folders into one packed dataset, and notices when they change afterwards.

FOLDER/dataset.json               clips, split, hash of every clip and of every file; written last
FOLDER/talking_clips/frames/...   ArrayRecord shards of frames
FOLDER/talking_clips/clips/...    ArrayRecord shards of what belongs to a whole clip
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jaxtalk.clip import Clip
from jaxtalk.datasets.files import exclusive, file_sha256, whole_folder
from jaxtalk.datasets.packed import INDEX_FILE, SCHEMA, damaged_file, read_index
from jaxtalk.datasets.splits import TEST, TRAIN, Manifest, make_manifest
from jaxtalk.errors import JaxtalkError
from jaxtalk.progress import bar, console


def pack(
    clips: Sequence[Path | str],
    out: Path | str,
    manifest: Manifest | None = None,
    held_out: Sequence[str] | int = (),
    same_person: Sequence[tuple[str, str]] = (),
) -> Path:
    """Packs clip folders into `out`, unless it holds exactly these clips already, undamaged.

    A clip whose content changed since, another list of clips or another split packs everything again. `out` appears
    whole or not at all; of several processes one packs and the others wait.

    Args:
        clips: folders made by `jaxtalk prepare`; their names must differ.
        out: the dataset's folder.
        manifest: a split made before (`make_manifest`); must name exactly these clips with their hashes.
        held_out: without a manifest: identities of the test split, or how many to draw.
        same_person: without a manifest: pairs of identities that are one person and stand on one side.

    Raises:
        JaxtalkError: a clip is unreadable or incomplete, two have one name, the manifest does not fit, or `out` is
            something else than a packed dataset.
    """
    out = Path(out)
    opened = _open_all(clips)
    with exclusive(out):
        if out.exists() and not (out / INDEX_FILE).is_file() and any(out.iterdir()):
            raise JaxtalkError(f"{out}: exists and is no packed dataset; name another folder")
        known = read_index(out)["clips"] if (out / INDEX_FILE).is_file() else []
        # Before anything is read: a file that changes while it is packed differs from its fingerprint afterwards.
        fingerprints = {clip.name: _fingerprint(clip) for clip in opened}
        digests = {clip.name: _digest_unless_known(clip, fingerprints[clip.name], known) for clip in opened}
        if manifest is None:
            known_as = {clip.name: (clip.meta.identity, digests[clip.name]) for clip in opened}
            manifest = make_manifest(known_as, held_out, same_person=same_person)
        else:
            _check_manifest(manifest, opened, digests)
        if known and _same(out, manifest, opened):
            return out
        if known:
            console.print(f"{out}: the clips or their split changed, or a file is damaged: packing again")
        with whole_folder(out) as folder:
            _write(folder, opened, manifest, fingerprints)
    return out


def changed_clips(folder: Path | str, clips: Sequence[Path | str]) -> list[str]:
    """Names of those clips that differ from what `folder` holds, or that it does not hold. Absent folders count as
    unchanged: a packed dataset outlives its sources."""
    known = {entry["name"]: entry for entry in read_index(Path(folder))["clips"]}
    return [path.name for path in map(Path, clips) if _differs(path, known.get(path.name))]


def _differs(path: Path, entry: Mapping[str, Any] | None) -> bool:
    if entry is None or not path.is_dir():
        return entry is None
    clip = Clip.open(path)
    return _digest_unless_known(clip, _fingerprint(clip), [entry]) != entry["sha256"]


def clip_digest(clip: Clip) -> str:
    """Hash of everything that packing takes from a clip folder: names and contents of its files."""
    digest = hashlib.sha256()
    for path in _files(clip):
        digest.update(f"{path.relative_to(clip.path).as_posix()}\0{file_sha256(path)}\n".encode())
    return digest.hexdigest()


def _files(clip: Clip) -> list[Path]:
    frames = range(clip.meta.num_frames)
    single = [clip.path / name for name in ("clip.json", "track.npz", "audio.wav", "background.png")]
    pictures = [*map(clip.frame_path, frames), *map(clip.mask_path, frames)]
    return single + pictures + sorted(clip.path.glob("features/*.npy"))


def _fingerprint(clip: Clip) -> str:
    """Hash of names, sizes and times of change: equal means unchanged; unequal means that contents must be read."""
    try:
        stats = [(path.relative_to(clip.path).as_posix(), path.stat()) for path in _files(clip)]
    except FileNotFoundError as error:
        raise JaxtalkError(f"{error.filename}: missing; prepare the clip again") from error
    text = "\n".join(f"{name} {stat.st_size} {stat.st_mtime_ns}" for name, stat in stats)
    return hashlib.sha256(text.encode()).hexdigest()


def _digest_unless_known(clip: Clip, fingerprint: str, known: Sequence[Mapping[str, Any]]) -> str:
    for entry in known:
        if entry["name"] == clip.name and entry["fingerprint"] == fingerprint:
            return entry["sha256"]
    return clip_digest(clip)


def _open_all(paths: Sequence[Path | str]) -> list[Clip]:
    if not paths:
        raise JaxtalkError("no clips to pack: name at least one folder made by `jaxtalk prepare`")
    clips: dict[str, Clip] = {}
    for path in paths:
        clip = Clip.open(Path(path).resolve())
        if clip.name in clips:
            raise JaxtalkError(f"{clip.path} and {clips[clip.name].path} have the same name; rename one of the folders")
        clips[clip.name] = clip
    return list(clips.values())


def _check_manifest(manifest: Manifest, clips: Sequence[Clip], digests: dict[str, str]) -> None:
    manifest.check("manifest")
    for clip in clips:
        entry = manifest.clips.get(clip.name)
        if entry is None:
            raise JaxtalkError(f"manifest: clip {clip.name} is not in it; add it, or leave it out of the packing")
        if entry.sha256 != digests[clip.name] or entry.identity != clip.meta.identity:
            raise JaxtalkError(f"manifest: clip {clip.name} changed since the manifest was made; make it again")
    missing = sorted(set(manifest.clips) - {clip.name for clip in clips})
    if missing:
        raise JaxtalkError(f"manifest: clip {missing[0]} is not among the folders; name its folder too")


def _same(out: Path, manifest: Manifest, clips: Sequence[Clip]) -> bool:
    """True where `out` holds these clips in this order and split, undamaged."""
    index = read_index(out)
    order = [clip.name for split in (TRAIN, TEST) for clip in clips if manifest.clips[clip.name].split == split]
    if index["manifest"]["sha256"] != manifest.sha256 or [entry["name"] for entry in index["clips"]] != order:
        return False
    return damaged_file(out, index["files"], verify=True) is None


def _write(folder: Path, clips: Sequence[Clip], manifest: Manifest, fingerprints: Mapping[str, str]) -> None:
    for clip in clips:
        clip.validate()
    splits = {split: [clip for clip in clips if manifest.clips[clip.name].split == split] for split in (TRAIN, TEST)}
    _write_records(folder, splits)
    entries = []
    for split, members in splits.items():
        first = 0
        for clip in members:
            entries.append(
                {
                    "name": clip.name,
                    "identity": clip.meta.identity,
                    "split": split,
                    "first": first,
                    "num_frames": clip.meta.num_frames,
                    "sha256": manifest.clips[clip.name].sha256,
                    "fingerprint": fingerprints[clip.name],
                    "source": str(clip.path),
                }
            )
            first += clip.meta.num_frames
    files = {
        path.relative_to(folder).as_posix(): {"bytes": path.stat().st_size, "sha256": file_sha256(path)}
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
    index = {"schema": SCHEMA, "manifest": manifest.to_json(), "clips": entries, "files": files}
    (folder / INDEX_FILE).write_text(json.dumps(index, indent=1) + "\n")


def _write_records(folder: Path, splits: dict[str, list[Clip]]) -> None:
    import tensorflow_datasets as tfds

    from jaxtalk.datasets.talking_clips import TalkingClips

    tfds.disable_progress_bar()
    count = sum(clip.meta.num_frames + 1 for members in splits.values() for clip in members)
    # TFDS prints what it does on stdout, where our own output may be piped.
    with bar("packing clips", count) as progress, contextlib.redirect_stdout(io.StringIO()):
        for config in ("clips", "frames"):
            builder = TalkingClips(
                clips=splits, done=progress.advance, config=config, data_dir=folder, file_format="array_record"
            )
            builder.download_and_prepare()
    for leftover in ("downloads", "talking_clips/.config"):
        shutil.rmtree(folder / leftover, ignore_errors=True)
