"""Crop, gaps, stages, preflight, masks and plate on made-up data with known answers."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from jaxtalk.preparation import crop, gaps, gaze, masks, plate, preflight
from jaxtalk.preparation.landmarks import Face, FaceTrack, follow
from jaxtalk.preparation.silhouette import FACE, NECK, SCALP, spread_points
from jaxtalk.preparation.stages import Stage, StageStore, first_difference

# --- crop


def test_a_small_face_is_cropped_with_room_for_hair_and_shoulders() -> None:
    boxes = np.tile([900.0, 300, 1020, 460], (5, 1))
    x, y, side = crop.place(boxes, 1920, 1080)
    assert side == 320
    assert x <= 900 - 60 and x + side >= 1020 + 60
    assert y <= 300 - 60 and y + side >= 460 + 60
    assert 300 - y > y + side - 460  # more room above, for hair


def test_a_picture_cropped_before_is_kept_whole_and_crops_stay_inside() -> None:
    assert crop.place(np.array([[138.0, 156, 369, 421]]), 512, 512) == (0, 0, 512)
    x, y, side = crop.place(np.array([[0.0, 0, 100, 120]]), 1280, 720)
    assert (x, y) == (0, 0) and side <= 720


def test_a_moving_head_widens_the_crop() -> None:
    still = np.tile([900.0, 300, 1020, 460], (20, 1))
    moving = still + np.linspace(0, 200, 20)[:, None] * np.array([1, 0, 1, 0])
    x, _, side = crop.place(moving, 1920, 1080)
    assert side > crop.place(still, 1920, 1080)[2]
    assert x <= 900 and x + side >= 1220


# --- gaps


def test_short_gaps_are_bridged_long_ones_and_ends_dropped() -> None:
    found = np.ones(100, bool)
    found[:2] = found[10:20] = found[40:51] = found[99:] = False
    selection = gaps.select(found, 25.0)
    assert selection.interpolated == list(range(10, 20))
    assert selection.dropped == [0, 1, *range(40, 51), 99]
    assert len(selection.kept) == 86 and selection.measured.sum() == 76


def test_a_bridge_is_linear_in_time() -> None:
    time = np.array([0.0, 0.04, 0.1, 0.16, 0.2])
    found = np.array([True, False, False, True, True])
    points = np.zeros((5, 478, 3), np.float32)
    points[found] = time[found, None, None] * 100
    track = FaceTrack(points, np.zeros((5, 52), np.float32), np.tile(np.eye(3), (5, 1, 1)), found, found.astype(int))
    bridged = gaps.bridge(track, gaps.select(found, 25.0), time)
    np.testing.assert_allclose(bridged.points[:, 7, 1], 100 * time, rtol=1e-5)
    np.testing.assert_allclose(bridged.rotation, np.tile(np.eye(3), (5, 1, 1)), atol=1e-6)


def test_of_several_faces_the_one_at_the_same_place_is_followed() -> None:
    """The largest face at the start; another that grows larger, or comes first in the list, does not take over."""

    def face(x: float, height: float) -> Face:
        points = np.zeros((478, 3), np.float32)
        points[1] = (x, height, 0)
        return Face(points + np.array([x, 0, 0], np.float32), np.zeros(52, np.float32), np.eye(3, dtype=np.float32))

    frames = [[face(10, 50), face(200, 40)], [], [face(200, 90), face(12, 50)], [face(201, 90), face(14, 50)]]

    class Landmarker:
        def faces(self, image: np.ndarray, time: float) -> list[Face]:
            return frames[int(time)]

    track = follow(((float(i), np.zeros((4, 4, 3), np.uint8)) for i in range(4)), Landmarker())  # type: ignore[arg-type]
    np.testing.assert_array_equal(track.found, [True, False, True, True])
    np.testing.assert_array_equal(track.num_faces, [2, 0, 2, 2])
    np.testing.assert_array_equal(track.points[[0, 2, 3], 0, 0], [10, 12, 14])


# --- stages


def test_a_stage_is_made_once_and_again_when_anything_before_it_changes(tmp_path: Path) -> None:
    made: list[str] = []

    def run(first: int, second: int) -> float:
        store = StageStore(tmp_path)
        a = Stage("a", 1, {"x": first})
        b = Stage("b", 1, {"y": second}, (a,))

        def make(name: str, value: int) -> dict[str, np.ndarray]:
            made.append(name)
            return {"v": np.array(float(value))}

        value = store.run(a, lambda: make("a", first))["v"]
        return float(store.run(b, lambda: make("b", second + int(value)))["v"])

    assert run(1, 10) == 11 and made == ["a", "b"]
    assert run(1, 10) == 11 and made == ["a", "b"]
    assert run(1, 20) == 21 and made == ["a", "b", "b"]
    assert run(2, 20) == 22 and made == ["a", "b", "b", "a", "b"]


def test_an_interrupted_stage_is_not_taken_for_whole(tmp_path: Path) -> None:
    stage = Stage("a", 1, {})
    store = StageStore(tmp_path)
    store.run(stage, lambda: {"v": np.zeros(3)})

    def killed() -> dict[str, np.ndarray]:
        raise KeyboardInterrupt

    changed = dataclasses.replace(stage, version=2)
    with pytest.raises(KeyboardInterrupt):
        store.run(changed, killed)
    assert store.run(stage, lambda: {"v": np.ones(3)})["v"][0] == 1


def test_the_differing_setting_is_named() -> None:
    assert first_difference({"a": {"b": 1, "c": [1, 2]}}, {"a": {"b": 1, "c": (1, 2)}}) is None
    assert first_difference({"a": {"b": 1}}, {"a": {"b": 2}}) == ("a.b", 1, 2)
    assert first_difference({}, {"a": 1}) == ("a", None, 1)


# --- preflight


def test_the_sounds_delay_is_found() -> None:
    rng = np.random.default_rng(1)
    time = np.arange(500) / 25
    gap = np.clip(np.convolve(rng.normal(size=520), np.hanning(8), "same")[:500], 0, None)
    delay, rate = 0.12, 16000
    sample_time = np.arange(20 * rate) / rate
    samples = np.interp(sample_time - delay, time, gap) * rng.normal(size=len(sample_time)) * 0.1
    found = preflight.audio_offset(gap, time, samples, rate)
    assert abs(found["offset_seconds"] - delay) <= 0.02
    assert found["correlation"] > found["at_zero"] + 0.1


def test_a_cut_is_found_and_motion_is_not() -> None:
    rng = np.random.default_rng(0)
    scenes = rng.integers(0, 255, (2, 32, 32, 3))
    frames = np.stack([np.roll(scenes[int(i >= 30)], i % 3, axis=1) for i in range(60)]).astype(np.uint8)
    slow = np.stack([np.clip(scenes[int(i >= 30)] + i, 0, 255) for i in range(60)]).astype(np.uint8)
    assert preflight.find_cuts(slow) == [30]
    assert preflight.find_cuts(frames) == []  # everything moves all the time: no single cut stands out


def test_jitter_of_a_steady_turn_is_zero_and_of_noise_is_not() -> None:
    turn = Rotation.from_euler("y", np.arange(50)[:, None] * 2.0, degrees=True)
    assert preflight.jitter_degrees(turn.as_matrix()) < 1e-3
    shaken = turn * Rotation.from_euler("x", np.tile([0.5, -0.5], 25)[:, None], degrees=True)
    assert abs(preflight.jitter_degrees(shaken.as_matrix()) - 2.0) < 0.05


def test_fit_errors_are_stated_at_512_over_inner_points_and_measured_frames() -> None:
    rng = np.random.default_rng(0)
    observed = rng.uniform(0, 256, (20, 68, 2))
    projected = observed + np.array([3.0, 0])
    projected[:, :17] += 50  # the jaw line does not count
    projected[5] += 100  # nor does an interpolated frame
    measured = np.arange(20) != 5
    eye = np.tile(np.eye(3), (20, 1, 1))
    report = preflight.fit_report(observed, projected, eye, eye, measured, 256)
    assert report["inner_error_mean_px"] == pytest.approx(6.0)
    assert report["inner_error_p95_px"] == pytest.approx(6.0)


def _measurements(**changes: object) -> preflight.Measurements:
    good = preflight.Measurements(
        fps=25.0, seconds=70.0, face_pixels=260.0, clip_face_pixels=250.0, num_faces=1, interpolated=[], dropped=[],
        repeated=0, cuts=[], speech={"peak_db": -15.0, "median_db": -25.0, "active_fraction": 0.7},
        offset={"offset_seconds": 0.0, "correlation": 0.2, "at_zero": 0.2},
        pose={"yaw_deg": [-10, 12], "pitch_deg": [-5, 5], "roll_deg": [-3, 3], "distance_m": [0.8, 0.9]},
        lip_gap=[0.0, 0.05, 0.15],
        fit={"inner_error_mean_px": 2.3, "lip_gap_correlation": 0.99},
    )  # fmt: skip
    return dataclasses.replace(good, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "expected", "word"),
    [
        ({}, "good", None),
        ({"cuts": [100]}, "poor", "4.00 s"),
        ({"face_pixels": 80.0}, "usable", "80 pixels"),
        ({"seconds": 2.0}, "usable", "2.0 s"),
        ({"num_faces": 2}, "usable", "2 faces"),
        ({"dropped": list(range(400))}, "poor", "400 frames"),
        ({"dropped": [5]}, "usable", "1 frames dropped"),
        ({"offset": {"offset_seconds": 0.2, "correlation": 0.4, "at_zero": 0.05}}, "usable", "+0.20 s"),
        ({"lip_gap": [0.0, 0.0, 0.01]}, "usable", "hardly moves"),
        ({"fit": {"inner_error_mean_px": 9.0, "lip_gap_correlation": 0.99}}, "poor", "preview.png"),
    ],
)
def test_the_verdict_follows_the_measurements(changes: dict, expected: str, word: str | None) -> None:
    result, advice = preflight.verdict(_measurements(**changes))
    assert result == expected
    assert advice == [] if word is None else word in advice[0] and len(advice) == 1


def test_silence_is_told_from_speech() -> None:
    rng = np.random.default_rng(0)
    assert preflight.speech_report(1e-5 * rng.normal(size=16000), 16000)["peak_db"] < preflight.SILENCE_DB
    half = np.where(np.arange(32000) < 16000, 0.1, 1e-4) * rng.normal(size=32000)
    assert preflight.speech_report(half, 16000)["active_fraction"] == pytest.approx(0.5, abs=0.03)


# --- gaze, points


def test_gaze_is_in_the_head_and_up_is_positive() -> None:
    points = np.zeros((3, 478, 3), np.float32)
    for outer, inner, iris, centre in ((33, 133, 468, -40.0), (263, 362, 473, 40.0)):
        sign = np.sign(centre)
        points[:, outer, 0], points[:, inner, 0] = centre + sign * 15, centre - sign * 15
        points[:, iris] = [(centre, 0, -3), (centre + 6, 0, -3), (centre, -6, -3)]
    angles = gaze.gaze_angles(points, np.tile(np.eye(3), (3, 1, 1)))
    half = np.arcsin(0.5)
    np.testing.assert_allclose(angles - angles[0], [[0, 0], [half, 0], [0, half]], atol=1e-5)
    assert angles[0, 0] == 0 and -0.25 < angles[0, 1] < 0  # level with the eye's corners is looking down a little
    turn = Rotation.from_euler("xyz", [10, 30, -15], degrees=True).as_matrix()
    flip = np.array([1, -1, -1])
    turned = ((points * flip) @ turn.T) * flip
    np.testing.assert_allclose(gaze.gaze_angles(turned, np.tile(turn, (3, 1, 1))), angles, atol=1e-4)


def test_spread_points_cover_evenly() -> None:
    points = np.random.default_rng(0).uniform(size=(2000, 3))
    chosen = spread_points(points, 100)
    gap = np.linalg.norm(points[:, None] - chosen[None], axis=-1).min(axis=1).max()
    random_gap = np.linalg.norm(points[:, None] - points[None, :100], axis=-1).min(axis=1).max()
    assert len(np.unique(chosen, axis=0)) == 100 and gap < 0.75 * random_gap


# --- masks and plate: a person with long hair, in a suit, before a wall


def _scene(count: int, hair_length: int, size: int = 128) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Frames, what a mesh would cover, and the true labels; the head moves to and fro."""
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[:size, :size]
    wall = np.stack([90 + 0.3 * rows, 140 + 0 * rows, 130 + 0.3 * columns], axis=-1)
    frames, parts, labels = [], [], []
    for i in range(count):
        x, y = 64 + 6 * np.sin(i / 5), 52
        skull = ((columns - x) / 24) ** 2 + ((rows - y) / 34) ** 2 < 1
        face = skull & (rows > y - 14)
        cap = (((columns - x) / 32) ** 2 + ((rows - y + 4) / 40) ** 2 < 1) & (rows < y + 10)
        strands = (abs(abs(columns - x) - 28) < 6) & (rows >= y) & (rows < y + hair_length)
        neck = (abs(columns - x) < 12) & (rows > y + 20) & (rows < y + 50) & ~skull
        suit = (rows > y + 40 + 0.4 * abs(columns - 64)) & ~neck
        image, truth, part = wall.copy(), np.zeros((size, size), np.uint8), np.zeros((size, size), np.uint8)
        image[suit], image[neck] = (30, 30, 45), (200, 150, 130)
        truth[suit | neck] = 2
        hair = (cap | strands) & ~face
        image[hair], truth[hair] = (110, 70, 30), 1
        image[face], truth[face] = (210, 160, 140), 1
        part[neck], part[skull], part[face] = NECK, SCALP, FACE
        frames.append(np.clip(image + rng.normal(0, 6, image.shape), 0, 255).astype(np.uint8))
        parts.append(part)
        labels.append(truth)
    return np.stack(frames), np.stack(parts), np.stack(labels)


def _overlap(found: np.ndarray, truth: np.ndarray) -> float:
    return float((found & truth).sum() / (found | truth).sum())


@pytest.mark.parametrize("hair_length", [0, 60])
def test_masks_find_short_and_long_hair(hair_length: int) -> None:
    frames, parts, truth = _scene(30, hair_length)
    shares = masks.segment(frames, parts)
    labels = np.stack([masks.enlarge(share, 128) for share in shares])
    for label in (0, 1, 2):
        assert _overlap(labels == label, truth == label) > (0.9 if hair_length else 0.98), label
    hair_below_chin = (truth == 1) & (np.mgrid[:128, :128][0] > 90)
    if hair_length:
        assert (labels == 1)[hair_below_chin].mean() > 0.85


def test_a_dark_suit_is_not_hair() -> None:
    frames, parts, truth = _scene(20, 0)
    suit = (frames.astype(int).sum(axis=-1) < 150) & (truth == 2)
    frames[suit] = (np.array([110, 70, 30]) + np.random.default_rng(1).normal(0, 6, (suit.sum(), 3))).astype(np.uint8)
    labels = np.stack([masks.enlarge(share, 128) for share in masks.segment(frames, parts)])
    assert (labels == 1)[truth == 2].mean() < 0.03


def test_enlarged_masks_keep_their_place() -> None:
    shares = np.zeros((2, 32, 32), np.uint8)
    shares[0, 8:16, 8:24] = 255
    shares[1, 20:] = 255
    labels = masks.enlarge(shares, 128)
    truth = np.zeros((128, 128), np.uint8)
    truth[32:64, 32:96], truth[80:] = 1, 2
    assert (labels != truth).mean() < 0.01


def test_the_plate_shows_the_wall_and_no_ghost() -> None:
    size = 96
    rows, columns = np.mgrid[:size, :size]
    wall = np.stack([80 + rows, 100 + columns, 90 + 0 * rows], axis=-1).astype(np.uint8)
    frames, free = [], []
    for i in range(12):
        person = (abs(columns - 40 - 3 * i) < 18) & (rows > 30)
        frames.append(np.where(person[..., None], np.array([255, 0, 0], np.uint8), wall))
        free.append(~person)
    image, seen = plate.background_plate(frames.__getitem__, free.__getitem__, range(12), (size, size))
    assert np.abs(image[seen].astype(int) - wall[seen]).max() <= 1
    assert 0.02 < (~seen).mean() < 0.4
    assert np.abs(image[~seen].astype(int) - wall[~seen]).mean() < 15  # a smooth guess, not the red person


def test_start_up_notes_of_c_libraries_are_dropped_and_nothing_else(capfd: pytest.CaptureFixture[str]) -> None:
    from jaxtalk.preparation.landmarks import _hushed_start

    os.write(2, b"before ")
    with pytest.raises(RuntimeError), _hushed_start():
        os.write(2, b"note ")
        raise RuntimeError
    os.write(2, b"after")
    assert capfd.readouterr().err == "before after"
