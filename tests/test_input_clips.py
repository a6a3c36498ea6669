"""Clips at working size: exact averaging, cameras that still see the same places, caches, and what a run accepts."""

from __future__ import annotations

import pickle
import shutil
from pathlib import Path

import ml_collections
import numpy as np
import pytest
from PIL import Image

from jaxtalk.clip import Clip, ClipView
from jaxtalk.config import base
from jaxtalk.datasets import open_packed, pack, read_manifest
from jaxtalk.errors import JaxtalkError
from jaxtalk.input import cache as cache_module
from jaxtalk.input.clips import (
    ResizedClip,
    held_out_clips,
    open_clips,
    reopen_clips,
    select_frames,
    split_by_person,
    training_part,
    working_clips,
)
from jaxtalk.input.resize import average_rows, resize_area, resize_labels
from tests.fake_clip import write_fake_clip


@pytest.fixture
def source(tmp_path: Path) -> Clip:
    return write_fake_clip(tmp_path / "clips" / "ball", seconds=0.6, size=48)


def _config(*clips: Path, size: int = 32, **data: object) -> ml_collections.ConfigDict:
    config = base()
    config.data.clips, config.data.size = tuple(map(str, clips)), size
    config.data.update(data)
    return config


def test_area_golden() -> None:
    """Whole factors are block means; 3 to 2 shares the middle pixel."""
    image = np.arange(16, dtype=np.uint8).reshape(4, 4, 1) * 10
    np.testing.assert_array_equal(resize_area(image, 0.5)[..., 0], [[25, 45], [105, 125]])
    np.testing.assert_allclose(average_rows(np.eye(3), 2 / 3), [[2 / 3, 1 / 3, 0], [0, 1 / 3, 2 / 3]], atol=1e-6)
    # An odd length at half size: the last pixel is cut off.
    np.testing.assert_allclose(average_rows(np.eye(5), 0.5), [[0.5, 0.5, 0, 0, 0], [0, 0, 0.5, 0.5, 0]], atol=1e-6)
    with pytest.raises(ValueError, match="smaller"):
        average_rows(np.eye(4), 1.5)


@pytest.mark.parametrize("factor", [1.0, 0.75, 0.4, 64 / 450])
def test_area_average_equals_supersampling(factor: float) -> None:
    """A slow reference: cut each pixel into 40 x 40, average those whose centres fall into the output pixel."""
    image = np.random.default_rng(0).uniform(size=(23, 31, 2))
    fine = np.repeat(np.repeat(image, 40, 0), 40, 1)
    resized = resize_area(image, factor)
    rows, columns = (np.floor((np.arange(n * 40) + 0.5) / 40 * factor).astype(int) for n in image.shape[:2])
    for r in range(resized.shape[0]):
        for c in range(resized.shape[1]):
            expected = fine[rows == r][:, columns == c].mean((0, 1))
            np.testing.assert_allclose(resized[r, c], expected, atol=0.02 if factor < 1 else 1e-6)


def test_area_average_keeps_the_mean_and_rounds_to_nearest() -> None:
    image = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    assert resize_area(image, 0.25).astype(float).mean() == pytest.approx(image.mean(), abs=0.05)
    assert resize_area(np.full((2, 2, 1), [[[1], [2]], [[1], [2]]], np.uint8), 0.5).item() == 2  # 1.5 is rounded up
    np.testing.assert_array_equal(resize_area(np.full((9, 9, 3), 255, np.uint8), 0.7), 255)


def test_labels_take_the_largest_area() -> None:
    labels = np.array([[0, 0, 1, 1], [0, 2, 1, 2], [2, 2, 0, 1], [2, 0, 1, 0]], np.uint8)
    np.testing.assert_array_equal(resize_labels(labels, 0.5), [[0, 1], [2, 0]])  # a tie takes the smaller label
    np.testing.assert_array_equal(resize_labels(labels, 1.0), labels)


def test_a_point_projects_to_the_same_place(source: Clip) -> None:
    """The camera of the small clip puts a point where the large one's pixel went: golden and for the whole track."""
    small = ResizedClip(source, 32)
    factor = 32 / 48
    assert small.meta.size == (32, 32) and small.meta.camera == source.meta.camera.scaled(factor)

    def project(clip: Clip | ResizedClip) -> np.ndarray:
        x, y, z = (clip.track.rotation[7] @ [0.02, -0.045, 0.088] + clip.track.translation[7]).tolist()
        camera = clip.meta.camera
        return np.array([camera.cx - camera.focal * x / z, camera.cy + camera.focal * y / z])

    np.testing.assert_allclose(project(small), project(source) * factor)
    np.testing.assert_allclose(small.track.face_box, source.track.face_box * factor)
    np.testing.assert_array_equal(small.track.translation, source.track.translation)

    def centroid(mask: np.ndarray) -> np.ndarray:
        """Of the head, in pixels with centres at +0.5."""
        rows, columns = np.nonzero(mask == 1)
        return np.array([columns.mean(), rows.mean()]) + 0.5

    # The picture moved as the camera says: half a pixel of shift would show.
    for i in range(0, 15, 4):
        np.testing.assert_allclose(centroid(small.mask(i)), centroid(source.mask(i)) * factor, atol=0.25)


def test_resized_pictures(source: Clip) -> None:
    small = ResizedClip(source, 24)
    block = source.frame(5).reshape(24, 2, 24, 2, 3).astype(float).mean((1, 3))
    np.testing.assert_allclose(small.frame(5), block, atol=0.5)
    assert small.background().shape == (24, 24, 3) and small.background().dtype == np.uint8
    same = ResizedClip(source, 48)
    np.testing.assert_array_equal(same.frame(5), source.frame(5))
    with pytest.raises(JaxtalkError, match=r"clip ball is 48 pixels wide, too small for config\.data\.size=64"):
        ResizedClip(source, 64)


def test_open_clips_twice_and_without_the_source(source: Clip, tmp_path: Path) -> None:
    config, run = _config(source.path), tmp_path / "run"
    first = open_clips(config, run)[0]
    expected = [first.frame(i).copy() for i in range(15)]
    reference = ResizedClip(source, 32)
    for i in range(15):
        np.testing.assert_array_equal(expected[i], reference.frame(i))
        np.testing.assert_array_equal(first.mask(i), reference.mask(i))
    np.testing.assert_array_equal(first.audio(), source.audio())
    shutil.rmtree(source.path)
    again = open_clips(config, run)[0]
    np.testing.assert_array_equal(again.frame(9), expected[9])
    shutil.rmtree(run / "cache")
    np.testing.assert_array_equal(open_clips(config, run)[0].frame(9), expected[9])


def test_a_run_refuses_clips_that_changed(source: Clip, tmp_path: Path) -> None:
    config, run = _config(source.path), tmp_path / "run"
    open_clips(config, run)
    Image.fromarray(np.zeros((48, 48, 3), np.uint8)).save(source.frame_path(0))
    with pytest.raises(JaxtalkError, match="clip ball is not the one that this run packed"):
        open_clips(config, run)
    assert reopen_clips(config, run)[0].frame(0).any(), "what follows training needs the run alone"
    other = write_fake_clip(tmp_path / "clips" / "other", seconds=0.2, size=48)
    with pytest.raises(JaxtalkError, match="clip other is not the one"):
        open_clips(_config(other.path), run)
    both = tmp_path / "both"
    open_clips(_config(source.path, other.path), both)
    with pytest.raises(JaxtalkError, match=r"holds clip ball, config\.data\.clips does not"):
        open_clips(_config(other.path), both)


def test_a_run_that_has_not_begun_is_told_from_one_without_clips(source: Clip, tmp_path: Path) -> None:
    config = base()
    config.data.clips = (str(source.path),)
    with pytest.raises(JaxtalkError, match=f"{tmp_path}: training has not begun"):
        reopen_clips(config, tmp_path)


def test_open_clips_of_a_packed_dataset(source: Clip, tmp_path: Path) -> None:
    others = [write_fake_clip(tmp_path / "clips" / n, seconds=0.2, size=48, seed=4, identity=n) for n in ("ann", "ben")]
    dataset = pack([source.path, *(clip.path for clip in others)], tmp_path / "set", held_out=["ben"])
    run = tmp_path / "run"
    assert [view.name for view in open_clips(_config(dataset=str(dataset)), run)] == ["ball", "ann"]
    ann = open_clips(_config(dataset=str(dataset), identities=("ann",)), run)
    assert [view.meta.identity for view in ann] == ["ann"]
    assert not (run / "dataset").exists()
    with pytest.raises(JaxtalkError, match="both clips and dataset"):
        open_clips(_config(source.path, dataset=str(dataset)), run)
    with pytest.raises(JaxtalkError, match=r"config\.data\.clips is empty"):
        open_clips(_config(), run)


def test_cache_stays_within_its_bytes(source: Clip, tmp_path: Path) -> None:
    other = write_fake_clip(tmp_path / "clips" / "other", seconds=0.4, size=48, seed=2)
    packed = open_packed(pack([source.path, other.path], tmp_path / "set"))
    one = 15 * 16 * 16 * 4
    for budget, expected in ((0, []), (one - 1, ["other"]), (one, ["ball"]), (4 * one, ["ball", "other"])):
        folder = tmp_path / f"cache{budget}"
        views = working_clips(packed, 16, folder, budget)
        kept = [path.name.split("-")[0] for path in sorted(folder.glob("[!.]*"))]
        assert kept == expected
        size = sum(np.load(path, mmap_mode="r").nbytes for path in folder.rglob("*.npy"))
        assert size <= budget
        for view, clip in zip(views, (source, other), strict=True):
            np.testing.assert_array_equal(view.frame(3), resize_area(clip.frame(3), 1 / 3))


def test_cached_frames_are_read_only_shared_and_small_to_send(source: Clip, tmp_path: Path) -> None:
    view = open_clips(_config(source.path), tmp_path / "run")[0]
    with pytest.raises(ValueError, match="read-only"):
        view.frame(0)[0, 0] = 0
    sent = pickle.dumps(view)
    assert len(sent) < view.frames.nbytes + 200_000  # sound and track, no frames
    np.testing.assert_array_equal(pickle.loads(sent).frame(11), view.frame(11))


def test_an_interrupted_decode_is_done_again(source: Clip, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config, run = _config(source.path), tmp_path / "run"

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(cache_module.os, "posix_fallocate", full)
    with pytest.raises(OSError, match="No space left"):
        open_clips(config, run)
    assert not list((run / "cache").glob("ball*"))
    monkeypatch.undo()
    np.testing.assert_array_equal(open_clips(config, run)[0].frame(3), ResizedClip(source, 32).frame(3))


def test_select_frames(source: Clip) -> None:
    picked = select_frames(source, np.array([7, 2, 2]))
    assert picked.meta.num_frames == 3 and picked.name == "ball"
    np.testing.assert_array_equal(picked.track.time, source.track.time[[7, 2, 2]])
    np.testing.assert_array_equal(picked.frame(0), source.frame(7))
    np.testing.assert_array_equal(picked.mask(1), source.mask(2))
    np.testing.assert_array_equal(picked.audio(), source.audio())  # whole
    nested = select_frames(picked, np.array([0]))
    np.testing.assert_array_equal(nested.frame(0), source.frame(7))
    for bad, error in (([15], IndexError), ([-1], IndexError), ([], ValueError), ([True, False], ValueError)):
        with pytest.raises(error):
            select_frames(source, np.array(bad))


def test_training_part_leaves_out_test_and_guard(source: Clip) -> None:
    part = training_part(source, _config(test_seconds=0.2, guard_seconds=0.08).data)
    np.testing.assert_array_equal(part.track.time, source.track.time[: 15 - 5 - 2])
    assert training_part(source, _config(test_seconds=0.0).data).meta.num_frames == 15
    with pytest.raises(JaxtalkError, match=r"clip ball: a clip of 0\.6 s leaves no frames to train on"):
        training_part(source, _config().data)


@pytest.fixture
def people(tmp_path: Path) -> dict[str, Path]:
    """Clips of three names, two of them the same person, and a second clip of the first."""
    clips = (("ann_1", "ann"), ("ann_2", "ann"), ("ben_1", "ben"), ("cara_1", "cara"))
    return {
        name: write_fake_clip(tmp_path / "clips" / name, seconds=0.2, size=32, seed=i, identity=who).path
        for i, (name, who) in enumerate(clips)
    }


def _names(views: list[ClipView]) -> list[str]:
    return [view.name for view in views]


def test_held_out_persons_are_packed_and_not_learnt_from(people: dict[str, Path], tmp_path: Path) -> None:
    config, run = _config(*people.values(), held_out=("ann",)), tmp_path / "run"
    assert _names(open_clips(config, run)) == ["ben_1", "cara_1"]
    assert _names(held_out_clips(config, run)) == ["ann_1", "ann_2"]
    split = split_by_person(config, run)
    assert {name: entry.split for name, entry in split.clips.items()} == {
        "ann_1": "test", "ann_2": "test", "ben_1": "train", "cara_1": "train"
    }  # fmt: skip
    assert read_manifest(run / "dataset").sha256 == split.sha256, "the packed collection has the same split"
    shutil.rmtree(tmp_path / "clips")
    assert _names(reopen_clips(config, run)) == ["ben_1", "cara_1"]
    first = held_out_clips(config, run)[0]
    assert first.meta.size == (32, 32) and first.frame(0).any()


def test_one_person_under_two_names_is_held_out_whole(people: dict[str, Path], tmp_path: Path) -> None:
    config = _config(*people.values(), held_out=("ann",), same_person=("cara=ann", "ben=stranger"))
    assert _names(open_clips(config, tmp_path / "run")) == ["ben_1"]
    assert _names(held_out_clips(config, tmp_path / "run")) == ["ann_1", "ann_2", "cara_1"]


def test_the_test_split_of_a_dataset_is_held_out_too(people: dict[str, Path], tmp_path: Path) -> None:
    dataset = pack(people.values(), tmp_path / "set", held_out=["ben"])
    config = _config(dataset=str(dataset), held_out=("cara",))
    assert _names(open_clips(config, tmp_path / "run")) == ["ann_1", "ann_2"]
    assert _names(held_out_clips(config, tmp_path / "run")) == ["cara_1", "ben_1"]
    # Names to train on choose among those that are not held out, and hide nobody who is.
    config = _config(dataset=str(dataset), identities=("ann", "ben"))
    assert _names(open_clips(config, tmp_path / "run")) == ["ann_1", "ann_2"]
    assert _names(held_out_clips(config, tmp_path / "run")) == ["ben_1"]


def test_held_out_mistakes_are_one_line(people: dict[str, Path], tmp_path: Path) -> None:
    requests: list[tuple[dict[str, object], str]] = [
        ({"held_out": ("zoe",)}, "'zoe' has no clip; known are ann, ben, cara"),
        ({"held_out": ("ann", "ben", "cara")}, "every clip is held out"),
        ({"same_person": ("ann",)}, "'ann' is no pair"),
        ({"same_person": ("a=b=c",)}, "'a=b=c' is no pair"),
    ]
    for number, (settings, words) in enumerate(requests):
        with pytest.raises(JaxtalkError, match=words) as caught:
            open_clips(_config(*people.values(), **settings), tmp_path / str(number))
        assert "\n" not in str(caught.value)


def test_a_config_of_before_knows_nobody_held_out(source: Clip, tmp_path: Path) -> None:
    config = _config(source.path)
    del config.data["held_out"], config.data["same_person"]
    assert _names(open_clips(config, tmp_path / "run")) == ["ball"]
    assert held_out_clips(config, tmp_path / "run") == []
