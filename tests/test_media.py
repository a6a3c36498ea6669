"""Sound from any file; video that has the frames, the times and the sound that went in."""

from __future__ import annotations

import errno
import weakref
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile

from jaxtalk.errors import JaxtalkError
from jaxtalk.media.audio import audio_blocks, load_audio, soundtrack_format
from jaxtalk.media.video import VideoWriter, exact_rate, probe, read_frames


def _tone(rate: int, seconds: float, frequency: float = 440.0) -> np.ndarray:
    return (0.5 * np.sin(2 * np.pi * frequency * np.arange(round(rate * seconds)) / rate)).astype(np.float32)


def _frequency(samples: np.ndarray, rate: int) -> float:
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples))))
    return float(np.argmax(spectrum) * rate / len(samples))


def _draw(index: int, height: int, width: int) -> np.ndarray:
    rows, columns = np.mgrid[:height, :width]
    red, blue = 0.5 + 0.5 * np.sin(columns / 9 + index / 5), 0.1 * (index % 10) + 0 * rows
    return np.stack([red, rows / height, blue], -1).astype(np.float32)


def _encode(path: Path, samples: np.ndarray, rate: int, codec: str, layout: str) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate, layout=layout)
        frame = av.AudioFrame.from_ndarray(samples, format="fltp", layout=layout)
        frame.sample_rate, frame.pts, frame.time_base = rate, 0, Fraction(1, rate)
        for packet in [*stream.encode(frame), *stream.encode(None)]:
            container.mux(packet)


@pytest.mark.parametrize(
    ("rate", "channels", "subtype"),
    [(8000, 1, "PCM_16"), (16000, 1, "FLOAT"), (44100, 2, "PCM_24"), (48000, 2, "PCM_32"), (48000, 6, "PCM_16")],
)
def test_load_audio_of_any_wav(tmp_path: Path, rate: int, channels: int, subtype: str) -> None:
    path = tmp_path / "tone.wav"
    soundfile.write(path, np.repeat(_tone(rate, 1.5)[:, None], channels, 1), rate, subtype=subtype)
    samples = load_audio(path)
    assert samples.dtype == np.float32 and samples.ndim == 1
    assert len(samples) == pytest.approx(1.5 * 16000, abs=2)
    assert _frequency(samples, 16000) == pytest.approx(440, abs=1)
    assert len(load_audio(path, 22050)) == pytest.approx(1.5 * 22050, abs=2)
    middle = slice(4000, 20000)
    expected = _tone(16000, 1.5)[: len(samples)]
    assert np.abs(samples).max() < 0.52
    if channels == 6:  # down to two speakers: nothing overflows, the phase stays
        samples = samples * 0.5 / np.abs(samples[middle]).max()
    np.testing.assert_allclose(samples[middle], expected[middle], atol=2e-3)  # resampling keeps phase and level


def test_mono_is_the_mean_of_two_channels(tmp_path: Path) -> None:
    left, right = _tone(16000, 1.0, 300), _tone(16000, 1.0, 700)
    soundfile.write(tmp_path / "two.wav", np.stack([left, right], 1), 16000, subtype="FLOAT")
    np.testing.assert_allclose(load_audio(tmp_path / "two.wav"), (left + right) / 2, atol=1e-4)


@pytest.mark.parametrize(("name", "codec"), [("a.mp3", "libmp3lame"), ("a.m4a", "aac"), ("a.flac", "flac")])
def test_load_audio_of_compressed_files(tmp_path: Path, name: str, codec: str) -> None:
    stereo = np.stack([_tone(44100, 2.0), _tone(44100, 2.0)])
    if codec == "flac":
        soundfile.write(tmp_path / name, stereo.T, 44100)
    else:
        _encode(tmp_path / name, stereo, 44100, codec, "stereo")
    samples = load_audio(tmp_path / name)
    assert len(samples) / 16000 == pytest.approx(2.0, abs=0.06)
    assert _frequency(samples, 16000) == pytest.approx(440, abs=1)


def test_blocks_are_small_and_add_up(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "long.wav", np.stack([_tone(48000, 20.0)] * 2, 1), 48000)
    lengths = [len(block) for block in audio_blocks(tmp_path / "long.wav", 48000, channels=2)]
    assert sum(lengths) == 20 * 48000
    assert max(lengths) < 48000


@pytest.mark.parametrize(
    ("source", "expected"),
    [((8000, 1), (8000, 1)), ((48000, 2), (48000, 2)), ((96000, 2), (48000, 2)), ((11000, 6), (11025, 2))],
)
def test_soundtrack_keeps_rate_and_channels(tmp_path: Path, source: tuple[int, int], expected: tuple[int, int]) -> None:
    soundfile.write(tmp_path / "a.wav", np.zeros((1000, source[1])), source[0])
    assert soundtrack_format(tmp_path / "a.wav") == expected


def test_bad_files_are_named_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "empty.wav").touch()
    (tmp_path / "text.wav").write_text("this is no sound, however often it is read " * 50)
    soundfile.write(tmp_path / "nothing.wav", np.zeros(0), 16000)
    with VideoWriter(tmp_path / "silent.mp4", (32, 32), 25) as video:
        video.write(_draw(0, 32, 32))
    for name, reason in {
        "missing.wav": "no such file",
        "empty.wav": "empty",
        "text.wav": "not readable as sound or video",
        "nothing.wav": "no sample",
        "silent.mp4": "no sound stream",
        "": "a folder",
    }.items():
        with pytest.raises(JaxtalkError, match=reason) as caught:
            load_audio(tmp_path / name)
        assert str(tmp_path / name) in str(caught.value) and "\n" not in str(caught.value)
    soundfile.write(tmp_path / "sound.wav", _tone(16000, 0.1), 16000)
    with pytest.raises(JaxtalkError, match="no video stream"):
        next(read_frames(tmp_path / "sound.wav"))


@pytest.mark.parametrize("fps", [25, 30000 / 1001, 12.5, 60])
@pytest.mark.parametrize("size", [(64, 48), (33, 47)])
def test_frames_and_times_come_back(tmp_path: Path, fps: float, size: tuple[int, int]) -> None:
    """Frame i decoded is frame i drawn, shown at i / fps; the sound lasts as long as it did."""
    path, count = tmp_path / "out.mp4", 40
    with VideoWriter(path, size, fps, audio=(_tone(16000, count / fps), 16000), comment="ours") as video:
        for i in range(count):
            video.write(_draw(i, *size))
    decoded = list(read_frames(path))
    assert len(decoded) == count
    for i, (seconds, frame) in enumerate(decoded):
        assert seconds == pytest.approx(i / fps, abs=1e-4)
        error = np.abs(frame[: size[0], : size[1]] / 255 - _draw(i, *size))
        # Blue steps by 0.1 a frame: a neighbour in its place would be off by that much.
        assert error.mean() < 0.02 and error[..., 2].mean() < 0.03
    info = probe(path)
    assert info.frames == count and info.comment == "ours"
    assert info.fps == pytest.approx(fps) and info.size == (size[0] + size[0] % 2, size[1] + size[1] % 2)
    assert info.video_seconds == pytest.approx(count / fps, abs=1e-3)
    assert info.audio_seconds == pytest.approx(count / fps, abs=0.02)


def test_colours_survive(tmp_path: Path) -> None:
    """The matrix and range written into the file are those of the conversion: no shift of hue or contrast."""
    colours = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 255], [0, 0, 0], [200, 150, 120]], np.uint8)
    with VideoWriter(tmp_path / "c.mp4", (64, 64), 25) as video:
        for colour in colours:
            video.write(np.broadcast_to(colour, (64, 64, 3)))
    for colour, (_, frame) in zip(colours, read_frames(tmp_path / "c.mp4"), strict=True):
        np.testing.assert_allclose(frame[8:-8, 8:-8].mean(axis=(0, 1)), colour, atol=4)


@pytest.mark.parametrize("rate", [16000, 48000])
def test_flashes_and_beeps_coincide(tmp_path: Path, rate: int) -> None:
    """White frames and beeps at the same times are found within half a frame of each other after decoding."""
    fps, moments = 25.0, (0.0, 0.6, 1.4, 2.96)
    sound = np.zeros(3 * rate, np.float32)
    for moment in moments:
        sound[round(moment * rate) :][: rate // 25] = _tone(rate, 1 / 25, 1000)[: 3 * rate - round(moment * rate)]
    soundfile.write(tmp_path / "beeps.wav", np.stack([sound, sound], 1), rate)
    flashes = {round(moment * fps) for moment in moments}
    with VideoWriter(tmp_path / "sync.mp4", (48, 48), fps, audio=tmp_path / "beeps.wav") as video:
        for i in range(75):
            video.write(np.full((48, 48, 3), 255 if i in flashes else 0, np.uint8))
    seen = [seconds for seconds, frame in read_frames(tmp_path / "sync.mp4") if frame.mean() > 128]
    np.testing.assert_allclose(seen, moments, atol=1e-3)
    decoded = np.abs(load_audio(tmp_path / "sync.mp4", rate))
    for moment in moments:
        near = decoded[max(0, round((moment - 0.1) * rate)) : round((moment + 0.1) * rate)]
        heard = max(0.0, moment - 0.1) + np.argmax(near > 0.2) / rate
        assert heard == pytest.approx(moment, abs=0.01)


@pytest.mark.parametrize("sound_seconds", [0.5, 3.0])
def test_sound_shorter_or_longer_than_the_frames_is_whole(tmp_path: Path, sound_seconds: float) -> None:
    with VideoWriter(tmp_path / "a.mp4", (32, 32), 25, audio=(_tone(16000, sound_seconds), 16000)) as video:
        for i in range(25):
            video.write(_draw(i, 32, 32))
    assert len(load_audio(tmp_path / "a.mp4")) / 16000 == pytest.approx(sound_seconds, abs=0.07)
    assert probe(tmp_path / "a.mp4").frames == 25


def test_writer_keeps_no_frames(tmp_path: Path) -> None:
    """Frames can be collected as soon as they are written, and the sound is read as the frames come."""
    soundfile.write(tmp_path / "a.wav", _tone(16000, 8.0), 16000)
    kept: list[weakref.ref[np.ndarray]] = []

    def frames() -> Iterator[np.ndarray]:
        for i in range(200):
            frame = np.round(255 * _draw(i, 32, 32)).astype(np.uint8)
            kept.append(weakref.ref(frame))
            yield frame

    most = 0
    with VideoWriter(tmp_path / "out.mp4", (32, 32), 25, audio=tmp_path / "a.wav") as video:
        for frame in frames():
            video.write(frame)
            del frame
            most = max(most, sum(reference() is not None for reference in kept))
            assert abs(video.sound_seconds - video.frames / 25) < 0.3
    assert most <= 2


def test_nothing_half_written(tmp_path: Path) -> None:
    out = tmp_path / "out.mp4"
    with pytest.raises(KeyboardInterrupt), VideoWriter(out, (32, 32), 25, audio=(_tone(16000, 1.0), 16000)) as video:
        video.write(_draw(0, 32, 32))
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []
    out.write_bytes(b"an older file")
    with pytest.raises(JaxtalkError, match="no frame"), VideoWriter(out, (32, 32), 25):
        pass
    assert out.read_bytes() == b"an older file" and list(tmp_path.iterdir()) == [out]


def test_wrong_use_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="shape"), VideoWriter(tmp_path / "a.mp4", (32, 32), 25) as video:
        video.write(np.zeros((16, 32, 3), np.uint8))
    with pytest.raises(JaxtalkError, match="folder"):
        VideoWriter(tmp_path, (32, 32), 25)
    (tmp_path / "file").touch()
    with pytest.raises(JaxtalkError, match="cannot be written"):
        VideoWriter(tmp_path / "file" / "a.mp4", (32, 32), 25)
    (tmp_path / "file").unlink()
    with pytest.raises(JaxtalkError, match="above 0"):
        VideoWriter(tmp_path / "a.mp4", (32, 32), 0)
    with pytest.raises(JaxtalkError, match="12345 Hz"):
        VideoWriter(tmp_path / "a.mp4", (32, 32), 25, audio=(np.zeros(100, np.float32), 12345))
    with pytest.raises(JaxtalkError, match="no such file"):
        VideoWriter(tmp_path / "a.mp4", (32, 32), 25, audio=tmp_path / "missing.wav")
    assert list(tmp_path.iterdir()) == []


def test_frame_rates_are_exact() -> None:
    assert exact_rate(25.0) == 25
    assert exact_rate(30000 / 1001) == Fraction(30000, 1001)
    assert exact_rate(Fraction(24000, 1001)) == Fraction(24000, 1001)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="Linux has /dev/full")
def test_a_full_disk_leaves_nothing(tmp_path: Path) -> None:
    """/dev/full stands in for the disk. `reported_errors` turns this OSError into one line."""
    (tmp_path / "out.mp4.partial").symlink_to("/dev/full")
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    with pytest.raises(OSError) as caught, VideoWriter(tmp_path / "out.mp4", (64, 64), 25) as video:
        for _ in range(100):
            video.write(noise)
    assert caught.value.errno == errno.ENOSPC
    assert list(tmp_path.iterdir()) == []
