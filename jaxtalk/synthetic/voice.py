"""Procedural voices: a glottal source and noise through a cascade of resonators (source and filter, Klatt 1980)."""

from __future__ import annotations

import dataclasses

import numba
import numpy as np
from scipy.ndimage import gaussian_filter1d

from jaxtalk.synthetic.phonemes import FRICATIVE, PHONEMES, PLOSIVE, SILENCE, babble, sample_delivery

SAMPLE_RATE = 16000
CONTROL_RATE = 200  # Hz, of the parameters that move
_BLOCK = SAMPLE_RATE // CONTROL_RATE


@dataclasses.dataclass(frozen=True)
class Voice:
    """What distinguishes speakers."""

    pitch: float  # Hz
    tract: float  # formants relative to an average male's
    breath: float  # aspiration beside the voice
    jitter: float  # relative spread of the glottal period
    open_quotient: float


@dataclasses.dataclass(frozen=True)
class Speech:
    """An utterance. `phonemes`: [N] records (start, end, phoneme, stress), seconds; see `phonemes.TIMELINE`."""

    samples: np.ndarray  # [S] float32 in [-1, 1]
    rate: int
    phonemes: np.ndarray


def sample_voice(speaker: int) -> Voice:
    """The voice of speaker number `speaker`; high voices have short tracts."""
    rng = np.random.default_rng([speaker, 307])
    height = rng.uniform()
    return Voice(
        pitch=85.0 * 2.6**height * rng.uniform(0.95, 1.05),
        tract=0.93 + 0.27 * height + rng.uniform(-0.03, 0.03),
        breath=rng.uniform(0.01, 0.04),
        jitter=rng.uniform(0.005, 0.015),
        open_quotient=rng.uniform(0.5, 0.7),
    )


def speak(utterance_seed: int, speaker_seed: int, seconds: float) -> Speech:
    """Says utterance number `utterance_seed` with the voice of speaker `speaker_seed`; exactly `seconds` long."""
    timeline = babble(utterance_seed, seconds)
    voice, delivery = sample_voice(speaker_seed), sample_delivery(utterance_seed)
    rng = np.random.default_rng([utterance_seed, speaker_seed, 311])
    control = _controls(timeline, voice, delivery.melody, delivery.rate, seconds, rng)
    count = round(seconds * SAMPLE_RATE)
    noise, wobble = rng.normal(size=count), rng.normal(size=count // 32 + 2)
    samples = _synthesize(control, noise, wobble, voice.jitter, voice.open_quotient, voice.breath, count)
    level = np.percentile(np.abs(samples), 99.5) if np.any(samples) else 1.0
    samples = np.tanh(0.45 * delivery.loudness * samples / level)
    room = 2e-4 * rng.normal(size=count)  # silence that a microphone would record
    return Speech((samples + room).astype(np.float32), SAMPLE_RATE, timeline)


# Columns of the control table.
_F0, _VOICE, _ASPIRATION, _FRICATION, _CENTRE, _WIDTH, _F1, _F2, _F3, _F4, _F5 = range(11)


def _controls(
    timeline: np.ndarray, voice: Voice, melody: float, rate: float, seconds: float, rng: np.random.Generator
) -> np.ndarray:
    """[T, 11] at `CONTROL_RATE`: steps of each phoneme's targets, smoothed at each parameter's own speed."""
    count = round(seconds * CONTROL_RATE) + 2
    time = np.arange(count) / CONTROL_RATE
    segment = np.clip(np.searchsorted(timeline["end"], time, side="right"), 0, len(timeline) - 1)
    table = np.zeros((count, 11))
    for index, (_, end, number, stress) in enumerate(timeline):
        inside = segment == index
        sound = PHONEMES[number]
        loud = (0.8 + 0.3 * stress) * rng.uniform(0.92, 1.08)
        burst = time > end - 0.022 if sound.kind == PLOSIVE else np.ones(count, bool)
        table[inside, _VOICE] = sound.voice * loud
        table[inside, _FRICATION] = sound.noise * loud * burst[inside] * (sound.symbol != "h")
        table[inside, _ASPIRATION] = loud * (0.25 * (sound.symbol == "h") + voice.breath * sound.voice)
        table[inside, _CENTRE], table[inside, _WIDTH] = sound.noise_centre, sound.noise_width
        table[inside, _F1:_F4] = np.array(sound.formants) * voice.tract
        if sound.kind == SILENCE or sound.symbol == "h":  # the mouth takes the next sound's shape
            after = PHONEMES[timeline["phoneme"][min(index + 1, len(timeline) - 1)]]
            table[inside, _F1:_F4] = np.array(after.formants) * voice.tract
    table[:, _F4], table[:, _F5] = 3500 * voice.tract, min(4600 * voice.tract, 6800)
    smooth = 0.018 / rate * CONTROL_RATE
    table[:, _F1:_F4] = np.exp(gaussian_filter1d(np.log(table[:, _F1:_F4]), smooth, axis=0, mode="nearest"))
    table[:, _VOICE] = gaussian_filter1d(table[:, _VOICE], 0.010 * CONTROL_RATE, mode="nearest")
    table[:, _ASPIRATION] = gaussian_filter1d(table[:, _ASPIRATION], 0.010 * CONTROL_RATE, mode="nearest")
    sharp = gaussian_filter1d(table[:, _FRICATION], 0.004 * CONTROL_RATE, mode="nearest")
    is_fricative = np.array([PHONEMES[n].kind == FRICATIVE for n in timeline["phoneme"]])[segment]
    soft = gaussian_filter1d(table[:, _FRICATION], 0.012 * CONTROL_RATE, mode="nearest")
    table[:, _FRICATION] = np.where(is_fricative, soft, sharp)
    table[:, _F0] = voice.pitch * 2 ** (_melody(timeline, segment, time, rng) * melody / 12)
    return table


def _melody(timeline: np.ndarray, segment: np.ndarray, time: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Semitones: falls through each phrase, rises on stress; the end of some phrases rises as in a question."""
    silent = timeline["phoneme"] == 0
    phrase_of = np.cumsum(silent)
    tones = np.zeros(len(time))
    for phrase in np.unique(phrase_of[~silent]):
        members = np.flatnonzero((phrase_of == phrase) & ~silent)
        start, end = timeline["start"][members[0]], timeline["end"][members[-1]]
        inside = (time >= start) & (time < end)
        position = (time[inside] - start) / max(end - start, 1e-3)
        question = 5.0 * np.clip(position - 0.8, 0, 1) / 0.2 if rng.uniform() < 0.25 else 0.0
        tones[inside] = 2.0 - 4.0 * position + question
    tones += 3.0 * timeline["stress"][segment]
    drift = gaussian_filter1d(rng.normal(size=len(time)), 0.15 * CONTROL_RATE, mode="nearest")
    return gaussian_filter1d(tones + 0.8 * drift / max(drift.std(), 1e-9), 0.035 * CONTROL_RATE, mode="nearest")


@numba.njit(cache=True)
def _resonator(frequency, bandwidth):  # type: ignore[no-untyped-def]
    """Coefficients of y = a x + b y1 + c y2 with unit gain at 0 Hz (Klatt 1980, equation 1)."""
    c = -np.exp(-2 * np.pi * bandwidth / SAMPLE_RATE)
    b = 2 * np.exp(-np.pi * bandwidth / SAMPLE_RATE) * np.cos(2 * np.pi * frequency / SAMPLE_RATE)
    return 1 - b - c, b, c


@numba.njit(cache=True)
def _band_pass(frequency, bandwidth):  # type: ignore[no-untyped-def]
    """Coefficients of y = a (x - x2) + b y1 + c y2 with unit gain at the centre."""
    angle = 2 * np.pi * frequency / SAMPLE_RATE
    alpha = np.sin(angle) * bandwidth / (2 * frequency)
    return alpha / (1 + alpha), 2 * np.cos(angle) / (1 + alpha), -(1 - alpha) / (1 + alpha)


@numba.njit(cache=True)
def _synthesize(control, noise, wobble, jitter, open_quotient, breath, count):  # type: ignore[no-untyped-def]
    bandwidths = np.array([70.0, 95.0, 140.0, 220.0, 300.0])
    a, b, c = np.zeros(5), np.zeros(5), np.zeros(5)
    y1, y2 = np.zeros(5), np.zeros(5)
    na, nb, nc, n1, n2 = 0.0, 0.0, 0.0, 0.0, 0.0
    phase, period_scale, pulse, previous_flow = 0.0, 1.0, 0, 0.0
    out = np.zeros(count)
    row = np.zeros(control.shape[1])
    for i in range(count):
        block, offset = i // _BLOCK, (i % _BLOCK) / _BLOCK
        if i % (_BLOCK // 4) == 0:
            row = control[block] * (1 - offset) + control[block + 1] * offset
            for k in range(5):
                a[k], b[k], c[k] = _resonator(min(row[6 + k], 7600.0), bandwidths[k])
            na, nb, nc = _band_pass(min(row[4], 7200.0), row[5])
        phase += row[0] * period_scale / SAMPLE_RATE
        if phase >= 1.0:
            phase -= 1.0
            pulse += 1
            period_scale = 1.0 + jitter * wobble[pulse % len(wobble)]
        # Rosenberg's glottal flow: a smooth rise over two thirds of the open time, a quicker fall.
        rise = open_quotient * 0.67
        if phase < rise:
            x = phase / rise
            flow = x * x * (3 - 2 * x)
        elif phase < open_quotient:
            x = (phase - rise) / (open_quotient - rise)
            flow = 1 - x * x
        else:
            flow = 0.0
        source = row[1] * (flow - previous_flow) * 6.0 + row[2] * noise[i] * 0.6
        previous_flow = flow
        for k in range(5):
            value = a[k] * source + b[k] * y1[k] + c[k] * y2[k]
            y2[k] = y1[k]
            y1[k] = value
            source = value
        hiss = na * (noise[i] - (noise[i - 2] if i >= 2 else 0.0)) + nb * n1 + nc * n2
        n2 = n1
        n1 = hiss
        out[i] = source + 0.8 * row[3] * hiss
    return out
