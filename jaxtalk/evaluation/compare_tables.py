"""The tables of several runs: a line each, the best value of each column marked, differences to the first run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jaxtalk.errors import JaxtalkError
from jaxtalk.evaluation import statistics
from jaxtalk.evaluation.compare import Entry, differing_settings, remarks, same_clips, short_names
from jaxtalk.evaluation.metric_tables import column
from jaxtalk.evaluation.results import formatted

_IN_LABEL = 3  # differing settings that fit beside a run's name


def comparison(entries: Sequence[Entry], metrics: Sequence[str] = ()) -> dict[str, Any]:
    """Everything that the page, the Markdown and the CSV say, as plain values.

    Args:
        entries: the runs; the first is the one that the others are compared with.
        metrics: ids; empty for all that some run has.

    Returns:
        "protocol", "title"; "runs": list of "name", "label", "settings" {key: text}, "remarks", and facts; "settings":
        {differing key: its short name}; "tables": list of "title", "columns" and "rows", whose "cells" hold "text",
        "value", "interval", "best", "pair" (the run minus the first, or None) and "sign" (1 clearly better, -1 clearly
        worse, 0 neither); "controls": a table of what wrong inputs cost; "missing": lines.

    Raises:
        JaxtalkError: a metric that no run has.
    """
    first, chosen = entries[0], _metrics(entries, metrics)
    settings = differing_settings(entries)
    short = short_names(list(settings))
    runs = []
    for i, entry in enumerate(entries):
        own = {key: texts[i] for key, texts in settings.items()}
        facts = entry.results["run"]
        beside = {short[key]: text for key, text in own.items()} if len(own) <= _IN_LABEL else {}
        runs.append(
            {
                "name": entry.name,
                "label": ", ".join(f"{key} {text}" for key, text in beside.items()),
                "settings": own,
                "remarks": remarks(first, entry) if i else [],
                "known": bool(entry.config),
                **{name: facts[name] for name in ("method", "size", "step", "seed", "state_sha256")},
                "frames": sum(len(clip["frames"]) for clip in entry.results["clips"].values()),
                "people": len({clip["identity"] for clip in entry.results["clips"].values()}),
            }
        )
    groups = dict.fromkeys(facts["group"] for facts in chosen.values())
    return {
        "protocol": first.results["protocol"],
        "title": first.results["title"],
        "description": first.results["description"],
        "runs": runs,
        "settings": short,
        "tables": [
            _table(entries, runs, {name: m for name, m in chosen.items() if m["group"] == group}, group)
            for group in groups
        ],
        "controls": _controls(entries, chosen),
        "definitions": {name: facts["definition"] for name, facts in chosen.items()},
        "missing": _unknown_settings(runs) + _unmeasured(entries, metrics),
    }


def _metrics(entries: Sequence[Entry], wanted: Sequence[str]) -> dict[str, Mapping[str, Any]]:
    known = {name: facts for entry in reversed(entries) for name, facts in entry.results["metrics"].items()}
    order = dict.fromkeys(name for entry in entries for name in entry.results["metrics"])
    unknown = [name for name in wanted if name not in known]
    if unknown:
        raise JaxtalkError(f"--metrics: no run was measured by {unknown[0]!r}; there are {', '.join(order)}")
    return {name: known[name] for name in order if not wanted or name in wanted}


def _table(
    entries: Sequence[Entry], runs: Sequence[Mapping[str, Any]], metrics: Mapping[str, Any], title: str
) -> dict[str, Any]:
    regions = entries[0].results["regions"]
    places = [
        (m, region) for m in metrics for region in regions if any(_value(e, e.subject, m, region) for e in entries)
    ]
    columns = [column(metrics[metric], regions[region]) for metric, region in places]
    cells = [[_cell(entries[0], entry, metrics[metric], region) for metric, region in places] for entry in entries]
    for place, (metric, region) in enumerate(places):
        truth = _value(entries[0], "truth", metric, region)
        best = truth["mean"] if truth else None
        fair = [line[place] for line, run in zip(cells, runs, strict=True) if not run["remarks"]]
        _mark_best(fair, metrics[metric], best)
    rows = [{"kind": "run", "run": run, "cells": line} for run, line in zip(runs, cells, strict=True)]
    for row in _shared_rows(entries[0]):
        line = [_plain_cell(_value(entries[0], row["name"], m, region), metrics[m]) for m, region in places]
        if any(cell["value"] is not None for cell in line):
            rows.append({"kind": row["kind"], "run": {"name": row["label"]}, "cells": line})
    return {"title": title, "columns": columns, "rows": rows}


def _shared_rows(first: Entry) -> list[Mapping[str, Any]]:
    """The baselines that go with the first run's row, and the ground truth."""
    rows = first.results["rows"]
    seconds = next(row["seconds"] for row in rows if row["name"] == first.subject)
    kept = [row for row in rows if row["kind"] == "baseline" and row["seconds"] in (None, seconds)]
    return kept + [row for row in rows if row["kind"] == "truth"]


def _value(entry: Entry, row: str, metric: str, region: str) -> Mapping[str, Any] | None:
    return entry.results["values"].get(row, {}).get(metric, {}).get(region)


def _plain_cell(value: Mapping[str, Any] | None, metric: Mapping[str, Any]) -> dict[str, Any]:
    mean = value["mean"] if value else None
    return {
        "value": mean,
        "text": formatted(mean, metric["digits"]),
        "interval": value["interval"] if value else None,
        "best": False,
        "pair": None,
        "digits": metric["digits"],
        "sign": 0,
    }


def _cell(first: Entry, entry: Entry, metric: Mapping[str, Any], region: str) -> dict[str, Any]:
    cell = _plain_cell(_value(entry, entry.subject, metric["id"], region), metric)
    if entry is not first:
        cell["pair"] = paired_runs(first, entry, metric["id"], region)
        cell["sign"] = statistics.clear_sign(cell["pair"], metric["higher_is_better"])
    return cell


def paired_runs(first: Entry, other: Entry, metric: str, region: str) -> dict[str, Any] | None:
    """The other run minus the first, over the frames that both were tested on; None where there is no such frame.

    "mean", "standard_error" (None for metrics of whole clips), "frames", "positive", as `statistics.paired_over_clips`
    has them, and "clips", the number of clips.
    """
    pairs, identities = {}, {}
    for name in same_clips(first, other):
        values = [
            entry.results["clips"][name]["per_frame"].get(entry.subject, {}).get(metric, {}).get(region)
            for entry in (other, first)
        ]
        if values[0] is None or values[1] is None:
            continue
        pair = statistics.paired(*(np.array(value, np.float64) for value in values))
        if pair.frames:
            pairs[name], identities[name] = pair, first.results["clips"][name]["identity"]
    if not pairs:
        return None
    mean = statistics.paired_over_clips(pairs, identities)
    error = mean["standard_error"]
    return {
        "mean": mean["mean"],
        "standard_error": error if np.isfinite(error) else None,
        "frames": mean["frames"],
        "positive": mean["positive"],
        "clips": len(pairs),
    }


def _mark_best(cells: Sequence[dict[str, Any]], metric: Mapping[str, Any], truth: float | None) -> None:
    """Marks the best of a column, and those that look equal to it; nothing where there is nothing to choose from."""
    having = [cell for cell in cells if cell["value"] is not None]
    higher = metric["higher_is_better"]
    if len(having) < 2 or (higher is None and truth is None):
        return
    if higher is None:
        best = min(having, key=lambda cell: abs(cell["value"] - truth))
    else:
        best = (max if higher else min)(having, key=lambda cell: cell["value"])
    equal = [cell for cell in having if cell["text"] == best["text"]]
    if len(equal) < len(having):
        for cell in equal:
            cell["best"] = True


def _controls(entries: Sequence[Entry], metrics: Mapping[str, Any]) -> dict[str, Any] | None:
    """What wrong inputs cost each run: its row minus its controls."""
    lines = [_costs(entry, metrics) for entry in entries]
    columns = list(dict.fromkeys(column for line in lines for column in line))
    if not columns:
        return None
    rows = [
        {"run": entry.name, "cells": [line.get(column, (None, 0)) for column in columns]}
        for entry, line in zip(entries, lines, strict=True)
    ]
    return {"columns": columns, "rows": rows}


def _costs(entry: Entry, metrics: Mapping[str, Any]) -> dict[str, tuple[Mapping[str, Any], int]]:
    """Column -> (pair, digits) of one run: PSNR of the mouth, or without a truth all metrics of frames."""
    rows = {row["name"]: row for row in entry.results["rows"]}
    line = {}
    for compared in entry.results["comparisons"]:
        row, pairs = rows[compared["second"]], entry.results["paired"][compared["name"]]
        if compared["first"] != entry.subject or row["kind"] != "control":
            continue
        told = pairs.get("psnr/rgb", {})
        wanted = {"psnr/rgb": "mouth"} if "mouth" in told else dict.fromkeys(pairs, "frame")
        for metric, region in wanted.items():
            if metric in metrics and region in pairs[metric]:
                facts = metrics[metric]
                unit = f", {facts['unit']}" if facts["unit"] else ""
                where = entry.results["regions"][region].lower()
                control = row["label"].split(",")[0].lower()
                line[f"minus “{control}”: {facts['label']} {where}{unit}"] = (pairs[metric][region], facts["digits"])
    return line


def _unknown_settings(runs: Sequence[Mapping[str, Any]]) -> list[str]:
    names = ", ".join(run["name"] for run in runs if not run["known"])
    return [f"Settings of {names} are not known: no config.json, or not the one of the evaluation."] if names else []


def _unmeasured(entries: Sequence[Entry], wanted: Sequence[str]) -> list[str]:
    """Which metrics have no number, of which runs, and why; what holds for all is said once."""
    reasons: dict[str, dict[str, list[str]]] = {}
    for entry in entries:
        for metric, why in entry.results["unmeasured"].items():
            if not wanted or metric in wanted:
                reasons.setdefault(why, {}).setdefault(metric, []).append(entry.name)
    lines = []
    for why, metrics in reasons.items():
        runs = list(dict.fromkeys(name for names in metrics.values() for name in names))
        of = "" if len(runs) == len(entries) else f" of {', '.join(runs)}"
        lines.append(f"Not measured{of}: {', '.join(metrics)}: {why}.")
    return lines
