"""Runs one stage from where it stands to its last step: the only training loop there is."""

from __future__ import annotations

import dataclasses
import sys
import time
from collections import deque
from collections.abc import Generator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import jax
import numpy as np
from clu import parameter_overview
from jax.sharding import Mesh

from jaxtalk.clip import ClipView
from jaxtalk.input.pipeline import Batches, batches
from jaxtalk.methods.api import Stage
from jaxtalk.progress import Bar, bar
from jaxtalk.training import sharding
from jaxtalk.training.checkpoints import Checkpoints
from jaxtalk.training.logging import MetricsFile, TensorBoard, rewind_metrics, save_pictures
from jaxtalk.training.nonfinite import non_finite_error
from jaxtalk.training.signals import Interrupted, StopRequest
from jaxtalk.training.state import Modules, State, abstract_state, init_state, seed_key, state_sha256
from jaxtalk.training.step import Plan, batch_shapes, make_plan, make_step

# A line of the log is read this many steps after it was computed, so that the device never waits for it.
_LOG_LAG = 8
_PREFETCH = 2  # batches on the device ahead of the step
_BAR_SECONDS = 0.1


@dataclasses.dataclass(frozen=True)
class Upstream:
    """Arrays of earlier stages: those this one keeps frozen, and those it starts from; each {"params", "stats"}."""

    frozen: Modules
    frozen_arrays: dict[str, Any]
    start_from: dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Settings:
    """Where and how a run trains, the same for all its stages."""

    workdir: Path
    seed: int
    mesh: Mesh
    log_every: int
    preview_every: int
    checkpoint_every: int
    keep_checkpoints: int
    workers: int
    tensorboard: bool

    def stage_folder(self, stage: str) -> Path:
        return self.workdir / "stages" / stage

    @property
    def metrics_path(self) -> Path:
        return self.workdir / "metrics.jsonl"


def compile_step(plan: Plan, abstract: State, frozen: dict[str, Any], mesh: Mesh, log_every: int) -> Any:
    """The step compiled ahead of time for these shapes; its state is donated. `frozen` may be shapes or arrays."""
    batch = {
        name: jax.ShapeDtypeStruct(shape.shape, shape.dtype, sharding=sharding.batch_sharding(mesh))
        for name, shape in batch_shapes(plan.stage).items()
    }
    key = jax.eval_shape(lambda: jax.random.key(0))
    key = jax.ShapeDtypeStruct(key.shape, key.dtype, sharding=sharding.replicated(mesh))
    shardings = jax.tree.map(lambda leaf: leaf.sharding, abstract)
    step = jax.jit(make_step(plan, log_every), donate_argnums=0, out_shardings=(shardings, sharding.replicated(mesh)))
    return step.lower(abstract, frozen, key, batch).compile()


def run_stage(stage: Stage, clips: Sequence[ClipView], settings: Settings, upstream: Upstream) -> str:
    """Trains a stage to its end, resuming where its folder says, and returns its state's sha256.

    Raises `Interrupted` after SIGTERM or SIGINT (state saved), `JaxtalkError` for a loss that is not finite or a
    checkpoint that cannot be written.
    """
    sharding.check_batch_size(stage.name, stage.batch_size, settings.mesh)
    folder = settings.stage_folder(stage.name)
    with Checkpoints(folder / "checkpoints", settings.keep_checkpoints) as checkpoints, StopRequest() as stop:
        sha256 = _StageRun(stage, clips, settings, upstream, checkpoints, stop).run()
        asked = stop.everywhere()  # too late to stop this stage, in time for the next
    if asked:
        raise Interrupted(asked)
    return sha256


class _StageRun:
    """One call of `run_stage`, with what its parts share."""

    def __init__(self, stage: Stage, clips: Sequence[ClipView], settings: Settings, upstream: Upstream,
                 checkpoints: Checkpoints, stop: StopRequest) -> None:  # fmt: skip
        self.stage, self.clips, self.settings, self.upstream = stage, clips, settings, upstream
        self.checkpoints, self.stop = checkpoints, stop
        self.is_main = jax.process_index() == 0
        self.plan = make_plan(stage, upstream.frozen)
        frozen = upstream.frozen_arrays
        self.frozen = {part: {name: frozen[part][name] for name in self.plan.frozen.graphs} for part in frozen}
        self.pending: tuple[int, float, dict[str, jax.Array]] | None = None  # step, time, report
        self.rate_from = (0, time.monotonic())
        self.rate_note = ""

    def run(self) -> str:
        settings, stage = self.settings, self.stage
        key = seed_key(settings.seed, settings.mesh)
        abstract = abstract_state(
            stage, self.plan.phases, len(self.plan.names), settings.mesh, self.upstream.start_from
        )
        state = self.checkpoints.restore(abstract)
        if state is None:
            state = init_state(stage, self.plan.phases, key, abstract, self.upstream.start_from)
        step = int(state["step"])
        self._open_logs(step)
        self._say(f"stage {stage.name}: step {step} of {stage.steps} on {settings.mesh.size} {jax.default_backend()} "
                  f"device(s)\n{_overview(state['params'])}")  # fmt: skip
        try:
            if step < stage.steps:
                state = self._train(state, step, key, abstract)
            return self._finish(state)
        finally:
            self._close_logs()

    def _open_logs(self, step: int) -> None:
        self.metrics: MetricsFile | None = None
        self.tensorboard: TensorBoard | None = None
        if self.is_main:
            rewind_metrics(self.settings.metrics_path, self.stage.name, step)
            self.metrics = MetricsFile(self.settings.metrics_path)
            if self.settings.tensorboard:
                self.tensorboard = TensorBoard(self.settings.workdir / "tensorboard")

    def _close_logs(self) -> None:
        for log in (self.metrics, self.tensorboard):
            if log is not None:
                log.close()

    def _say(self, text: str) -> None:
        if self.is_main:
            print(text, file=sys.stderr, flush=True)

    def _train(self, state: State, step: int, key: jax.Array, abstract: State) -> State:
        """The loop itself: everything that touches the host happens every n steps, or behind the device."""
        settings, stage, started = self.settings, self.stage, time.monotonic()
        compiled = compile_step(self.plan, abstract, self.frozen, settings.mesh, settings.log_every)
        self._say(f"stage {stage.name}: compiled in {time.monotonic() - started:.1f} s")
        self.rate_from, shown, next_bar = (step, time.monotonic()), step, 0.0
        with closing(self._device_batches(step)) as stream, bar(stage.name, stage.steps, step) as progress:
            for batch in stream:
                with jax.transfer_guard("disallow"):
                    state, report = compiled(state, self.frozen, key, batch)
                step += 1
                self._after_step(state, step, report)
                if time.monotonic() > next_bar or step == stage.steps:
                    shown, next_bar = self._advance(progress, shown, step), time.monotonic() + _BAR_SECONDS
                if step == stage.steps:
                    break
        return state

    def _advance(self, progress: Bar, shown: int, step: int) -> int:
        progress.advance(step - shown, self.rate_note)
        return step

    def _local_batches(self, step: int) -> Batches:
        """This process's rows of the batches from `step` on."""
        examples = self.stage.examples(self.clips, self.settings.seed)
        return batches(
            sharding.rows_by_process(examples, self.stage.batch_size, jax.process_count()),
            self.stage.batch_size,
            process_index=jax.process_index(),
            process_count=jax.process_count(),
            workers=self.settings.workers,
            start_step=step,
        )

    def _device_batches(self, step: int) -> Generator[dict[str, jax.Array], None, None]:
        """The same as global arrays, a few steps ahead of their use."""
        ahead: deque[dict[str, jax.Array]] = deque()
        with self._local_batches(step) as stream:
            for local in stream:
                ahead.append(sharding.global_batch(local, self.stage.batch_size, self.settings.mesh))
                if len(ahead) > _PREFETCH:
                    yield ahead.popleft()

    def _after_step(self, state: State, step: int, report: dict[str, jax.Array]) -> None:
        settings, last = self.settings, step == self.stage.steps
        if self.pending is not None and (step - self.pending[0] >= _LOG_LAG or step % settings.log_every == 0):
            self._write_pending()
        if step % settings.log_every == 0 or last:
            jax.tree.map(lambda array: array.copy_to_host_async(), report)
            self.pending = (step, time.monotonic(), report)
        # Processes may not stop at different steps: with several, they agree at the log points.
        alone = jax.process_count() == 1
        stop = self.stop.signal if alone else self.stop.everywhere() if step % settings.log_every == 0 else 0
        if last or stop or step % settings.checkpoint_every == 0:
            self._save(state, step, report)
        if stop and not last:
            self.checkpoints.wait()
            self._say(f"stage {self.stage.name}: stopped by signal {stop} at step {step}, state saved; "
                      "the same command continues from here")  # fmt: skip
            raise Interrupted(stop)
        if last or step % settings.preview_every == 0:
            self._preview(state, step)

    def _save(self, state: State, step: int, report: dict[str, jax.Array]) -> None:
        """Lines before the checkpoint are on disk before it; a state that went wrong is never saved."""
        self._write_pending()
        self._check(report)
        self.checkpoints.save(step, state, {"stage": self.stage.name, "next_example": step * self.stage.batch_size})

    def _write_pending(self) -> None:
        if self.pending is None:
            return
        (step, now, report), self.pending = self.pending, None
        self._check(report)
        mean, count = np.asarray(report["mean"]), np.asarray(report["count"])[self.plan.phase_of]
        values = {name: float(mean[i]) for i, name in enumerate(self.plan.names) if count[i]}
        values |= self._rates(step, now)
        if self.metrics is not None:
            self.metrics.write(self.stage.name, step, values)
        if self.tensorboard is not None:
            self.tensorboard.write(self.stage.name, step, values)

    def _rates(self, step: int, now: float) -> dict[str, float]:
        before, then = self.rate_from
        self.rate_from = (step, now)
        rates = {"steps_per_second": (step - before) / max(now - then, 1e-9)}
        self.rate_note = f"{rates['steps_per_second']:.1f} steps/s"
        rays = getattr(self.stage, "rays_per_step", None)
        if rays:
            rates["rays_per_second"] = rays * rates["steps_per_second"]
            self.rate_note += f", {rates['rays_per_second']:,.0f} rays/s"
        return rates

    def _check(self, report: dict[str, jax.Array]) -> None:
        """Raises when some step so far had a loss that was not finite, with a dump of that step."""
        bad = int(report["bad_step"])
        if bad < 0:
            return
        self.checkpoints.wait()
        with self._local_batches(bad) as stream:
            batch = next(stream)
        raise non_finite_error(
            self.settings.stage_folder(self.stage.name), self.plan, bad, int(report["bad_term"]),
            np.asarray(report["bad_values"]), batch,
        )  # fmt: skip

    def _preview(self, state: State, step: int) -> None:
        """Pictures from the averaged networks. Every process gathers, the first one draws."""
        params = state["params"] if self.stage.ema_decay is None else state["ema"]
        arrays = {"own": (params, state["stats"]), "frozen": (self.frozen["params"], self.frozen["stats"])}
        batch = self.stage.preview_batch(self.clips)
        if batch is None:
            return
        arrays = sharding.local_copy(arrays, self.settings.mesh)
        if not self.is_main:
            return
        networks = self.plan.frozen.merge(*arrays["frozen"]) | self.plan.own.merge(*arrays["own"])
        pictures = self.stage.preview(networks, batch)
        save_pictures(self.settings.stage_folder(self.stage.name) / "previews", step, pictures)
        if self.tensorboard is not None:
            self.tensorboard.pictures(self.stage.name, step, pictures)

    def _finish(self, state: State) -> str:
        """Waits for the last checkpoint and signs the stage off with the hash of what it trained."""
        self.checkpoints.wait()
        whole = sharding.local_copy({part: state[part] for part in ("params", "opt", "ema")}, self.settings.mesh)
        sha256 = state_sha256(whole)
        if self.metrics is not None:
            self.metrics.write(self.stage.name, self.stage.steps, {"state_sha256": sha256})
        sharding.barrier(f"{self.stage.name} finished")
        return sha256


def _overview(params: dict[str, Any]) -> str:
    return parameter_overview.get_parameter_overview(params, include_stats="sharding", max_lines=60)
