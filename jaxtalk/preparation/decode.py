"""Decoding by timestamps: pictures at a constant rate and sound, on one time axis.

Video of any rate, also variable, is resampled to a constant one by the nearest presentation time. Zero of the clip's
time axis is the first picture that has sound (or the first sound's picture); what only one of the streams covers is
left out, so streams that start at different times stay in sync.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from scipy.signal import resample_poly

from jaxtalk.errors import JaxtalkError
from jaxtalk.media.container import open_media

if TYPE_CHECKING:
    import av
    import av.container

SAMPLE_RATE = 16000
_AUDIO_DRIFT = 0.04  # seconds by which a block's time may differ from the samples before it and still adjoin them


@dataclasses.dataclass(frozen=True)
class Sound:
    """Mono samples [N] float32 at `rate`; the first one sounds at `start` seconds of the file's clock."""

    samples: np.ndarray
    rate: int
    start: float

    @property
    def end(self) -> float:
        return self.start + len(self.samples) / self.rate


@dataclasses.dataclass(frozen=True)
class VideoInfo:
    """What the container says of its video: upright pixels (width, height), seconds, and whether sound is in it."""

    width: int
    height: int
    start: float
    duration: float
    fps: float
    has_audio: bool


def probe(path: Path) -> VideoInfo:
    """Reads the streams' headers and the first picture. Raises `JaxtalkError` for a file without pictures."""
    with open_media(path) as container:
        stream = _video_stream(container, path)
        frame = next(container.decode(stream), None)
        if frame is None:
            raise JaxtalkError(f"{path}: its video stream holds no picture; re-encode or record it again")
        height, width = _upright_size(frame, stream)
        duration = float(stream.duration * stream.time_base) if stream.duration and stream.time_base else 0.0
        duration = duration or (container.duration or 0) / 1e6
        return VideoInfo(
            width=width,
            height=height,
            start=float(frame.time or 0.0),
            duration=duration,
            fps=float(stream.average_rate or 25),
            has_audio=bool(container.streams.audio),
        )


def load_sound(path: Path) -> Sound:
    """Decodes the first audio stream to mono at 16 kHz, gaps in its timestamps filled with silence."""
    with open_media(path) as container:
        if not container.streams.audio:
            raise JaxtalkError(f"{path}: no audio stream; give the speech as a file of its own with --audio")
        blocks: list[np.ndarray] = []
        rate, start, count = 0, 0.0, 0
        for frame in container.decode(container.streams.audio[0]):
            block = _mono(frame)
            if not blocks:
                rate, start = frame.sample_rate, float(frame.time or 0.0)
            elif frame.time is not None and frame.time - (start + count / rate) > _AUDIO_DRIFT:
                gap = np.zeros(round((frame.time - start) * rate) - count, np.float32)
                blocks.append(gap)
                count += len(gap)
            blocks.append(block)
            count += len(block)
    if not count:
        raise JaxtalkError(f"{path}: its audio stream holds no sound; give the speech as a file with --audio")
    samples = np.concatenate(blocks)
    divisor = int(np.gcd(rate, SAMPLE_RATE))
    if rate != SAMPLE_RATE:
        samples = resample_poly(samples, SAMPLE_RATE // divisor, rate // divisor)
    return Sound(samples.astype(np.float32), SAMPLE_RATE, start)


def _mono(frame: av.AudioFrame) -> np.ndarray:
    """One block of any sample format as mono float32 in [-1, 1]."""
    data: np.ndarray = frame.to_ndarray()
    channels = frame.layout.nb_channels
    data = data if frame.format.is_planar else data.reshape(-1, channels).T
    if np.issubdtype(data.dtype, np.unsignedinteger):
        data = (data.astype(np.float32) - 128) / 128
    elif np.issubdtype(data.dtype, np.integer):
        data = data.astype(np.float32) / 2.0 ** (8 * data.dtype.itemsize - 1)
    return data.astype(np.float32).mean(axis=0)


def cut_sound(sound: Sound, start: float, end: float) -> np.ndarray:
    """The samples between two moments of the file's clock, with silence where the sound does not reach."""
    first, last = round((start - sound.start) * sound.rate), round((end - sound.start) * sound.rate)
    inside = sound.samples[max(first, 0) : max(last, 0)]
    return np.pad(inside, (max(-first, 0), last - max(first, 0) - len(inside)))


@dataclasses.dataclass
class Picture:
    """A decoded picture, converted to RGB only when asked for."""

    time: float  # seconds of the file's clock
    frame: av.VideoFrame
    aspect: float  # width of a pixel over its height

    def rgb(self) -> np.ndarray:
        """[H, W, 3] uint8, upright, with square pixels."""
        width = max(1, round(self.frame.width * self.aspect))
        image = self.frame.to_ndarray(format="rgb24", width=width, height=self.frame.height)
        return np.ascontiguousarray(np.rot90(image, round(self.frame.rotation / 90)))


def pictures(path: Path) -> Iterator[Picture]:
    """All pictures in the order of their times; pictures that do not advance the time are left out."""
    with open_media(path) as container:
        stream = _video_stream(container, path)
        stream.thread_type = "AUTO"
        step = 1 / float(stream.average_rate or 25)
        last = -np.inf
        for frame in container.decode(stream):
            time = frame.time if frame.time is not None else (last + step if np.isfinite(last) else 0.0)
            if time <= last:
                continue
            last = time
            yield Picture(time, frame, _aspect(stream))


def at_constant_rate(
    source: Iterator[Picture], fps: float, start: float, end: float
) -> Iterator[tuple[int, float, Picture]]:
    """Yields (number of the source picture, grid time, nearest picture) for a grid of rate `fps` within [start, end).

    The grid begins at the first picture not before `start`, so footage that has the rate already is taken as it is.
    """
    tolerance = 1e-6
    previous: Picture | None = None
    grid_start, index, number = 0.0, 0, -1
    for picture in source:
        if picture.time < start - tolerance:
            continue
        if previous is None:
            grid_start = picture.time
        else:
            middle = (previous.time + picture.time) / 2
            while (time := grid_start + index / fps) <= middle and time < end - tolerance:
                yield number, time, previous
                index += 1
        previous, number = picture, number + 1
        if picture.time > end + 1 / fps:
            return
    if previous is not None:
        while (time := grid_start + index / fps) < min(previous.time + 0.5 / fps, end - tolerance):
            yield number, time, previous
            index += 1


def frame_times(number: np.ndarray, grid: np.ndarray, actual: np.ndarray) -> np.ndarray:
    """The time each frame stands for: its picture's own, or the grid's where one picture serves several frames.

    Args: `number` [F] of the source picture, `grid` [F] and `actual` [F] seconds. Returns [F], strictly increasing.
    """
    repeated = np.zeros(len(number), bool)
    same = number[1:] == number[:-1]
    repeated[1:] |= same
    repeated[:-1] |= same
    return np.where(repeated, grid, actual)


def _video_stream(container: av.container.InputContainer, path: Path) -> av.VideoStream:
    if not container.streams.video:
        raise JaxtalkError(f"{path}: no video stream; give a video in which a face can be seen")
    return container.streams.video[0]


def _aspect(stream: av.VideoStream) -> float:
    return float(stream.sample_aspect_ratio or stream.codec_context.sample_aspect_ratio or 1)


def _upright_size(frame: av.VideoFrame, stream: av.VideoStream) -> tuple[int, int]:
    height, width = frame.height, max(1, round(frame.width * _aspect(stream)))
    return (width, height) if round(frame.rotation / 90) % 2 else (height, width)
