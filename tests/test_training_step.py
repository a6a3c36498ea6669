"""The step: against updates written out by hand, and against closed forms."""

from __future__ import annotations

import dataclasses
import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from jaxtalk.methods.api import Phase, Term
from jaxtalk.training import sharding
from jaxtalk.training.flops import matmul_flops
from jaxtalk.training.state import Modules, abstract_state, init_state, seed_key, state_sha256, stream_key
from jaxtalk.training.step import make_plan, make_step, reduce_term
from tests.toy_method import MLP, ToyStage, adversarial, points, regression, regressor

NOTHING = {"params": {}, "stats": {}}


def batch_of(step: int, size: int, seed: int = 0) -> dict[str, jax.Array]:
    examples = [points(seed)[i] for i in range(step * size, (step + 1) * size)]
    return {name: jnp.stack([example[name] for example in examples]) for name in examples[0]}


def run(stage: ToyStage, steps: int, log_every: int = 1000) -> tuple[list[dict], list[dict], object]:
    """States before step 0 ... after the last one, and the reports."""
    plan, mesh = make_plan(stage, Modules({}, {}, {})), sharding.make_mesh()
    key = seed_key(0, mesh)
    abstract = abstract_state(stage, plan.phases, len(plan.names), mesh, NOTHING)
    state = init_state(stage, plan.phases, key, abstract, NOTHING)
    step = jax.jit(make_step(plan, log_every))
    states, reports = [state], []
    for index in range(steps):
        state, report = step(state, NOTHING, key, batch_of(index, stage.batch_size))
        states.append(state)
        reports.append({name: np.asarray(value) for name, value in report.items()})
    return states, reports, plan


@functools.cache
def adversarial_run(log_every: int) -> tuple[list[dict], list[dict], object]:
    return run(adversarial(every=2, start=3), 9, log_every)


@functools.cache
def regression_run() -> tuple[list[dict], list[dict], object]:
    return run(regressor(width=8, ema_decay=0.8), 6)


def moved(before: object, after: object) -> bool:
    return any(bool(jnp.any(a != b)) for a, b in zip(jax.tree.leaves(before), jax.tree.leaves(after), strict=True))


def test_term_is_a_weighted_mean_over_what_counts() -> None:
    values, mask = np.arange(12.0).reshape(3, 4), np.array([[1.0], [0.0], [0.5]])
    expected = (values[0].sum() + 0.5 * values[2].sum()) / 6
    assert reduce_term(Term(jnp.asarray(values), mask=jnp.asarray(mask))) == pytest.approx(expected)
    assert reduce_term(Term(jnp.asarray(values), weight=7.0)) == pytest.approx(values.mean())
    hidden = jnp.asarray(values).at[1].set(jnp.nan)
    assert reduce_term(Term(hidden, mask=jnp.asarray(mask))) == pytest.approx(expected)
    assert reduce_term(Term(hidden, mask=jnp.zeros(()))) == 0


def test_two_phases_equal_the_update_written_out() -> None:
    """Discriminator, then the generator against the new discriminator, every second step from step 3 on."""
    stage = adversarial(every=2, start=3)
    states, _, _ = adversarial_run(1)
    key = jax.random.key(0)
    networks = stage.networks(stream_key(key, "gan", "networks"))
    critic_phase, generator_phase = stage.phases()
    graphs = {name: nnx.split(module)[0] for name, module in networks.items()}
    params = {name: nnx.state(module) for name, module in networks.items()}

    def gradient_of(phase, name):
        def loss(own, params, draw, batch):
            modules = {other: nnx.merge(graphs[other], (params | {name: own})[other]) for other in graphs}
            return sum(term.values.mean() for term in phase.losses(modules, batch, draw, 0)[0].values())

        return jax.jit(lambda params, draw, batch: jax.grad(loss)(params[name], params, draw, batch))

    gradients = {"critic": gradient_of(critic_phase, "critic"), "generator": gradient_of(generator_phase, "generator")}
    optimizer = optax.adam(1e-2)
    moments = {name: optimizer.init(params[name]) for name in networks}
    for step in range(9):
        for phase, name in ((critic_phase, "critic"), (generator_phase, "generator")):
            if name == "generator" and (step < 3 or (step - 3) % 2):
                continue
            draw, batch = stream_key(key, "gan", phase.name, step), batch_of(step, stage.batch_size)
            grads = gradients[name](params, draw, batch)
            updates, moments[name] = optimizer.update(grads, moments[name])
            params = params | {name: optax.apply_updates(params[name], updates)}
    for name in networks:
        expected = nnx.to_pure_dict(params[name])
        for (path, ours), theirs in zip(
            jax.tree_util.tree_leaves_with_path(states[-1]["params"][name]), jax.tree.leaves(expected), strict=True
        ):
            np.testing.assert_allclose(ours, theirs, rtol=2e-5, atol=2e-6, err_msg=f"{name}{path}")


def test_a_phase_waits_for_its_turn_and_touches_its_networks_alone() -> None:
    states, reports, _ = adversarial_run(1)
    took = [moved(a["params"]["generator"], b["params"]["generator"]) for a, b in itertools.pairwise(states)]
    assert took == [False, False, False, True, False, True, False, True, False]
    assert all(moved(a["params"]["critic"], b["params"]["critic"]) for a, b in itertools.pairwise(states))
    assert [int(report["count"][1]) for report in reports] == [int(turn) for turn in took]


def test_averaged_parameters_follow_the_closed_form() -> None:
    """p_k is left with (1 - d_k) d_k+1 ... d_n of the average, d_k the decay of step k: at first (1 + k) / (10 + k)."""
    states, _, _ = regression_run()
    decays = np.minimum(0.8, [(1 + step) / (10 + step) for step in range(6)])
    left = [np.prod(decays[k:]) * (1 - decays[k - 1] if k else 1) for k in range(7)]
    assert left[0] < 1e-3 and np.isclose(sum(left), 1)
    params = [jax.tree.map(lambda a: np.asarray(a, np.float64), state["params"]) for state in states]
    expected = jax.tree.map(lambda *p: sum(weight * value for weight, value in zip(left, p, strict=True)), *params)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7), states[-1]["ema"], expected)


def test_batch_statistics_move_as_by_hand() -> None:
    stage = regressor(width=8)
    states, _, _ = regression_run()
    module: MLP = stage.networks(stream_key(jax.random.key(0), "fit", "networks"))["regressor"]
    batch = batch_of(0, stage.batch_size)
    x = batch["x"] + 0.01 * jax.random.normal(stream_key(jax.random.key(0), "fit", "fit", 0), batch["x"].shape)
    for layer in list(module.layers)[:-1]:
        x = jnp.tanh(layer(x))
    np.testing.assert_allclose(states[1]["stats"]["regressor"]["norm"]["mean"], 0.1 * x.mean(0), rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(states[1]["stats"]["regressor"]["norm"]["var"], 0.9 + 0.1 * x.var(0), rtol=1e-5)


def test_the_report_is_the_mean_since_the_last_line() -> None:
    """Over the steps in which the phase ran: the critic in all, the generator in every second from 3 on."""
    _, single, plan = adversarial_run(1)
    triple = adversarial_run(3)[1]
    assert triple[2]["count"].tolist() == [3, 0]
    for name, steps in {"d/real": ((3, 4, 5), (6, 7, 8)), "g/deceive": ((3, 5), (7,))}.items():
        index = plan.names.index(name)
        for report, members in zip((triple[5], triple[8]), steps, strict=True):
            expected = np.mean([single[step]["mean"][index] for step in members])
            assert report["mean"][index] == pytest.approx(expected, rel=1e-5)


def test_the_first_bad_step_and_term_are_remembered() -> None:
    def losses(networks, batch, key, step):
        terms, _ = regression(networks, batch, key, step)
        late = jnp.where(step == 3, jnp.inf, 0.0) + jnp.where(step == 2, jnp.nan, 0.0)
        return terms | {"penalty": Term(late + jnp.ones(4), weight=0.5)}, {"harmless": jnp.float32(jnp.nan)}

    stage = regressor()
    stage.plan = lambda: (Phase("fit", ("regressor",), optax.adam(1e-2), losses),)
    _, reports, plan = run(stage, 5)
    assert [int(report["bad_step"]) for report in reports] == [-1, -1, 2, 2, 2]
    assert plan.names[int(reports[-1]["bad_term"])] == "fit/penalty"
    values = dict(zip(plan.names, reports[-1]["bad_values"], strict=True))
    assert np.isfinite(values["fit/mse"]) and np.isnan(values["fit/penalty"])


def test_the_weight_reaches_the_gradient_and_not_the_logged_term() -> None:
    def with_weight(weight: float) -> ToyStage:
        stage = regressor(ema_decay=None)

        def losses(networks, batch, key, step):
            terms, _ = regression(networks, batch, key, step)
            return {"mse": dataclasses.replace(terms["mse"], weight=weight)}, {}

        stage.plan = lambda: (Phase("fit", ("regressor",), optax.sgd(0.1), losses),)
        return stage

    (one, after_one), (report_one,), plan = run(with_weight(1.0), 1)
    assert one["ema"] == {}
    (_, after_three), (report_three,), _ = run(with_weight(3.0), 1)
    jax.tree.map(
        lambda p, a, b: np.testing.assert_allclose(b - p, 3 * (a - p), rtol=1e-3, atol=1e-6),
        one["params"], after_one["params"], after_three["params"],
    )  # fmt: skip
    values = [dict(zip(plan.names, report["mean"], strict=True)) for report in (report_one, report_three)]
    assert values[0]["fit/mse"] == pytest.approx(values[1]["fit/mse"])
    assert 3 * values[0]["fit/loss"] == pytest.approx(values[1]["fit/loss"])
    assert 3 * values[0]["fit/grad_norm"] == pytest.approx(values[1]["fit/grad_norm"], rel=1e-4)


def test_a_stage_that_contradicts_itself_is_refused() -> None:
    stage = regressor()
    stage.plan = lambda: (Phase("fit", ("nobody",), optax.adam(1e-2), regression),)
    with pytest.raises(ValueError, match="nobody"):
        make_plan(stage, Modules({}, {}, {}))
    stage.plan = lambda: (
        Phase("fit", ("regressor",), optax.adam(1e-2), lambda *a: (regression(*a)[0], {"loss": jnp.zeros(())})),
    )
    with pytest.raises(ValueError, match="fit/loss"):
        make_plan(stage, Modules({}, {}, {}))


def test_the_hash_sees_every_part_and_nothing_else() -> None:
    state = {"params": {"a": np.arange(3.0)}, "opt": {"m": np.zeros(2)}, "ema": {"a": np.ones(3)}, "step": np.array(1)}
    reference = state_sha256(state)
    assert state_sha256(state | {"step": np.array(2)}) == reference
    for part, name in (("params", "a"), ("opt", "m"), ("ema", "a")):
        changed = state[part][name].copy()
        changed[0] = np.nextafter(changed[0], 9)
        assert state_sha256(state | {part: {name: changed}}) != reference
        assert state_sha256(state | {part: {name + "x": state[part][name]}}) != reference


def test_matmul_flops_count_products_convolutions_and_loops() -> None:
    a, b = jnp.zeros((5, 3, 7)), jnp.zeros((5, 7, 2))
    assert matmul_flops(jax.make_jaxpr(jnp.matmul)(a, b).jaxpr) == 2 * 5 * 3 * 7 * 2

    def loop(w, x):
        return jax.lax.scan(lambda x, _: (jnp.tanh(x @ w), None), x, length=11)[0]

    assert matmul_flops(jax.make_jaxpr(jax.jit(loop))(jnp.zeros((4, 4)), jnp.zeros((6, 4))).jaxpr) == 11 * 2 * 6 * 16
    image, kernel = jnp.zeros((2, 3, 8, 8)), jnp.zeros((10, 3, 3, 3))
    conv = jax.make_jaxpr(lambda x, k: jax.lax.conv(x, k, (1, 1), "VALID"))(image, kernel)
    assert matmul_flops(conv.jaxpr) == 2 * (2 * 10 * 6 * 6) * (3 * 3 * 3)
    grouped = jax.make_jaxpr(lambda x, k: jax.lax.conv_general_dilated(x, k, (1, 1), "VALID", feature_group_count=3))
    assert matmul_flops(grouped(image, jnp.zeros((9, 1, 3, 3))).jaxpr) == 2 * (2 * 9 * 6 * 6) * 9
    branch = jax.make_jaxpr(lambda p, x: jax.lax.cond(p, lambda x: x @ x, lambda x: x, x))(True, jnp.zeros((4, 4)))
    assert matmul_flops(branch.jaxpr) == 2 * 64
