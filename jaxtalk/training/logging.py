"""What a run writes down while it trains: metrics.jsonl, TensorBoard on request, preview pictures."""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from jaxtalk.errors import JaxtalkError


class MetricsFile:
    """WORKDIR/metrics.jsonl: one line {"stage", "step", "time", ...} a log point, flushed; `step` counts steps taken.

    Values that are not finite are written as null, so that every line is JSON.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = open(path, "a")  # noqa: SIM115

    def write(self, stage: str, step: int, values: Mapping[str, Any]) -> None:
        line: dict[str, Any] = {"stage": stage, "step": step, "time": round(time.time(), 3)}
        line |= {name: _plain(value) for name, value in values.items()}
        self._file.write(json.dumps(line, allow_nan=False) + "\n")
        self._file.flush()

    def close(self) -> None:
        self._file.close()


def _plain(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return float(f"{value:.9g}") if isinstance(value, float) else value


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The lines of a metrics file; a last line that a killed writer left half is passed over."""
    if not path.is_file():
        return []
    lines = []
    for text in path.read_text().splitlines():
        try:
            lines.append(json.loads(text))
        except ValueError:
            break
    return lines


def rewind_metrics(path: Path, stage: str, step: int) -> None:
    """Takes back every line written after `stage` had taken `step` steps, so that a resumed run writes them again.

    The line with the hash of a finished stage goes too.
    """
    if not path.is_file():
        return
    kept = []
    for line in read_metrics(path):
        if line["stage"] == stage and (line["step"] > step or "state_sha256" in line):
            break
        kept.append(line)
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text("".join(json.dumps(line) + "\n" for line in kept))
    os.replace(temporary, path)


def finished_sha256(path: Path, stage: str) -> str | None:
    """The hash that a stage wrote when it finished; None while it has not."""
    found = [line["state_sha256"] for line in read_metrics(path) if line["stage"] == stage and "state_sha256" in line]
    return found[-1] if found else None


class TensorBoard:
    """Scalars and pictures as TensorBoard reads them, through clu. Needs the extra `tensorboard`."""

    def __init__(self, folder: Path) -> None:
        try:
            from clu import metric_writers
        except ImportError as error:
            raise JaxtalkError(
                f"config.train.tensorboard: {error.name or error} is missing; install the extra: "
                "`uv sync --extra tensorboard`, or set --config.train.tensorboard=False"
            ) from error
        self._writer = metric_writers.SummaryWriter(str(folder))

    def write(self, stage: str, step: int, values: Mapping[str, Any]) -> None:
        numbers = {f"{stage}/{name}": value for name, value in values.items() if isinstance(value, float | int)}
        self._writer.write_scalars(step, numbers)

    def pictures(self, stage: str, step: int, pictures: Mapping[str, np.ndarray]) -> None:
        self._writer.write_images(step, {f"{stage}/{name}": image[None] for name, image in pictures.items()})

    def close(self) -> None:
        self._writer.flush()
        self._writer.close()


def save_pictures(folder: Path, step: int, pictures: Mapping[str, np.ndarray]) -> None:
    """Writes [H, W, 3] float pictures in [0, 1] as FOLDER/NAME-STEP.png."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, picture in pictures.items():
        pixels = np.round(255 * np.clip(np.nan_to_num(np.asarray(picture, np.float32)), 0, 1)).astype(np.uint8)
        path = folder / f"{name}-{step:08d}.png"
        temporary = path.with_name(path.name + ".tmp")
        Image.fromarray(pixels).save(temporary, format="PNG")
        os.replace(temporary, path)
