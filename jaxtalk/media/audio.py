"""Sound out of any file: all of it at one rate for a network, or block by block for a soundtrack."""

from __future__ import annotations

import math
import os
from collections.abc import Generator
from itertools import chain
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

    `channels` is 1 (the mean of left and right) or 2. Raises `MediaError` as `load_audio` does.
    """
    with open_media(path) as container:
        stream = _sound(container, path)
        source = stream.codec_context.channels
        resampler = av.AudioResampler(format="fltp", layout="mono" if source == 1 else "stereo", rate=rate)
        # FFmpeg adds further channels to left and right (ITU: centre and side times sqrt(1/2)) and lets them overflow.
        scale = np.float32(1 if source <= 2 else 1 / (1 + math.sqrt(2)))
        for frame in chain(container.decode(stream), [None]):
            for block in resampler.resample(frame):
                yield _with_channels(scale * block.to_ndarray().T, channels)


def _with_channels(block: np.ndarray, channels: int) -> np.ndarray:
    # Own mean: FFmpeg's mono of floats is 3 dB louder than the mean, and may overflow.
    mean = block.mean(axis=1, keepdims=True) if channels == 1 else block
    return np.ascontiguousarray(np.broadcast_to(mean, (len(block), channels)))


def _sound(container: av.container.InputContainer, path: str | os.PathLike[str]) -> av.AudioStream:
    if not container.streams.audio:
        raise MediaError(f"{Path(path)}: there is no sound stream in this file")
    return container.streams.audio[0]
