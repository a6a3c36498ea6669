"""A run folder from config to trained networks, and back."""

from __future__ import annotations

import contextlib
import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import ml_collections
from jax.sharding import Mesh

from jaxtalk.clip import ClipView
from jaxtalk.errors import JaxtalkError
from jaxtalk.methods.api import Networks, Stage, load_method
from jaxtalk.training import sharding
from jaxtalk.training.checkpoints import load_model, steps_saved
from jaxtalk.training.compile_cache import enable_compile_cache
from jaxtalk.training.logging import finished_sha256
from jaxtalk.training.loop import Settings, Upstream, run_stage
from jaxtalk.training.run_folder import only_trainer, read_config, write_config, write_versions
from jaxtalk.training.state import Modules


def train_stages(
    config: ml_collections.ConfigDict, workdir: Path, clips: Sequence[ClipView], stages: Sequence[Stage]
) -> None:
    """Trains the stages in order in WORKDIR, each from where it stands; finished ones are passed over.

    Raises `JaxtalkError` when the folder belongs to another config (see `run_folder.SAFE_KEYS`), and `Interrupted`
    (exit code 143 or 130) after SIGTERM or SIGINT, when the same command continues.
    """
    enable_compile_cache()
    order = check_order(stages)
    workdir = Path(workdir)
    workdir.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        if jax.process_index() == 0:
            stack.enter_context(only_trainer(workdir))
            write_config(workdir, config)
            write_versions(workdir)
        sharding.barrier("run folder ready")
        settings = _settings(config, workdir)
        for stage in stages:
            if stage_sha256(workdir, stage):
                if jax.process_index() == 0:
                    print(f"stage {stage.name}: already finished ({stage.steps} steps)", file=sys.stderr, flush=True)
                continue
            run_stage(stage, clips, settings, load_upstream(workdir, stage, order, settings.mesh))


def _settings(config: ml_collections.ConfigDict, workdir: Path) -> Settings:
    train = config.train
    for name in ("log_every", "preview_every", "checkpoint_every", "keep_checkpoints"):
        if train[name] < 1:
            raise JaxtalkError(f"config.train.{name}: {train[name]} is below 1; give a number of steps")
    return Settings(
        workdir=workdir,
        seed=config.seed,
        mesh=sharding.make_mesh(train.fsdp),
        log_every=train.log_every,
        preview_every=train.preview_every,
        checkpoint_every=train.checkpoint_every,
        keep_checkpoints=train.keep_checkpoints,
        workers=config.data.workers,
        tensorboard=train.tensorboard,
    )


def check_order(stages: Sequence[Stage]) -> dict[str, Stage]:
    """The stages by name. Raises `ValueError` when two share a name or one needs a stage that comes after it."""
    order: dict[str, Stage] = {}
    for stage in stages:
        for name in (*stage.needs, *stage.init_from.values()):
            if name not in order:
                raise ValueError(f"stage {stage.name} needs {name}, which is not before it ({', '.join(order)})")
        if stage.name in order:
            raise ValueError(f"two stages are named {stage.name}")
        order[stage.name] = stage
    return order


def stage_sha256(workdir: Path, stage: Stage) -> str | None:
    """The hash of a finished stage's state; None while its last checkpoint or its last line of metrics is missing."""
    saved = steps_saved(workdir / "stages" / stage.name / "checkpoints")
    return finished_sha256(workdir / "metrics.jsonl", stage.name) if saved and saved[-1] == stage.steps else None


def model_shapes(stage: Stage, mesh: Mesh) -> tuple[Modules, dict[str, Any]]:
    """A stage's networks without arrays, and the shapes {"params", "stats", "ema"} of their arrays on the mesh."""
    modules = Modules.of(stage)
    shapes = {
        "params": modules.params,
        "stats": modules.stats,
        "ema": {} if stage.ema_decay is None else modules.params,
    }
    return modules, sharding.with_sharding(shapes, sharding.state_sharding(shapes, mesh))


def load_trained(workdir: Path, stage: Stage, mesh: Mesh) -> tuple[Modules, dict[str, Any]]:
    """Networks of a finished stage: their graphs, and {"params" (averaged where kept), "stats"} on the mesh."""
    if not stage_sha256(workdir, stage):
        saved = steps_saved(workdir / "stages" / stage.name / "checkpoints")
        raise JaxtalkError(
            f"{workdir}: stage {stage.name} is not finished (step {saved[-1] if saved else 0} of {stage.steps}); "
            "run the same train.py command again, which continues it"
        )
    modules, shapes = model_shapes(stage, mesh)
    model = load_model(workdir / "stages" / stage.name / "checkpoints", stage.steps, shapes)
    return modules, {"params": model["params"] if stage.ema_decay is None else model["ema"], "stats": model["stats"]}


def load_upstream(workdir: Path, stage: Stage, order: dict[str, Stage], mesh: Mesh) -> Upstream:
    """What a stage takes from earlier ones: `needs` frozen, `init_from` to start from; averaged where kept."""
    names = dict.fromkeys((*stage.needs, *stage.init_from.values()))
    return join_upstream(stage, {name: load_trained(workdir, order[name], mesh) for name in names})


def join_upstream(stage: Stage, trained: dict[str, tuple[Modules, dict[str, Any]]]) -> Upstream:
    """Sorts the networks of earlier stages into frozen ones and starting points; arrays may be shapes.

    Raises `ValueError` when two needed stages have a network of the same name, or one to start from does not exist.
    """
    frozen = Modules({}, {}, {})
    arrays: dict[str, Any] = {"params": {}, "stats": {}}
    for name in stage.needs:
        modules, found = trained[name]
        both = sorted(set(modules.graphs) & set(frozen.graphs))
        if both:
            raise ValueError(f"stage {stage.name} needs two stages that both have a network {both[0]}")
        frozen |= modules
        arrays = {part: arrays[part] | found[part] for part in arrays}
    start: dict[str, Any] = {"params": {}, "stats": {}}
    for network, name in stage.init_from.items():
        modules, found = trained[name]
        if network not in modules.graphs:
            raise ValueError(f"stage {stage.name} starts {network} from stage {name}, which has no such network")
        for part in start:
            start[part][network] = found[part][network]
    return Upstream(frozen, arrays, start)


@dataclasses.dataclass(frozen=True)
class TrainedRun:
    """A run folder as `fit` and the evaluation see it (`methods.api.Run`); arrays on this process's first device."""

    workdir: Path
    config: ml_collections.ConfigDict
    stages: dict[str, Stage]

    def networks(self, stage: str) -> Networks:
        """The networks of a finished stage, with averaged parameters where the stage keeps them."""
        if stage not in self.stages:
            raise JaxtalkError(f"{self.workdir}: there is no stage {stage!r}; it has {', '.join(self.stages)}")
        return _load_networks(self.workdir, self.stages[stage])

    def train(self, stage: Stage, clips: Sequence[ClipView], folder: Path) -> Networks:
        """Trains one more stage on other clips, for an avatar: `needs` and `init_from` are stages of this run.

        It trains in FOLDER as any stage does, resumes there, and is not trained again once finished.
        """
        check_order([*self.stages.values(), stage])
        enable_compile_cache()
        settings = dataclasses.replace(_settings(self.config, Path(folder)), overview=False)
        settings.workdir.mkdir(parents=True, exist_ok=True)
        if not stage_sha256(settings.workdir, stage):
            run_stage(stage, clips, settings, load_upstream(self.workdir, stage, self.stages, settings.mesh))
        return _load_networks(settings.workdir, stage)


def _load_networks(workdir: Path, stage: Stage) -> Networks:
    mesh = Mesh([[jax.local_devices()[0]]], ("data", "fsdp"))
    modules, arrays = load_trained(workdir, stage, mesh)
    return modules.merge(arrays["params"], arrays["stats"])


def open_run(workdir: Path, stages: Sequence[Stage] | None = None) -> TrainedRun:
    """Opens a run folder. `stages` are those of `config.method`, unless given. Raises `JaxtalkError` without a run."""
    workdir = Path(workdir)
    config = read_config(workdir)
    if stages is None:
        stages = load_method(config.method).stages(config)
    return TrainedRun(workdir, config, check_order(stages))
