"""The speech feature wav2vec2: hidden states of wav2vec2-base, 50 vectors a second (metrics card, section 5).

A vector depends on all of the recording, so features are made of whole recordings, never of cuts of them. Token k is
made of the samples 320 k to 320 k + 399 and belongs to their middle, 20 k + 12.47 ms.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import cast

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxtalk import weights
from jaxtalk.audio.spectrum import SAMPLE_RATE, resampled
from jaxtalk.errors import JaxtalkError
from jaxtalk.nn.pretrained.wav2vec2 import HOP, SPAN, Wav2Vec2, token_count

CHANNELS, RATE = 768, SAMPLE_RATE / HOP
NAME = "wav2vec2_base"  # in the register of weights
STORED_SLACK = 0.2  # seconds that a stored array may end before the last frame
_EPSILON = 1e-7  # added to the variance
_STEP = 4 * SAMPLE_RATE  # sound is filled up to a multiple of this: few lengths, few compilations
_PIECE = 40 * SAMPLE_RATE  # samples that the network takes at once: what attention needs grows with their square
_CONTEXT = 200 * HOP  # 4 s on either side of a piece, whose tokens are the neighbour's


def tokens(samples: np.ndarray, sample_rate: int, network: Wav2Vec2 | None = None) -> np.ndarray:
    """Hidden states [T, 768], float32, of a recording; T = (N - 400) // 320 + 1 for N samples at 16 kHz.

    The recording is brought to mean 0 and variance 1 as a whole. One of more than 40 s goes through the network in
    pieces of 40 s, of which the outer 4 s count only at the recording's own ends. One of less than 25 ms is filled up
    with zeros.

    Args:
        samples: [N] mono.
        sample_rate: of `samples`, Hz; sound of another rate than 16 kHz is resampled.
        network: by default that of the cache.

    Raises:
        WeightsAbsent: the network is not on this machine.
    """
    network = network or _published(str(weights.find(NAME)))
    samples = _normalised(resampled(samples, sample_rate))
    samples = np.pad(samples, (0, max(0, SPAN - len(samples))))
    if len(samples) <= _PIECE:
        return _run(network, samples)
    total, step = token_count(len(samples)), _PIECE - 2 * _CONTEXT
    result = np.empty((total, 0), np.float32)
    for start in range(0, len(samples) - 2 * _CONTEXT, step):
        piece = _run(network, samples[start : start + _PIECE], _PIECE)
        if not result.size:
            result = np.empty((total, piece.shape[1]), np.float32)
        skipped = _CONTEXT // HOP if start else 0
        result[start // HOP + skipped : start // HOP + len(piece)] = piece[skipped:]
    return result


def token_windows(values: np.ndarray, times: np.ndarray, window: int, rate: float) -> np.ndarray:
    """Windows [F, window, C] of tokens [T, C] around `times` [F] seconds.

    Row j is at t + (j - (window - 1) / 2) / rate, between the tokens on either side by linear interpolation; before
    the first token and after the last one these are repeated.
    """
    offsets = (np.arange(window) - (window - 1) / 2) / rate
    place = ((np.asarray(times, np.float64)[:, None] + offsets) * SAMPLE_RATE - (SPAN - 1) / 2) / HOP
    place = np.clip(place, 0, len(values) - 1)
    low = np.minimum(place.astype(np.int64), max(len(values) - 2, 0))
    share = (place - low).astype(np.float32)[..., None]
    return values[low] * (1 - share) + values[np.minimum(low + 1, len(values) - 1)] * share


def check_stored(array: np.ndarray, where: str) -> None:
    """Raises `JaxtalkError` unless `array` is tokens [T, 768], finite."""
    if array.ndim != 2 or array.shape[1] != CHANNELS or not len(array):
        raise JaxtalkError(
            f"{where}: shape {array.shape}, expected (tokens, {CHANNELS}), {RATE:g} tokens a second; make the wav2vec2 "
            "features again"
        )
    if not np.isfinite(array).all():
        raise JaxtalkError(f"{where}: holds values that are not finite; make the wav2vec2 features again")


def stored_tokens(array: np.ndarray, times: np.ndarray, where: str) -> np.ndarray:
    """The tokens of a stored array, float32. Raises `JaxtalkError` where they end before `times` do."""
    check_stored(array, where)
    seconds = len(array) / RATE
    if times.size and times.max() > seconds + STORED_SLACK:
        raise JaxtalkError(
            f"{where}: {len(array)} tokens, {RATE:g} a second, are too few for a frame at {times.max():.2f} s; make it "
            "from the whole recording"
        )
    return array.astype(np.float32)


def _normalised(samples: np.ndarray) -> np.ndarray:
    """Mean 0 and variance 1, float32; silence stays silent."""
    wide = samples.astype(np.float64)
    if not wide.size:
        return samples
    return ((wide - wide.mean()) / np.sqrt(wide.var() + _EPSILON)).astype(np.float32)


def _run(network: Wav2Vec2, samples: np.ndarray, size: int | None = None) -> np.ndarray:
    """Tokens of sound that is filled up to `size`, by default to the next multiple of 4 s."""
    size = size or -(-len(samples) // _STEP) * _STEP
    filled = np.pad(samples, (0, size - len(samples)))
    states = _hidden_states(network, jnp.asarray(filled[None]), jnp.array([len(samples)]))
    return np.asarray(states[0, : token_count(len(samples))], np.float32)


@nnx.jit
def _hidden_states(network: Wav2Vec2, samples: jax.Array, lengths: jax.Array) -> jax.Array:
    return network(samples, lengths)


@functools.lru_cache(maxsize=1)
def _published(path: str) -> Wav2Vec2:
    return cast(Wav2Vec2, weights.load(NAME, path=Path(path)))
