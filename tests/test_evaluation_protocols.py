"""Protocols of one avatar beside `self`: strangers, somebody else's speech, mirrored poses, tracked coefficients."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

from jaxtalk.clip import Clip
from jaxtalk.errors import JaxtalkError
from jaxtalk.evaluation import controls
from jaxtalk.evaluation.protocols.flip import mirrored
from jaxtalk.evaluation.protocols.strangers import first_part
from jaxtalk.evaluation.records import Settings
from jaxtalk.evaluation.results import _set_value
from jaxtalk.evaluation.runner import evaluate
from jaxtalk.methods.api import Drive
from jaxtalk.metrics import Faces
from jaxtalk.metrics.fid import fid
from jaxtalk.metrics.register import METRICS
from jaxtalk.ops.cameras import project
from tests import adapting_method, listening_method
from tests.fake_clip import write_fake_clip
from tests.listening_method import SPEC


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Clip]:
    folder = tmp_path_factory.mktemp("balls")
    seconds = {"ann": 2, "ben": 4, "cara": 4, "dan": 0.5}
    return {
        name: write_fake_clip(folder / name, seconds=length, seed=seed, identity=name)
        for seed, (name, length) in enumerate(seconds.items())
    }


@pytest.fixture
def meeting(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, clips: dict[str, Clip]) -> Path:
    """A run that meets strangers: ben and cara, and dan, whose clip is too short."""
    method = adapting_method.install(monkeypatch, tmp_path / "run", list(clips.values()), ["ben", "cara", "dan"])

    def fit(run: Any, clip: Any) -> Any:
        return method.adapt(run, clip, 10, folder=tmp_path)

    monkeypatch.setattr(method, "fit", fit, raising=False)
    (tmp_path / "steps.json").unlink(missing_ok=True)
    return tmp_path / "run"


def test_strangers_are_tested_behind_what_made_the_avatar(meeting: Path, clips: dict[str, Clip]) -> None:
    results = evaluate(meeting, "heldout", max_frames=6, video_seconds=0, source_seconds=1.0)
    assert set(results["clips"]) == {"ben", "cara"} and results["split"]["seen"] == {}
    assert set(results["split"]["manifest"]["clips"]) == {"ben", "cara", "dan"}
    facts, times = results["clips"]["ben"]["facts"], clips["ben"].track.time
    assert facts["train_seconds"][1] < 1.0 and facts["test_seconds"][0] >= facts["train_seconds"][1] + 0.4
    assert results["clips"]["ben"]["times"] == [times[i] for i in results["clips"]["ben"]["frames"]]
    nearest = results["clips"]["ben"]["facts"]["nearest_frame"]
    assert max(nearest) < facts["train_frames"]  # baselines are made of the avatar's frames alone
    assert results["failures"].keys() == {"dan"} and "too short" in results["failures"]["dan"]
    page = (meeting / "eval/heldout/index.html").read_text()
    assert "Clip dan could not be tested" in page and "frames a second" in page


def test_no_seconds_take_the_first_frame(clips: dict[str, Clip]) -> None:
    made_of, test = first_part(clips["ben"], Settings(0, 0.0, 0.0, 1.0))
    assert made_of.tolist() == [0]
    times = clips["ben"].track.time
    assert times[test[0]] - times[0] >= 1.0 > times[test[0] - 1] - times[0]


def test_people_of_the_run_are_refused_or_marked(meeting: Path, clips: dict[str, Clip]) -> None:
    asked = {"clips": [str(clips["ann"].path)], "max_frames": 3, "video_seconds": 0, "source_seconds": 0.2}
    with pytest.raises(JaxtalkError, match=r"ann is no stranger.*--allow_seen"):
        evaluate(meeting, "heldout", **asked)
    results = evaluate(meeting, "heldout", allow_seen=True, **asked)
    assert results["split"]["seen"] == {"ann": "ann"}
    for name in ("index.html", "table.md"):
        assert "NOT STRANGERS" in (meeting / "eval/heldout" / name).read_text()


def test_a_damaged_clip_does_not_stop_the_others(meeting: Path, clips: dict[str, Clip], tmp_path: Path) -> None:
    damaged = write_fake_clip(tmp_path / "eve", seconds=2, seed=9, identity="eve")
    (damaged.path / "frames" / "000007.png").unlink()
    folders = [str(damaged.path), str(clips["cara"].path)]
    results = evaluate(meeting, "heldout", clips=folders, max_frames=3, video_seconds=0, source_seconds=1.0)
    assert set(results["clips"]) == {"cara"} and "000007" in results["failures"]["eve"]
    with pytest.raises(JaxtalkError, match=r"no clip could be tested; eve: .*000007"):
        evaluate(meeting, "heldout", clips=folders[:1], max_frames=3, video_seconds=0)


def test_a_system_for_one_person_meets_no_strangers(
    clips: dict[str, Clip], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    listening_method.install(monkeypatch, tmp_path, list(clips.values())[1:3])
    with pytest.raises(JaxtalkError, match="trained for one person"):
        evaluate(tmp_path, "heldout")


def test_foreign_speech_has_no_truth(clips: dict[str, Clip], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    avatars = listening_method.install(monkeypatch, tmp_path, list(clips.values())[1:3])
    results = evaluate(tmp_path, "cross", max_frames=4, video_seconds=0.2)
    assert set(results["values"]["truth"]["psnr/rgb"]) and "psnr/rgb" not in results["values"]["ours"]
    assert not any("truth" in METRICS[name].needs for name in results["values"]["ours"])
    assert results["clips"]["ben"]["facts"]["speech"] == {"ours": "cara (clip cara)", "audio_own": "its own"}
    ours, own = (drive.audio for drive in avatars[0].rendered[:2])
    assert np.abs(ours - own).max() > 0.1
    assert "PSNR" not in (tmp_path / "eval/cross/table.md").read_text().split("Not measured")[0]
    sound = clips["cara"].path / "audio.wav"
    results = evaluate(tmp_path, "cross", max_frames=4, video_seconds=0, speech=[str(sound)])
    assert results["clips"]["ben"]["facts"]["speech"]["ours"] == "audio.wav"


def test_what_is_heard_in_a_row_is_cut_to_its_frames(clips: dict[str, Clip]) -> None:
    clip = clips["ben"]
    times = clip.track.time[30:40]
    samples, rate = controls.true_speech(clip, SPEC).heard(times, 25.0)
    first = round(float(times[0]) * rate)
    np.testing.assert_array_equal(samples, clip.audio()[first : first + len(samples)])
    assert len(samples) == pytest.approx(10 / 25 * rate, abs=1)
    late, _ = controls.shifted_speech(clip, SPEC).heard(clip.track.time[:10], 25.0)
    assert len(late) == len(samples) and not late.any()  # what was said before the recording began


def test_a_mirrored_head_is_seen_in_the_mirror() -> None:
    """Every point of the mirrored head appears where the point's mirror image did, on the other side of the picture."""
    rng = np.random.default_rng(0)
    rotation = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    rotation *= np.linalg.det(rotation)
    drive = Drive(np.zeros((1, 2)), rotation[None], np.array([[0.03, -0.02, -0.8]]), np.ones((1, 2)))
    flipped = mirrored(drive)
    assert np.linalg.det(flipped.rotation[0]) == pytest.approx(1)
    points = rng.normal(scale=0.1, size=(20, 3))
    camera = jnp.array([600.0, 256.0, 256.0])

    def seen(points: np.ndarray, drive: Drive) -> np.ndarray:
        rotation, translation = jnp.asarray(drive.rotation[0]), jnp.asarray(drive.translation[0])
        return np.asarray(project(jnp.asarray(points), rotation, translation, camera)[0])

    before, after = seen(points, drive), seen(points * [-1, 1, 1], flipped)
    np.testing.assert_allclose(after, np.stack([512 - before[:, 0], before[:, 1]], -1), atol=1e-3)
    again = mirrored(flipped)
    np.testing.assert_allclose(again.rotation, drive.rotation, atol=1e-7)


def test_flipped_poses_are_compared_where_no_truth_is_needed(
    clips: dict[str, Clip], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    avatars = listening_method.install(monkeypatch, tmp_path, list(clips.values())[1:3])
    results = evaluate(tmp_path, "flip", max_frames=4, video_seconds=0)
    assert "psnr/rgb" in results["values"]["ours"] and "psnr/rgb" not in results["values"].get("flipped", {})
    first, second = avatars[0].rendered[:2]
    np.testing.assert_array_equal(first.audio, second.audio)
    np.testing.assert_allclose(second.translation[:, 0], -first.translation[:, 0])


def test_tracked_coefficients_need_an_avatar_that_knows_them(
    clips: dict[str, Clip], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    avatars = listening_method.install(monkeypatch, tmp_path, list(clips.values())[1:3])
    with pytest.raises(JaxtalkError, match="speech alone"):
        evaluate(tmp_path, "reconstruct", max_frames=4, video_seconds=0)

    def tracked(self: Any, clip: Any) -> np.ndarray:
        return np.stack([np.full((4, 13), i, np.float32) for i in range(clip.meta.num_frames)])

    monkeypatch.setattr(listening_method.FakeAvatar, "tracked_motion", tracked, raising=False)
    avatars.clear()
    results = evaluate(tmp_path, "reconstruct", max_frames=4, video_seconds=0)
    frames = results["clips"]["ben"]["frames"]
    ours = avatars[0].rendered[0]
    np.testing.assert_array_equal(ours.audio[:4, 0, 0], frames)
    assert {row["name"] for row in results["rows"]} == {"ours", "speech", "nearest", "mean", "truth"}


def test_too_few_frames_for_a_set_are_told_and_stop_nothing() -> None:
    one, many = np.ones((1, 8)), np.random.default_rng(0).normal(size=(40, 8))
    assert "at least two" in _set_value(fid, [one], [one])["reason"]
    assert "no clip" in _set_value(fid, [], [])["reason"]
    pooled = _set_value(fid, [many[:10], many[10:]], [many[:10] + 3.0, many[10:] + 3.0])
    assert pooled["mean"] == pytest.approx(9.0 * 8) and pooled["frames"] == 40  # of the clips together


def test_faces_are_looked_for_once_in_each_row_and_speech_made_once(
    clips: dict[str, Clip], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: list[bytes] = []
    made: list[str] = []

    def find(frames: np.ndarray) -> Faces:
        looked.append(frames.tobytes())
        return Faces(np.full((len(frames), 68, 2), np.nan), np.full((len(frames), 3, 3), np.nan))

    def other(view: Any, *rest: Any) -> Any:
        made.append(view.name)
        return other_speech(view, *rest)

    other_speech = controls.other_speech
    monkeypatch.setattr(controls, "other_speech", other)
    monkeypatch.setattr("jaxtalk.evaluation.runner.face_finder", lambda: contextlib.nullcontext((find, "")))
    listening_method.install(monkeypatch, tmp_path, list(clips.values())[1:3])
    results = evaluate(tmp_path, "cross", max_frames=0, video_seconds=0.2)
    assert len(looked) == len(set(looked)) == 2 * len(results["rows"])  # the truth's row shares the truth's faces
    assert made == ["ben", "cara"]
    frames = results["clips"]["ben"]["frames"]
    assert results["clips"]["ben"]["missing_faces"] == dict.fromkeys(("ours", "audio_own", "truth"), len(frames))
