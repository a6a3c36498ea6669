"""What a run would cost, from shapes alone: type it before taking a pod."""

from __future__ import annotations

import dataclasses
import math
import sys
import time
from collections.abc import Sequence
from typing import Any

import jax
import ml_collections
from clu import parameter_overview
from rich.console import Console
from rich.table import Table

from jaxtalk.methods.api import Stage
from jaxtalk.training import sharding
from jaxtalk.training.compile_cache import enable_compile_cache
from jaxtalk.training.flops import matmul_flops
from jaxtalk.training.loop import compile_step
from jaxtalk.training.run import check_order, join_upstream, model_shapes
from jaxtalk.training.state import abstract_state
from jaxtalk.training.step import batch_shapes, make_plan, make_step


@dataclasses.dataclass(frozen=True)
class StageCost:
    """Costs of one step of a stage; bytes are per device, as compiled.

    `flops` is XLA's count over all devices: everything, but the body of a loop once, and nothing inside kernels of a
    vendor's library. `matmul_flops` is our count of matrix products and convolutions in the traced step, over all
    devices, loops in full and every phase as if it ran: the figure to divide by a chip's matrix rate.
    """

    stage: str
    parameters: int
    frozen_parameters: int
    devices: int
    flops: float
    matmul_flops: float
    state_bytes: int
    argument_bytes: int
    output_bytes: int
    temporary_bytes: int
    peak_bytes: int
    compile_seconds: float


def dry_run(config: ml_collections.ConfigDict, stages: Sequence[Stage]) -> list[StageCost]:
    """Compiles the step of every stage for the devices at hand, prints its parameters and costs, and returns them.

    Needs no data and makes no array. Raises what the run itself would raise before its first step.
    """
    enable_compile_cache()
    mesh, order, console = sharding.make_mesh(config.train.fsdp), check_order(stages), Console(file=sys.stdout)
    costs = []
    for stage in stages:
        names = (*stage.needs, *stage.init_from.values())
        upstream = {name: model_shapes(order[name], mesh) for name in names}
        cost, params = _stage_cost(stage, upstream, mesh, config.train.log_every)
        console.print(f"\nstage {stage.name}: {stage.steps} steps of {stage.batch_size} examples")
        print(parameter_overview.get_parameter_overview(params, include_stats="sharding"))
        costs.append(cost)
    console.print(_table(costs))
    return costs


def _stage_cost(stage: Stage, trained: dict[str, Any], mesh: Any, log_every: int) -> tuple[StageCost, dict[str, Any]]:
    sharding.check_batch_size(stage.name, stage.batch_size, mesh)
    upstream = join_upstream(stage, trained)
    plan = make_plan(stage, upstream.frozen)
    frozen = {
        part: {name: upstream.frozen_arrays[part][name] for name in plan.frozen.graphs}
        for part in upstream.frozen_arrays
    }
    abstract = abstract_state(stage, plan.phases, len(plan.names), mesh, upstream.start_from)
    started = time.monotonic()
    compiled = compile_step(plan, abstract, frozen, mesh, log_every)
    seconds = time.monotonic() - started
    traced = jax.make_jaxpr(make_step(plan, log_every))(abstract, frozen, jax.random.key(0), batch_shapes(stage))
    memory, costs = compiled.memory_analysis(), compiled.cost_analysis() or {}
    donated = memory.alias_size_in_bytes
    total = memory.argument_size_in_bytes + memory.output_size_in_bytes + memory.temp_size_in_bytes - donated
    cost = StageCost(
        stage=stage.name,
        parameters=_size(abstract["params"]),
        frozen_parameters=_size(frozen["params"]),
        devices=mesh.size,
        flops=float(costs.get("flops", math.nan)) * mesh.size,
        matmul_flops=matmul_flops(traced.jaxpr),
        state_bytes=sum(
            math.prod(leaf.sharding.shard_shape(leaf.shape)) * leaf.dtype.itemsize for leaf in jax.tree.leaves(abstract)
        ),
        argument_bytes=memory.argument_size_in_bytes,
        output_bytes=memory.output_size_in_bytes,
        temporary_bytes=memory.temp_size_in_bytes,
        peak_bytes=total,
        compile_seconds=seconds,
    )
    return cost, abstract["params"]


def _size(tree: Any) -> int:
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(tree))


def _table(costs: Sequence[StageCost]) -> Table:
    table = Table(title=f"One step, as compiled for {costs[0].devices} {jax.default_backend()} device(s)")
    table.add_column("")
    for cost in costs:
        table.add_column(cost.stage, justify="right")
    for title, cells in (
        ("parameters", [f"{cost.parameters:,}" for cost in costs]),
        ("frozen parameters", [f"{cost.frozen_parameters:,}" for cost in costs]),
        ("state per device", [_bytes(cost.state_bytes) for cost in costs]),
        ("temporary per device", [_bytes(cost.temporary_bytes) for cost in costs]),
        ("peak per device", [_bytes(cost.peak_bytes) for cost in costs]),
        ("matmul FLOPs per step", [_count(cost.matmul_flops) for cost in costs]),
        ("XLA's FLOPs per step", [_count(cost.flops) for cost in costs]),
        ("compiled in", [f"{cost.compile_seconds:.1f} s" for cost in costs]),
    ):
        table.add_row(title, *cells)
    return table


def _bytes(count: float) -> str:
    for unit in ("B", "KiB", "MiB"):
        if count < 1024:
            return f"{count:.4g} {unit}"
        count /= 1024
    return f"{count:.4g} GiB"


def _count(number: float) -> str:
    for unit in ("", "k", "M", "G", "T"):
        if not number >= 1000:  # also when it is not a number
            return f"{number:.4g} {unit}".rstrip()
        number /= 1000
    return f"{number:.4g} P"
