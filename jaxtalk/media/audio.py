"""Sound out of any file: all of it at one rate for a network, or block by block for a soundtrack."""

from __future__ import annotations

import os
from collections.abc import Generator
from pathlib import Path

import av
import numpy as np

from jaxtalk.media.container import MediaError, open_media

# The rates AAC knows. Sound at another rate is resampled to the next higher one.
AAC_RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000)


def load_audio(path: str | os.PathLike[str], rate: int = 16000) -> np.ndarray:
    """The first sound stream of a file as samples [N] float32, mono, about [-1, 1], at `rate` samples a second.

    Any container, codec, rate, sample format and number of channels. Raises `MediaError` for a missing or unreadable
    file, one without sound, and one whose sound holds no sample.
    """
    blocks = [block[:, 0] for block in audio_blocks(path, rate, channels=1)]
    samples = np.concatenate(blocks) if blocks else np.zeros(0, np.float32)
    if not samples.size:
        raise MediaError(f"{Path(path)}: the sound stream holds no sample")
    return samples


def soundtrack_format(path: str | os.PathLike[str]) -> tuple[int, int]:
    """Rate and channels at which the sound of a file goes into a video: its own, where AAC and two speakers allow."""
    with open_media(path) as container:
        stream = _sound(container, path)
        rate, channels = stream.codec_context.sample_rate, stream.codec_context.channels
    return next((known for known in AAC_RATES if known >= rate), AAC_RATES[-1]), min(channels, 2)


def audio_blocks(path: str | os.PathLike[str], rate: int, channels: int) -> Generator[np.ndarray, None, None]:
    """Decodes the first sound stream in blocks [n, channels] float32 of some thousand samples: constant memory.

    `channels` is 1 (a mean of the source's) or 2. Raises `MediaError` as `load_audio` does.
    """
    with open_media(path) as container:
        stream = _sound(container, path)
        resampler = av.AudioResampler(format="fltp", layout="mono" if channels == 1 else "stereo", rate=rate)
        for frame in container.decode(stream):
            for block in resampler.resample(frame):
                yield np.ascontiguousarray(block.to_ndarray().T)
        for block in resampler.resample(None):
            yield np.ascontiguousarray(block.to_ndarray().T)


def _sound(container: av.container.InputContainer, path: str | os.PathLike[str]) -> av.AudioStream:
    if not container.streams.audio:
        raise MediaError(f"{Path(path)}: there is no sound stream in this file")
    return container.streams.audio[0]
