"""Training steps of a stage on random parameters: the program that `train.py` runs, timed with and without input.

Steps are counted from the stage's last one, so that every phase and every term of the loss has begun: what is measured
is most of a run, not its start. What runs every few steps is in the mean, of times and of FLOPs alike.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Generator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from jaxtalk.bench.device import MatrixRate, matrix_rate
from jaxtalk.bench.step_flops import mean_flops
from jaxtalk.bench.timing import rate
from jaxtalk.clip import ClipView
from jaxtalk.input.pipeline import batches
from jaxtalk.methods.api import Batch, Stage
from jaxtalk.training import sharding
from jaxtalk.training.loop import Upstream, compile_step
from jaxtalk.training.run import join_upstream
from jaxtalk.training.state import Modules, abstract_state, init_state, seed_key
from jaxtalk.training.step import Plan, batch_shapes, make_plan, make_step

Trained = dict[str, tuple[Modules, dict[str, Any]]]  # stage -> its networks, {"params", "stats"}
_LOG_EVERY = 100


@dataclasses.dataclass(frozen=True)
class TrainingSpeed:
    """One stage. Rates are a second over all devices; FLOPs are those of matrix products, forward and backward.

    `rays`, `evaluations` (of networks, along rays) and `images` are None for a stage that counts none. FLOPs are given
    for each image where the stage makes whole ones, since then most of them are not spent along rays, and otherwise for
    each evaluation.
    """

    stage: str
    at_step: int  # the first one that was measured
    phases: tuple[str, ...]
    frozen: tuple[str, ...]  # networks of other stages that the step asks, with random parameters
    dtype: str  # of most matrix products
    steps_per_second: float
    steps_per_second_with_input: float
    rays_per_second: float | None
    evaluations_per_second: float | None
    images_per_second: float | None
    flops_per_step: float
    flops_per_image: float | None
    flops_per_evaluation: float | None
    forward_flops_per_evaluation: float | None
    flops_per_second: float
    utilisation: float  # of the devices' peak for `dtype`
    compile_seconds: float
    step_bytes: int  # per device, as compiled: arguments, results, temporaries


def random_networks(stage: Stage, mesh: Mesh, upstream: Upstream) -> dict[str, Any]:
    """{"params", "stats"} of a stage before its first step."""
    plan = make_plan(stage, upstream.frozen)
    abstract = abstract_state(stage, plan.phases, len(plan.names), mesh, upstream.start_from)
    state = init_state(stage, plan.phases, seed_key(0, mesh), abstract, upstream.start_from)
    return {"params": state["params"], "stats": state["stats"]}


def random_stages(stages: Sequence[Stage], mesh: Mesh) -> Trained:
    """Networks of every stage, as if each were trained: what later stages and avatars stand on."""
    trained: Trained = {}
    for stage in stages:
        trained[stage.name] = (Modules.of(stage), random_networks(stage, mesh, _upstream(stage, trained)))
    return trained


def _upstream(stage: Stage, trained: Trained) -> Upstream:
    names = dict.fromkeys((*stage.needs, *stage.init_from.values()))
    return join_upstream(stage, {name: trained[name] for name in names})


def measure_training(
    stage: Stage, clips: Sequence[ClipView], trained: Trained, mesh: Mesh, workers: int, seconds: float
) -> TrainingSpeed:
    """Compiles the stage's step and runs it for about `seconds` twice: on one batch again and again, then on fresh
    ones from the input pipeline."""
    sharding.check_batch_size(stage.name, stage.batch_size, mesh)
    upstream = _upstream(stage, trained)
    plan = make_plan(stage, upstream.frozen)
    frozen = {part: {name: upstream.frozen_arrays[part][name] for name in plan.frozen.graphs}
              for part in upstream.frozen_arrays}  # fmt: skip
    abstract = abstract_state(stage, plan.phases, len(plan.names), mesh, upstream.start_from)
    key = seed_key(0, mesh)
    started = time.perf_counter()
    compiled = compile_step(plan, abstract, frozen, mesh, _LOG_EVERY)
    compile_seconds = time.perf_counter() - started
    first_step = jax.device_put(jnp.int32(stage.steps), abstract["step"].sharding)
    carry = [init_state(stage, plan.phases, key, abstract, upstream.start_from) | {"step": first_step}]

    def step(batch: Batch) -> dict[str, jax.Array]:
        carry[0], report = compiled(carry[0], frozen, key, batch)
        return report

    stream = _device_batches(stage, clips, mesh, workers)
    try:
        first = next(stream)
        alone = rate(lambda: step(first), seconds)
        with_input = rate(lambda: step(next(stream)), seconds)
    finally:
        stream.close()

    traced = jax.make_jaxpr(make_step(plan, _LOG_EVERY))(abstract, frozen, jax.random.key(0), batch_shapes(stage))
    flops = mean_flops(traced, _step_index(abstract), stage.steps)
    work = matrix_rate(main_dtype(traced.jaxpr))
    return _speed(plan, work, mesh, alone, with_input, flops, _forward_flops(plan, frozen), compile_seconds,
                  _bytes(compiled))  # fmt: skip


def _step_index(state: dict[str, Any]) -> int:
    """Which leaf of a state is the step."""
    return [path[0].key for path, _ in jax.tree_util.tree_leaves_with_path(state)].index("step")


def _speed(plan: Plan, work: MatrixRate, mesh: Mesh, alone: float, with_input: float, flops: float, forward: float,
           compile_seconds: float, step_bytes: int) -> TrainingSpeed:  # fmt: skip
    stage = plan.stage
    rays, images = getattr(stage, "rays_per_step", None), images_per_step(stage)
    evaluations = evaluations_per_step(stage)
    along_rays = evaluations if not images else None
    return TrainingSpeed(
        stage=stage.name,
        at_step=stage.steps,
        phases=tuple(phase.name for phase in plan.phases),
        frozen=tuple(plan.frozen.graphs),
        dtype=work.dtype,
        steps_per_second=alone,
        steps_per_second_with_input=with_input,
        rays_per_second=rays and rays * alone,
        evaluations_per_second=evaluations and evaluations * alone,
        images_per_second=images and images * alone,
        flops_per_step=flops,
        flops_per_image=images and flops / images,
        flops_per_evaluation=along_rays and flops / along_rays,
        forward_flops_per_evaluation=along_rays and forward / along_rays,
        flops_per_second=flops * alone,
        utilisation=flops * alone / (work.peak * mesh.size),
        compile_seconds=compile_seconds,
        step_bytes=step_bytes,
    )


def evaluations_per_step(stage: Stage) -> int | None:
    """Evaluations of all networks along rays in one step, where the stage counts them."""
    counts: Mapping[str, int] = getattr(stage, "evaluations_per_step", {})
    return sum(counts.values()) or None


def images_per_step(stage: Stage) -> int | None:
    """Whole pictures that one step makes, where the stage counts them."""
    return getattr(stage, "images_per_step", None)


def _device_batches(
    stage: Stage, clips: Sequence[ClipView], mesh: Mesh, workers: int
) -> Generator[dict[str, Any], None, None]:
    examples = sharding.rows_by_process(stage.examples(clips, 0), stage.batch_size, jax.process_count())
    with batches(
        examples,
        stage.batch_size,
        process_index=jax.process_index(),
        process_count=jax.process_count(),
        workers=workers,
        start_step=0,
    ) as stream:
        for local in stream:
            yield sharding.global_batch(local, stage.batch_size, mesh)


def _forward_flops(plan: Plan, frozen: dict[str, Any]) -> float:
    """FLOPs of all losses of a step without their gradients."""

    def forward(step: jax.Array, params: Any, stats: Any, frozen: Any, key: jax.Array, batch: Batch) -> list[jax.Array]:
        values = []
        for phase in plan.phases:
            networks = plan.frozen.merge(frozen["params"], frozen["stats"]) | plan.own.merge(params, stats)
            terms, _ = phase.losses(networks, batch, key, step)
            values += [term.values for term in terms.values()]
        return values

    shapes = (plan.own.params, plan.own.stats, frozen, jax.random.key(0), batch_shapes(plan.stage))
    return mean_flops(jax.make_jaxpr(forward)(jnp.int32(0), *shapes), 0, plan.stage.steps)


def main_dtype(jaxpr: Any) -> str:
    """The type of the operands of most matrix products, by the size of what they make."""
    amounts: dict[str, float] = {}
    _add_products(jaxpr, 1.0, amounts)
    return max(amounts, key=lambda name: amounts[name]) if amounts else "float32"


def _add_products(jaxpr: Any, times: float, amounts: dict[str, float]) -> None:
    for equation in jaxpr.eqns:
        if equation.primitive.name in ("dot_general", "conv_general_dilated"):
            name = str(equation.invars[0].aval.dtype)
            amounts[name] = amounts.get(name, 0.0) + times * equation.outvars[0].aval.size
        inner = times * equation.params["length"] if equation.primitive.name == "scan" else times
        for value in equation.params.values():
            for item in value if isinstance(value, tuple | list) else (value,):
                program = getattr(item, "jaxpr", item)
                if hasattr(program, "eqns"):
                    _add_products(program, inner, amounts)


def _bytes(compiled: Any) -> int:
    memory = compiled.memory_analysis()
    return (
        memory.argument_size_in_bytes
        + memory.output_size_in_bytes
        + memory.temp_size_in_bytes
        - memory.alias_size_in_bytes
    )
