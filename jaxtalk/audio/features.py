"""Audio features and their windows around video frames.

A feature is a sequence of rows, `spec.rate` (50) a second. A window holds `spec.window` (16) rows; those of mfcc and
mel are placed symmetrically around the time t of its video frame,

    row j is centred at t + (j - (window - 1) / 2) / rate,

so rows 7 and 8 of 16 stand 10 ms before and after the frame, and no frame is rounded to a grid: timestamps may be
anything. Sound outside the recording is zero.

    mfcc        the log of the mean power, then 28 cepstra of 40 log-mel bands (`num_channels` in all)
    mel         `num_channels` log-mel bands
    deepspeech  an array [F, 16, 29] that the user made, 25 windows a second (AD-NeRF's aud.npy, card gdrf.md A.1)
    atc         12 cepstra in windows of 28 rows, 100 a second, as GDRF's audio network reads them (`jaxtalk.audio.atc`)
    wav2vec2    768 hidden states of a network that reads all of the recording (`jaxtalk.audio.wav2vec2`), or an array
                [T, 768] of them that the user made, 50 a second; placed as mfcc and mel are

A row of mfcc and mel is the mean over two analysis frames of 25 ms, 10 ms apart (1 / (4 rate) before and after the
row's centre), that is 100 analysis frames a second. All are scaled by constants that never depend on the recording,
so that training and synthesis see the same numbers. Levels: [-80, 0] dB full scale become [-1, 1]. Cepstrum k of an
orthonormal DCT over natural logarithms is weighted by (8 + k) / 96: over seven recordings of speech in five languages
the standard deviations were then 0.9 for k = 1, 0.4 for k = 2 to 5, and 0.2 to 0.3 from k = 10 on. Silence is -1 in
every level and 0 in every cepstrum.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import scipy.fft

from jaxtalk.audio import atc, wav2vec2
from jaxtalk.audio.spectrum import SAMPLE_RATE, mel_filters, power_spectra, resampled
from jaxtalk.clip import ClipView
from jaxtalk.errors import JaxtalkError
from jaxtalk.weights import WeightsAbsent

FEATURES = ("mfcc", "mel", "deepspeech", "atc", "wav2vec2")
STORED = ("deepspeech", "wav2vec2")  # may lie in a clip as features/NAME.npy
STORED_RATE = 25.0  # windows of a stored array per second, number i centred at i / 25 s: as DeepSpeech's recipe has it
STORED_WINDOW, STORED_STRIDE = 16, 2  # rows of a stored window, and from one window to the next
STORED_SLACK = 5  # a stored array may end this many windows before the video does (recipes differ in how they pad)
_MFCC_BANDS = 40
# The power below which sound counts as silent: -80 dB full scale, above the rounding noise of 16 bits and the dither
# and compression noise of quiet recordings, so that digital and real silence look alike.
_SILENCE = 1e-8


_OWN = {  # channels, rows and rows a second, where they are not 29, 16 and 50
    "atc": (atc.CHANNELS, atc.WINDOW, float(atc.RATE)),
    "wav2vec2": (wav2vec2.CHANNELS, 16, wav2vec2.RATE),
}


@dataclasses.dataclass(frozen=True)
class FeatureSpec:
    """What speech looks like to a system: windows [window, num_channels] of rows, `rate` rows per second.

    What is left 0 takes the feature's own value: 29 channels (wav2vec2: 768), 16 rows, 50 a second; those of `atc` are
    fixed.
    """

    name: str = "mfcc"
    num_channels: int = 0
    window: int = 0
    rate: float = 0.0

    def __post_init__(self) -> None:
        if self.name not in FEATURES:
            raise JaxtalkError(
                f"audio feature {self.name!r} is unknown; set config.data.audio_feature to one of {', '.join(FEATURES)}"
            )
        own = _OWN.get(self.name, (29, 16, 50.0))
        for field, value in zip(("num_channels", "window", "rate"), own, strict=True):
            object.__setattr__(self, field, getattr(self, field) or value)
        if self.name == "atc" and (self.num_channels, self.window, self.rate) != own:
            raise JaxtalkError(
                f"audio feature atc has 12 channels in windows of 28 rows at 100 a second, not {self.num_channels} in "
                f"{self.window} at {self.rate:g}; set config.data.audio_feature to another"
            )
        if self.name == "wav2vec2" and self.num_channels != own[0]:
            raise JaxtalkError(
                f"audio feature wav2vec2 has {own[0]} channels, not {self.num_channels}; set that number"
            )
        if self.name == "mfcc" and not 1 <= self.num_channels <= _MFCC_BANDS:
            raise JaxtalkError(f"mfcc has 1 to {_MFCC_BANDS} channels, not {self.num_channels}")

    @property
    def local(self) -> bool:
        """Whether a window looks at the sound around its frame alone; otherwise it needs the whole recording."""
        return self.name != "wav2vec2"


def audio_windows(
    spec: FeatureSpec,
    samples: np.ndarray,
    sample_rate: int,
    times: np.ndarray,
    stored: np.ndarray | None = None,
) -> np.ndarray:
    """Windows [F, window, num_channels], float32, of frames at `times`.

    Args:
        spec: which feature.
        samples: [N] mono sound in [-1, 1]; not read by `deepspeech`.
        sample_rate: of `samples`, Hz; sound of another rate than 16 kHz is resampled.
        times: [F] seconds on the axis of the sound, in any order, also outside it.
        stored: [T, 16, num_channels] for `deepspeech`, 25 windows a second (`load_stored`, `ClipView.feature`). A
            spec with longer windows gets them from the neighbours', which overlap in all rows but two. For `wav2vec2`
            tokens [T, 768], 50 a second; without them they are computed, of `samples`, which is all of the recording.

    Raises:
        WeightsAbsent: `wav2vec2` has to be computed, and its network is not on this machine.
        JaxtalkError: the stored array is absent, of another shape, or too short for `times`.
    """
    times = np.asarray(times, np.float64)
    if spec.name == "deepspeech":
        return _stored_windows(spec, times, stored)
    if spec.name == "wav2vec2":
        if stored is None:
            values = wav2vec2.tokens(samples, sample_rate)
        else:
            values = wav2vec2.stored_tokens(stored, times, "features/wav2vec2.npy")
        return wav2vec2.token_windows(values, times, spec.window, spec.rate)
    if spec.name == "atc":
        return atc.atc_windows(samples, sample_rate, times)
    offsets = (np.arange(spec.window) - (spec.window - 1) / 2) / spec.rate
    centres = times[:, None] + offsets
    # In steps of one sample, so that windows that overlap share their rows.
    quarter = 0.25 / spec.rate
    instants = np.rint((centres[..., None] + np.array([-quarter, quarter])) * SAMPLE_RATE).astype(np.int64)
    unique, inverse = np.unique(instants, return_inverse=True)
    rows = _rows(spec, resampled(samples, sample_rate), unique)
    return rows[inverse.reshape(instants.shape)].mean(axis=-2)


def clip_windows(spec: FeatureSpec, clip: ClipView) -> np.ndarray:
    """Windows [F, window, num_channels] of all frames of a clip."""
    stored = clip.feature(spec.name) if spec.name in STORED else None
    if spec.name == "deepspeech" and stored is None:
        raise JaxtalkError(f"clip {clip.name}: features/deepspeech.npy is missing; add it, or use audio_feature=mfcc")
    try:
        return audio_windows(spec, clip.audio(), clip.meta.sample_rate, clip.track.time, stored)
    except WeightsAbsent as error:
        raise WeightsAbsent(f"clip {clip.name}: {error}; or add features/{spec.name}.npy") from error
    except JaxtalkError as error:
        raise JaxtalkError(f"clip {clip.name}: {error}") from error


def load_stored(path: str | Path, spec: FeatureSpec) -> np.ndarray:
    """Reads a stored feature file (.npy): [T, 16, num_channels], of wav2vec2 [T, 768].

    Raises `JaxtalkError` naming the file.
    """
    try:
        array = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise JaxtalkError(f"{path}: not a readable .npy array ({error}); make the features again") from error
    if not isinstance(array, np.ndarray):
        raise JaxtalkError(f"{path}: an .npz archive, expected one .npy array; save it with numpy.save")
    _check_stored(spec, array, str(path))
    return array.astype(np.float32)


def _check_stored(spec: FeatureSpec, array: np.ndarray, where: str) -> None:
    if spec.name == "wav2vec2":
        wav2vec2.check_stored(array, where)
        return
    expected = (STORED_WINDOW, spec.num_channels)
    if array.ndim != 3 or array.shape[1:] != expected or not len(array):
        raise JaxtalkError(
            f"{where}: shape {array.shape}, expected (frames, {expected[0]}, {expected[1]}); "
            f"make the {spec.name} features again"
        )
    if not np.isfinite(array).all():
        raise JaxtalkError(f"{where}: holds values that are not finite; make the {spec.name} features again")


def _stored_windows(spec: FeatureSpec, times: np.ndarray, stored: np.ndarray | None) -> np.ndarray:
    where = f"features/{spec.name}.npy"
    if stored is None:
        raise JaxtalkError(f"{where} is missing: {spec.name} is never computed here; give the array, or use mfcc")
    _check_stored(spec, stored, where)
    index = np.rint(times * STORED_RATE).astype(np.int64)
    if index.size and index.max() >= len(stored) + STORED_SLACK:
        raise JaxtalkError(
            f"{where}: {len(stored)} windows, {STORED_RATE:g} a second, are too few for a frame at "
            f"{times.max():.2f} s; make it from the whole recording"
        )
    index = np.clip(index, 0, len(stored) - 1)
    if spec.window == STORED_WINDOW:
        return stored[index].astype(np.float32)
    rows = _joined_rows(stored, where)
    before = spec.window // 2  # rows of a window before its frame's time; row STORED_WINDOW // 2 of `rows` is time 0
    padded = np.pad(rows, ((before, spec.window), (0, 0)))
    first = STORED_STRIDE * index + STORED_WINDOW // 2  # = before the frame's time, in rows of `padded`, less `before`
    return padded[first[:, None] + np.arange(spec.window)].astype(np.float32)


def _joined_rows(stored: np.ndarray, where: str) -> np.ndarray:
    """The rows [2 T + 14, channels] that the overlapping windows were cut from."""
    kept = STORED_WINDOW - STORED_STRIDE
    if not np.allclose(stored[1:, :kept], stored[:-1, STORED_STRIDE:], atol=1e-4):
        raise JaxtalkError(
            f"{where}: neighbouring windows do not overlap as those of one recording, {STORED_STRIDE} rows apart; make "
            "the features again, or set model.audio.attention_windows=0, which reads single windows"
        )
    return np.concatenate([stored[0, :kept], stored[:, kept:].reshape(-1, stored.shape[2])])


def _rows(spec: FeatureSpec, samples: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """Feature vectors [M, num_channels] of analysis frames around sample indices [M]."""
    power = power_spectra(samples, centres)
    if spec.name == "mel":
        return _level(power @ mel_filters(spec.num_channels).T)
    bands = np.log(power @ mel_filters(_MFCC_BANDS).T + _SILENCE)
    cepstra = scipy.fft.dct(bands, type=2, axis=1, norm="ortho")[:, : spec.num_channels]
    cepstra *= (8 + np.arange(spec.num_channels)) / 96
    cepstra[:, 0] = _level(power.mean(axis=1))
    return cepstra.astype(np.float32)


def _level(power: np.ndarray) -> np.ndarray:
    """Power in dB full scale, mapped from [-80, 0] to [-1, 1]."""
    return (10 * np.log10(power + _SILENCE) + 40) / 40
