"""Speech in, mp4 with sound out: length, sync, sameness with the whole file's features, nothing half-written."""

from __future__ import annotations

import shutil
import tracemalloc
import types
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
from PIL import Image

from jaxtalk.audio.features import FeatureSpec, audio_windows
from jaxtalk.clip import Clip
from jaxtalk.errors import JaxtalkError
from jaxtalk.media.audio import load_audio
from jaxtalk.media.video import probe, read_frames
from jaxtalk.synthesis import avatars, pipeline, poses, synthesize
from jaxtalk.synthesis.provenance import verify
from jaxtalk.synthesis.speech import count_frames, speech_windows
from tests.fake_clip import write_fake_clip
from tests.fake_method import SPEC, FakeRun, fake_method, fake_run


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> list[Clip]:
    folder = tmp_path_factory.mktemp("clips")
    return [write_fake_clip(folder / name, seconds=1.2, seed=i, identity=f"ball{i}") for i, name in enumerate("ab")]


@pytest.fixture
def fits(monkeypatch: pytest.MonkeyPatch, clips: list[Clip]) -> list[str]:
    """The fake system in the place of a real one, with two clips; names of fitted clips are collected."""
    names: list[str] = []
    _install(monkeypatch, lambda: fake_method(names), clips)
    return names


def _install(monkeypatch: pytest.MonkeyPatch, method: Callable[[], types.SimpleNamespace], clips: list[Clip]) -> None:
    for module in (avatars, pipeline):
        monkeypatch.setattr(module, "load_method", lambda name: method())
    monkeypatch.setattr("jaxtalk.input.clips.reopen_clips", lambda config, workdir: clips)


@pytest.fixture
def run(tmp_path: Path) -> FakeRun:
    return fake_run(tmp_path / "run")


def _beeps(path: Path, seconds: float, moments: tuple[float, ...], rate: int = 44100, channels: int = 2) -> Path:
    sound = np.zeros(round(seconds * rate), np.float32)
    for moment in moments:
        first = round(moment * rate)
        length = len(sound[first : first + rate // 12])
        sound[first : first + length] = 0.5 * np.sin(2 * np.pi * 800 * np.arange(length) / rate)
    soundfile.write(path, np.repeat(sound[:, None], channels, 1), rate)
    return path


def test_a_video_says_the_speech(tmp_path: Path, run: FakeRun, fits: list[str]) -> None:
    """Longer than the training clip; as many frames as asked for; light and sound at the same moments."""
    moments = (0.2, 1.4, 3.1)
    speech = _beeps(tmp_path / "speech.wav", 3.37, moments)
    out = tmp_path / "out.mp4"
    result = synthesize(run, speech, out, pose="mirror", frames_dir=tmp_path / "frames")
    assert result.path == out and result.frames == round(3.37 * 25) and result.fps == 25
    assert result.seconds == pytest.approx(3.37, abs=1e-3) and result.render_fps > 0

    info = probe(out)
    assert info.frames == result.frames and info.size == (32, 32)
    assert info.sample_rate == 44100 and info.channels == 2
    assert info.audio_seconds == pytest.approx(3.37, abs=0.03)
    frames = [frame for _, frame in read_frames(out)]
    red = np.array([frame[8:24, 8:24, 0].mean() for frame in frames])
    sound = np.abs(load_audio(out))
    for moment in moments:
        seen = np.argmax(red[max(0, round(moment * 25) - 5) :] > 150) + max(0, round(moment * 25) - 5)
        heard = np.argmax(sound[int(16000 * (moment - 0.15)) :] > 0.2) / 16000 + moment - 0.15
        assert abs(seen / 25 - heard) <= 0.04
    pictures = sorted((tmp_path / "frames").iterdir())
    assert [path.name for path in pictures] == [f"{i:06d}.png" for i in range(result.frames)]
    for picture, frame in list(zip(pictures, frames, strict=True))[::20]:
        with Image.open(picture) as image:
            assert "Synthetic" in image.info["Comment"]
            np.testing.assert_allclose(
                np.asarray(image)[8:24, 8:24].mean((0, 1)), frame[8:24, 8:24].mean((0, 1)), atol=4
            )


def test_frames_are_those_of_the_whole_speech_and_motion(tmp_path: Path, run: FakeRun, fits: list[str]) -> None:
    """Cutting into chunks changes nothing: frame i shows the window at i / fps and the pose of policy frame i."""
    speech = _beeps(tmp_path / "speech.wav", 2.2, (0.5, 1.5), rate=16000, channels=1)
    head, _ = avatars.open_avatar(run)
    count, _ = count_frames(speech, 25.0)
    times = np.arange(count) / 25
    motion = pipeline.pose_motion(head, "loop", count)
    chunks = list(pipeline.render(head, speech_windows(speech, SPEC, times, segment=16), motion))
    assert len(set(head.calls)) == 1 and max(map(len, chunks)) <= head.calls[0]  # type: ignore[attr-defined]
    whole = pipeline.Drive(
        audio_windows(SPEC, load_audio(speech), 16000, times), motion.rotation, motion.translation, motion.eye_openness
    )
    np.testing.assert_allclose(np.concatenate(chunks), head.render(whole), atol=1e-6)


@pytest.mark.parametrize("name", ["mfcc", "mel"])
def test_windows_in_segments_are_those_of_the_whole_file(tmp_path: Path, name: str) -> None:
    rng = np.random.default_rng(0)
    soundfile.write(tmp_path / "noise.wav", (0.1 * rng.normal(size=16000 * 9)).astype(np.float32), 16000, "FLOAT")
    spec, times = FeatureSpec(name), np.arange(round(9 * 29.97)) / 29.97
    parts = list(speech_windows(tmp_path / "noise.wav", spec, times, segment=40))
    assert max(map(len, parts)) == 40
    expected = audio_windows(spec, load_audio(tmp_path / "noise.wav"), 16000, times)
    np.testing.assert_allclose(np.concatenate(parts), expected, atol=1e-5)


def test_speech_is_read_as_it_is_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Never more than a segment and its margins are given to the features, however long the file is."""
    soundfile.write(tmp_path / "long.wav", np.zeros(16000 * 60), 16000)
    seen: list[int] = []

    def measured(spec: FeatureSpec, samples: np.ndarray, *rest: object) -> np.ndarray:
        seen.append(len(samples))
        return np.zeros((1, 16, 29), np.float32)

    monkeypatch.setattr("jaxtalk.synthesis.speech.audio_windows", measured)
    times = np.arange(60 * 25) / 25
    assert len(list(speech_windows(tmp_path / "long.wav", FeatureSpec(), times, segment=50))) == 30
    assert max(seen) <= 16000 * 7


def test_stored_features_are_read_and_asked_for(tmp_path: Path) -> None:
    speech = _beeps(tmp_path / "speech.wav", 1.0, (0.5,))
    stored = np.random.default_rng(0).normal(size=(25, 16, 29)).astype(np.float32)
    np.save(tmp_path / "aud.npy", stored)
    spec, times = FeatureSpec("deepspeech"), np.arange(25) / 25
    windows = np.concatenate(list(speech_windows(speech, spec, times, tmp_path / "aud.npy", segment=10)))
    np.testing.assert_array_equal(windows, stored)
    with pytest.raises(JaxtalkError, match="--features"):
        next(speech_windows(speech, spec, times))
    with pytest.raises(JaxtalkError, match="leave --features out"):
        next(speech_windows(speech, FeatureSpec(), times, tmp_path / "aud.npy"))


def test_avatars_are_fitted_once_and_again_for_new_parameters(tmp_path: Path, run: FakeRun, fits: list[str]) -> None:
    head, origin = avatars.open_avatar(run)
    assert fits == ["a"] and origin["identity"] == "ball0" and (run.workdir / "avatars" / "a").is_dir()
    again, _ = avatars.open_avatar(run, "a")
    assert fits == ["a"] and again.name == "a"
    np.testing.assert_array_equal(again.track.rotation, head.track.rotation)
    avatars.open_avatar(run, "ball1")  # an identity's name
    assert fits == ["a", "b"]
    avatars.open_avatar(fake_run(run.workdir, state_sha256="6" * 64), "a")
    assert fits == ["a", "b", "a"]
    with pytest.raises(JaxtalkError, match="known are a, b"):
        avatars.open_avatar(run, "nobody")
    assert not list((run.workdir / "avatars").glob("*.partial"))


def test_an_avatar_needs_no_dataset(
    run: FakeRun, fits: list[str], monkeypatch: pytest.MonkeyPatch, clips: list[Clip]
) -> None:
    avatars.open_avatar(run, "b")

    def gone(config: object, workdir: Path) -> list[Clip]:
        raise JaxtalkError("the dataset is gone")

    monkeypatch.setattr("jaxtalk.input.clips.reopen_clips", gone)
    head, origin = avatars.open_avatar(run, "b")
    assert head.name == "b" and origin["identity"] == "ball1" and fits == ["b"]
    run.config.data.clips = ("clips/b",)  # the run's first clip is known without opening it
    assert avatars.open_avatar(run)[0].name == "b" and avatars.open_avatar(run, "ball1")[0].name == "b"
    with pytest.raises(JaxtalkError, match="dataset is gone"):
        avatars.open_avatar(run, "a")
    (run.workdir / "avatars" / "b").rename(run.workdir / "avatars" / "b.partial")  # as a crash would leave it
    with pytest.raises(JaxtalkError, match="dataset is gone"):
        avatars.open_avatar(run, "ball1")


def test_another_clip_lends_its_movement(run: FakeRun, fits: list[str], clips: list[Clip]) -> None:
    head, _ = avatars.open_avatar(run, "a")
    own, other = (poses.motion_of(clip.track, 25.0) for clip in clips)
    lent = pipeline.pose_motion(head, str(clips[1].path), 100)
    np.testing.assert_allclose(lent.translation[:30] - lent.translation[:1], other.translation - other.translation[:1],
                               atol=1e-6)  # fmt: skip
    np.testing.assert_allclose(lent.translation[:30].mean(axis=0), own.translation.mean(axis=0), atol=1e-6)
    with pytest.raises(JaxtalkError, match="neither a clip's folder nor one of"):
        pipeline.pose_motion(head, "nowhere/clip", 10)
    with pytest.raises(JaxtalkError, match=r"clip\.json is missing"):
        pipeline.pose_motion(head, str(run.workdir), 10)


@pytest.mark.parametrize("seconds", [0.01, 0.2, 1.0])
def test_short_speech_has_at_least_one_frame(tmp_path: Path, run: FakeRun, fits: list[str], seconds: float) -> None:
    speech = _beeps(tmp_path / "short.wav", seconds, (0.0,))
    result = synthesize(run, speech, tmp_path / "out.mp4")
    assert probe(tmp_path / "out.mp4").frames == result.frames == max(1, round(25 * seconds))


def test_failure_leaves_what_was_there(
    tmp_path: Path, run: FakeRun, fits: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    speech = _beeps(tmp_path / "speech.wav", 2.0, (0.5,))
    out = tmp_path / "out.mp4"
    synthesize(run, speech, out, frames_dir=tmp_path / "frames")
    before = out.read_bytes()
    render, calls = pipeline.render, []

    def broken(*args: object) -> object:
        for chunk in render(*args):  # type: ignore[arg-type]
            calls.append(len(chunk))
            if len(calls) > 2:
                raise RuntimeError("the device is gone")
            yield chunk

    monkeypatch.setattr(pipeline, "render", broken)
    with pytest.raises(RuntimeError, match="device is gone"):
        synthesize(run, speech, out, frames_dir=tmp_path / "frames")
    assert out.read_bytes() == before and verify(out).intact
    assert len(list((tmp_path / "frames").iterdir())) == 50
    assert not list(tmp_path.rglob("*.partial"))


def test_wrong_requests_are_one_line(tmp_path: Path, run: FakeRun, fits: list[str]) -> None:
    speech = _beeps(tmp_path / "speech.wav", 0.5, (0.1,))
    shutil.copy(speech, tmp_path / "video.mp4")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").touch()
    requests: list[tuple[dict[str, object], str]] = [
        ({"audio": tmp_path / "missing.wav"}, "no such file"),
        ({"out": tmp_path / "out.avi"}, r"\.mp4"),
        ({"audio": tmp_path / "video.mp4", "out": tmp_path / "video.mp4"}, "speech itself"),
        ({"frames_dir": tmp_path / "mine"}, r"thesis\.tex"),
        ({"frames_dir": speech}, "a file"),
        ({"pose": "dance"}, "hold, loop, mirror"),
        ({"avatar": "nobody"}, "known are"),
        ({"run": tmp_path / "elsewhere"}, "no run here"),
    ]
    for request, reason in requests:
        full = {"run": run, "audio": speech, "out": tmp_path / "out.mp4"} | request
        with pytest.raises(JaxtalkError, match=reason) as caught:
            synthesize(**full)  # type: ignore[arg-type]
        assert "\n" not in str(caught.value)
    assert not (tmp_path / "out.mp4").exists() and (tmp_path / "mine" / "thesis.tex").exists()


def test_chunks_are_powers_of_two_that_fit() -> None:
    sizes = {64: 16, 128: 16, 256: 4, 450: 1, 512: 1, 200: 4}
    assert {side: pipeline.chunk_frames((side, side)) for side in sizes} == sizes


@pytest.mark.slow
def test_ad_nerf_speaks_from_a_run_folder_alone(tmp_path: Path) -> None:
    """Train a little, remove the clip, synthesize with the command: mp4, sidecar, and an avatar for the next time."""
    from click.testing import CliRunner

    from configs.ad_nerf import get_config
    from jaxtalk.cli import main
    from jaxtalk.experiment import train

    clip = write_fake_clip(tmp_path / "ball", seconds=2.0, size=32)
    config = get_config(f"tiny,clip={clip.path},size=32,steps=20")
    config.data.test_seconds = config.data.guard_seconds = 0.0
    train(config, tmp_path / "run")
    shutil.rmtree(clip.path)
    speech = _beeps(tmp_path / "speech.wav", 2.5, (0.5, 1.5))
    words = f"synthesize --workdir {tmp_path}/run --audio {speech} --out {tmp_path}/out.mp4 --pose mirror"
    for _ in range(2):  # the second time from the kept avatar
        result = CliRunner().invoke(main, words.split(), catch_exceptions=False)
        assert result.exit_code == 0, result.output
        assert probe(tmp_path / "out.mp4").frames == 62 and verify(tmp_path / "out.mp4").intact
    assert (tmp_path / "run" / "avatars" / "ball").is_dir()
    frames = np.stack([frame for _, frame in read_frames(tmp_path / "out.mp4")]).astype(float)
    assert np.abs(np.diff(frames, axis=0)).mean() > 0.05  # it moves


def test_memory_does_not_grow_with_length(
    tmp_path: Path, run: FakeRun, monkeypatch: pytest.MonkeyPatch, clips: list[Clip]
) -> None:
    """A minute needs no more memory than half of one does; the frames between would be 17 MB."""
    _install(monkeypatch, lambda: fake_method([]), clips)
    peaks = []
    for seconds in (25, 60):
        speech = _beeps(tmp_path / "speech.wav", seconds, (1.0,), rate=16000, channels=1)
        head, _ = avatars.open_avatar(run)
        head.size = (80, 80)  # type: ignore[misc]
        monkeypatch.setattr(pipeline, "open_avatar", lambda run, name, head=head: (head, {}))
        tracemalloc.start()
        synthesize(run, speech, tmp_path / "out.mp4")
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < peaks[0] + 4e6
