"""From phonemes to mouth movements: overlapping dominance of neighbouring sounds (Cohen and Massaro 1993)."""

from __future__ import annotations

import numpy as np

from jaxtalk.synthetic.phonemes import PHONEMES, SILENCE, VISEME_NAMES, VOWEL, Delivery, Viseme

# How fast a sound's claim on the mouth fades before its start and after its end, 1/s: lips anticipate more than lag.
_BEFORE, _AFTER = 14.0, 20.0
_SHAPES = np.array([[getattr(phoneme.viseme, name) for name in VISEME_NAMES] for phoneme in PHONEMES])
_CLOSE = VISEME_NAMES.index("close")


def _dominance(number: int) -> np.ndarray:
    """How much [8] a phoneme insists on each parameter of its mouth shape."""
    phoneme = PHONEMES[number]
    base = {VOWEL: 1.0, SILENCE: 0.6}.get(phoneme.kind, 0.7)
    strong = Viseme(jaw=base, funnel=base, pucker=base, stretch=base, close=0.9, roll=1.5, upper=0.8, lower=0.8,
                    tongue=0.8)  # fmt: skip
    weights = np.array([getattr(strong, name) for name in VISEME_NAMES])
    if phoneme.viseme.close == 1.0:  # closed lips say nothing of rounding and spreading: neighbours show through
        weights[_CLOSE] = 4.0
        weights[[VISEME_NAMES.index(name) for name in ("funnel", "pucker", "stretch")]] = 0.15
    return weights


_DOMINANCE = np.stack([_dominance(number) for number in range(len(PHONEMES))])


def viseme_trajectory(timeline: np.ndarray, times: np.ndarray, delivery: Delivery) -> np.ndarray:
    """Mouth parameters [F, len(VISEME_NAMES)] at `times` (seconds), each in [0, 1].

    Each is the mean of all sounds' targets, weighted by dominance that falls off exponentially outside a sound's time.
    """
    early = timeline["start"][None] - times[:, None]
    late = times[:, None] - timeline["end"][None]
    outside = np.maximum(early, 0) * _BEFORE + np.maximum(late, 0) * _AFTER
    decay = np.exp(-(outside**1.2) * 1.6) * np.minimum((timeline["end"] - timeline["start"]) / 0.08, 1.5)[None]
    numbers = timeline["phoneme"]
    stress = 0.85 + 0.3 * timeline["stress"]
    targets = np.clip(_SHAPES[numbers] * np.where(np.arange(len(VISEME_NAMES)) == 0, stress[:, None], 1.0), 0, 1)
    weights = decay[:, :, None] * _DOMINANCE[numbers][None]
    values = (weights * targets[None]).sum(axis=1) / weights.sum(axis=1)
    closure = np.clip((values[:, _CLOSE] - 0.30) / 0.35, 0, 1)  # lips that nearly meet do meet
    values[:, _CLOSE] = closure * closure * (3 - 2 * closure)
    scale = np.full(len(VISEME_NAMES), delivery.mouth)
    scale[_CLOSE] = 1.0
    return np.clip(values * scale, 0, 1)


def mouth_coefficients(visemes: np.ndarray, smile: float) -> dict[str, np.ndarray]:
    """Expression coefficients [F] of the procedural face, by name, from mouth parameters [F, P]. `smile` < 0: sad."""
    v = dict(zip(VISEME_NAMES, visemes.T, strict=True))
    free = 1 - v["close"]
    out = {
        "jawOpen": 0.85 * v["jaw"] * free,
        "mouthFunnel": v["funnel"] * free,
        "mouthPucker": v["pucker"] * (1 - 0.5 * v["close"]),
        "mouthRollLower": v["roll"] * free,
        "tongueUp": v["tongue"] * free,
    }
    for side in ("Left", "Right"):
        out[f"mouthStretch{side}"] = v["stretch"] * (1 - 0.5 * v["close"])
        out[f"mouthPress{side}"] = 0.7 * v["close"]
        out[f"mouthUpperUp{side}"] = v["upper"] * free
        out[f"mouthLowerDown{side}"] = v["lower"] * free
        held = 1 - 0.4 * np.maximum(v["funnel"], v["pucker"])
        out[f"mouthSmile{side}"] = max(smile, 0.0) * held
        out[f"mouthFrown{side}"] = max(-smile, 0.0) * held
    return out
