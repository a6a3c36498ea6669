"""results.json: what an evaluation found, in one record that names every variant, and the tables made from it.

    schema, protocol, title, description, subject_row
    run         name, method, seed, size, step, config_sha256, state_sha256, versions
    settings    `records.Settings`: max_frames, guard_seconds, source_seconds, pose, allow_seen, ...
    split       whom it tested, and with what: manifest (of clips and identities) with its sha256, and, where
                `allow_seen` let them in, `seen`: clips of people that the run was trained on
    metrics     id -> label, unit, higher_is_better, digits, group, level, definition: those that have been measured
    regions     name -> label; a metric has some of them
    rows        list of name, label, kind, description, variant, seconds, steps
    values      row -> metric -> region -> mean, interval (95 %), identities {name: mean}, clips {name: mean}, over the
                clips that have the row; a metric of a set of clips has a mean alone
    comparisons list of name, first, second: which rows are compared frame by frame
    paired      comparison -> metric -> region -> mean, standard_error, frames, positive, clips, identities: its first
                row minus its second; for a control this is the drop that the wrong input costs. `self` compares
                `ours` with each row, under the row's name
    clips       name -> identity, frames, times, facts, absent, per_frame {row: {metric: {region: [F]}}} (of a metric
                of the whole clip [1]), missing_faces {row: frames}, lips {row: opening [F]}, and what to show:
                pictures, mouths, videos, panels
    absent      row -> why there is no such row, and for which clips
    unmeasured  metric -> why there is no number, and for which rows and clips
    failures    clip -> why it could not be tested at all

A value is null where there is none: a box outside the picture, the error of a single frame. Nothing in the file
depends on when or where it was made: the same run gives the same bytes on the same machine.
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxtalk.errors import JaxtalkError
from jaxtalk.evaluation import statistics
from jaxtalk.evaluation.records import ClipResult, Comparison, Protocol, Settings
from jaxtalk.metrics import METRICS, Metric, Suite

SCHEMA_VERSION = 2
_TITLES = {"gt": "", "predicted": ", predicted poses"}
_POSES = {
    "gt": "its own tracked poses and eyes",
    "predicted": "its own eyes, at the poses predicted from speech: PSNR and SSIM measure those, too",
}
_BLOCK_SECONDS = 1.0  # neighbouring frames within it are resampled together


def assemble(
    protocol: Protocol,
    clips: Sequence[ClipResult],
    run: Mapping[str, Any],
    settings: Settings,
    suite: Suite,
    split: Mapping[str, Any],
    failures: Mapping[str, str],
) -> dict[str, Any]:
    """The record of results.json, as plain JSON values.

    Raises:
        JaxtalkError: no clip could be tested.
    """
    if not clips:
        first = next(iter(failures.items()), ("", "there is none"))
        raise JaxtalkError(f"no clip could be tested; {first[0]}: {first[1]}")
    layout = protocol.layout(settings, clips)
    metrics = {
        name: metric
        for name, metric in suite.metrics.items()
        if any(name in v for c in clips for v in c.values.values())
    }
    regions = {
        name: [region for region in metric.regions if region in protocol.regions] for name, metric in metrics.items()
    }
    values = {row.name: _grid(regions, lambda m, r, n=row.name: _value(clips, n, metrics[m], r)) for row in layout.rows}
    return {
        "schema": SCHEMA_VERSION,
        "protocol": protocol.name,
        "title": protocol.title + _TITLES[settings.pose],
        "description": protocol.description.format(poses=_POSES[settings.pose]),
        "run": dict(run),
        "settings": _plain(dataclasses.asdict(settings)),
        "split": dict(split),
        "metrics": {name: _metric_facts(metric) for name, metric in metrics.items()},
        "regions": dict(protocol.regions),
        "rows": [dataclasses.asdict(row) for row in layout.rows],
        "subject_row": layout.subject_row,
        "values": values,
        "comparisons": [dataclasses.asdict(comparison) for comparison in layout.comparisons],
        "paired": {
            comparison.name: _grid(regions, lambda m, r, c=comparison: _paired(clips, c, metrics[m], r))
            for comparison in layout.comparisons
        },
        "clips": {clip.clip: _clip_facts(clip) for clip in clips},
        "absent": _reasons([(row, reason, clip.clip) for clip in clips for row, reason in clip.absent.items()]),
        "unmeasured": {**suite.absent, **_unmeasured(clips), **_unfinished(values)},
        "failures": dict(failures),
    }


def _reasons(found: Sequence[tuple[str, str, str]]) -> dict[str, str]:
    """(what, why, where) -> what: the reasons, each with where it holds."""
    reasons: dict[str, dict[str, list[str]]] = {}
    for what, why, where in found:
        reasons.setdefault(what, {}).setdefault(why, []).append(where)
    return {
        what: "; ".join(f"{why} ({', '.join(dict.fromkeys(places))})" for why, places in found.items())
        for what, found in reasons.items()
    }


def _unmeasured(clips: Sequence[ClipResult]) -> dict[str, str]:
    """Metric -> why some rows of some clips do not have it; rows that need not have it (no truth) are not told."""
    found: list[tuple[str, str, str]] = []
    for clip in clips:
        for metric, reasons in clip.unmeasured.items():
            having = any(metric in values for values in clip.values.values())
            found += [(metric, why, clip.clip) for row, why in reasons.items() if not having]
    return _reasons(found)


def _unfinished(values: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> dict[str, str]:
    """Metric of a set of clips -> why it has no value."""
    return {
        metric: cell["reason"]
        for metrics in values.values()
        for metric, regions in metrics.items()
        for cell in regions.values()
        if "reason" in cell
    }


def _metric_facts(metric: Metric) -> dict[str, Any]:
    names = ("id", "label", "unit", "higher_is_better", "digits", "group", "level", "definition")
    return {name: getattr(metric, name) for name in names}


def _grid(regions: Mapping[str, Sequence[str]], cell: Any) -> dict[str, dict[str, Any]]:
    grid = {metric: {region: _plain(cell(metric, region)) for region in names} for metric, names in regions.items()}
    return {
        metric: {region: value for region, value in cells.items() if value is not None}
        for metric, cells in grid.items()
        if any(value is not None for value in cells.values())
    }


def _value(clips: Sequence[ClipResult], row: str, metric: Metric, region: str) -> dict[str, Any] | None:
    frames = {clip.clip: clip.values[row][metric.id][region] for clip in _having(clips, metric, region, row)}
    if not frames:
        return None
    if metric.distance is not None:
        truth = {clip.clip: clip.values["truth"][metric.id][region] for clip in _having(clips, metric, region, "truth")}
        return _set_value(
            metric.distance, *([part[clip] for clip in frames if clip in truth] for part in (frames, truth))
        )
    identities = {clip.clip: clip.identity for clip in clips if clip.clip in frames}
    means = {name: statistics.frame_mean(values) for name, values in frames.items()}
    block = max(_block(clip.times) for clip in clips if clip.clip in frames)
    interval = statistics.bootstrap_interval(frames, identities, block=block)
    return {**statistics.over_clips(means, identities), "interval": interval}


def _set_value(distance: Any, features: Sequence[np.ndarray], truth: Sequence[np.ndarray]) -> dict[str, Any]:
    """The distance of the features of all clips from the truth's; of too few frames, why there is none."""
    value: dict[str, Any] = {"mean": None, "interval": None, "identities": {}, "clips": {}}
    if not features:
        return value | {"reason": "no clip has features of both"}
    try:
        return value | {"mean": distance(*map(np.concatenate, (features, truth))), "frames": sum(map(len, features))}
    except JaxtalkError as error:
        return value | {"reason": str(error)}


def _having(clips: Sequence[ClipResult], metric: Metric, region: str, *rows: str) -> list[ClipResult]:
    """The clips where all these rows have a value."""
    return [clip for clip in clips if all(region in clip.values.get(row, {}).get(metric.id, {}) for row in rows)]


def _block(times: np.ndarray) -> int:
    if len(times) < 2:
        return 1
    return max(1, math.ceil(_BLOCK_SECONDS / float(np.median(np.diff(times)))))


def _paired(clips: Sequence[ClipResult], comparison: Comparison, metric: Metric, region: str) -> dict[str, Any] | None:
    both = _having(clips, metric, region, comparison.first, comparison.second)
    if not both or metric.distance is not None:
        return None
    pairs = {
        clip.clip: statistics.paired(
            clip.values[comparison.first][metric.id][region], clip.values[comparison.second][metric.id][region]
        )
        for clip in both
    }
    return statistics.paired_over_clips(pairs, {clip.clip: clip.identity for clip in both})


def _clip_facts(clip: ClipResult) -> dict[str, Any]:
    return _plain(
        {
            "identity": clip.identity,
            "frames": clip.frames,
            "times": clip.times,
            "facts": clip.facts,
            "absent": clip.absent,
            "per_frame": _per_frame(clip.values),
            "missing_faces": clip.missing_faces,
            "lips": clip.lips,
            "pictures": clip.pictures,
            "mouths": clip.mouths,
            "videos": clip.videos,
            "panels": clip.panels,
        }
    )


def _per_frame(values: Mapping[str, Mapping[str, Mapping[str, np.ndarray]]]) -> dict[str, Any]:
    """Without the features of metrics of a set of clips, which are large and say nothing alone."""
    return {
        row: {name: found for name, found in metrics.items() if METRICS[name].distance is None}
        for row, metrics in values.items()
    }


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


def formatted(value: float | None, digits: int, signed: bool = False) -> str:
    """A number for a table; a dash where there is none. The minus sign is a real one."""
    if value is None:
        return "–"
    text = f"{value:+.{digits}f}" if signed else f"{value:.{digits}f}"
    return text.replace("-", "−")
