"""results.json: what an evaluation found, in one record that names every variant, and the tables made from it.

    schema, protocol, title, description, subject_row
    run         name, method, seed, size, step, config_sha256, state_sha256, versions
    settings    max_frames, video_seconds, test_seconds, guard_seconds
    metrics     id -> label, unit, higher_is_better, digits, definition;  regions: name -> label
    rows        list of name, label, kind, description
    values      row -> metric -> region -> mean, interval (95 %), identities {name: mean}, clips {name: mean}
    paired      row -> metric -> region -> mean, standard_error, frames, positive, clips: `ours` minus the row, frame
                by frame; for a control this is the drop that the wrong input costs
    clips       name -> identity, frames, times, facts, per_frame {row: {metric: {region: [F]}}}, and what to show:
                pictures, mouths, videos
    absent      row or metric -> why there is no number

A value is null where there is none: a box outside the picture, the error of a single frame. Nothing in the file
depends on when or where it was made: the same run gives the same bytes on the same machine.
"""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxtalk.errors import JaxtalkError
from jaxtalk.evaluation import statistics
from jaxtalk.evaluation.records import ClipResult, Protocol, Settings
from jaxtalk.metrics import METRICS

SCHEMA_VERSION = 1
_BLOCK_SECONDS = 1.0  # neighbouring frames within it are resampled together


def assemble(
    protocol: Protocol, clips: Sequence[ClipResult], run: Mapping[str, Any], settings: Settings
) -> dict[str, Any]:
    """The record of results.json, as plain JSON values."""
    identities = {clip.clip: clip.identity for clip in clips}
    rows = [row for row in protocol.rows if all(row.name in clip.values for clip in clips)]
    absent = {name: reason for clip in clips for name, reason in clip.absent.items()}
    return {
        "schema": SCHEMA_VERSION,
        "protocol": protocol.name,
        "title": protocol.title,
        "description": protocol.description,
        "run": dict(run),
        "settings": dataclasses.asdict(settings),
        "metrics": {name: _metric_facts(name) for name in METRICS},
        "regions": dict(protocol.regions),
        "rows": [dataclasses.asdict(row) for row in rows],
        "subject_row": protocol.subject_row,
        "values": {row.name: _grid(protocol, lambda m, r, n=row.name: _value(clips, identities, n, m, r))
                   for row in rows},
        "paired": {row.name: _grid(protocol, lambda m, r, n=row.name: _paired(protocol, clips, identities, n, m, r))
                   for row in rows if row.kind in ("baseline", "control")},
        "clips": {clip.clip: _clip_facts(clip) for clip in clips},
        "absent": absent,
    }  # fmt: skip


def _metric_facts(name: str) -> dict[str, Any]:
    facts = dataclasses.asdict(METRICS[name])
    del facts["function"]
    return facts


def _grid(protocol: Protocol, cell: Any) -> dict[str, dict[str, Any]]:
    return {metric: {region: _plain(cell(metric, region)) for region in protocol.regions} for metric in METRICS}


def _value(
    clips: Sequence[ClipResult], identities: Mapping[str, str], row: str, metric: str, region: str
) -> dict[str, Any]:
    frames = {clip.clip: clip.values[row][metric][region] for clip in clips}
    means = {name: statistics.frame_mean(values) for name, values in frames.items()}
    block = max(_block(clip.times) for clip in clips)
    interval = statistics.bootstrap_interval(frames, identities, block=block)
    return {**statistics.over_clips(means, identities), "interval": interval}


def _block(times: np.ndarray) -> int:
    if len(times) < 2:
        return 1
    return max(1, math.ceil(_BLOCK_SECONDS / float(np.median(np.diff(times)))))


def _paired(
    protocol: Protocol,
    clips: Sequence[ClipResult],
    identities: Mapping[str, str],
    row: str,
    metric: str,
    region: str,
) -> dict[str, Any]:
    pairs = {
        clip.clip: statistics.paired(
            clip.values[protocol.subject_row][metric][region], clip.values[row][metric][region]
        )
        for clip in clips
    }
    return statistics.paired_over_clips(pairs, identities)


def _clip_facts(clip: ClipResult) -> dict[str, Any]:
    return _plain(
        {
            "identity": clip.identity,
            "frames": clip.frames,
            "times": clip.times,
            "facts": clip.facts,
            "per_frame": clip.values,
            "pictures": clip.pictures,
            "mouths": clip.mouths,
            "videos": clip.videos,
        }
    )


def _plain(value: Any) -> Any:
    """As strict JSON can hold it: arrays become lists, values that are not finite null."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray):
        return _plain(value.tolist())
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, np.generic):
        return _plain(value.item())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def write_text(path: Path, text: str) -> None:
    """Writes a text file that appears whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".partial")
    temporary.write_text(text, encoding="utf-8")
    os.replace(temporary, path)


def write_results(path: Path, results: Mapping[str, Any]) -> None:
    """Writes results.json, and the tables beside it: table.csv (every value) and table.md (the headline)."""
    write_text(path.with_name("table.csv"), values_csv(results))
    write_text(path.with_name("table.md"), headline_markdown(results))
    write_text(path, json.dumps(results, indent=1, allow_nan=False) + "\n")


def read_results(path: Path) -> dict[str, Any]:
    """Reads results.json. Raises `JaxtalkError` when it is missing, no JSON, or of another schema."""
    try:
        results = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise JaxtalkError(f"{path}: missing; make it with eval.py") from error
    except ValueError as error:
        raise JaxtalkError(f"{path}: not JSON ({error}); run eval.py again") from error
    if results.get("schema") != SCHEMA_VERSION:
        raise JaxtalkError(f"{path}: schema {results.get('schema')!r}, this version reads {SCHEMA_VERSION}; "
                           "run eval.py again")  # fmt: skip
    return results


def values_csv(results: Mapping[str, Any]) -> str:
    """One line per row, metric, region and clip, and one with an empty clip for the mean over all."""
    buffer = io.StringIO()
    table = csv.writer(buffer, lineterminator="\n")
    table.writerow(["row", "metric", "region", "clip", "identity", "value", "ours_minus_row", "standard_error"])
    for row in results["rows"]:
        for metric, regions in results["values"][row["name"]].items():
            for region, value in regions.items():
                pair = results["paired"].get(row["name"], {}).get(metric, {}).get(region)
                cells = [row["name"], metric, region]
                table.writerow([*cells, "", "", value["mean"], *_difference(pair)])
                for clip, mean in value["clips"].items():
                    pair_of_clip = pair["clips"][clip] if pair else None
                    identity = results["clips"][clip]["identity"]
                    table.writerow([*cells, clip, identity, mean, *_difference(pair_of_clip)])
    return buffer.getvalue()


def _difference(pair: Mapping[str, Any] | None) -> list[Any]:
    return ["", ""] if pair is None else [pair["mean"], pair["standard_error"]]


def formatted(value: float | None, digits: int, signed: bool = False) -> str:
    """A number for a table; a dash where there is none. The minus sign is a real one."""
    if value is None:
        return "–"
    text = f"{value:+.{digits}f}" if signed else f"{value:.{digits}f}"
    return text.replace("-", "−")


def headline_markdown(results: Mapping[str, Any]) -> str:
    """The means of every row, and what each control costs, as Markdown tables."""
    columns = [(m, r) for m in results["metrics"] for r in results["regions"]]
    header = ["", *(f"{results['metrics'][m]['label']} {results['regions'][r].lower()}" for m, r in columns)]
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    for row in results["rows"]:
        cells = [
            formatted(results["values"][row["name"]][m][r]["mean"], results["metrics"][m]["digits"]) for m, r in columns
        ]
        lines.append("| " + " | ".join([row["label"], *cells]) + " |")
    metric = next(iter(results["metrics"]))
    unit = results["metrics"][metric]["unit"]
    lines += ["", f"| ours minus | region | {unit} | standard error | frames above 0 |", "|---|---|---|---|---|"]
    for row in results["rows"]:
        for region, pair in results["paired"].get(row["name"], {}).get(metric, {}).items():
            cells = [row["label"], results["regions"][region], formatted(pair["mean"], 2, signed=True),
                     formatted(pair["standard_error"], 2), f"{pair['positive']} / {pair['frames']}"]  # fmt: skip
            lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"
