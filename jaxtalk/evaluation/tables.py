"""The tables that stand beside results.json, for people and for spreadsheets."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jaxtalk.evaluation import fewshot_tables, metric_tables
from jaxtalk.evaluation.results import write_text


def write_results(path: Path, results: Mapping[str, Any]) -> None:
    """Writes results.json, and the tables beside it: table.csv (every value), paired.csv (every paired difference) and
    table.md (what is printed)."""
    write_text(path.with_name("table.csv"), values_csv(results))
    write_text(path.with_name("paired.csv"), paired_csv(results))
    write_text(path.with_name("table.md"), markdown(results))
    write_text(path, json.dumps(results, indent=1, allow_nan=False) + "\n")


def markdown(results: Mapping[str, Any]) -> str:
    """What an evaluation found, as Markdown tables in the layout of its protocol."""
    if results["protocol"] == "fewshot":
        return f"{fewshot_tables.markdown(results)}\n{metric_tables.markdown(results)}"
    return f"{metric_tables.markdown(results)}\n{_compared(results)}\n"


def values_csv(results: Mapping[str, Any]) -> str:
    """One line per row, metric, region and clip, and one with an empty clip for the mean over all."""
    buffer = io.StringIO()
    table = csv.writer(buffer, lineterminator="\n")
    table.writerow(["row", "metric", "region", "clip", "identity", "value"])
    for row, metrics in results["values"].items():
        for metric, regions in metrics.items():
            for region, value in regions.items():
                cells = [row, metric, region]
                table.writerow([*cells, "", "", value["mean"]])
                for clip, mean in value["clips"].items():
                    table.writerow([*cells, clip, results["clips"][clip]["identity"], mean])
    return buffer.getvalue()


def paired_csv(results: Mapping[str, Any]) -> str:
    """One line per comparison, metric, region and clip, and one with an empty clip for the mean over all."""
    buffer = io.StringIO()
    table = csv.writer(buffer, lineterminator="\n")
    found = ("mean", "standard_error", "frames", "positive")
    table.writerow(["first", "second", "metric", "region", "clip", "identity", *found])
    for comparison in results["comparisons"]:
        for metric, regions in results["paired"][comparison["name"]].items():
            for region, pair in regions.items():
                cells = [comparison["first"], comparison["second"], metric, region]
                table.writerow([*cells, "", "", *(pair[name] for name in found)])
                for clip, part in pair["clips"].items():
                    identity = results["clips"][clip]["identity"]
                    table.writerow([*cells, clip, identity, *(part[name] for name in found)])
    return buffer.getvalue()


def _compared(results: Mapping[str, Any]) -> str:
    """The page's row minus each that it is compared with, as a Markdown table."""
    table = metric_tables.differences(results)
    if not table["columns"]:
        return ""
    subject = next(row["label"] for row in results["rows"] if row["name"] == results["subject_row"])
    body = [
        [row["label"], *(fewshot_tables.difference(cell["pair"], cell["digits"]) for cell in row["cells"])]
        for row in table["rows"]
    ]
    title = f"**{subject} minus, frame by frame ± standard error**"
    return f"{title}\n\n{metric_tables.markdown_table(['', *table['columns']], body)}"
