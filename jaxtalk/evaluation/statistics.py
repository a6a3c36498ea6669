"""Means over clips and identities, and paired differences with their uncertainty. Plain float64 NumPy.

Frames of one clip are averaged first, then the clips of an identity, then identities: a long clip or a person with
many clips weighs no more than another (metrics card, section 7).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

_RESAMPLES = 2000


@dataclasses.dataclass(frozen=True)
class Paired:
    """Differences of two measurements of the same frames: their mean, its standard error, and how many are above 0."""

    mean: float
    standard_error: float  # sample standard deviation / sqrt(frames); NaN for a single frame
    frames: int
    positive: int


def paired(first: np.ndarray, second: np.ndarray) -> Paired:
    """Statistics of `first - second` [F] over the frames where both are finite.

    The standard error takes frames as independent. Neighbouring frames are not: space the test frames widely (the
    default is 50 over 10 s) before reading it closely.
    """
    difference = np.asarray(first, np.float64) - np.asarray(second, np.float64)
    difference = difference[np.isfinite(difference)]
    count = len(difference)
    if not count:
        return Paired(float("nan"), float("nan"), 0, 0)
    error = float(difference.std(ddof=1) / np.sqrt(count)) if count > 1 else float("nan")
    return Paired(float(difference.mean()), error, count, int((difference > 0).sum()))


def frame_mean(values: np.ndarray) -> float:
    """Mean over the frames that have a value; NaN where none has."""
    finite = np.asarray(values, np.float64)[np.isfinite(values)]
    return float(finite.mean()) if len(finite) else float("nan")


def clip_weights(identities: Mapping[str, str]) -> dict[str, float]:
    """Weight of each clip {clip: identity} in the mean over clips, then identities; they sum to one."""
    people = list(identities.values())
    return {clip: 1.0 / (len(set(people)) * people.count(person)) for clip, person in identities.items()}


def over_clips(values: Mapping[str, float], identities: Mapping[str, str]) -> dict[str, Any]:
    """{"mean", "clips", "identities"} of one value per clip; a clip without a value (NaN) counts in no mean."""
    having = {clip: value for clip, value in values.items() if np.isfinite(value)}
    weights = clip_weights({clip: identities[clip] for clip in having})
    people = {
        person: float(np.mean([value for clip, value in having.items() if identities[clip] == person] or [np.nan]))
        for person in dict.fromkeys(identities[clip] for clip in values)
    }
    mean = float(sum(weights[clip] * value for clip, value in having.items())) if having else float("nan")
    return {"mean": mean, "identities": people, "clips": dict(values)}


def paired_over_clips(pairs: Mapping[str, Paired], identities: Mapping[str, str]) -> dict[str, Any]:
    """The mean difference over clips, then identities, with the standard error of that mean for these clips.

    Clips are independent, so their squared errors add with squared weights. It says how sure the mean is for these
    clips; it does not say how much another set of people would differ. "identities" holds the same for each person.
    """
    people = {
        person: _mean_of_pairs({clip: pair for clip, pair in pairs.items() if identities[clip] == person}, identities)
        for person in dict.fromkeys(identities[clip] for clip in pairs)
    }
    return {
        **_mean_of_pairs(pairs, identities),
        "identities": people,
        "clips": {clip: dataclasses.asdict(pair) for clip, pair in pairs.items()},
    }


def _mean_of_pairs(pairs: Mapping[str, Paired], identities: Mapping[str, str]) -> dict[str, Any]:
    pairs = {clip: pair for clip, pair in pairs.items() if pair.frames}  # of the others nothing is known
    weights = clip_weights({clip: identities[clip] for clip in pairs})
    variance = sum((weights[clip] * pair.standard_error) ** 2 for clip, pair in pairs.items())
    return {
        "mean": float(sum(weights[clip] * pair.mean for clip, pair in pairs.items())) if pairs else float("nan"),
        "standard_error": float(np.sqrt(variance)) if pairs else float("nan"),
        "frames": sum(pair.frames for pair in pairs.values()),
        "positive": sum(pair.positive for pair in pairs.values()),
    }


def clearly_above_zero(pair: Mapping[str, Any]) -> bool:
    """Whether a paired difference of the results is positive by at least two standard errors."""
    error = pair["standard_error"]
    return error is not None and pair["mean"] is not None and pair["mean"] > 0 and pair["mean"] >= 2 * error


def clear_sign(pair: Mapping[str, Any] | None, higher_is_better: bool | None) -> int:
    """1 where a paired difference is better by at least two standard errors, -1 where it is worse, 0 where neither."""
    if pair is None or pair["mean"] is None or higher_is_better is None:
        return 0
    for sign in (1, -1):
        if clearly_above_zero({**pair, "mean": sign * pair["mean"]}):
            return sign if higher_is_better else -sign
    return 0


def bootstrap_interval(
    frames: Mapping[str, np.ndarray], identities: Mapping[str, str], *, block: int = 5, seed: int = 0
) -> tuple[float, float] | None:
    """95 % percentile interval of the mean over clips, then identities.

    Each resample draws as many identities as there are, with replacement, and the frames of their clips {clip: [F]}
    in blocks. Blocks of neighbouring frames, wrapped around the clip's end, keep what neighbours
    share (Politis and Romano 1992). With one identity it speaks of the frames alone. A value of the whole clip, [1],
    stands for itself. None where nothing varies: a single identity with fewer than two blocks of frames.
    """
    rng = np.random.default_rng(seed)
    finite = {clip: np.asarray(v, np.float64)[np.isfinite(v)] for clip, v in frames.items()}
    finite = {clip: values for clip, values in finite.items() if len(values)}
    people = list(dict.fromkeys(identities[clip] for clip in finite))
    short = any(len(values) < 2 * block for values in finite.values())
    if not people or (short and len(people) == 1):
        return None
    means = np.stack(
        [
            np.mean([_block_means(v, block, rng) for clip, v in finite.items() if identities[clip] == person], axis=0)
            for person in people
        ]
    )  # [people, resamples]
    drawn = rng.integers(0, len(people), (len(people), _RESAMPLES))
    low, high = np.percentile(np.take_along_axis(means, drawn, axis=0).mean(axis=0), [2.5, 97.5])
    return float(low), float(high)


def _block_means(values: np.ndarray, block: int, rng: np.random.Generator) -> np.ndarray:
    """Means [resamples] of values [F] redrawn in blocks; of few, their mean."""
    count = len(values)
    if count < 2 * block:
        return np.full(_RESAMPLES, values.mean())
    starts = rng.integers(0, count, (_RESAMPLES, -(-count // block), 1))
    index = (starts + np.arange(block)) % count
    return values[index.reshape(_RESAMPLES, -1)[:, :count]].mean(axis=1)
