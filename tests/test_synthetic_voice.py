"""Synthetic speech: exact timing, voices that differ, and sound that tells what the mouth does."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.fft import dct

from jaxtalk.synthetic.mouth import mouth_coefficients, viseme_trajectory
from jaxtalk.synthetic.phonemes import NASAL, PHONEMES, PLOSIVE, SIL, SYMBOLS, VISEME_NAMES, VOWEL, sample_delivery
from jaxtalk.synthetic.voice import sample_voice, speak

JAW = VISEME_NAMES.index("jaw")
CLOSE = VISEME_NAMES.index("close")


def _spectrum(samples: np.ndarray, start: float, end: float) -> tuple[np.ndarray, np.ndarray]:
    part = samples[int(start * 16000) : int(end * 16000)]
    return np.fft.rfftfreq(4096, 1 / 16000), np.abs(np.fft.rfft(part * np.hanning(len(part)), 4096)) ** 2


def test_the_same_seeds_say_the_same_bits() -> None:
    first, again = speak(3, 5, 2.0), speak(3, 5, 2.0)
    assert first.samples.tobytes() == again.samples.tobytes()
    assert first.phonemes.tobytes() == again.phonemes.tobytes()


def test_seeds_of_utterance_and_speaker_mean_different_things() -> None:
    one, other_voice, other_words = speak(3, 5, 2.0), speak(3, 6, 2.0), speak(4, 5, 2.0)
    np.testing.assert_array_equal(one.phonemes, other_voice.phonemes)
    assert not np.array_equal(one.samples, other_voice.samples)
    assert len(one.phonemes) != len(other_words.phonemes) or not np.array_equal(one.phonemes, other_words.phonemes)


@pytest.mark.parametrize("seconds", [0.5, 1.0, 7.3])
def test_the_timeline_fills_the_time_exactly(seconds: float) -> None:
    speech = speak(1, 1, seconds)
    assert len(speech.samples) == round(seconds * 16000)
    table = speech.phonemes
    assert table["start"][0] == 0 and table["end"][-1] == seconds
    np.testing.assert_array_equal(table["start"][1:], table["end"][:-1])
    assert (table["end"] > table["start"]).all()
    assert table["phoneme"][0] == table["phoneme"][-1] == SIL


def test_babble_has_pauses_and_all_sounds() -> None:
    speech = speak(2, 0, 60.0)
    table = speech.phonemes
    assert set(table["phoneme"]) == set(range(len(PHONEMES)))
    silence = (table["end"] - table["start"])[table["phoneme"] == SIL].sum() / 60
    assert 0.1 < silence < 0.45
    vowels = np.array([PHONEMES[n].kind == VOWEL for n in table["phoneme"]]).sum() / (60 * (1 - silence))
    assert 3 < vowels < 7, "syllables a second"


def test_silence_is_silent_and_vowels_are_loud() -> None:
    speech = speak(6, 2, 20.0)

    def level(kind: str) -> float:
        parts = [
            speech.samples[int((s + 0.03) * 16000) : int((e - 0.03) * 16000)]
            for s, e, n, _ in speech.phonemes
            if PHONEMES[n].kind == kind and e - s > 0.08
        ]
        return 10 * np.log10(np.mean(np.concatenate(parts) ** 2))

    assert level(VOWEL) > level(NASAL) + 3
    assert level(VOWEL) > level("silence") + 35
    assert np.abs(speech.samples).max() < 1


@pytest.mark.parametrize("speaker", [0, 3, 11])
def test_vowels_have_their_formants(speaker: int) -> None:
    """The strongest band below 1.2 kHz lies at the first formant; i and u are told apart by the second."""
    speech, tract = speak(9, speaker, 25.0), sample_voice(speaker).tract
    frequencies, brightness = None, {"i": [], "u": []}
    centroid: dict[str, list[float]] = {}
    for start, end, number, _ in speech.phonemes:
        sound = PHONEMES[number]
        if sound.kind != VOWEL or end - start < 0.09:
            continue
        frequencies, power = _spectrum(speech.samples, start + 0.02, end - 0.02)
        low = (frequencies > 150) & (frequencies < 1300)
        centroid.setdefault(sound.symbol, []).append(float((frequencies * power)[low].sum() / power[low].sum()) / tract)
        if sound.symbol in brightness:
            high = (frequencies > 1700 * tract) & (frequencies < 3300 * tract)
            brightness[sound.symbol].append(10 * np.log10(power[high].sum() / power[low].sum()))
    means = {symbol: np.mean(values) for symbol, values in centroid.items()}
    assert means["a"] > means["e"] > means["i"]
    assert np.mean(brightness["i"]) > np.mean(brightness["u"]) + 8


def test_hiss_lies_where_its_sound_has_it() -> None:
    speech = speak(12, 1, 40.0)
    peaks: dict[str, list[float]] = {"s": [], "sh": []}
    for start, end, number, _ in speech.phonemes:
        if SYMBOLS[number] in peaks:
            frequencies, power = _spectrum(speech.samples, start + 0.01, end - 0.01)
            band = frequencies > 1500
            peaks[SYMBOLS[number]].append(float((frequencies * power)[band].sum() / power[band].sum()))
    assert np.mean(peaks["s"]) > 5000 > 4200 > np.mean(peaks["sh"])


def test_speakers_differ_in_pitch() -> None:
    """The loudest periodicity of the voice follows the speaker's pitch."""

    def pitch(speaker: int) -> float:
        speech = speak(7, speaker, 10.0)
        found = []
        for start, end, number, _ in speech.phonemes:
            if PHONEMES[number].kind == VOWEL and end - start > 0.1:
                part = speech.samples[int((start + 0.02) * 16000) : int((end - 0.02) * 16000)]
                correlation = np.correlate(part, part, "full")[len(part) - 1 :]
                lag = 40 + int(np.argmax(correlation[40:230]))
                found.append(16000 / lag)
        return float(np.median(found))

    speakers = range(8)
    measured, meant = [pitch(s) for s in speakers], [sample_voice(s).pitch for s in speakers]
    assert max(meant) / min(meant) > 1.5
    assert np.corrcoef(np.log(measured), np.log(meant))[0, 1] > 0.9


def test_lips_meet_for_every_bilabial_and_part_for_every_open_vowel() -> None:
    delivery = sample_delivery(5)
    timeline = speak(5, 0, 30.0).phonemes
    times = np.arange(0, 30, 0.01)
    mouth = viseme_trajectory(timeline, times, delivery)
    jaw = mouth_coefficients(mouth, 0.0)["jawOpen"]
    for start, end, number, _ in timeline:
        during = (times >= start) & (times <= end)
        if SYMBOLS[number] in ("m", "b", "p"):
            assert mouth[during, CLOSE].max() > 0.9 and jaw[during].min() < 0.05, (SYMBOLS[number], start)
        if SYMBOLS[number] in ("a", "ae") and end - start > 0.08:
            assert jaw[during].max() > 0.25, (SYMBOLS[number], start)
    assert ((mouth >= 0) & (mouth <= 1)).all()


def test_mouth_anticipates() -> None:
    """Before a rounded vowel the lips are rounder than before a spread one, while the consonant still sounds."""
    from jaxtalk.synthetic.phonemes import TIMELINE

    def pucker_before(vowel: str) -> float:
        rows = [(0.0, 0.3, SIL, 0), (0.3, 0.4, SYMBOLS.index("s"), 0), (0.4, 0.55, SYMBOLS.index(vowel), 0)]
        timeline = np.array([*rows, (0.55, 1.0, SIL, 0)], TIMELINE)
        mouth = viseme_trajectory(timeline, np.array([0.37]), sample_delivery(0))
        return float(mouth[0, VISEME_NAMES.index("pucker")])

    assert pucker_before("u") > pucker_before("i") + 0.15


def _mfcc(samples: np.ndarray) -> np.ndarray:
    """[N, 13] at 100 Hz, row n centred on n / 100 s: cosine transform of 26 logarithmic mel bands."""
    padded = np.pad(samples, (200, 400))
    frames = np.lib.stride_tricks.sliding_window_view(padded, 400)[::160] * np.hanning(400)
    power = np.abs(np.fft.rfft(frames, 512)) ** 2
    edges = 700 * (10 ** (np.linspace(0, 2595 * np.log10(1 + 8000 / 700), 28) / 2595) - 1)
    frequency = np.arange(257) * 16000 / 512
    rise = (frequency - edges[:-2, None]) / np.diff(edges)[:-1, None]
    fall = (edges[2:, None] - frequency) / np.diff(edges)[1:, None]
    bands = np.log(power @ np.clip(np.minimum(rise, fall), 0, None).T + 1e-8)
    return dct(bands, axis=1, norm="ortho")[:, :13]


def _windows(utterance: int, speaker: int, seconds: float) -> tuple[np.ndarray, np.ndarray]:
    """MFCC over +-120 ms around each frame, and the jaw's opening."""
    speech = speak(utterance, speaker, seconds)
    mfcc = _mfcc(speech.samples)
    times = np.arange(0.2, seconds - 0.2, 0.04)
    centre = np.round(times * 100).astype(int)
    stacked = np.stack([mfcc[centre + offset] for offset in range(-12, 13, 4)], 1).reshape(len(times), -1)
    visemes = viseme_trajectory(speech.phonemes, times, sample_delivery(utterance))
    return stacked, mouth_coefficients(visemes, 0.0)["jawOpen"]


def test_speech_predicts_the_mouth_and_speech_of_another_second_does_not() -> None:
    """Ridge regression from MFCC to the jaw, tested on utterances never seen: R^2 > 0.5, and near 0 shifted by 1 s."""
    speaker, train, test = 4, range(20, 26), range(40, 43)
    x, y = (np.concatenate(part) for part in zip(*(_windows(u, speaker, 10.0) for u in train), strict=True))
    mean, scale = x.mean(axis=0), x.std(axis=0) + 1e-6
    features = (x - mean) / scale
    weights = np.linalg.solve(features.T @ features + 30 * np.eye(features.shape[1]), features.T @ (y - y.mean()))
    right, wrong = [], []
    for utterance in test:
        inputs, truth = _windows(utterance, speaker, 10.0)
        guess = (inputs - mean) / scale @ weights + y.mean()
        total = ((truth - truth.mean()) ** 2).mean()
        right.append(1 - ((guess - truth) ** 2).mean() / total)
        wrong.append(1 - ((guess[25:] - truth[:-25]) ** 2).mean() / total)
    assert np.mean(right) > 0.5, right
    assert np.mean(wrong) < 0.1, wrong


def test_plosives_are_closures_with_a_burst() -> None:
    speech = speak(8, 1, 30.0)
    ratios = []
    for start, end, number, _ in speech.phonemes:
        if PHONEMES[number].kind == PLOSIVE and SYMBOLS[number] in ("t", "k") and end - start > 0.05:
            closure = speech.samples[int((start + 0.02) * 16000) : int((end - 0.030) * 16000)]
            burst = speech.samples[int((end - 0.018) * 16000) : int(end * 16000)]
            ratios.append(np.std(burst) / np.std(closure))
    assert len(ratios) > 3 and np.median(ratios) > 3
