"""What the numbers of an evaluation say, in a few words and four figures."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jaxtalk.evaluation import fewshot_summary
from jaxtalk.evaluation.results import formatted
from jaxtalk.evaluation.statistics import clearly_above_zero

_METRIC = "psnr/rgb"


def headline(results: Mapping[str, Any]) -> str:
    """One or two sentences: what ours has over the others in what this protocol compares it with."""
    if results["protocol"] == "fewshot":
        return fewshot_summary.headline(results)
    text = f"On {_tested(results)}"
    copy, drop = (_pair(results, row, region) for row, region in (("nearest", "face"), ("audio_shifted", "mouth")))
    if copy is None and drop is None:
        return _without_truth(results, text)
    if copy is not None:
        word = "closer to" if copy["mean"] > 0 else "further from"
        text += (
            f", the face is {formatted(abs(copy['mean']), 2)} dB {word} the truth than the frame of the nearest pose "
            "that the avatar was made of."
        )
    if drop is not None:
        text += f" Speech that comes a second late costs the mouth {_plus_minus(drop)} dB"
        heard = ": the mouth follows it." if clearly_above_zero(drop) else (
            ", less than two standard errors: no sign that the mouth follows the speech."
        )  # fmt: skip
        text += heard
    return text


def _tested(results: Mapping[str, Any]) -> str:
    frames = sum(len(clip["frames"]) for clip in results["clips"].values())
    people = len({clip["identity"] for clip in results["clips"].values()})
    return f"{frames} frames of {people} {'person' if people == 1 else 'people'}"


def _without_truth(results: Mapping[str, Any], text: str) -> str:
    """Of a protocol without a truth: the first metric that ours and a control have."""
    for comparison in results["comparisons"]:
        for metric, regions in results["paired"][comparison["name"]].items():
            pair, facts = next(iter(regions.values())), results["metrics"][metric]
            if pair["mean"] is None:
                continue
            labels = {row["name"]: row["label"] for row in results["rows"]}
            change = formatted(pair["mean"], facts["digits"], signed=True)
            unit = f" {facts['unit']}" if facts["unit"] else ""
            return f"{text}, {facts['label']} is {change}{unit} against “{labels[comparison['second']].lower()}”."
    return f"{text}; no face or mouth lies inside them, or no metric was measured, so there is little to say."


def _pair(results: Mapping[str, Any], row: str, region: str) -> Mapping[str, Any] | None:
    """Ours minus a row in PSNR; None where they were not compared, or have no value."""
    pair = results["paired"].get(row, {}).get(_METRIC, {}).get(region)
    return pair if pair is not None and pair["mean"] is not None else None


def _plus_minus(pair: Mapping[str, Any]) -> str:
    return f"{formatted(pair['mean'], 2)} ± {formatted(pair['standard_error'], 2)}"


def tiles(results: Mapping[str, Any]) -> list[dict[str, str]]:
    """The figures at the top of the page: {"label", "value", "unit", "note"}."""
    if results["protocol"] == "fewshot":
        return fewshot_summary.tiles(results)
    labels = {row["name"]: row["label"].lower() for row in results["rows"]}
    found = []
    for region, row in (("face", "nearest"), ("mouth", "mean"), ("frame", "mean")):
        pair = _pair(results, row, region)
        if pair is not None:
            value = formatted(results["values"]["ours"][_METRIC][region]["mean"], 2)
            note = f"{formatted(pair['mean'], 2, signed=True)} dB against the {labels[row]}"
            found.append({"label": results["regions"][region], "value": value, "unit": "dB PSNR", "note": note})
    drop = _pair(results, "audio_shifted", "mouth")
    if drop is not None:
        note = (
            f"± {formatted(drop['standard_error'], 2)}; true speech is better in {drop['positive']} of {drop['frames']}"
        )
        value = formatted(drop["mean"], 2)
        found.append({"label": "Late speech costs the mouth", "value": value, "unit": "dB", "note": note + " frames"})
    return found or _plain_tiles(results)


def _plain_tiles(results: Mapping[str, Any]) -> list[dict[str, str]]:
    """Of a protocol without a truth: ours in the first metrics that it has, beside the ground truth's."""
    found = []
    for metric, regions in results["values"][results["subject_row"]].items():
        region, facts = next(iter(regions)), results["metrics"][metric]
        theirs = results["values"].get("truth", {}).get(metric, {}).get(region, {}).get("mean")
        note = f"ground truth {formatted(theirs, facts['digits'])}"
        value = formatted(regions[region]["mean"], facts["digits"])
        found.append({"label": facts["label"], "value": value, "unit": facts["unit"], "note": note})
    return found[:4]
