"""The suite: what it refuses, what it says of metrics that it cannot measure, and that nothing is computed twice."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from jaxtalk.errors import JaxtalkError
from jaxtalk.metrics import METRICS, Faces, Material, Pictures, Suite, measures
from jaxtalk.metrics.landmarks import lmd

COUNT, SIZE, FPS = 12, 64, 25.0
NEEDS_WEIGHTS = {
    "lpips/alex": "alexnet",
    "lpips/vgg": "vgg16",
    "fid/inception2048": "inception_fid",
    "csim_src/r50": "iresnet50",
    "csim_gt/r50": "iresnet50",
    "sync/lse_c": "syncnet",
    "sync/lse_d": "syncnet",
    "sync/offset": "syncnet",
}


@pytest.fixture(autouse=True)
def nothing_cached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without any pretrained file."""
    monkeypatch.setenv("JAXTALK_CACHE", str(tmp_path))
    measures._arcface.cache_clear()
    measures._syncnet.cache_clear()


class Finder:
    """Finds a face that moves with the brightness of the first pixel; none in black frames. Counts the frames."""

    def __init__(self) -> None:
        self.frames = 0

    def __call__(self, frames: np.ndarray) -> Faces:
        self.frames += len(frames)
        shape = np.random.default_rng(0).uniform(16, 48, (68, 2))
        points = shape + 0.02 * frames[:, :1, :1, 0] * np.sin(np.arange(68))[:, None]
        turn = np.broadcast_to(np.eye(3), (len(frames), 3, 3)).copy()
        black = (frames == 0).all(axis=(1, 2, 3))
        points[black], turn[black] = np.nan, np.nan
        return Faces(points, turn)


def pictures(seed: int, find_faces: Callable[[np.ndarray], Faces] | None, black: tuple[int, ...] = ()) -> Pictures:
    frames = np.random.default_rng(seed).integers(1, 255, (COUNT, SIZE, SIZE, 3), np.uint8)
    frames[list(black)] = 0
    return Pictures(frames, find_faces)


def material(find_faces: Callable[[np.ndarray], Faces] | None, black: tuple[int, ...] = (), **changes: Any) -> Material:
    whole = Material(
        image=pictures(0, find_faces, black),
        truth=pictures(1, find_faces),
        boxes={"frame": None, "mouth": np.tile([20.0, 20.0, 44.0, 44.0], (COUNT, 1))},
        times=np.arange(COUNT) / FPS,
        fps=FPS,
        sound=(np.zeros(round(COUNT / FPS * 16000), np.float32), 16000),
        source=pictures(2, find_faces),
    )
    return dataclasses.replace(whole, **changes)


def test_a_metric_that_there_is_not() -> None:
    with pytest.raises(JaxtalkError, match=r"--metrics: there is no metric 'psnr'; known are psnr/rgb, ssim/gauss11"):
        Suite(["psnr", "ssim/gauss11"])


def test_absent_weights_are_told_with_the_command_that_gets_them() -> None:
    suite = Suite(find_faces=Finder())
    assert set(suite.absent) == set(NEEDS_WEIGHTS)
    for metric, name in NEEDS_WEIGHTS.items():
        told = suite.absent[metric]
        assert f"{name} is not on this machine" in told and "licence: " in told and "source: " in told
        assert f"jaxtalk weights get {name}`" in told or f"jaxtalk weights convert {name} FILE`" in told
    assert set(suite.metrics) == set(METRICS) - set(NEEDS_WEIGHTS)
    values, skipped = suite.measure(material(suite.find_faces))
    assert not set(NEEDS_WEIGHTS) & {*values, *skipped}  # no number, and told once


def test_no_landmarker_is_told_for_every_metric_that_looks_for_faces() -> None:
    suite = Suite(no_faces="install the landmarker")
    need = {name for name, metric in METRICS.items() if "faces" in metric.needs}
    assert {name for name, why in suite.absent.items() if why == "install the landmarker"} == need
    assert {"lmd/mouth", "blinks/fixed", "sync/lse_c", "csim_gt/r50"} <= need
    assert "psnr/rgb" in suite.metrics and "cpbd/python" in suite.metrics


def test_only_what_is_asked_for_is_loaded_and_measured() -> None:
    suite = Suite(["ssim/gauss11", "psnr/rgb"])
    assert not suite.absent and list(suite.metrics) == ["psnr/rgb", "ssim/gauss11"]  # in the register's order
    values, skipped = suite.measure(material(None))
    assert list(values) == ["psnr/rgb", "ssim/gauss11"] and not skipped


@pytest.mark.parametrize(
    ("changes", "reason", "lost", "kept"),
    [
        ({"truth": None}, "there is no truth to compare with", {"psnr/rgb", "lmd/mouth", "dpos/jaw"}, {"cpbd/python"}),
        ({"sound": None}, "nothing is heard", {"sync/lse_c", "sync/offset"}, {"psnr/rgb", "blinks/fixed"}),
        ({"source": None}, "there is no picture that the avatar was made of", {"csim_src/r50"}, {"csim_gt/r50"}),
        (
            {"times": np.arange(COUNT) / 5},
            "--max_frames=0",
            {"blinks/fixed", "jitter/place", "sync/lse_d"},
            {"lmd/all"},
        ),
        (
            {"times": np.arange(COUNT) / FPS + 0.5 * (np.arange(COUNT) > 5)},
            "--max_frames=0",
            {"jitter/rotation"},
            set(),
        ),
    ],
    ids=["truth", "sound", "source", "spread", "gap"],
)
def test_what_the_material_lacks_is_the_reason(
    changes: dict[str, Any], reason: str, lost: set[str], kept: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The metrics with networks are stood in for: they must not be reached where something lacks."""
    stand_in = measures.whole(lambda material: 1.0)
    monkeypatch.setattr(measures, "identity", lambda against: stand_in)
    monkeypatch.setattr(measures, "lip_sync", lambda value: stand_in)
    finder = Finder()
    suite = Suite(find_faces=finder)
    values, skipped = suite.measure(material(finder, **changes))
    assert lost <= {name for name, why in skipped.items() if reason in why}
    assert all(reason in why for why in skipped.values()) and not set(skipped) & set(values)
    assert kept <= set(values)
    assert set(values) | set(skipped) == set(suite.metrics)
    assert not suite.measure(material(finder))[1]  # with everything there, nothing is skipped


def test_a_metric_that_fails_says_why_and_the_others_go_on() -> None:
    small = Pictures(np.zeros((COUNT, 32, 32, 3), np.uint8))
    suite = Suite(["psnr/rgb", "cpbd/python"])
    values, skipped = suite.measure(material(None, image=small, truth=small))
    assert "smaller than a block of 64" in skipped["cpbd/python"]
    np.testing.assert_array_equal(values["psnr/rgb"]["frame"], np.full(COUNT, 100.0))


def test_frames_without_a_face_have_no_value_and_are_counted() -> None:
    finder = Finder()
    suite = Suite(["psnr/rgb", "lmd/mouth", "drot/geodesic", "blinks/adaptive", "jitter/rotation"], finder)
    case = material(finder, black=(3, 7))
    assert case.image.missing_faces is None  # nobody has looked
    values, skipped = suite.measure(case)
    assert not skipped and case.image.missing_faces == 2
    assert case.truth is not None and case.truth.missing_faces == 0
    for metric in ("lmd/mouth", "drot/geodesic"):
        np.testing.assert_array_equal(np.flatnonzero(np.isnan(values[metric]["frame"])), [3, 7])
    assert np.isfinite(values["psnr/rgb"]["frame"]).all()
    assert values["blinks/adaptive"]["frame"].shape == (1,) and np.isfinite(values["jitter/rotation"]["frame"]).all()
    expected = lmd(case.truth.faces.points, case.image.faces.points)
    np.testing.assert_array_equal(values["lmd/mouth"]["frame"], expected)


def test_no_face_at_all_is_no_number() -> None:
    finder = Finder()
    suite = Suite([name for name in METRICS if name.startswith(("lmd", "drot", "dpos", "blinks", "jitter"))], finder)
    case = material(finder, black=tuple(range(COUNT)))
    values, skipped = suite.measure(case)
    assert not skipped and case.image.missing_faces == COUNT
    assert all(np.isnan(array).all() for regions in values.values() for array in regions.values())


def test_shapes_are_those_of_the_levels() -> None:
    finder = Finder()
    suite = Suite(find_faces=finder)
    values, _ = suite.measure(material(finder))
    for name, regions in values.items():
        length = {"frame": COUNT, "clip": 1}[METRICS[name].level]
        assert all(array.shape == (length,) and array.dtype == np.float64 for array in regions.values()), name
        assert set(regions) == ({"frame", "mouth"} if METRICS[name].regions != ("frame",) else {"frame"})


def test_faces_are_looked_for_once_in_every_picture() -> None:
    finder = Finder()
    suite = Suite(find_faces=finder)
    truth, source = pictures(1, finder), pictures(2, finder)
    for seed in (0, 3, 4):
        suite.measure(material(finder, image=pictures(seed, finder), truth=truth, source=source))
    suite.measure(material(finder, image=truth, truth=truth, source=source))
    assert finder.frames == 4 * COUNT  # three rows and the truth; nobody needed the source's


def test_pictures_of_the_truth_and_of_the_source_are_embedded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    embedded: list[int] = []

    def embed(frames: np.ndarray, points: np.ndarray, network: object) -> np.ndarray:
        embedded.append(len(frames))
        return frames.reshape(len(frames), -1)[:, :16].astype(np.float32)

    monkeypatch.setattr(measures, "embeddings", embed)
    monkeypatch.setattr(measures, "_arcface", lambda: None)
    finder = Finder()
    suite = Suite(["csim_src/r50", "csim_gt/r50"], finder)
    truth, source = pictures(1, finder), pictures(2, finder)
    for seed in (0, 3):
        values, skipped = suite.measure(material(finder, image=pictures(seed, finder), truth=truth, source=source))
        assert not skipped and set(values) == {"csim_src/r50", "csim_gt/r50"}
    values, _ = suite.measure(material(finder, image=truth, truth=truth, source=source))
    np.testing.assert_allclose(values["csim_gt/r50"]["frame"], 1)
    assert embedded == [COUNT] * 4  # two rows, the truth, the source


def test_identity_is_compared_with_the_mean_direction_of_the_source(monkeypatch: pytest.MonkeyPatch) -> None:
    """Embeddings of any length count alike, and pictures without a face not at all."""
    vectors = {1: [[3.0, 0.0], [0.0, 4.0], [np.nan, np.nan]], 2: [[5.0, 5.0], [1.0, 0.0], [0.0, -2.0]]}
    monkeypatch.setattr(measures, "embeddings", lambda frames, *_: np.array(vectors[int(frames[0, 0, 0, 0])]))
    monkeypatch.setattr(measures, "_arcface", lambda: None)
    suite = Suite(["csim_src/r50"], Finder())
    source, image = (Pictures(np.full((3, 8, 8, 3), level, np.uint8), Finder()) for level in (1, 2))
    values, _ = suite.measure(Material(image, None, {}, np.arange(3) / FPS, FPS, None, source))
    half = np.sqrt(0.5)
    np.testing.assert_allclose(values["csim_src/r50"]["frame"], [1, half, -half])
    vectors[1] = [[np.nan, np.nan]] * 3
    source = Pictures(source.frames, Finder())
    _, skipped = suite.measure(Material(image, None, {}, np.arange(3) / FPS, FPS, None, source))
    assert skipped["csim_src/r50"] == "no face was found in the pictures that the avatar was made of"


def test_networks_are_loaded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded: list[str] = []
    for name in ("_arcface", "_syncnet"):
        load = functools.cache(lambda name=name: loaded.append(name))
        monkeypatch.setattr(measures, name, load)
    Suite([name for name in METRICS if name.startswith(("csim", "sync"))], Finder())
    assert loaded == ["_arcface", "_syncnet"]


def test_one_synchrony_for_its_three_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    from jaxtalk.metrics.sync import scores_from_embeddings

    rng = np.random.default_rng(0)
    video = rng.normal(size=(40, 8))
    found = scores_from_embeddings(video, np.roll(video, 3, axis=0))
    calls: list[tuple[Any, ...]] = []

    def scores(*arguments: Any) -> Any:
        calls.append(arguments)
        return found

    monkeypatch.setattr(measures, "sync_scores", scores)
    monkeypatch.setattr(measures, "_syncnet", lambda: "network")
    finder = Finder()
    suite = Suite(["sync/lse_c", "sync/lse_d", "sync/offset"], finder)
    case = material(finder)
    values, _ = suite.measure(case)
    assert len(calls) == 1
    frames, boxes, sound, rate, fps, network = calls[0]
    assert frames is case.image.frames and boxes.shape == (COUNT, 4) and (rate, fps, network) == (16000, FPS, "network")
    assert case.sound is not None and sound is case.sound[0]
    told = [values[name]["frame"].item() for name in ("sync/lse_c", "sync/lse_d", "sync/offset")]
    assert told == [found.confidence, found.distance, -3.0]


def test_jitter_of_place_is_percent_of_the_faces_width() -> None:
    """A face 40 pixels wide that jumps 1 pixel right and back: second differences of 4 half jumps, 2 / 40."""

    def find(frames: np.ndarray) -> Faces:
        points = np.full((len(frames), 68, 2), 32.0)
        points[:, 0, 0], points[:, 16, 0] = 12, 52
        points[:, :, 0] += (np.arange(len(frames)) % 2)[:, None]
        return Faces(points, np.broadcast_to(np.eye(3), (len(frames), 3, 3)))

    values, _ = Suite(["jitter/place", "jitter/rotation"], find).measure(material(find))
    assert values["jitter/place"]["frame"].item() == pytest.approx(100 * 2 / 40)
    assert values["jitter/rotation"]["frame"].item() == 0.0


def test_pictures_must_be_8_bit_frames() -> None:
    for frames in (np.zeros((2, 8, 8, 3), np.float32), np.zeros((8, 8, 3), np.uint8)):
        with pytest.raises(JaxtalkError, match=r"must be uint8 \[F, H, W, 3\]"):
            Pictures(frames)
    with pytest.raises(JaxtalkError, match="no landmarker was given"):
        _ = Pictures(np.zeros((1, 8, 8, 3), np.uint8)).faces
