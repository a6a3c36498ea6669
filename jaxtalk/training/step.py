"""The one training step of every stage: each phase whose turn it is takes an optimiser update."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxtalk.methods.api import Batch, Phase, Stage, Term
from jaxtalk.training.state import Modules, State, split_networks, stream_key

# (state, frozen, key, batch) -> (state, report); `frozen` is {"params", "stats"} of the needed networks.
StepFn = Callable[[State, dict[str, Any], jax.Array, Batch], tuple[State, dict[str, jax.Array]]]


@dataclasses.dataclass(frozen=True)
class Plan:
    """What a step of a stage computes, known before anything runs.

    `names` are the K logged values in order: of each phase its terms, `loss`, `grad_norm`, then its own scalars, as
    PHASE/NAME. `phase_of` [K] says whose each is, `checked` [K] which of them must be finite.
    """

    stage: Stage
    phases: tuple[Phase, ...]
    own: Modules
    frozen: Modules
    names: tuple[str, ...]
    phase_of: np.ndarray
    checked: np.ndarray


def reduce_term(term: Term) -> jax.Array:
    """sum(values * mask) / sum(mask) over the global batch in float32, without the weight; 0 where nothing counts."""
    values = jnp.asarray(term.values, jnp.float32)
    if term.mask is None:
        return jnp.mean(values)
    mask = jnp.broadcast_to(jnp.asarray(term.mask, jnp.float32), values.shape)
    # A value that does not count may be anything, not finite too.
    total = jnp.sum(jnp.where(mask != 0, values * mask, 0.0))
    count = jnp.sum(mask)
    return jnp.where(count > 0, total / jnp.where(count > 0, count, 1.0), 0.0)


def _loss(
    plan: Plan,
    phase: Phase,
    trained: dict[str, Any],
    state: State,
    frozen: dict[str, Any],
    key: jax.Array,
    batch: Batch,
) -> tuple[jax.Array, tuple[dict[str, Any], dict[str, jax.Array], dict[str, jax.Array]]]:
    """Loss of a phase, and (statistics of the own networks after it, reduced terms, scalars for the log)."""
    own = plan.own.merge(state["params"] | trained, state["stats"])
    networks = plan.frozen.merge(frozen["params"], frozen["stats"]) | own
    terms, scalars = phase.losses(networks, batch, key, state["step"])
    reduced = {name: reduce_term(term) for name, term in terms.items()}
    loss = sum((term.weight * reduced[name] for name, term in terms.items()), jnp.float32(0))
    scalars = {name: jnp.mean(jnp.asarray(value, jnp.float32)) for name, value in scalars.items()}
    return loss, (split_networks(own)[1], reduced, scalars)


def make_plan(stage: Stage, frozen: Modules) -> Plan:
    """Traces the losses once for the names of what they report. Raises `ValueError` for a stage that contradicts
    itself: a phase that trains a network the stage does not have, or two values of one name."""
    own, phases = Modules.of(stage), tuple(stage.phases())
    frozen = frozen.select([name for name in frozen.graphs if name not in own.graphs])
    names: list[str] = []
    phase_of, checked = [], []
    plan = Plan(stage, phases, own, frozen, (), np.zeros(0, int), np.zeros(0, bool))
    state = {"params": own.params, "stats": own.stats, "step": jax.ShapeDtypeStruct((), jnp.int32)}
    rest = {"params": frozen.params, "stats": frozen.stats}
    for index, phase in enumerate(phases):
        missing = [name for name in phase.trains if name not in own.graphs]
        if missing or phase.every < 1 or phase.start < 0:
            raise ValueError(f"stage {stage.name}, phase {phase.name}: trains {missing or phase.trains} of networks "
                             f"{sorted(own.graphs)}, every {phase.every}, start {phase.start}")  # fmt: skip
        _, (_, terms, scalars) = jax.eval_shape(
            lambda state, rest, key, batch, phase=phase: _loss(plan, phase, {}, state, rest, key, batch),
            state, rest, jax.random.key(0), batch_shapes(stage),
        )  # fmt: skip
        must = [*terms, "loss", "grad_norm"]
        names += [f"{phase.name}/{name}" for name in (*must, *scalars)]
        checked += [True] * len(must) + [False] * len(scalars)
        phase_of += [index] * (len(must) + len(scalars))
    if len(set(names)) < len(names):
        raise ValueError(f"stage {stage.name}: two values of one name among {names}")
    return dataclasses.replace(plan, names=tuple(names), phase_of=np.array(phase_of), checked=np.array(checked))


def batch_shapes(stage: Stage) -> dict[str, jax.ShapeDtypeStruct]:
    """Shapes of the stage's global batch."""
    return {
        name: jax.ShapeDtypeStruct((stage.batch_size, *spec.shape), spec.dtype)
        for name, spec in stage.example_spec().items()
    }


def make_step(plan: Plan, log_every: int) -> StepFn:
    """The pure function that takes one step; jit it with the state donated.

    Its report is {"mean" [K], "count" [P], "bad_step", "bad_term", "bad_values" [K]}: `mean` of each value over the
    steps since the last line of the log in which its phase ran, which `count` says how often it did.
    """

    def step(state: State, frozen: dict[str, Any], key: jax.Array, batch: Batch) -> tuple[State, dict[str, jax.Array]]:
        state = dict(state)
        values, ran = [], []
        for index in range(len(plan.phases)):
            state, phase_values, due = _run_phase(plan, index, state, frozen, key, batch)
            values.append(phase_values)
            ran.append(due)
        state["log"] = _add_to_log(plan, state, jnp.concatenate(values), jnp.stack(ran), log_every)
        state["bad"] = _first_bad(plan, state, jnp.concatenate(values))
        if plan.stage.ema_decay is not None:
            # Shorter at first, or the average of a short run would still hold the initial values.
            decay = jnp.minimum(plan.stage.ema_decay, (1 + state["step"]) / (10 + state["step"]))
            state["ema"] = jax.tree.map(lambda old, new: decay * old + (1 - decay) * new, state["ema"], state["params"])
        state["step"] = state["step"] + 1
        count = state["log"]["count"]
        report = {
            "mean": state["log"]["sum"] / jnp.maximum(count, 1)[plan.phase_of],
            "count": count,
            **{f"bad_{name}": value for name, value in state["bad"].items()},
        }
        return state, report

    return step


def _run_phase(
    plan: Plan, index: int, state: State, frozen: dict[str, Any], key: jax.Array, batch: Batch
) -> tuple[State, jax.Array, jax.Array]:
    """The state after the phase, its values [K of the phase] (zeros when it was not its turn), and whether it was."""
    phase = plan.phases[index]
    key = stream_key(key, plan.stage.name, phase.name, state["step"])
    own_names = [plan.names[i].removeprefix(phase.name + "/") for i in np.flatnonzero(plan.phase_of == index)]

    def update(carry: State) -> tuple[State, jax.Array]:
        current = state | {"stats": carry["stats"]}
        gradient = jax.value_and_grad(
            lambda trained: _loss(plan, phase, trained, current, frozen, key, batch), has_aux=True
        )
        (loss, (stats, terms, scalars)), grads = gradient(carry["params"])
        updates, opt = phase.optimizer.update(grads, carry["opt"], carry["params"])
        params = optax.apply_updates(carry["params"], updates)
        found = {**terms, "loss": loss, "grad_norm": optax.tree.norm(grads), **scalars}
        values = jnp.stack([found[name] for name in own_names])
        return {"params": params, "stats": stats, "opt": opt}, values

    def skip(carry: State) -> tuple[State, jax.Array]:
        return carry, jnp.zeros(len(own_names))

    carry = {
        "params": {name: state["params"][name] for name in phase.trains},
        "stats": state["stats"],
        "opt": state["opt"][phase.name],
    }
    due = (state["step"] >= phase.start) & ((state["step"] - phase.start) % phase.every == 0)
    always = phase.every == 1 and phase.start == 0
    carry, values = update(carry) if always else jax.lax.cond(due, update, skip, carry)
    state = state | {
        "params": state["params"] | carry["params"],
        "stats": carry["stats"],
        "opt": state["opt"] | {phase.name: carry["opt"]},
    }
    return state, values, due


def _add_to_log(plan: Plan, state: State, values: jax.Array, ran: jax.Array, log_every: int) -> dict[str, jax.Array]:
    fresh = state["step"] % log_every == 0
    log = jax.tree.map(lambda total: jnp.where(fresh, jnp.zeros_like(total), total), state["log"])
    return {"sum": log["sum"] + jnp.where(ran[plan.phase_of], values, 0.0), "count": log["count"] + ran}


def _first_bad(plan: Plan, state: State, values: jax.Array) -> dict[str, jax.Array]:
    """Remembers the first step with a value that is not finite, so that it can be named long after."""
    wrong = ~jnp.isfinite(values) & plan.checked
    new = {"step": state["step"], "term": jnp.argmax(wrong).astype(jnp.int32), "values": values}
    is_first = jnp.any(wrong) & (state["bad"]["step"] < 0)
    return jax.tree.map(lambda old, new: jnp.where(is_first, new, old), state["bad"], new)
