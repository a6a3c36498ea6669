"""The self-driven protocol, end to end on clips of a talking ball with an avatar that listens or does not."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from jaxtalk.audio.features import audio_windows
from jaxtalk.clip import Clip
from jaxtalk.errors import JaxtalkError
from jaxtalk.evaluation import controls
from jaxtalk.evaluation.exhibits import evenly_spaced
from jaxtalk.evaluation.rendering import every_moment
from jaxtalk.evaluation.runner import evaluate
from jaxtalk.metrics import box_mask
from jaxtalk.synthesis import provenance
from tests import listening_method
from tests.fake_clip import write_fake_clip
from tests.listening_method import SPEC, FakeAvatar

ROOT = Path(__file__).parents[1]
Outcome = tuple[dict[str, Any], Path, list[FakeAvatar]]


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> list[Clip]:
    folder = tmp_path_factory.mktemp("balls")
    return [
        write_fake_clip(folder / "anna_1", seconds=5, seed=0, identity="anna"),
        write_fake_clip(folder / "anna_2", seconds=5, seed=1, identity="anna"),
        write_fake_clip(folder / "ben_1", seconds=5, seed=2, identity="ben"),
    ]


@pytest.fixture(scope="module")
def outcome(clips: list[Clip], tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """An evaluation of an avatar that listens, over all clips."""
    workdir = tmp_path_factory.mktemp("runs") / "listening"
    with pytest.MonkeyPatch.context() as monkeypatch:
        avatars = listening_method.install(monkeypatch, workdir, clips)
        return evaluate(workdir, "self", video_seconds=0.4), workdir, avatars


def test_results_file_is_what_is_returned_and_strict_json(outcome: Outcome) -> None:
    results, workdir, _ = outcome

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    assert json.loads((workdir / "eval/self/results.json").read_text(), parse_constant=refuse) == results
    assert results["schema"] == 2 and results["protocol"] == "self"
    assert results["run"]["state_sha256"] == "ab" * 32 and len(results["run"]["config_sha256"]) == 64
    assert results["settings"]["max_frames"] == 12
    assert not list(workdir.glob("eval/*.partial"))


def test_the_page_folds_away_what_is_much(outcome: Outcome) -> None:
    text = (outcome[1] / "eval/self/index.html").read_text()
    assert text.count("<details>") == text.count("</details>") == 5  # clips, papers, method, what is missing, config
    assert "Frames of 1 more clip<" in text and "Clip by clip" in text


def test_every_row_has_every_metric_region_clip_and_identity(outcome: Outcome) -> None:
    results = outcome[0]
    rows = ["ours", "nearest", "mean", "plate", "audio_shifted", "audio_other", "truth"]
    assert [row["name"] for row in results["rows"]] == rows
    for row in rows:
        for metric in ("psnr/rgb", "ssim/gauss11", "ssim/skimage7"):
            for region in ("frame", "face", "mouth"):
                value = results["values"][row][metric][region]
                assert set(value["clips"]) == {"anna_1", "anna_2", "ben_1"}
                assert set(value["identities"]) == {"anna", "ben"}
                per_frame = results["clips"]["ben_1"]["per_frame"][row][metric][region]
                assert len(per_frame) == 12
                assert value["clips"]["ben_1"] == pytest.approx(np.mean(per_frame))
                anna = np.mean([value["clips"]["anna_1"], value["clips"]["anna_2"]])
                assert value["mean"] == pytest.approx((anna + value["clips"]["ben_1"]) / 2)


def test_truth_is_perfect_and_ours_has_the_noise_it_was_given(outcome: Outcome) -> None:
    values = outcome[0]["values"]
    assert values["truth"]["psnr/rgb"]["face"]["mean"] == pytest.approx(100)
    assert values["truth"]["ssim/gauss11"]["mouth"]["mean"] == pytest.approx(1)
    assert values["ours"]["psnr/rgb"]["frame"]["mean"] == pytest.approx(-20 * np.log10(0.02), abs=0.3)


def test_frames_and_baselines_are_the_right_ones(outcome: Outcome, clips: list[Clip]) -> None:
    """The nearest and mean rows, recomputed from the clip with plain loops."""
    results, clip = outcome[0], clips[0]
    entry, track = results["clips"]["anna_1"], clip.track
    frames = entry["frames"]
    assert len(frames) == 12 and min(frames) >= 125 - 38 and max(frames) == 124
    train_end = entry["facts"]["train_frames"]
    assert track.time[train_end - 1] < track.time[min(frames)] - 1.0  # the guard
    mean = np.mean([clip.frame(i) / 255 for i in range(train_end)], axis=0)
    for position in (0, 7):
        frame = frames[position]
        angles = [
            np.arccos(np.clip((np.trace(track.rotation[i].T @ track.rotation[frame]) - 1) / 2, -1, 1))
            + np.linalg.norm(track.translation[i] - track.translation[frame]) / 0.1
            for i in range(train_end)
        ]
        nearest = int(np.argmin(angles))
        assert entry["facts"]["nearest_frame"][position] == nearest
        inside = box_mask(track.mouth_box[frame : frame + 1], clip.meta.size)[0]
        truth = clip.frame(frame) / 255
        for row, image in (("nearest", clip.frame(nearest) / 255), ("mean", np.round(255 * mean) / 255)):
            expected = -10 * np.log10(np.mean((truth - image)[inside] ** 2))
            assert entry["per_frame"][row]["psnr/rgb"]["mouth"][position] == pytest.approx(expected, abs=2e-3)


def test_a_listening_avatar_loses_by_the_wrong_speech(outcome: Outcome) -> None:
    paired = outcome[0]["paired"]
    for control in ("audio_shifted", "audio_other"):
        drop = paired[control]["psnr/rgb"]["mouth"]
        assert drop["mean"] > 1 and drop["mean"] > 2 * drop["standard_error"]
        assert drop["positive"] > 0.8 * drop["frames"] == pytest.approx(0.8 * 36)
        assert drop["mean"] > paired[control]["psnr/rgb"]["frame"]["mean"]
    difference = [
        np.subtract(*(clip["per_frame"][row]["psnr/rgb"]["mouth"] for row in ("ours", "audio_shifted")))
        for clip in outcome[0]["clips"].values()
    ]
    weights = np.array([0.25, 0.25, 0.5])
    drop = paired["audio_shifted"]["psnr/rgb"]["mouth"]
    assert drop["mean"] == pytest.approx(weights @ [d.mean() for d in difference])
    error = np.sqrt(sum((w * d.std(ddof=1)) ** 2 / 12 for w, d in zip(weights, difference, strict=True)))
    assert drop["standard_error"] == pytest.approx(error)


def test_controls_change_the_speech_and_nothing_else(outcome: Outcome, clips: list[Clip]) -> None:
    results, _, avatars = outcome
    times = np.array(results["clips"]["anna_1"]["times"])
    drives = [drive for drive in avatars[0].rendered if len(drive.rotation) > 12]  # the film is shorter
    true, shifted, other = drives[:3]
    for control in (shifted, other):
        np.testing.assert_array_equal(control.rotation, true.rotation)
        np.testing.assert_array_equal(control.translation, true.translation)
        np.testing.assert_array_equal(control.eye_openness, true.eye_openness)
    late = np.concatenate([np.zeros(16000, np.float32), clips[0].audio()])  # one second of silence before
    np.testing.assert_allclose(shifted.audio[:12], audio_windows(SPEC, late, 16000, times), atol=1e-5)
    np.testing.assert_allclose(true.audio[:12], audio_windows(SPEC, clips[0].audio(), 16000, times), atol=1e-5)
    assert results["clips"]["anna_1"]["facts"]["speech"]["audio_other"] == "ben (clip ben_1)"
    ben = audio_windows(SPEC, clips[2].audio(), 16000, times - times[-1] + clips[2].track.time[-1])
    np.testing.assert_allclose(other.audio[:12], ben, atol=1e-5)


def test_the_avatar_listens_to_every_moment_between(outcome: Outcome, clips: list[Clip]) -> None:
    """Twelve of the test frames are rendered, and it hears all of them, one after the other."""
    results, _, avatars = outcome
    frames = results["clips"]["anna_1"]["frames"]
    times = clips[0].track.time[frames[0] : frames[-1] + 1]
    assert len(times) == 38 > len(frames)
    true, shifted, other, film = avatars[0].heard
    np.testing.assert_allclose(true, audio_windows(SPEC, clips[0].audio(), 16000, times), atol=1e-6)
    assert shifted.shape == other.shape == true.shape and len(film) == 10
    rendered = avatars[0].rendered[0].audio[:12]
    np.testing.assert_array_equal(rendered, true[np.array(frames) - frames[0]])


def test_moments_between_frames_are_filled_in() -> None:
    times = np.array([0.0, 0.04, 0.08, 0.2, 0.24, 0.28])  # two frames are missing
    moments, place = every_moment(times, np.array([1, 3, 4]))
    np.testing.assert_allclose(moments, [0.04, 0.08, 0.12, 0.16, 0.2, 0.24])
    assert place.tolist() == [0, 4, 5]
    alone, place = every_moment(times, np.array([2]))
    assert alone.tolist() == [0.08] and place.tolist() == [0]


def test_frames_at_a_predicted_pose(clips: list[Clip], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    avatars = listening_method.install(monkeypatch, tmp_path, clips[:1])
    with pytest.raises(JaxtalkError, match="predict no pose"):
        evaluate(tmp_path, "self", max_frames=3, video_seconds=0, pose="predicted")
    still = np.eye(3, dtype=np.float32)
    monkeypatch.setattr(
        FakeAvatar, "predicted_pose",
        lambda self, audio: (np.stack([still] * len(audio)), np.zeros((len(audio), 3))), raising=False,
    )  # fmt: skip
    results = evaluate(tmp_path, "self", max_frames=3, video_seconds=0, pose="predicted")
    np.testing.assert_array_equal(avatars[-1].rendered[0].rotation[0], still)
    assert results["settings"]["pose"] == "predicted" and "predicted" in results["title"]
    page = (tmp_path / "eval/self-predicted/index.html").read_text()
    assert "at the poses predicted" in page and not (tmp_path / "eval/self").exists()
    with pytest.raises(JaxtalkError, match="--pose: 'sideways'"):
        evaluate(tmp_path, "self", pose="sideways")


def test_an_avatar_that_ignores_speech_has_no_drop(
    clips: list[Clip], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    listening_method.install(monkeypatch, tmp_path, clips[:1] + clips[2:], listening=0.0)
    results = evaluate(tmp_path, "self", max_frames=6, video_seconds=0)
    for control in ("audio_shifted", "audio_other"):
        for metric in ("psnr/rgb", "ssim/gauss11", "ssim/skimage7"):
            drop = results["paired"][control][metric]["mouth"]
            assert (drop["mean"], drop["standard_error"], drop["positive"], drop["frames"]) == (0, 0, 0, 12)
    assert "no sign" in (tmp_path / "eval/self/index.html").read_text()


def test_a_single_frame_has_no_standard_error(
    clips: list[Clip], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    listening_method.install(monkeypatch, tmp_path, clips[:1])
    results = evaluate(tmp_path, "self", max_frames=1, video_seconds=0)
    drop = results["paired"]["audio_shifted"]["psnr/rgb"]["mouth"]
    assert drop["mean"] > 0 and drop["standard_error"] is None
    assert results["values"]["ours"]["psnr/rgb"]["frame"]["interval"] is None


def test_the_same_run_gives_the_same_results(
    outcome: Outcome, clips: list[Clip], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    listening_method.install(monkeypatch, tmp_path / outcome[1].name, clips)
    again = evaluate(tmp_path / outcome[1].name, "self", video_seconds=0.4)
    assert again == outcome[0]


def test_a_lone_speaker_is_tested_against_a_synthetic_voice(clips: list[Clip]) -> None:
    speech = controls.other_speech(clips[0], clips[:2], SPEC, seconds=1.5)  # both clips are anna's
    assert speech is not None and speech.label.startswith("synthetic voice")
    times = np.arange(30) / 25 + 3.5
    windows = speech.windows(SPEC, times)
    assert windows.shape == (30, SPEC.window, SPEC.num_channels)
    assert np.abs(windows).mean() > 0.01 and len(speech.samples) >= 2.5 * speech.sample_rate


def test_stored_features_cannot_be_made_from_a_voice(clips: list[Clip], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clips[0], "feature", lambda name: np.zeros((125, 16, 29), np.float32))
    assert controls.other_speech(clips[0], clips, SPEC, seconds=1.0) is None


def test_evenly_spaced_keeps_both_ends() -> None:
    index = np.arange(10, 30)
    assert evenly_spaced(index, 3).tolist() == [10, 20, 29]
    assert evenly_spaced(index, 0).tolist() == evenly_spaced(index, 50).tolist() == index.tolist()


def test_the_comparison_video_has_sound_and_both_sides(outcome: Outcome, clips: list[Clip]) -> None:
    from jaxtalk.media.video import probe, read_frames

    path = outcome[1] / "eval/self/anna_1.mp4"
    info = probe(path)
    assert info.frames == 10 and info.fps == pytest.approx(25)
    assert info.audio_seconds == pytest.approx(0.4, abs=0.1)
    _, picture = next(iter(read_frames(path)))
    side = 256
    truth = clips[0].frame(outcome[0]["clips"]["anna_1"]["frames"][0])
    small = [picture[:side, part].reshape(32, 8, 32, 8, 3).mean((1, 3)) for part in (slice(0, side), slice(side, 512))]
    assert np.abs(small[0] - truth).mean() < 6 and np.abs(small[1] - truth).mean() < 9
    assert provenance.verify(path).intact and "ab" * 32 in provenance.verify(path).text


def test_the_run_folder_is_enough(clips: list[Clip], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The clips that a run packed are opened even when their folders are gone."""
    import shutil

    from jaxtalk.input.clips import open_clips, reopen_clips  # the true one: `install` puts another in its place

    folder = shutil.copytree(clips[0].path, tmp_path / "ball")
    listening_method.install(monkeypatch, tmp_path / "run", clips[:1])
    from jaxtalk.training.run import open_run

    config = open_run(tmp_path / "run").config
    config.data.clips = (str(folder),)
    monkeypatch.setattr("jaxtalk.input.clips.reopen_clips", reopen_clips)
    open_clips(config, tmp_path / "run")  # as training does
    shutil.rmtree(folder)
    assert evaluate(tmp_path / "run", "self", max_frames=2, video_seconds=0)["clips"].keys() == {"ball"}


def test_refusals(clips: list[Clip], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(JaxtalkError, match=r"known are .*self"):
        evaluate(tmp_path, "selfie")
    with pytest.raises(JaxtalkError, match="no run here"):
        evaluate(tmp_path / "nowhere", "self")
    listening_method.install(monkeypatch, tmp_path, clips[:1])
    with pytest.raises(JaxtalkError, match="--max_frames"):
        evaluate(tmp_path, "self", max_frames=-1)
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    (tmp_path / "metrics.jsonl").write_text("\n".join(lines[:-1]))
    with pytest.raises(JaxtalkError, match="has not finished"):
        evaluate(tmp_path, "self")
    assert not (tmp_path / "eval").exists()


@pytest.mark.parametrize(("argument", "words"), [("--workdir={}/none", "no run here"), ("", "--workdir is missing")])
def test_eval_py_gives_one_line_and_exit_code_2(argument: str, words: str, tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "eval.py"), *([argument.format(tmp_path)] if argument else [])]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 2 and words in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1 and "Traceback" not in done.stderr
