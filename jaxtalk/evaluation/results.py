"""results.json: what an evaluation found, in one record that names every variant, and the tables made from it.

    schema, protocol, title, description, subject_row
    run         name, method, seed, size, step, config_sha256, state_sha256, versions
    settings    max_frames, video_seconds, test_seconds, guard_seconds, pose, fewshot
    metrics     id -> label, unit, higher_is_better, digits, definition;  regions: name -> label
    rows        list of name, label, kind, description, variant, seconds, steps
    values      row -> metric -> region -> mean, interval (95 %), identities {name: mean}, clips {name: mean}, over the
                clips that have the row
    comparisons list of name, first, second: which rows are compared frame by frame
    paired      comparison -> metric -> region -> mean, standard_error, frames, positive, clips, identities: its first
                row minus its second; for a control this is the drop that the wrong input costs. `self` compares
                `ours` with each row, under the row's name
    clips       name -> identity, frames, times, facts, absent, per_frame {row: {metric: {region: [F]}}}, and what to
                show: pictures, mouths, videos, panels
    absent      row or metric -> why there is no number, and for which clips

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
from jaxtalk.metrics import METRICS

SCHEMA_VERSION = 1
_TITLES = {"gt": "", "predicted": ", predicted poses"}
_POSES = {
    "gt": "its own tracked poses, eyes and speech",
    "predicted": "its own eyes and speech, at the poses predicted from that: PSNR and SSIM measure those, too",
}
_BLOCK_SECONDS = 1.0  # neighbouring frames within it are resampled together


def assemble(
    protocol: Protocol, clips: Sequence[ClipResult], run: Mapping[str, Any], settings: Settings
) -> dict[str, Any]:
    """The record of results.json, as plain JSON values."""
    layout = protocol.layout(settings, clips)
    return {
        "schema": SCHEMA_VERSION,
        "protocol": protocol.name,
        "title": protocol.title + _TITLES[settings.pose],
        "description": protocol.description.format(poses=_POSES[settings.pose]),
        "run": dict(run),
        "settings": _plain(dataclasses.asdict(settings)),
        "metrics": {name: _metric_facts(name) for name in METRICS},
        "regions": dict(protocol.regions),
        "rows": [dataclasses.asdict(row) for row in layout.rows],
        "subject_row": layout.subject_row,
        "values": {row.name: _grid(protocol, lambda m, r, n=row.name: _value(clips, n, m, r)) for row in layout.rows},
        "comparisons": [dataclasses.asdict(comparison) for comparison in layout.comparisons],
        "paired": {
            comparison.name: _grid(protocol, lambda m, r, c=comparison: _paired(clips, c, m, r))
            for comparison in layout.comparisons
        },
        "clips": {clip.clip: _clip_facts(clip) for clip in clips},
        "absent": _absent(clips),
    }


def _absent(clips: Sequence[ClipResult]) -> dict[str, str]:
    """Row -> why some clips do not have it, and which."""
    reasons: dict[str, dict[str, list[str]]] = {}
    for clip in clips:
        for row, reason in clip.absent.items():
            reasons.setdefault(row, {}).setdefault(reason, []).append(clip.clip)
    return {
        row: "; ".join(f"{reason} ({', '.join(names)})" for reason, names in found.items())
        for row, found in reasons.items()
    }


def _metric_facts(name: str) -> dict[str, Any]:
    facts = dataclasses.asdict(METRICS[name])
    del facts["function"]
    return facts


def _grid(protocol: Protocol, cell: Any) -> dict[str, dict[str, Any]]:
    return {metric: {region: _plain(cell(metric, region)) for region in protocol.regions} for metric in METRICS}


def _value(clips: Sequence[ClipResult], row: str, metric: str, region: str) -> dict[str, Any]:
    clips = [clip for clip in clips if row in clip.values]
    identities = {clip.clip: clip.identity for clip in clips}
    frames = {clip.clip: clip.values[row][metric][region] for clip in clips}
    means = {name: statistics.frame_mean(values) for name, values in frames.items()}
    block = max(_block(clip.times) for clip in clips)
    interval = statistics.bootstrap_interval(frames, identities, block=block)
    return {**statistics.over_clips(means, identities), "interval": interval}


def _block(times: np.ndarray) -> int:
    if len(times) < 2:
        return 1
    return max(1, math.ceil(_BLOCK_SECONDS / float(np.median(np.diff(times)))))


def _paired(clips: Sequence[ClipResult], comparison: Comparison, metric: str, region: str) -> dict[str, Any]:
    both = [clip for clip in clips if {comparison.first, comparison.second} <= set(clip.values)]
    pairs = {
        clip.clip: statistics.paired(
            clip.values[comparison.first][metric][region], clip.values[comparison.second][metric][region]
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
            "per_frame": clip.values,
            "pictures": clip.pictures,
            "mouths": clip.mouths,
            "videos": clip.videos,
            "panels": clip.panels,
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
