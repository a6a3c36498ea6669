"""What `jaxtalk compare` writes: a page for people, Markdown for notes, CSV for plots."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jaxtalk import __version__
from jaxtalk.evaluation.charts import dot_chart
from jaxtalk.evaluation.compare import Entry, read_entries, same_clips
from jaxtalk.evaluation.compare_tables import comparison
from jaxtalk.evaluation.metric_tables import column_text, markdown_table
from jaxtalk.evaluation.report import embedded, page_environment
from jaxtalk.evaluation.results import formatted, write_text

_CLIPS, _FRAMES = 3, 3  # shown side by side
_CHARTED = 4  # runs in a chart


def compare_runs(
    paths: Sequence[str | Path], out: str | Path, protocol: str = "", metrics: Sequence[str] = ()
) -> dict[str, Any]:
    """Compares runs evaluated by one protocol and writes compare.html, compare.csv and compare.md into a folder.

    Args:
        paths, protocol: see `compare.read_entries`.
        out: the folder; what an earlier comparison left there is replaced.
        metrics: ids of metrics; empty for all.

    Returns:
        What `compare_tables.comparison` gives.

    Raises:
        JaxtalkError: nothing to compare, no common protocol, or a metric that no run has.
    """
    entries = read_entries(paths, protocol)
    found = comparison(entries, metrics)
    out = Path(out)
    write_text(out / "compare.csv", values_csv(found))
    write_text(out / "compare.md", markdown(found))
    write_text(out / "compare.html", page(entries, found))
    return found


def page(entries: Sequence[Entry], found: Mapping[str, Any]) -> str:
    """The comparison as one HTML file that needs nothing else."""
    return (
        page_environment(difference)
        .get_template("compare.html")
        .render(found=found, clips=_pictures(entries), chart=_people(entries), version=__version__)
    )


def _pictures(entries: Sequence[Entry]) -> list[dict[str, Any]]:
    """Frames that all runs show, of clips that all of them were tested on: the truth, then a picture of each run."""
    clips = []
    for name in entries[0].results["clips"]:
        if not all(name in same_clips(entries[0], entry) for entry in entries):
            continue
        shown = [
            {picture["frame"]: picture for picture in entry.results["clips"][name]["pictures"] if not picture["note"]}
            for entry in entries
        ]
        common = [frame for frame in shown[0] if all(frame in pictures for pictures in shown)]
        few = sorted({common[round(i * (len(common) - 1) / (_FRAMES - 1))] for i in range(_FRAMES)} if common else ())
        frames = [_panels(entries, name, [pictures[frame] for pictures in shown]) for frame in few]
        clips.append({"name": name, "frames": frames})
    return clips[:_CLIPS]


def _panels(entries: Sequence[Entry], clip: str, pictures: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """One moment: {"time", "panels": [{"label", "data", "value": PSNR of the mouth or None}]}."""
    truth = embedded(entries[0].folder / pictures[0]["files"]["truth"])
    panels: list[dict[str, Any]] = [{"label": "Ground truth", "data": truth, "value": None}]
    for entry, picture in zip(entries, pictures, strict=True):
        facts = entry.results["clips"][clip]
        panel = next((name for name, row in facts["panels"].items() if row == entry.subject), entry.subject)
        mouth = facts["per_frame"][entry.subject].get("psnr/rgb", {}).get("mouth")
        data = embedded(entry.folder / picture["files"][panel])
        panels.append({"label": entry.name, "data": data, "value": mouth[picture["position"]] if mouth else None})
    return {"time": pictures[0]["time"], "panels": panels}


def _people(entries: Sequence[Entry]) -> dict[str, str]:
    """PSNR of each person's mouth by run; nothing of a single person, or where there is no truth."""
    cells = {
        entry.name: entry.results["values"][entry.subject].get("psnr/rgb", {}).get("mouth")
        for entry in entries[:_CHARTED]
    }
    values = {name: cell["identities"] for name, cell in cells.items() if cell}
    people = list(dict.fromkeys(person for found in values.values() for person in found))
    if len(people) < 2:
        return {}
    series = {name: [found.get(person) for person in people] for name, found in values.items()}
    return dot_chart(people, series, "PSNR of the mouth, dB")


def difference(pair: Mapping[str, Any] | None, digits: int) -> str:
    """“+0.42 ± 0.10”; empty where there is none."""
    if pair is None or pair["mean"] is None:
        return ""
    error = pair["standard_error"]
    return formatted(pair["mean"], digits, signed=True) + ("" if error is None else f" ± {formatted(error, digits)}")


def markdown(found: Mapping[str, Any]) -> str:
    """The tables as Markdown: best values in bold, in brackets the paired difference to the first run."""
    runs = found["runs"]
    parts = [f"**{found['title']}: {' · '.join(run['name'] for run in runs)}**"]
    if found["settings"]:
        body = [[key, *(run["settings"][key] for run in runs)] for key in found["settings"]]
        parts.append(markdown_table(["differs in", *(run["name"] for run in runs)], body))
    for table in found["tables"]:
        header = [table["title"], *map(column_text, table["columns"])]
        body = [[_marked(row["run"]), *map(_markdown_cell, row["cells"])] for row in table["rows"]]
        parts.append(markdown_table(header, body))
    if found["controls"]:
        body = [[row["run"], *(difference(*cell) or "–" for cell in row["cells"])] for row in found["controls"]["rows"]]
        parts.append(markdown_table(["frame by frame, each run", *found["controls"]["columns"]], body))
    return "\n\n".join([*parts, *notes(found)]) + "\n"


def _marked(run: Mapping[str, Any]) -> str:
    return f"{run['name']} (≠)" if run.get("remarks") else run["name"]


def _markdown_cell(cell: Mapping[str, Any]) -> str:
    told = difference(cell["pair"], cell["digits"])
    return (f"**{cell['text']}**" if cell["best"] else cell["text"]) + (f" ({told})" if told else "")


def notes(found: Mapping[str, Any]) -> list[str]:
    """What must be known to read the tables: which runs do not compare and why, what is missing."""
    lines = [
        f"NOT COMPARABLE with {found['runs'][0]['name']} (≠): {run['name']}: {'; '.join(run['remarks'])}."
        for run in found["runs"]
        if run["remarks"]
    ]
    return lines + found["missing"]


def values_csv(found: Mapping[str, Any]) -> str:
    """One line per row, metric and region, with the settings in which the runs differ."""
    buffer = io.StringIO()
    table = csv.writer(buffer, lineterminator="\n")
    paired = ("mean", "standard_error", "frames", "clips")
    keys = list(found["settings"])
    header = ["name", "kind", "comparable", "metric", "region", "mean", "low", "high", "best"]
    table.writerow([*header, "minus_first", "standard_error", "frames", "clips", *keys])
    for part in found["tables"]:
        for row in part["rows"]:
            run = row["run"]
            comparable = "" if row["kind"] != "run" else "no" if run["remarks"] else "yes"
            for column, cell in zip(part["columns"], row["cells"], strict=True):
                low, high = cell["interval"] or ("", "")
                pair = cell["pair"] or {}
                line = [run["name"], row["kind"], comparable, column["metric"], column["region"].lower()]
                line += [cell["value"], low, high, "yes" if cell["best"] else ""]
                line += [pair.get(name) for name in paired] + [run.get("settings", {}).get(key, "") for key in keys]
                table.writerow(["" if item is None else item for item in line])
    return buffer.getvalue()
