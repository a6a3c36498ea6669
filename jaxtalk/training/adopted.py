"""Networks that were trained elsewhere as a finished run: everything that follows training takes it for one.

A system that can read its published checkpoints has a module `import_checkpoint` with a function of that name (see
`rays.published.Imported`).
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import ml_collections
from flax import nnx
from jax.sharding import Mesh

from jaxtalk.clip import Clip
from jaxtalk.errors import JaxtalkError
from jaxtalk.input.clips import open_clips
from jaxtalk.methods.api import Stage, load_method, method_names
from jaxtalk.training import sharding
from jaxtalk.training.checkpoints import Checkpoints
from jaxtalk.training.recorder import Recorder
from jaxtalk.training.run import TrainedRun, check_order, load_upstream, open_run
from jaxtalk.training.run_folder import only_trainer, write_config, write_versions
from jaxtalk.training.state import Modules, abstract_state, init_state, seed_key, split_networks, state_sha256
from jaxtalk.training.step import make_plan

RECORD = "imported.json"


def adopt(
    method: str, files: Sequence[str | Path], clip: str | Path, workdir: str | Path, *, smoothed_from: int | None = None
) -> TrainedRun:
    """Makes the run folder WORKDIR of published checkpoints of a system, on a clip of the folder they were trained on.

    Args:
      method: a system that reads its published checkpoints.
      files: as its `import_checkpoint` takes them.
      clip: made by `jaxtalk prepare --from`.
      smoothed_from: step from which the speech's codes were smoothed; None: as the published code does.

    Raises:
      JaxtalkError: a system without published checkpoints, files that do not fit, or a run that is there already.
    """
    workdir, paths, opened = Path(workdir), [Path(file) for file in files], Clip.open(clip)
    if (workdir / "config.json").is_file():
        raise JaxtalkError(f"{workdir}: a run is here already; choose another --workdir")
    opened.validate()
    found = _importer(method).import_checkpoint(paths, opened, smoothed_from=smoothed_from)
    write_run(workdir, found.config, found.networks)
    record = {
        "method": method,
        "files": {path.name: _sha256(path) for path in paths},
        "clip": opened.name,
        "notes": list(found.notes),
    }
    (workdir / RECORD).write_text(json.dumps(record, indent=1) + "\n")
    return open_run(workdir)


def notes_of(workdir: Path) -> list[str]:
    """What is done otherwise than by the published code, of a run that was imported."""
    return json.loads((workdir / RECORD).read_text())["notes"]


def write_run(
    workdir: Path, config: ml_collections.ConfigDict, networks: Mapping[str, Mapping[str, nnx.Module]]
) -> None:
    """Writes a run whose stages stand at their last step with `networks` (stage -> name -> module), with fresh
    optimisers; its clips are packed into it."""
    stages = load_method(config.method).stages(config)
    order, mesh = check_order(stages), sharding.make_mesh(config.train.fsdp)
    workdir.mkdir(parents=True, exist_ok=True)
    with only_trainer(workdir):
        open_clips(config, workdir)
        write_versions(workdir)
        for stage in stages:
            frozen = load_upstream(workdir, stage, order, mesh).frozen if stage.needs else None
            _finish(workdir, config, stage, networks[stage.name], frozen, mesh)
        write_config(workdir, config)  # last: what has a config is a run


def _finish(
    workdir: Path,
    config: ml_collections.ConfigDict,
    stage: Stage,
    networks: Mapping[str, nnx.Module],
    frozen: Modules | None,
    mesh: Mesh,
) -> None:
    """Writes the checkpoint of a stage's last step, and the line of the log that says it is finished."""
    params, stats = split_networks(dict(networks))
    start = {"params": params, "stats": stats}
    plan = make_plan(stage, frozen or Modules({}, {}, {}))
    abstract = abstract_state(stage, plan.phases, len(plan.names), mesh, start)
    state = init_state(stage, plan.phases, seed_key(config.seed, mesh), abstract, start)
    state = {**state, "step": jnp.full_like(state["step"], stage.steps)}
    folder = workdir / "stages" / stage.name / "checkpoints"
    with Checkpoints(folder, config.train.keep_checkpoints) as checkpoints:
        checkpoints.save(stage.steps, state, {"stage": stage.name, "next_example": stage.steps * stage.batch_size})
    whole = {part: state[part] for part in ("params", "opt", "ema")}
    recorder = Recorder(workdir, stage.name, stage.steps, 0, False)
    recorder.finished(stage.steps, state_sha256(sharding.local_copy(whole, mesh)))
    recorder.close()


def _importer(method: str) -> Any:
    known = [name for name in method_names() if importlib.util.find_spec(f"jaxtalk.methods.{name}.import_checkpoint")]
    if method not in known:
        raise JaxtalkError(f"{method}: no published checkpoints are read for it; they are for {', '.join(known)}")
    return importlib.import_module(f"jaxtalk.methods.{method}.import_checkpoint")


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
