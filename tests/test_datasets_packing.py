"""Packed datasets: the same as the folders, without TensorFlow, whole or not at all, and damage is noticed."""

from __future__ import annotations

import os
import pickle
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from jaxtalk.clip import Clip
from jaxtalk.datasets import changed_clips, make_manifest, open_packed, pack, packing, read_manifest
from jaxtalk.datasets.packing import clip_digest
from jaxtalk.errors import JaxtalkError
from tests.fake_clip import write_fake_clip

ROOT = Path(__file__).parents[1]


@pytest.fixture
def clips(tmp_path: Path) -> list[Path]:
    """Three clips of two people."""
    people = {"ann-1": "ann", "ben": "ben", "ann-2": "ann"}
    paths = [tmp_path / "clips" / name for name in people]
    for seed, path in enumerate(paths):
        write_fake_clip(path, seconds=0.4 + 0.2 * seed, size=16, seed=seed, identity=people[path.name])
    (paths[0] / "features").mkdir()
    np.save(paths[0] / "features" / "deepspeech.npy", np.ones((10, 16, 29), np.float32))
    return paths


def _shard(dataset: Path, config: str = "frames") -> Path:
    (path,) = (dataset / "talking_clips" / config).rglob("*.array_record*")
    return path


def test_round_trip_equals_the_folders(clips: list[Path], tmp_path: Path) -> None:
    folders = [Clip.open(path) for path in clips]
    pictures = [[path.read_bytes() for path in map(clip.frame_path, range(clip.meta.num_frames))] for clip in folders]
    expected = [(clip.audio(), clip.background(), clip.mask(3), clip.frame(3)) for clip in folders]
    dataset = pack(clips, tmp_path / "set")
    shutil.rmtree(tmp_path / "clips")

    packed = open_packed(dataset)
    assert [view.name for view in packed] == ["ann-1", "ben", "ann-2"]
    for view, folder, files, (audio, background, mask, frame) in zip(packed, folders, pictures, expected, strict=True):
        assert view.meta == folder.meta
        for name, array in folder.track.arrays().items():
            stored = getattr(view.track, name)
            assert stored.dtype == array.dtype
            np.testing.assert_array_equal(stored, array)
        assert [view.frame_bytes(i) for i in range(view.meta.num_frames)] == files
        np.testing.assert_array_equal(view.audio(), audio)
        np.testing.assert_array_equal(view.background(), background)
        np.testing.assert_array_equal(view.mask(3), mask)
        np.testing.assert_array_equal(view.frame(3), frame)
    np.testing.assert_array_equal(packed[0].feature("deepspeech"), np.ones((10, 16, 29)))
    assert packed[1].feature("deepspeech") is None
    with pytest.raises(IndexError, match="10 frames, asked for 10"):
        packed[0].frame(10)  # not the first frame of the next clip
    with pytest.raises(IndexError):
        packed[1].frame(-1)


def test_frames_of_a_split_lie_in_order_for_any_reader(clips: list[Path], tmp_path: Path) -> None:
    """TFDS alone reads the dataset, and record i is frame i, clip after clip."""
    import tensorflow_datasets as tfds

    dataset = pack(clips, tmp_path / "set", held_out=["ben"])
    builder = tfds.builder_from_directory(dataset / "talking_clips" / "frames" / "1.0.0")
    for split, names in (("train", ["ann-1", "ann-2"]), ("test", ["ben"])):
        source = builder.as_data_source(split)
        order = [(record["clip"].decode(), record["index"]) for record in source]
        assert order == [(name, i) for name in names for i in range(Clip.open(clips[0].parent / name).meta.num_frames)]
        np.testing.assert_array_equal(source[0]["image"], Clip.open(clips[0].parent / names[0]).frame(0))


def test_splits_and_identities(clips: list[Path], tmp_path: Path) -> None:
    dataset = pack(clips, tmp_path / "set", held_out=["ann"])
    assert [view.name for view in open_packed(dataset, "train")] == ["ben"]
    assert [view.name for view in open_packed(dataset, "test")] == ["ann-1", "ann-2"]
    assert [view.name for view in open_packed(dataset, "all", ["ann"])] == ["ann-1", "ann-2"]
    # Frames come from the right split.
    for view in open_packed(dataset):
        np.testing.assert_array_equal(view.frame(2), Clip.open(clips[0].parent / view.name).frame(2))
    assert read_manifest(dataset).clips["ben"].split == "train"
    with pytest.raises(JaxtalkError, match="identity 'zoe' has no clip; known are ann, ben"):
        open_packed(dataset, identities=["zoe"])
    with pytest.raises(JaxtalkError, match="no clips in split 'train' of these identities"):
        open_packed(dataset, "train", ["ann"])
    with pytest.raises(JaxtalkError, match="split 'valid' is unknown"):
        open_packed(dataset, "valid")


def test_a_manifest_made_before_must_fit(clips: list[Path], tmp_path: Path) -> None:
    content = {path.name: (Clip.open(path).meta.identity, clip_digest(Clip.open(path))) for path in clips}
    manifest = make_manifest(content, 1, seed=5)
    dataset = pack(clips, tmp_path / "set", manifest)
    assert read_manifest(dataset) == manifest
    with pytest.raises(JaxtalkError, match="clip ann-2 is not among the folders"):
        pack(clips[:2], tmp_path / "set2", manifest)
    with pytest.raises(JaxtalkError, match="clip ann-2 is not in it"):
        pack(clips, tmp_path / "set2", make_manifest({k: v for k, v in content.items() if k != "ann-2"}))
    stale = make_manifest(content | {"ben": ("ben", "0")})
    with pytest.raises(JaxtalkError, match="clip ben changed since"):
        pack(clips, tmp_path / "set2", stale)
    assert not (tmp_path / "set2").exists()


def test_packing_neither_imports_tensorflow_nor_leaves_traces(clips: list[Path], tmp_path: Path) -> None:
    code = f"""
import sys
from jaxtalk.datasets import open_packed, pack
for view in open_packed(pack({[str(path) for path in clips]!r}, {str(tmp_path / "set")!r})):
    for i in range(view.meta.num_frames):
        view.frame(i), view.mask(i)
    view.audio(), view.background()
assert "tensorflow_datasets" in sys.modules and "tensorflow" not in sys.modules
"""
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    environment = os.environ | {"TMPDIR": str(scratch)}
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, env=environment)
    assert result.returncode == 0, result.stderr
    assert result.stdout == "", "what TFDS prints must not reach stdout"
    assert not list(scratch.iterdir()), "nothing is left in the temporary folder"


def _flip(path: Path, position: int) -> None:
    data = bytearray(path.read_bytes())
    data[position] ^= 0x40
    path.write_bytes(bytes(data))


def test_a_flipped_bit_is_noticed(clips: list[Path], tmp_path: Path) -> None:
    dataset = pack(clips, tmp_path / "set")
    shard = _shard(dataset)
    _flip(shard, shard.stat().st_size // 2)
    with pytest.raises(JaxtalkError, match=r"array_record.*: damaged .* delete .*set and pack the clips again"):
        open_packed(dataset)
    # Unverified, reading the record says so.
    views = open_packed(dataset, verify=False)
    with pytest.raises(JaxtalkError, match=r"record \d+: unreadable"):
        for view in views:
            for i in range(view.meta.num_frames):
                view.frame(i)
    pack(clips, dataset)
    assert len(open_packed(dataset)) == 3, "packing again mends it"


def test_truncated_and_missing_files_are_noticed_without_hashing(clips: list[Path], tmp_path: Path) -> None:
    dataset = pack(clips, tmp_path / "set")
    shard = _shard(dataset, "clips")
    os.truncate(shard, shard.stat().st_size - 1)
    with pytest.raises(JaxtalkError, match="damaged"):
        open_packed(dataset, verify=False)
    shard.unlink()
    with pytest.raises(JaxtalkError, match="missing"):
        open_packed(dataset, verify=False)
    (dataset / "dataset.json").write_text("{")
    with pytest.raises(JaxtalkError, match=r"dataset\.json: unreadable"):
        open_packed(dataset)
    with pytest.raises(JaxtalkError, match="no packed dataset here"):
        open_packed(tmp_path)


def test_packing_again_does_nothing_until_content_changes(clips: list[Path], tmp_path: Path) -> None:
    dataset = pack(clips, tmp_path / "set")
    written = (dataset / "dataset.json").stat().st_mtime_ns
    os.utime(clips[1] / "frames" / "000003.png")  # touched, the content is the same
    assert changed_clips(dataset, clips) == []
    pack(clips, dataset)
    assert (dataset / "dataset.json").stat().st_mtime_ns == written

    Image.fromarray(np.zeros((16, 16, 3), np.uint8)).save(clips[1] / "frames" / "000003.png")
    assert changed_clips(dataset, clips) == ["ben"]
    assert changed_clips(dataset, [*clips, tmp_path / "clips" / "new"]) == ["ben", "new"]
    pack(clips, dataset)
    assert changed_clips(dataset, clips) == []
    assert open_packed(dataset)[1].frame(3).max() == 0
    assert changed_clips(dataset, [tmp_path / "elsewhere" / "ben"]) == []  # the source is gone: what is packed counts


def test_another_split_packs_again(clips: list[Path], tmp_path: Path) -> None:
    dataset = pack(clips, tmp_path / "set")
    pack(clips, dataset, held_out=["ben"])
    assert [view.name for view in open_packed(dataset, "test")] == ["ben"]
    pack(clips[:1], dataset)
    assert [view.name for view in open_packed(dataset)] == ["ann-1"]


def test_interrupted_packing_leaves_nothing_that_looks_whole(
    clips: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = pack(clips[:1], tmp_path / "set")
    original = Clip.mask_path

    def failing(self: Clip, index: int) -> Path:
        if self.name == "ann-2" and index == 7:
            raise KeyboardInterrupt
        return original(self, index)

    monkeypatch.setattr(packing, "clip_digest", lambda clip: "1")  # does not read the masks
    monkeypatch.setattr(packing, "_fingerprint", lambda clip: "1")
    monkeypatch.setattr(Clip, "validate", lambda clip: None)
    monkeypatch.setattr(Clip, "mask_path", failing)
    with pytest.raises(KeyboardInterrupt):
        pack(clips, tmp_path / "new")
    with pytest.raises(KeyboardInterrupt):
        pack(clips, dataset)
    monkeypatch.undo()
    assert not (tmp_path / "new").exists()
    assert [view.name for view in open_packed(dataset)] == ["ann-1"], "the old dataset is still there, whole"
    # What a killed process leaves behind is no obstacle.
    (tmp_path / "new.partial").mkdir()
    (tmp_path / "new.partial" / "dataset.json").write_text("{}")
    assert len(open_packed(pack(clips, tmp_path / "new"))) == 3
    assert not (tmp_path / "new.partial").exists()


def test_two_packers_write_once(clips: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writes, write = [], packing._write
    monkeypatch.setattr(packing, "_write", lambda *arguments: (writes.append(1), write(*arguments)))
    threads = [threading.Thread(target=pack, args=(clips, tmp_path / "set")) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(writes) == 1 and len(open_packed(tmp_path / "set")) == 3


def test_packing_errors(clips: list[Path], tmp_path: Path) -> None:
    with pytest.raises(JaxtalkError, match="no clips to pack"):
        pack([], tmp_path / "set")
    with pytest.raises(JaxtalkError, match="no clip here"):
        pack([tmp_path], tmp_path / "set")
    shutil.copytree(clips[0], tmp_path / "other" / "ann-1")
    with pytest.raises(JaxtalkError, match="have the same name"):
        pack([*clips, tmp_path / "other" / "ann-1"], tmp_path / "set")
    with pytest.raises(JaxtalkError, match="exists and is no packed dataset"):
        pack(clips, tmp_path / "clips")
    (clips[1] / "masks" / "000004.png").unlink()
    with pytest.raises(JaxtalkError, match=r"000004\.png: missing"):
        pack(clips, tmp_path / "set")
    assert not (tmp_path / "set").exists()


def test_views_can_be_sent_to_other_processes(clips: list[Path], tmp_path: Path) -> None:
    view = open_packed(pack(clips, tmp_path / "set"))[1]
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(view)).frame(4), view.frame(4))
