"""Every measured metric of every row, in one table per kind of metric: for the page and for Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from jaxtalk.evaluation.results import formatted
from jaxtalk.evaluation.statistics import clear_sign

_BETTER = {True: "↑", False: "↓", None: "≈ truth"}


def metric_tables(results: Mapping[str, Any]) -> list[dict[str, Any]]:
    """One table for each group of metrics, in the order of the register; rows without any value in it are left out.

    {"title", "columns": [{"label", "region", "better"}], "rows": [{"label", "kind", "cells": [{"text", "interval"}]}]}.
    """
    groups = list(dict.fromkeys(metric["group"] for metric in results["metrics"].values()))
    return [table for group in groups if (table := _table(results, group))["columns"]]


def _table(results: Mapping[str, Any], group: str) -> dict[str, Any]:
    metrics = [metric for metric in results["metrics"].values() if metric["group"] == group]
    places = [(metric, region) for metric in metrics for region in _regions(results, metric["id"])]
    rows = []
    for row in results["rows"]:
        cells = [_cell(results, row, metric, region) for metric, region in places]
        if any(cell["value"] is not None for cell in cells):
            rows.append({"label": row["label"], "kind": row["kind"], "cells": cells})
    columns = [column(metric, results["regions"][region]) for metric, region in places]
    return {"title": group, "columns": columns, "rows": rows}


def column(metric: Mapping[str, Any], region: str) -> dict[str, str]:
    """The head of a metric's column: {"metric", "label" with its unit, "region", "better": an arrow}."""
    return {
        "metric": metric["id"],
        "label": _with_unit(metric),
        "region": region,
        "better": _BETTER[metric["higher_is_better"]],
    }


def column_text(head: Mapping[str, str]) -> str:
    """The same on one line, for Markdown."""
    return f"{head['label']} {head['region'].lower()} {head['better']}"


def _with_unit(metric: Mapping[str, Any]) -> str:
    return f"{metric['label']}, {metric['unit']}" if metric["unit"] else metric["label"]


def _regions(results: Mapping[str, Any], metric: str) -> list[str]:
    """The regions in which some row beside the truth's own has a value of a metric."""
    rows = [row["name"] for row in results["rows"] if row["kind"] != "truth"]
    return [name for name in results["regions"] if any(name in results["values"][row].get(metric, {}) for row in rows)]


def _cell(results: Mapping[str, Any], row: Mapping[str, Any], metric: Mapping[str, Any], region: str) -> dict[str, Any]:
    value = results["values"][row["name"]].get(metric["id"], {}).get(region)
    mean, digits = value and value["mean"], metric["digits"]
    interval = ""
    if row["kind"] == "method" and value and value["interval"]:
        interval = "–".join(formatted(end, max(digits - 1, 0)) for end in value["interval"])
    of = f" (n = {value['frames']})" if value and "frames" in value else ""  # it depends on how many there are
    return {"text": formatted(mean, digits) + of, "interval": interval, "value": mean}


def differences(results: Mapping[str, Any]) -> dict[str, Any]:
    """The page's row minus each row that it is compared with: {"columns", "rows": [{"label", "cells"}]}.

    A cell holds "pair" (of `results["paired"]`, or None), "digits", and whether ours is clearly better. Of the metrics
    of whole pictures the first stands for all.
    """
    metrics = list(results["metrics"].values())
    shown = [metric for metric in metrics if metric["group"] != metrics[0]["group"] or metric is metrics[0]]
    places = [(metric, region) for metric in shown for region in results["regions"]]
    pairs = [pair for pair in results["comparisons"] if pair["first"] == results["subject_row"]]
    places = [(m, r) for m, r in places if any(r in results["paired"][p["name"]].get(m["id"], {}) for p in pairs)]
    labels = {row["name"]: row["label"] for row in results["rows"]}
    return {
        "columns": [column_text(column(metric, results["regions"][region])) for metric, region in places],
        "rows": [
            {
                "label": labels[pair["second"]],
                "cells": [_difference(results["paired"][pair["name"]], metric, region) for metric, region in places],
            }
            for pair in pairs
        ],
    }


def _difference(paired: Mapping[str, Any], metric: Mapping[str, Any], region: str) -> dict[str, Any]:
    pair = paired.get(metric["id"], {}).get(region)
    return {"pair": pair, "digits": metric["digits"], "better": clear_sign(pair, metric["higher_is_better"]) == 1}


def by_clip(results: Mapping[str, Any]) -> dict[str, Any]:
    """The page's row clip by clip: {"columns", "rows": [{"name", "identity", "frames", "cells": [text]}]}."""
    values = results["values"][results["subject_row"]]
    shown = list(results["metrics"])[:1] + [
        m for m, facts in results["metrics"].items() if facts["group"] != "Pictures"
    ]
    places = [
        (metric, region) for metric in shown for region in values.get(metric, {}) if values[metric][region]["clips"]
    ]
    columns = [
        f"{results['metrics'][metric]['label']} {results['regions'][region].lower()}" for metric, region in places
    ]
    rows = [
        {
            "name": name,
            "identity": clip["identity"],
            "frames": len(clip["frames"]),
            "cells": [
                formatted(values[metric][region]["clips"].get(name), results["metrics"][metric]["digits"])
                for metric, region in places
            ],
        }
        for name, clip in results["clips"].items()
    ]
    return {"columns": columns, "rows": rows}


def markdown(results: Mapping[str, Any]) -> str:
    """The tables as Markdown, and below them what is missing and why."""
    parts = []
    for table in metric_tables(results):
        header = ["", *map(column_text, table["columns"])]
        body = [[row["label"], *(cell["text"] for cell in row["cells"])] for row in table["rows"]]
        parts.append(f"**{table['title']}**\n\n{markdown_table(header, body)}")
    return "\n\n".join([*parts, *warnings(results), *missing(results)]) + "\n"


def markdown_table(header: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    rows = ["| " + " | ".join(cells) + " |" for cells in (header, *body)]
    return "\n".join([rows[0], "|" + "---|" * len(header), *rows[1:]])


def warnings(results: Mapping[str, Any]) -> list[str]:
    """What a reader must know before any number, a line each: people who are no strangers, clips left out."""
    lines = [f"Clip {clip} could not be tested: {reason}" for clip, reason in results["failures"].items()]
    if results["split"]["seen"]:
        known = ", ".join(f"{clip} (of {learnt})" for clip, learnt in results["split"]["seen"].items())
        lines.insert(0, f"NOT STRANGERS: the run was trained on people of these clips: {known}.")
    return lines


def missing(results: Mapping[str, Any]) -> list[str]:
    """What has no number and why, a line each: rows, metrics, faces that were not found."""
    labels = {row["name"]: row["label"] for row in results["rows"]}
    lines = [f"No row “{labels.get(row, row)}”: {reason}." for row, reason in results["absent"].items()]
    for reason in dict.fromkeys(results["unmeasured"].values()):
        metrics = [name for name, why in results["unmeasured"].items() if why == reason]
        lines.append(f"Not measured: {', '.join(metrics)}: {reason}.")
    for name, clip in results["clips"].items():
        for row, count in clip["missing_faces"].items():
            if count and row in labels:
                share = f"{count} of {len(clip['frames'])} frames"
                lines.append(
                    f"Clip {name}, “{labels[row]}”: no face was found in {share}, which count in no landmark metric."
                )
    return lines
