"""Splits in time and by person."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from jaxtalk.datasets import Manifest, make_manifest, time_split
from jaxtalk.errors import JaxtalkError


def test_time_split_at_a_steady_rate() -> None:
    times = np.arange(100) / 25
    train, test = time_split(times, 1.0, 0.4)
    np.testing.assert_array_equal(test, np.arange(75, 100))  # one second is 25 frames
    np.testing.assert_array_equal(train, np.arange(0, 65))  # 0.4 s is ten more


@pytest.mark.parametrize("guard", [0.0, 0.3, 1.0])
def test_time_split_keeps_the_gap_at_any_rate(guard: float) -> None:
    times = np.cumsum(np.random.default_rng(0).uniform(0.02, 0.06, 300)) + 5.0
    train, test = time_split(times, 2.0, guard)
    assert times[test[0]] - times[train[-1]] >= guard
    assert times[-1] - times[test[0]] == pytest.approx(2.0, abs=0.08)
    assert not set(train) & set(test)
    # No frame is lost but those of the gap.
    lost = np.setdiff1d(np.arange(300), np.concatenate([train, test]))
    assert np.ptp(times[lost]) <= guard if lost.size else guard == 0


def test_time_split_is_robust_to_rounded_timestamps() -> None:
    times = np.round(np.arange(250) / 29.97, 3)
    counts = {len(time_split(times + shift, 3.0, 1.0)[1]) for shift in (0.0, 0.0004, 1.0)}
    assert counts == {90}


def test_time_split_without_test_and_of_a_short_clip() -> None:
    train, test = time_split(np.arange(10) / 25, 0.0, 1.0)
    assert len(train) == 10 and len(test) == 0
    with pytest.raises(JaxtalkError, match=r"0\.4 s leaves no frames to train on; lower data\.test_seconds \(10\)"):
        time_split(np.arange(10) / 25, 10.0, 1.0)


CLIPS = {f"{who}{i}": (who, f"hash-{who}{i}") for who in ("anna", "ben", "cara", "dora") for i in range(2)}


def _sides(manifest: Manifest) -> dict[str, set[str]]:
    sides: dict[str, set[str]] = {"train": set(), "test": set()}
    for entry in manifest.clips.values():
        sides[entry.split].add(entry.identity)
    return sides


def test_held_out_persons_take_all_their_clips_and_names_along() -> None:
    manifest = make_manifest(CLIPS, ["ben"], same_person=[("ben", "cara")])
    assert _sides(manifest) == {"train": {"anna", "dora"}, "test": {"ben", "cara"}}
    chained = make_manifest(CLIPS, ["anna"], same_person=[("dora", "cara"), ("cara", "anna")])
    assert _sides(chained) == {"train": {"ben"}, "test": {"anna", "cara", "dora"}}


def test_drawn_persons_depend_on_the_seed_alone() -> None:
    draws = [_sides(make_manifest(CLIPS, 2, seed=seed))["test"] for seed in range(12)]
    assert all(len(draw) == 2 for draw in draws) and len({tuple(sorted(draw)) for draw in draws}) > 1
    backwards = make_manifest(dict(reversed(CLIPS.items())), 2, seed=3)
    assert backwards == make_manifest(CLIPS, 2, seed=3) and backwards.sha256 == make_manifest(CLIPS, 2, seed=3).sha256


def test_manifest_survives_the_disk_and_notices_edits(tmp_path: Path) -> None:
    manifest = make_manifest(CLIPS, ["ben"], same_person=[("cara", "dora")])
    path = tmp_path / "split.json"
    manifest.save(path)
    assert Manifest.load(path) == manifest
    data = json.loads(path.read_text())
    data["clips"]["anna0"]["split"] = "test"
    path.write_text(json.dumps(data))
    with pytest.raises(JaxtalkError, match=r"split\.json: changed since it was made"):
        Manifest.load(path)
    path.write_text("{}")
    with pytest.raises(JaxtalkError, match="not a manifest"):
        Manifest.load(path)


def test_everything_in_the_manifest_moves_its_hash() -> None:
    hashes = {
        make_manifest(CLIPS, ["ben"]).sha256,
        make_manifest(CLIPS, ["anna"]).sha256,
        make_manifest(CLIPS, ["ben"], same_person=[("cara", "dora")]).sha256,
        make_manifest(CLIPS | {"anna0": ("anna", "other content")}, ["ben"]).sha256,
        make_manifest(CLIPS | {"anna0": ("eve", "hash-anna0")}, ["ben"]).sha256,
    }
    assert len(hashes) == 5


def test_split_errors() -> None:
    with pytest.raises(JaxtalkError, match="'zoe' has no clip; known are anna, ben, cara, dora"):
        make_manifest(CLIPS, ["zoe"])
    with pytest.raises(JaxtalkError, match="cannot hold out 4 of 3 persons"):
        make_manifest(CLIPS, 4, same_person=[("anna", "ben")])
    entries = make_manifest(CLIPS, ["ben"]).clips
    with pytest.raises(JaxtalkError, match="on both sides"):
        Manifest(entries, (("ben", "anna"),)).check("split.json")
