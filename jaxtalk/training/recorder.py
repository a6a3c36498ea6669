"""Everything one stage writes down while it trains, by the first process alone."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from pathlib import Path

import jax
import numpy as np

from jaxtalk.training.logging import MetricsFile, TensorBoard, rewind_metrics, save_pictures


class Recorder:
    """Writes the log and the pictures of a stage that stands at `step`; on other processes than the first, nothing.

    `note` says the latest rates for the progress bar, on every process.
    """

    def __init__(self, workdir: Path, stage: str, step: int, rays_per_step: int, tensorboard: bool) -> None:
        self.stage, self.rays_per_step, self.note = stage, rays_per_step, ""
        self.folder = workdir / "stages" / stage
        self.is_main = jax.process_index() == 0
        self._metrics: MetricsFile | None = None
        self._tensorboard: TensorBoard | None = None
        if self.is_main:
            if tensorboard:
                self._tensorboard = TensorBoard(workdir / "tensorboard")
            rewind_metrics(workdir / "metrics.jsonl", stage, step)
            self._metrics = MetricsFile(workdir / "metrics.jsonl")
        self.start_clock(step)

    def start_clock(self, step: int) -> None:
        """Rates count from here: after compilation."""
        self._rate_from = (step, time.monotonic())

    def say(self, text: str) -> None:
        if self.is_main:
            print(f"stage {self.stage}: {text}", file=sys.stderr, flush=True)

    def values(self, step: int, now: float, values: Mapping[str, float]) -> None:
        """One line of the log; `now` is when the step was taken (`time.monotonic`)."""
        line = {**values, **self._rates(step, now)}
        if self._metrics is not None:
            self._metrics.write(self.stage, step, line)
        if self._tensorboard is not None:
            self._tensorboard.write(self.stage, step, line)

    def _rates(self, step: int, now: float) -> dict[str, float]:
        before, then = self._rate_from
        self._rate_from = (step, now)
        rates = {"steps_per_second": (step - before) / max(now - then, 1e-9)}
        self.note = f"{rates['steps_per_second']:.1f} steps/s"
        if self.rays_per_step:
            rates["rays_per_second"] = self.rays_per_step * rates["steps_per_second"]
            self.note += f", {rates['rays_per_second']:,.0f} rays/s"
        return rates

    def pictures(self, step: int, pictures: Mapping[str, np.ndarray]) -> None:
        save_pictures(self.folder / "previews", step, pictures)
        if self._tensorboard is not None:
            self._tensorboard.pictures(self.stage, step, pictures)

    def finished(self, step: int, sha256: str) -> None:
        if self._metrics is not None:
            self._metrics.write(self.stage, step, {"state_sha256": sha256})

    def close(self) -> None:
        for log in (self._metrics, self._tensorboard):
            if log is not None:
                log.close()
