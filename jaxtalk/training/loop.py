"""Runs one stage from where it stands to its last step: the only training loop there is."""

from __future__ import annotations

import dataclasses
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
from jaxtalk.errors import JaxtalkError
from jaxtalk.input.pipeline import Batches, batches
from jaxtalk.methods.api import Stage
from jaxtalk.progress import bar
from jaxtalk.training import sharding
from jaxtalk.training.checkpoints import Checkpoints
from jaxtalk.training.nonfinite import non_finite_error
from jaxtalk.training.recorder import Recorder
from jaxtalk.training.signals import Interrupted, StopRequest
from jaxtalk.training.state import Modules, State, abstract_state, init_state, seed_key, state_sha256
from jaxtalk.training.step import Plan, batch_shapes, make_plan, make_step

# Steps given to the device before the oldest must be done, and after which a line of the log is read: enough that the
# device never waits for the host, few enough that a signal, the clock and the progress bar mean what they say.
_IN_FLIGHT = 4
_PREFETCH = 2  # batches on the device ahead of the step
_BAR_SECONDS = 0.1
Report = dict[str, jax.Array]


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
    overview: bool = True  # print every parameter before training

    def stage_folder(self, stage: str) -> Path:
        return self.workdir / "stages" / stage


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
        sha256 = _StageRun(stage, clips, settings, upstream, checkpoints).run(stop)
        asked = stop.everywhere()  # too late to stop this stage, in time for the next
    if asked:
        raise Interrupted(asked)
    return sha256


class _StageRun:
    """One call of `run_stage`, with what its parts share."""

    def __init__(
        self, stage: Stage, clips: Sequence[ClipView], settings: Settings, upstream: Upstream, checkpoints: Checkpoints
    ) -> None:
        self.stage, self.clips, self.settings, self.upstream = stage, clips, settings, upstream
        self.checkpoints = checkpoints
        self.plan = make_plan(stage, upstream.frozen)
        frozen = upstream.frozen_arrays
        self.frozen = {part: {name: frozen[part][name] for name in self.plan.frozen.graphs} for part in frozen}
        self.pending: tuple[int, float, Report] | None = None  # step, time, report: a line of the log to be

    def run(self, stop: StopRequest) -> str:
        settings, stage = self.settings, self.stage
        key = seed_key(settings.seed, settings.mesh)
        abstract = abstract_state(
            stage, self.plan.phases, len(self.plan.names), settings.mesh, self.upstream.start_from
        )
        state = self.checkpoints.restore(abstract)
        if state is None:
            state = init_state(stage, self.plan.phases, key, abstract, self.upstream.start_from)
        step = int(state["step"])
        if step > stage.steps:
            raise JaxtalkError(f"{settings.stage_folder(stage.name)}: stands at step {step}, beyond the {stage.steps} "
                               "that are asked for; delete this folder or ask for as many")  # fmt: skip
        rays = getattr(stage, "rays_per_step", 0)
        self.recorder = Recorder(settings.workdir, stage.name, step, rays, settings.tensorboard)
        with closing(self.recorder):
            self.recorder.say(f"step {step} of {stage.steps} on {settings.mesh.size} {jax.default_backend()} device(s)")
            if settings.overview:
                self.recorder.say(_overview(state["params"]))
            if step < stage.steps:
                state = self._train(state, step, key, abstract, stop)
            return self._finish(state)

    def _train(self, state: State, step: int, key: jax.Array, abstract: State, stop: StopRequest) -> State:
        """The loop itself: everything that touches the host happens every n steps, or behind the device."""
        settings, stage = self.settings, self.stage
        # Clips that do not fit are told before a long compilation.
        self.examples = stage.examples(self.clips, settings.seed)
        started = time.monotonic()
        compiled = compile_step(self.plan, abstract, self.frozen, settings.mesh, settings.log_every)
        self.recorder.say(f"compiled in {time.monotonic() - started:.1f} s")
        self.recorder.start_clock(step)
        shown, next_bar, in_flight = step, 0.0, deque[Report]()
        with closing(self._device_batches(step)) as stream, bar(stage.name, stage.steps, step) as progress:
            while step < stage.steps:
                batch = next(stream)
                with jax.transfer_guard("disallow"):
                    state, report = compiled(state, self.frozen, key, batch)
                step += 1
                in_flight.append(report)
                if len(in_flight) > _IN_FLIGHT:
                    jax.block_until_ready(in_flight.popleft())
                self._after_step(state, step, report, stop)
                if step == stage.steps or time.monotonic() > next_bar:
                    progress.advance(step - shown, self.recorder.note)
                    shown, next_bar = step, time.monotonic() + _BAR_SECONDS
        return state

    def _local_batches(self, step: int) -> Batches:
        """This process's rows of the batches from `step` on."""
        return batches(
            sharding.rows_by_process(self.examples, self.stage.batch_size, jax.process_count()),
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

    def _after_step(self, state: State, step: int, report: Report, stop: StopRequest) -> None:
        settings = self.settings
        is_log_point = step % settings.log_every == 0
        if self.pending is not None and (is_log_point or step - self.pending[0] >= _IN_FLIGHT):
            self._write_pending()
        if is_log_point or step == self.stage.steps:
            jax.tree.map(lambda array: array.copy_to_host_async(), report)
            self.pending = (step, time.monotonic(), report)
        if step == self.stage.steps:
            return
        # Processes may not stop at different steps: where there are several, they agree at the log points.
        signal = stop.everywhere() if jax.process_count() == 1 or is_log_point else 0
        if signal or step % settings.checkpoint_every == 0:
            self._save(state, step, report)
        if signal:
            self.checkpoints.wait()
            self.recorder.say(f"stopped by signal {signal} at step {step}, state saved; "
                              "the same command continues from here")  # fmt: skip
            raise Interrupted(signal)
        if step % settings.preview_every == 0:
            self._preview(state, step)

    def _save(self, state: State, step: int, report: Report | None) -> None:
        """Lines before the checkpoint are on disk before it; a state that went wrong is never saved."""
        self._write_pending()
        if report is not None:
            self._check(report)
        self.checkpoints.save(step, state, {"stage": self.stage.name, "next_example": step * self.stage.batch_size})

    def _write_pending(self) -> None:
        if self.pending is None:
            return
        (step, now, report), self.pending = self.pending, None
        self._check(report)
        mean, count = np.asarray(report["mean"]), np.asarray(report["count"])[self.plan.phase_of]
        self.recorder.values(step, now, {name: float(mean[i]) for i, name in enumerate(self.plan.names) if count[i]})

    def _check(self, report: Report) -> None:
        """Raises when some step so far had a loss that was not finite, with a dump of that step."""
        bad = int(report["bad_step"])
        if bad < 0:
            return
        self.checkpoints.wait()
        with self._local_batches(bad) as stream:
            batch = next(stream)
        folder, term = self.settings.stage_folder(self.stage.name), int(report["bad_term"])
        raise non_finite_error(folder, self.plan, bad, term, np.asarray(report["bad_values"]), batch)

    def _preview(self, state: State, step: int) -> None:
        """Pictures from the averaged networks. Every process gathers, the first one draws."""
        batch = self.stage.preview_batch(self.clips)
        if batch is None:
            return
        params = state["params"] if self.stage.ema_decay is None else state["ema"]
        arrays = {"own": (params, state["stats"]), "frozen": (self.frozen["params"], self.frozen["stats"])}
        arrays = sharding.local_copy(arrays, self.settings.mesh)
        if self.recorder.is_main:
            networks = self.plan.frozen.merge(*arrays["frozen"]) | self.plan.own.merge(*arrays["own"])
            self.recorder.pictures(step, self.stage.preview(networks, batch))

    def _finish(self, state: State) -> str:
        """Draws and saves the end, and signs the stage off with the hash of what it trained."""
        step = self.stage.steps
        self._save(state, step, None)  # the last step is a line of the log, so it has been checked
        self._preview(state, step)
        self.checkpoints.wait()
        whole = sharding.local_copy({part: state[part] for part in ("params", "opt", "ema")}, self.settings.mesh)
        sha256 = state_sha256(whole)
        self.recorder.finished(step, sha256)
        sharding.barrier(f"{self.stage.name} finished")
        return sha256


def _overview(params: dict[str, Any]) -> str:
    return parameter_overview.get_parameter_overview(params, include_stats="sharding", max_lines=60)
