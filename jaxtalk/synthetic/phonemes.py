"""The phonemes of babble: how each sounds and how it looks, and the random utterances made of them.

Formants are those of an average adult male vocal tract (Peterson and Barney 1952 for the vowels, rounded; consonants by
ear); a speaker scales them. Mouth shapes are coefficients of the procedural face model's expressions.
"""

from __future__ import annotations

import dataclasses

import numpy as np

VOWEL, NASAL, FRICATIVE, PLOSIVE, GLIDE, SILENCE = "vowel", "nasal", "fricative", "plosive", "glide", "silence"


@dataclasses.dataclass(frozen=True)
class Viseme:
    """A mouth shape. `close` presses the lips together whatever the jaw does."""

    jaw: float = 0.0
    funnel: float = 0.0
    pucker: float = 0.0
    stretch: float = 0.0
    close: float = 0.0
    roll: float = 0.0  # lower lip under the upper teeth
    upper: float = 0.0  # upper lip up
    lower: float = 0.0  # lower lip down
    tongue: float = 0.0


VISEME_NAMES = tuple(field.name for field in dataclasses.fields(Viseme))


@dataclasses.dataclass(frozen=True)
class Phoneme:
    symbol: str
    kind: str
    seconds: float
    formants: tuple[float, float, float]  # Hz
    viseme: Viseme
    voice: float = 0.0  # amplitude of the glottal source
    noise: float = 0.0  # amplitude of frication (a plosive's burst)
    noise_centre: float = 4000.0  # Hz
    noise_width: float = 2000.0


def _inventory() -> tuple[Phoneme, ...]:
    def vowel(symbol: str, formants: tuple[float, float, float], seconds: float, **viseme: float) -> Phoneme:
        return Phoneme(symbol, VOWEL, seconds, formants, Viseme(**viseme), voice=1.0)

    return (
        Phoneme("sil", SILENCE, 0.4, (500, 1500, 2500), Viseme(jaw=0.01, close=0.15)),
        vowel("a", (730, 1090, 2440), 0.15, jaw=0.80, lower=0.15),
        vowel("ae", (660, 1720, 2410), 0.15, jaw=0.64, stretch=0.35, lower=0.25, upper=0.15),
        vowel("e", (530, 1840, 2480), 0.12, jaw=0.42, stretch=0.45, lower=0.20, upper=0.15),
        vowel("i", (270, 2290, 3010), 0.11, jaw=0.14, stretch=0.85, lower=0.25, upper=0.25),
        vowel("o", (500, 900, 2400), 0.13, jaw=0.40, funnel=0.70),
        vowel("u", (310, 870, 2240), 0.12, jaw=0.15, pucker=0.90, funnel=0.25),
        vowel("uh", (500, 1400, 2450), 0.08, jaw=0.30, lower=0.10),
        Phoneme("m", NASAL, 0.08, (250, 1100, 2200), Viseme(close=1.0), voice=0.34),
        Phoneme("n", NASAL, 0.07, (250, 1550, 2500), Viseme(jaw=0.12, tongue=0.8, lower=0.1), voice=0.34),
        Phoneme("ng", NASAL, 0.08, (250, 2000, 2600), Viseme(jaw=0.20), voice=0.32),
        Phoneme("s", FRICATIVE, 0.10, (350, 1700, 2600), Viseme(jaw=0.05, stretch=0.35, lower=0.30, upper=0.10),
                noise=0.30, noise_centre=5800, noise_width=1500),
        Phoneme("z", FRICATIVE, 0.08, (320, 1700, 2600), Viseme(jaw=0.05, stretch=0.35, lower=0.30, upper=0.10),
                voice=0.22, noise=0.18, noise_centre=5800, noise_width=1500),
        Phoneme("sh", FRICATIVE, 0.10, (350, 1800, 2500), Viseme(jaw=0.08, funnel=0.75, pucker=0.20),
                noise=0.34, noise_centre=3000, noise_width=1100),
        Phoneme("f", FRICATIVE, 0.09, (350, 1100, 2300), Viseme(jaw=0.04, roll=1.0, upper=0.40),
                noise=0.13, noise_centre=6500, noise_width=5000),
        Phoneme("v", FRICATIVE, 0.07, (300, 1100, 2300), Viseme(jaw=0.04, roll=1.0, upper=0.40),
                voice=0.26, noise=0.07, noise_centre=6500, noise_width=5000),
        Phoneme("th", FRICATIVE, 0.09, (350, 1400, 2600), Viseme(jaw=0.14, tongue=1.0, lower=0.15),
                noise=0.10, noise_centre=5000, noise_width=4000),
        Phoneme("h", FRICATIVE, 0.06, (500, 1500, 2500), Viseme(jaw=0.30), noise=0.10,
                noise_centre=1800, noise_width=1500),
        Phoneme("p", PLOSIVE, 0.09, (300, 900, 2200), Viseme(close=1.0), noise=0.25,
                noise_centre=900, noise_width=1200),
        Phoneme("b", PLOSIVE, 0.08, (250, 900, 2200), Viseme(close=1.0), voice=0.10, noise=0.16,
                noise_centre=800, noise_width=1000),
        Phoneme("t", PLOSIVE, 0.08, (300, 1700, 2600), Viseme(jaw=0.08, tongue=0.8, lower=0.15), noise=0.32,
                noise_centre=4500, noise_width=2200),
        Phoneme("d", PLOSIVE, 0.07, (250, 1700, 2600), Viseme(jaw=0.10, tongue=0.8, lower=0.15), voice=0.10,
                noise=0.20, noise_centre=4000, noise_width=2200),
        Phoneme("k", PLOSIVE, 0.08, (300, 1900, 2400), Viseme(jaw=0.18), noise=0.30,
                noise_centre=2000, noise_width=900),
        Phoneme("g", PLOSIVE, 0.07, (250, 1900, 2400), Viseme(jaw=0.18), voice=0.10, noise=0.18,
                noise_centre=1800, noise_width=900),
        Phoneme("l", GLIDE, 0.06, (360, 1100, 2600), Viseme(jaw=0.22, tongue=1.0, lower=0.1), voice=0.55),
        Phoneme("r", GLIDE, 0.06, (380, 1250, 1650), Viseme(jaw=0.15, funnel=0.40), voice=0.55),
        Phoneme("w", GLIDE, 0.06, (300, 700, 2200), Viseme(jaw=0.10, pucker=1.0, funnel=0.20), voice=0.55),
        Phoneme("j", GLIDE, 0.06, (280, 2200, 2950), Viseme(jaw=0.10, stretch=0.60, lower=0.1), voice=0.55),
    )  # fmt: skip


PHONEMES = _inventory()
SYMBOLS = tuple(phoneme.symbol for phoneme in PHONEMES)
SIL = 0
_VOWELS = np.array([i for i, p in enumerate(PHONEMES) if p.kind == VOWEL])
_CONSONANTS = np.array([i for i, p in enumerate(PHONEMES) if p.kind not in (VOWEL, SILENCE)])
_CODAS = np.array([i for i, p in enumerate(PHONEMES) if p.kind in (NASAL, FRICATIVE, PLOSIVE) and p.symbol != "h"])


@dataclasses.dataclass(frozen=True)
class Delivery:
    """How an utterance is spoken."""

    rate: float  # 1 is about 5 syllables/s
    mouth: float  # size of the mouth's movements
    smile: float  # held through the utterance
    loudness: float
    melody: float  # range of the pitch
    emotion: str


TIMELINE = np.dtype([("start", "f8"), ("end", "f8"), ("phoneme", "i4"), ("stress", "f4")])


def sample_delivery(utterance: int) -> Delivery:
    """Neutral, happy, sad or excited; the numbers vary around what the word says."""
    rng = np.random.default_rng([utterance, 211])
    emotion = str(rng.choice(["neutral", "happy", "sad", "excited"], p=[0.4, 0.25, 0.15, 0.2]))
    rate, mouth, smile, loudness, melody = {
        "neutral": (1.0, 1.0, 0.05, 1.0, 1.0),
        "happy": (1.08, 1.05, 0.45, 1.05, 1.4),
        "sad": (0.85, 0.80, -0.30, 0.75, 0.6),
        "excited": (1.18, 1.20, 0.20, 1.25, 1.7),
    }[emotion]
    jitter = 1 + 0.08 * rng.uniform(-1, 1, 4)
    return Delivery(rate * jitter[0], mouth * jitter[1], smile + 0.05 * rng.uniform(-1, 1), loudness * jitter[2],
                    melody * jitter[3], emotion)  # fmt: skip


def babble(utterance: int, seconds: float) -> np.ndarray:
    """A random utterance of exactly `seconds`: phrases of words of syllables with pauses. [N] of `TIMELINE`.

    It begins and ends with silence; segments adjoin.
    """
    rng = np.random.default_rng([utterance, 223])
    rate = sample_delivery(utterance).rate
    segments: list[tuple[int, float, float]] = [(SIL, rng.uniform(0.15, 0.35), 0.0)]
    total = segments[0][1]
    while total < seconds:
        phrase = _phrase(rng, rate)
        phrase.append((SIL, rng.uniform(0.25, 0.75), 0.0))
        segments += phrase
        total += sum(segment[1] for segment in phrase)
    return _timeline(segments, seconds)


def _phrase(rng: np.random.Generator, rate: float) -> list[tuple[int, float, float]]:
    words = [_word(rng, rate) for _ in range(rng.integers(2, 6))]
    segments = [segment for word in words for segment in word]
    for back in range(1, min(4, len(segments)) + 1):  # the end of a phrase slows down
        phoneme, duration, stress = segments[-back]
        segments[-back] = (phoneme, duration * 1.3, stress)
    return segments


def _word(rng: np.random.Generator, rate: float) -> list[tuple[int, float, float]]:
    count = int(rng.choice([1, 2, 3], p=[0.4, 0.4, 0.2]))
    stressed = int(rng.integers(count))
    segments = []
    for syllable in range(count):
        stress = rng.uniform(0.6, 1.0) if syllable == stressed else 0.0
        sounds = [int(rng.choice(_VOWELS))]
        if rng.uniform() < 0.85:
            sounds.insert(0, int(rng.choice(_CONSONANTS)))
        if rng.uniform() < 0.35:
            sounds.append(int(rng.choice(_CODAS)))
        for sound in sounds:
            longer = 1 + 0.35 * stress * (PHONEMES[sound].kind == VOWEL)
            segments.append((sound, PHONEMES[sound].seconds * longer * rng.uniform(0.85, 1.2) / rate, stress))
    return segments


def _timeline(segments: list[tuple[int, float, float]], seconds: float) -> np.ndarray:
    """Cuts at the last whole sound before the end and fills up with silence."""
    ends = np.cumsum([duration for _, duration, _ in segments])
    count = max(1, int(np.searchsorted(ends, seconds - 0.12)))
    table = np.zeros(count, TIMELINE)
    table["phoneme"] = [s[0] for s in segments[:count]]
    table["stress"] = [s[2] for s in segments[:count]]
    table["end"] = ends[:count]
    table["start"][1:] = ends[: count - 1]
    if table["phoneme"][-1] != SIL:
        table = np.concatenate([table, np.array([(table["end"][-1], seconds, SIL, 0.0)], TIMELINE)])
    table["end"][-1] = seconds
    return table
