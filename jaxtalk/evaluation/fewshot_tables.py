"""Tables of a few-shot evaluation in the layout of the GDRF paper's Tables 1 and 2, with its rows beside ours."""

from __future__ import annotations

import functools
import importlib.resources
import json
from collections.abc import Mapping, Sequence
from typing import Any

from jaxtalk.evaluation.metric_tables import markdown_table
from jaxtalk.evaluation.results import formatted

NOT_COMPARABLE = "published, another protocol: not comparable"
_VARIANTS = {"adapted": "adapted", "before": "before adaptation", "scratch": "from scratch"}
_BASELINES = {"copy": "nearest frame (copy)", "mean": "mean frame"}
_METRICS = ("psnr/rgb", "ssim/gauss11")
_SHOWN = {"copy": "mouth", "mean": "mouth", "scratch": "face", "before": "face", "audio_shifted": "mouth"}


@functools.cache
def published() -> dict[str, Any]:
    """The numbers of `published/gdrf.json`."""
    return json.loads((importlib.resources.files("jaxtalk.evaluation") / "published" / "gdrf.json").read_text())


def paper_tables(results: Mapping[str, Any]) -> list[dict[str, Any]]:
    """PSNR / SSIM per cell: a table for each number of steps with lengths as columns where there are several lengths,
    else one with numbers of steps as columns; each for every region. The published rows stand below the whole frame's,
    in the table of the most steps.

    Gives {"title", "caption", "columns", "rows": [{"label", "kind", "cells": [text]}]}; `kind` is adapted, other,
    baseline or published.
    """
    rows = results["rows"]
    lengths = sorted({row["seconds"] for row in rows if row["seconds"] is not None})
    steps = sorted({row["steps"] for row in rows if row["steps"]})
    if len(lengths) == 1:
        wanted = [("steps", {"seconds": lengths[0]}, steps or [0])]
    else:
        wanted = [("seconds", {"steps": number}, lengths) for number in steps or [0]]
    return [
        _table(results, axis, fixed, columns, region, region == "frame" and fixed == wanted[-1][1])
        for axis, fixed, columns in wanted
        for region in results["regions"]
    ]


def _table(
    results: Mapping[str, Any], axis: str, fixed: dict[str, Any], ours: Sequence[Any], region: str, theirs: bool
) -> dict[str, Any]:
    paper = published()[f"by_{axis}"]
    columns = sorted({*ours, *_published_columns(paper, axis)}) if theirs else list(ours)
    rows: list[dict[str, Any]] = []
    for variant, label in (_VARIANTS | _BASELINES).items():
        cells = [_cell(results, variant, {**fixed, axis: column}, region) for column in columns]
        if any(cells):
            name = label if variant in _BASELINES else f"{results['run']['method']}, {label}"
            kind = "baseline" if variant in _BASELINES else "adapted" if variant == "adapted" else "other"
            rows.append({"label": name, "kind": kind, "cells": [cell or "–" for cell in cells]})
    if theirs:
        rows += [_published_row(row, axis, columns) for row in paper["rows"]]
    source = (
        f"Published rows: {paper['source']}, {_place(paper['fixed'])}, 512 pixels; another protocol, not comparable."
    )
    return {
        "title": f"{_place(fixed)}, {results['regions'][region].lower()}: PSNR in dB / SSIM",
        "caption": source if theirs else "",
        "columns": [_place({axis: column}) + _part(results, {**fixed, axis: column}) for column in columns],
        "rows": rows,
    }


def _part(results: Mapping[str, Any], where: Mapping[str, Any]) -> str:
    """How many clips stand behind a column where it is not all of them."""
    tested = [clip for clip in results["clips"].values() if clip["frames"]]
    having = [
        len(results["values"][row["name"]]["psnr/rgb"]["frame"]["clips"])
        for row in results["rows"]
        if row["variant"] == "copy" and row["seconds"] == where["seconds"]
    ]
    return f" ({having[0]} of {len(tested)} clips)" if having and having[0] < len(tested) else ""


def _place(where: Mapping[str, Any]) -> str:
    return f"{where['steps']:,} steps" if "steps" in where else f"{where['seconds']:g} s"


def _cell(results: Mapping[str, Any], variant: str, where: Mapping[str, Any], region: str) -> str:
    """PSNR / SSIM of our row of that variant, length and number of steps; empty where there is none."""
    for row in results["rows"]:
        if (
            row["variant"] == variant
            and row["seconds"] == where["seconds"]
            and row["steps"] in (None, 0, where["steps"])
        ):
            values = (results["values"][row["name"]][metric][region]["mean"] for metric in _METRICS)
            return " / ".join(formatted(value, digits) for value, digits in zip(values, (2, 3), strict=True))
    return ""


def _published_columns(table: Mapping[str, Any], axis: str) -> set[Any]:
    return {cell[axis] for row in table["rows"] for cell in row["cells"]}


def _published_row(row: Mapping[str, Any], axis: str, columns: Sequence[Any]) -> dict[str, Any]:
    found = {cell[axis]: f"{formatted(cell['psnr'], 2)} / {formatted(cell['ssim'], 3)}" for cell in row["cells"]}
    cells = [found.get(column, "–") for column in columns]
    return {"label": row["method"], "kind": "published", "cells": cells}


def by_identity(results: Mapping[str, Any]) -> dict[str, Any]:
    """What holds for each person: the page's avatar minus what it must beat, PSNR over the region that tells most.

    Gives {"columns": [text], "rows": [{"label", "cells": [pair or None]}]}; a pair is that of `results["paired"]`.
    """
    subject = results["subject_row"]
    variants = [name for name in _SHOWN if f"{subject}/{name}" in results["paired"]]
    pairs = {name: results["paired"][f"{subject}/{name}"]["psnr/rgb"][_SHOWN[name]] for name in variants}
    names = {**_VARIANTS, **_BASELINES, "audio_shifted": "speech 1 s late"}
    people = results["values"][subject]["psnr/rgb"]["frame"]["identities"]
    rows = [
        {"label": person, "cells": [pairs[name]["identities"].get(person) for name in variants]} for person in people
    ]
    return {"columns": [f"minus {names[name]}, {_SHOWN[name]}" for name in variants], "rows": rows}


def difference(pair: Mapping[str, Any] | None, digits: int = 2) -> str:
    """A paired difference with its standard error; a dash where there is none."""
    if pair is None:
        return "–"
    error = "" if pair["standard_error"] is None else f" ± {formatted(pair['standard_error'], digits)}"
    return f"{formatted(pair['mean'], digits, signed=True)}{error}"


def markdown(results: Mapping[str, Any]) -> str:
    """All of it as Markdown: the tables, every paired difference in PSNR, and the page's avatar person by person."""
    lines: list[str] = []
    for table in paper_tables(results):
        marks = {"published": f" ({NOT_COMPARABLE})"}
        body = [[row["label"] + marks.get(row["kind"], ""), *row["cells"]] for row in table["rows"]]
        lines += [f"**{table['title']}**", "", markdown_table(["", *table["columns"]], body), ""]
        lines += [table["caption"], ""] if table["caption"] else []
    labels = {row["name"]: row["label"] for row in results["rows"]}
    regions = results["regions"]
    body = [
        [f"{labels[pair['first']]} minus {labels[pair['second']].lower()}",
         *(difference(results["paired"][pair["name"]]["psnr/rgb"][region]) for region in regions)]
        for pair in results["comparisons"]
    ]  # fmt: skip
    lines += ["**Frame by frame: PSNR in dB ± standard error**", "", markdown_table(["", *regions.values()], body), ""]
    people = by_identity(results)
    body = [[row["label"], *map(difference, row["cells"])] for row in people["rows"]]
    lines += [f"**Each person: {labels[results['subject_row']].lower()}**", ""]
    lines += [markdown_table(["", *people["columns"]], body), ""]
    if results["settings"]["pose"] == "predicted":
        lines.append("Frames are rendered at the pose predicted from speech: PSNR and SSIM measure the pose, too.")
    return "\n".join(lines).rstrip() + "\n"
