"""What the numbers of an evaluation say, in a few words and four figures."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jaxtalk.evaluation import fewshot_summary
from jaxtalk.evaluation.results import formatted
from jaxtalk.evaluation.statistics import clearly_above_zero

_METRIC = "psnr/rgb"


def headline(results: Mapping[str, Any]) -> str:
    """One or two sentences: against copying a training frame, and against the wrong speech."""
    if results["protocol"] == "fewshot":
        return fewshot_summary.headline(results)
    frames = sum(len(clip["frames"]) for clip in results["clips"].values())
    pair = results["paired"]["nearest"][_METRIC]["face"]
    drop = results["paired"]["audio_shifted"][_METRIC]["mouth"]
    if pair["mean"] is None or drop["mean"] is None:
        return f"On {frames} frames never trained on; no face or mouth lies inside them, so there is little to say."
    word = "closer to" if pair["mean"] > 0 else "further from"
    text = (
        f"On {frames} frames never trained on, the face is {formatted(abs(pair['mean']), 2)} dB {word} the truth than "
        "the training frame of the nearest pose."
    )
    text = f"{text} Speech that comes a second late costs the mouth {_plus_minus(drop)} dB"
    if clearly_above_zero(drop):
        return f"{text}: the mouth follows it."
    return f"{text}, less than two standard errors: no sign that the mouth follows the speech."


def _plus_minus(pair: Mapping[str, Any]) -> str:
    return f"{formatted(pair['mean'], 2)} ± {formatted(pair['standard_error'], 2)}"


def tiles(results: Mapping[str, Any]) -> list[dict[str, str]]:
    """The figures at the top of the page: {"label", "value", "unit", "note"}."""
    if results["protocol"] == "fewshot":
        return fewshot_summary.tiles(results)
    ours, paired = results["values"]["ours"][_METRIC], results["paired"]
    against = (("face", "nearest"), ("mouth", "mean"), ("frame", "mean"))
    labels = {row["name"]: row["label"].lower() for row in results["rows"]}
    found = []
    for region, row in against:
        pair = paired[row][_METRIC][region]
        note = f"{formatted(pair['mean'], 2, signed=True)} dB against the {labels[row]}"
        name = results["regions"][region]
        found.append({"label": name, "value": formatted(ours[region]["mean"], 2), "unit": "dB PSNR", "note": note})
    drop = paired["audio_shifted"][_METRIC]["mouth"]
    note = f"± {formatted(drop['standard_error'], 2)}; true speech is better in {drop['positive']} of {drop['frames']}"
    found.append(
        {
            "label": "Late speech costs the mouth",
            "value": formatted(drop["mean"], 2),
            "unit": "dB",
            "note": note + " frames",
        }
    )
    return found
