"""What the numbers of a few-shot evaluation say, in a few words and four figures."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jaxtalk.evaluation.results import formatted
from jaxtalk.evaluation.statistics import clearly_above_zero

_METRIC = "psnr/rgb"


def _pair(results: Mapping[str, Any], other: str, region: str) -> Mapping[str, Any] | None:
    """The page's avatar minus a row of its own length and steps; None where it was not compared, or has no value."""
    pair = results["paired"].get(f"{results['subject_row']}/{other}", {}).get(_METRIC, {}).get(region)
    return pair if pair is not None and pair["mean"] is not None else None


def _signed(pair: Mapping[str, Any]) -> str:
    return f"{formatted(pair['mean'], 2, signed=True)} ± {formatted(pair['standard_error'], 2)} dB"


def headline(results: Mapping[str, Any]) -> str:
    """A few sentences: against copying a frame, without base training, and with late speech."""
    row = next(row for row in results["rows"] if row["name"] == results["subject_row"])
    people = len(results["values"][row["name"]][_METRIC]["frame"]["identities"])
    whom = f"{people} {'person' if people == 1 else 'people'} never trained on"
    start = f"After {row['steps']:,} steps on the first {row['seconds']:g} s of {whom}"
    if not row["steps"]:
        start = f"Before any adaptation to {whom}"
    copy = _pair(results, "copy", "mouth")
    if copy is None:
        return f"{start}: no mouth lies inside the tested frames, so there is little to say."
    word = "closer to" if copy["mean"] > 0 else "further from"
    text = (
        f"{start}, the mouth is {formatted(abs(copy['mean']), 2)} ± {formatted(copy['standard_error'], 2)} dB {word} "
        "the truth than in the frame of the nearest pose."
    )
    scratch, late = _pair(results, "scratch", "face"), _pair(results, "audio_shifted", "mouth")
    if scratch is not None:
        worth = "" if clearly_above_zero(scratch) else ", less than two standard errors above nothing"
        text += f" Base training is worth {_signed(scratch)} over the face at equal steps{worth}."
    if late is not None:
        heard = "the mouth follows it" if clearly_above_zero(late) else "no sign that the mouth follows the speech"
        text += f" Speech that comes a second late costs the mouth {_signed(late)}: {heard}."
    if results["settings"]["pose"] == "predicted":
        text += " Frames are rendered at the pose predicted from speech, which PSNR measures, too."
    return text


def tiles(results: Mapping[str, Any]) -> list[dict[str, str]]:
    """The figures at the top of the page: {"label", "value", "unit", "note"}."""
    row = next(row for row in results["rows"] if row["name"] == results["subject_row"])
    face = results["values"][row["name"]][_METRIC]["face"]["mean"]
    found = [{"label": "Face", "value": formatted(face, 2), "unit": "dB PSNR", "note": row["label"]}]
    for other, region, label, note in (
        ("copy", "mouth", "Mouth, against a copy", "the frame of the nearest pose"),
        ("scratch", "face", "Face, against from scratch", "the same steps without base training"),
        ("audio_shifted", "mouth", "Mouth, against late speech", "the same avatar hears it a second late"),
        ("before", "face", "Face, against no adaptation", "the base model with the same references"),
        ("mean", "mouth", "Mouth, against the mean frame", "of the same seconds"),
    ):
        pair = _pair(results, other, region)
        if pair is not None and len(found) < 4:
            value = {"value": formatted(pair["mean"], 2, signed=True), "unit": "dB"}
            won = f"± {formatted(pair['standard_error'], 2)}; {note}; better in {pair['positive']} of {pair['frames']}"
            found.append({"label": label, **value, "note": f"{won} frames"})
    return found
