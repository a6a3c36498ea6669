"""Moving pictures in files: H.264 with AAC written frame by frame, frames and facts read back."""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import Generator, Iterator
from fractions import Fraction
from pathlib import Path
from types import TracebackType

import av
import numpy as np

from jaxtalk.media.audio import AAC_RATES, audio_blocks, soundtrack_format
from jaxtalk.media.container import MediaError, open_media

Soundtrack = str | os.PathLike[str] | tuple[np.ndarray, int]  # a file, or (samples [N] or [N, 1 or 2], rate)
_BT709 = 1  # matrix, primaries and transfer: written into the file, so that no player has to guess


def exact_rate(fps: float | Fraction) -> Fraction:
    """Frames a second as a small fraction: 25 -> 25/1, 29.97002997 -> 30000/1001. Raises `MediaError` unless > 0."""
    if not fps > 0:
        raise MediaError(f"fps {fps}: the frame rate must be above 0")
    return Fraction(fps).limit_denominator(1001)


class VideoWriter:
    """Writes an mp4 (H.264, yuv420p, BT.709; AAC) that appears whole at `path` when the block ends, or not at all.

        with VideoWriter("out.mp4", (height, width), fps=25, audio="speech.wav") as video:
            video.write(frame)  # [H, W, 3] uint8, or float in [0, 1]

    Frame i is shown from i / fps on. Sound begins with the first frame and is written whole, in step with the frames,
    so that memory does not grow with length. H.264 with 4:2:0 colour wants even sides: an odd picture is continued by
    its last row or column. `crf` is x264's quality (lower is better; 17 is visually lossless).
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        size: tuple[int, int],
        fps: float | Fraction,
        audio: Soundtrack | None = None,
        comment: str = "",
        crf: float = 17.0,
    ) -> None:
        self.path, self.size, self.fps = Path(path), (int(size[0]), int(size[1])), exact_rate(fps)
        self.frames = 0
        if self.path.is_dir():
            raise MediaError(f"{self.path}: a folder; name a file to write, such as {self.path / 'out.mp4'}")
        self._sound = _Sound(audio) if audio is not None else None
        self._partial = self.path.with_name(self.path.name + ".partial")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._partial.touch()  # libav opens the file at the first packet, and does not name it
            self._container = av.open(str(self._partial), "w", format="mp4", options={"movflags": "+faststart"})
        except OSError as error:
            raise MediaError(f"{self.path}: cannot be written ({error.strerror}); name another file") from error
        if comment:
            self._container.metadata["comment"] = comment
        self._video = self._container.add_stream("libx264", rate=self.fps, options={"crf": str(crf)})
        self._video.height, self._video.width = (side + side % 2 for side in self.size)
        self._video.pix_fmt = "yuv420p"
        context = self._video.codec_context
        context.time_base = 1 / self.fps
        context.color_primaries = context.color_trc = context.colorspace = _BT709
        context.color_range = 1  # limited ("tv"), what yuv420p means to players
        if self._sound is not None:
            self._sound.attach(self._container)

    def write(self, frame: np.ndarray) -> None:
        """Appends one frame, [H, W, 3], uint8 or float in [0, 1]. Raises `ValueError` for another shape."""
        if frame.shape != (*self.size, 3):
            raise ValueError(f"frame {self.frames} has shape {frame.shape}, expected {(*self.size, 3)}")
        if frame.dtype != np.uint8:
            frame = np.round(255 * np.clip(frame, 0, 1)).astype(np.uint8)
        height, width = self.size
        if height % 2 or width % 2:
            frame = np.pad(frame, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
        picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
        picture = picture.reformat(format="yuv420p", dst_colorspace="ITU709")
        picture.pts, picture.time_base = self.frames, 1 / self.fps
        for packet in self._video.encode(picture):
            self._container.mux(packet)
        self.frames += 1
        if self._sound is not None:
            self._sound.write_until(self.frames / self.fps)

    @property
    def sound_seconds(self) -> float:
        """How much of the sound has been written so far."""
        return self._sound.seconds if self._sound is not None else 0.0

    def close(self) -> None:
        """Writes what the encoders hold and the rest of the sound, and gives the file its name."""
        if not self.frames:
            self.discard()
            raise MediaError(f"{self.path}: there was no frame to write")
        try:
            for packet in self._video.encode(None):
                self._container.mux(packet)
            if self._sound is not None:
                self._sound.finish()
            self._container.close()
        except BaseException:
            self.discard()
            raise
        os.replace(self._partial, self.path)

    def discard(self) -> None:
        """Gives up: nothing stays on disk."""
        if self._sound is not None:
            self._sound.stop()
        with contextlib.suppress(av.FFmpegError):  # the file goes anyway
            self._container.close()
        self._partial.unlink(missing_ok=True)

    def __enter__(self) -> VideoWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            self.discard()


class _Sound:
    """The soundtrack of a video being written: pulled from its source as the frames come."""

    def __init__(self, source: Soundtrack) -> None:
        if isinstance(source, tuple):
            samples = np.asarray(source[0], np.float32)
            samples = samples[:, None] if samples.ndim == 1 else samples
            self.rate, self.channels = int(source[1]), samples.shape[1]
            if self.rate not in AAC_RATES or self.channels not in (1, 2):
                raise MediaError(
                    f"sound at {self.rate} Hz with {self.channels} channels: AAC takes 1 or 2 channels at "
                    f"{', '.join(map(str, AAC_RATES))} Hz; resample it first"
                )
            self._blocks: Generator[np.ndarray, None, None] = (
                samples[i : i + 4096] for i in range(0, len(samples), 4096)
            )
        else:
            self.rate, self.channels = soundtrack_format(source)
            self._blocks = audio_blocks(source, self.rate, self.channels)
        self._written = 0

    def attach(self, container: av.container.OutputContainer) -> None:
        self._container = container
        self._layout = "mono" if self.channels == 1 else "stereo"
        self._stream = container.add_stream("aac", rate=self.rate, layout=self._layout)
        # AAC holds at most 6,144 bits a channel in each frame of 1,024 samples.
        self._stream.bit_rate = min(96000, 4 * self.rate) * self.channels

    def write_until(self, seconds: Fraction) -> None:
        """Writes blocks until `seconds` are covered or the sound ends."""
        while self._written < seconds * self.rate and self._write_block():
            pass

    @property
    def seconds(self) -> float:
        return self._written / self.rate

    def finish(self) -> None:
        while self._write_block():
            pass
        for packet in self._stream.encode(None):
            self._container.mux(packet)

    def stop(self) -> None:
        self._blocks.close()  # closes the file that is being read

    def _write_block(self) -> bool:
        block = next(self._blocks, None)
        if block is None:
            return False
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(block.T), format="fltp", layout=self._layout)
        frame.sample_rate, frame.pts, frame.time_base = self.rate, self._written, Fraction(1, self.rate)
        for packet in self._stream.encode(frame):
            self._container.mux(packet)
        self._written += len(block)
        return True


@dataclasses.dataclass(frozen=True)
class MediaInfo:
    """Facts about a media file. Times in seconds; zeros where it has no such stream."""

    path: Path
    frames: int
    size: tuple[int, int]  # height, width
    fps: float  # mean rate
    video_seconds: float
    audio_seconds: float
    sample_rate: int
    channels: int
    comment: str


def probe(path: str | os.PathLike[str]) -> MediaInfo:
    """Reads a file's headers (frames are counted from its index, not decoded). Raises `MediaError`."""
    with open_media(path) as container:
        video = next(iter(container.streams.video), None)
        audio = next(iter(container.streams.audio), None)
        return MediaInfo(
            path=Path(path),
            frames=video.frames if video else 0,
            size=(video.height, video.width) if video else (0, 0),
            fps=float(video.average_rate or 0) if video else 0.0,
            video_seconds=_seconds(video, container),
            audio_seconds=_seconds(audio, container),
            sample_rate=audio.codec_context.sample_rate if audio else 0,
            channels=audio.codec_context.channels if audio else 0,
            comment=container.metadata.get("comment", ""),
        )


def _seconds(stream: av.VideoStream | av.AudioStream | None, container: av.container.InputContainer) -> float:
    if stream is None:
        return 0.0
    if stream.duration is not None and stream.time_base is not None:
        return float(stream.duration * stream.time_base)
    return (container.duration or 0) / av.time_base


def read_frames(path: str | os.PathLike[str]) -> Iterator[tuple[float, np.ndarray]]:
    """Decodes a video frame by frame: (time in seconds, picture [H, W, 3] uint8 RGB). Raises `MediaError`."""
    with open_media(path) as container:
        if not container.streams.video:
            raise MediaError(f"{Path(path)}: there is no video stream in this file")
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        for frame in container.decode(stream):
            yield float(frame.time or 0.0), frame.to_ndarray(format="rgb24")
