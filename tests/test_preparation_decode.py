"""Decoding by timestamps: constant rate from any rate, streams that start apart, and every kind of unusable file."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from jaxtalk.errors import JaxtalkError
from jaxtalk.preparation import decode
from jaxtalk.preparation.job import Job, PrepareOptions

RATE = 16000


def write_video(
    path: Path,
    times: np.ndarray,
    bright: np.ndarray,
    *,
    sound: np.ndarray | None = None,
    sound_start: float = 0.0,
    size: tuple[int, int] = (64, 48),
) -> Path:
    """An mp4 whose picture i, at times[i] seconds, is grey of level bright[i], with a mark in its top left corner."""
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=25, options={"crf": "10", "bf": "0"})
        video.width, video.height, video.pix_fmt = *size, "yuv420p"
        video.codec_context.time_base = video.time_base = Fraction(1, 1000)
        audio = container.add_stream("aac", rate=RATE, layout="mono") if sound is not None else None
        for time, level in zip(times, bright, strict=True):
            image = np.full((size[1], size[0], 3), level, np.uint8)
            image[:16, :16] = 255 - level
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts, frame.time_base = round(1000 * time), Fraction(1, 1000)
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        if audio is not None and sound is not None:
            for first in range(0, len(sound), 1024):
                block = av.AudioFrame.from_ndarray(sound[None, first : first + 1024].astype(np.float32), "fltp", "mono")
                block.sample_rate, block.time_base = RATE, Fraction(1, RATE)
                block.pts = first + round(sound_start * RATE)
                container.mux(audio.encode(block))
            container.mux(audio.encode(None))
    return path


def resampled(
    path: Path, fps: float, start: float = 0.0, end: float = 100.0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(times, numbers, mean brightness) of the pictures at a constant rate."""
    rows = [
        (number, grid, picture.time, picture.rgb().mean())
        for number, grid, picture in decode.at_constant_rate(decode.pictures(path), fps, start, end)
    ]
    number, grid, actual, level = np.array(rows).T
    return decode.frame_times(number, grid, actual), number, level


def test_footage_at_the_wanted_rate_is_taken_as_it_is(tmp_path: Path) -> None:
    times = 0.013 + np.arange(30) / 25
    path = write_video(tmp_path / "a.mp4", times, np.arange(30) * 5 + 50)
    time, number, level = resampled(path, 25)
    np.testing.assert_array_equal(number, np.arange(30))
    np.testing.assert_allclose(time, times, atol=1e-3)
    assert np.all(np.diff(level) > 0)


@pytest.mark.parametrize("fps", [10.0, 25.0, 50.0])
def test_a_variable_rate_gives_the_nearest_picture(tmp_path: Path, fps: float) -> None:
    rng = np.random.default_rng(0)
    times = np.cumsum(rng.uniform(0.02, 0.09, 40))
    path = write_video(tmp_path / "a.mp4", times, np.full(40, 90))
    stored = np.round(1000 * times) / 1000
    time, number, _ = resampled(path, fps)
    grid = stored[0] + np.arange(len(number)) / fps
    nearest = np.abs(grid[:, None] - stored).argmin(axis=1)
    np.testing.assert_array_equal(number, nearest)
    assert np.all(np.diff(time) > 0)
    assert grid[-1] <= stored[-1] + 0.5 / fps < grid[-1] + 1 / fps


def test_the_interval_is_half_open(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", np.arange(50) / 25, np.full(50, 90))
    time, _, _ = resampled(path, 25, 0.4, 1.2)
    np.testing.assert_allclose(time, 0.4 + np.arange(20) / 25, atol=1e-3)


@pytest.mark.parametrize("sound_start", [0.0, 0.2, -0.12])
def test_flash_and_beep_stay_in_sync(tmp_path: Path, sound_start: float) -> None:
    """A flash at 1 s of the file's clock and a beep at the same moment, whenever the sound's stream begins."""
    video_start = max(0.0, -sound_start)
    sound_start = max(0.0, sound_start)
    times = video_start + np.arange(60) / 25
    flash = np.argmin(abs(times - 1.0))
    bright = np.where(np.arange(60) == flash, 200, 60)
    clock = sound_start + np.arange(int(2.2 * RATE)) / RATE
    beep = (abs(clock - times[flash]) < 0.01) * np.sin(2 * np.pi * 1000 * clock)
    path = write_video(tmp_path / "a.mp4", times, bright, sound=beep, sound_start=sound_start)

    info, sound = decode.probe(path), decode.load_sound(path)
    start, end = max(info.start, sound.start), min(info.start + info.duration, sound.end)
    time, _, level = resampled(path, 25, start, end)
    samples = decode.cut_sound(sound, time[0], end)
    heard = np.average(np.arange(len(samples)) / RATE, weights=samples**2)
    seen = time[np.argmax(level)] - time[0]
    assert abs(heard - seen) < 0.02, (heard, seen)


def test_cut_sound_pads_and_trims_to_the_sample() -> None:
    sound = decode.Sound(np.arange(1, 101, dtype=np.float32), 100, 2.0)
    np.testing.assert_array_equal(decode.cut_sound(sound, 2.1, 2.2), np.arange(11, 21))
    padded = decode.cut_sound(sound, 1.9, 3.1)
    assert len(padded) == 120 and not padded[:10].any() and not padded[-10:].any() and padded[10] == 1
    assert not decode.cut_sound(sound, 5.0, 6.0).any()


def test_a_rotated_picture_is_turned_upright(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", np.arange(10) / 25, np.full(10, 60))
    data = path.read_bytes()
    identity = np.array([1 << 16, 0, 0, 0, 1 << 16, 0, 0, 0, 1 << 30], ">i4").tobytes()
    clockwise = np.array([0, 1 << 16, 0, -(1 << 16), 0, 0, 48 << 16, 0, 1 << 30], ">i4").tobytes()
    track = data.index(b"tkhd")
    matrix = data.index(identity, track)
    path.write_bytes(data[:matrix] + clockwise + data[matrix + len(identity) :])
    info = decode.probe(path)
    assert (info.width, info.height) == (48, 64)
    image = next(iter(decode.pictures(path))).rgb().astype(int)
    assert image.shape == (64, 48, 3)
    assert image[:14, -14:].mean() > 150 > image[:14, :14].mean()  # the mark went from top left to top right


def test_gaps_in_the_sound_are_kept(tmp_path: Path) -> None:
    """A stream whose blocks are missing in the middle is not pulled together."""
    path = tmp_path / "a.mka"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=RATE, layout="mono")
        for first in (0, 1600, 8000, 9600):
            block = av.AudioFrame.from_ndarray(np.full((1, 1600), 8000, np.int16), "s16", "mono")
            block.sample_rate, block.time_base, block.pts = RATE, Fraction(1, RATE), first
            container.mux(stream.encode(block))
        container.mux(stream.encode(None))
    sound = decode.load_sound(path)
    assert abs(len(sound.samples) / RATE - 0.7) < 0.01
    assert not sound.samples[4000:7500].any() and sound.samples[8200:11000].min() > 0.2


def test_unusable_files_are_named(tmp_path: Path) -> None:
    good = write_video(tmp_path / "silent.mp4", np.arange(10) / 25, np.full(10, 60))
    (tmp_path / "empty.mp4").write_bytes(b"")
    (tmp_path / "text.mp4").write_text("not a video")
    (tmp_path / "cut.mp4").write_bytes(good.read_bytes()[:300])
    import soundfile

    soundfile.write(tmp_path / "only.wav", np.zeros(RATE), RATE)
    for name, message in [
        ("absent.mp4", "no such file"),
        ("empty.mp4", "the file is empty"),
        ("text.mp4", "not readable as sound or video"),
        ("cut.mp4", "not readable as sound or video"),
        ("only.wav", "no video stream"),
        ("silent.mp4", "no audio stream"),
    ]:
        with pytest.raises(JaxtalkError, match=message) as caught:
            Job.of(tmp_path / name, tmp_path / "out", PrepareOptions())
        assert name in str(caught.value) and "\n" not in str(caught.value)
