"""The dry run against what can be counted by hand."""

from __future__ import annotations

import grain
import optax
import pytest
from flax import nnx

from jaxtalk.errors import JaxtalkError
from jaxtalk.methods.api import Phase, Term
from jaxtalk.training.dry_run import dry_run
from tests.toy_method import MLP, ToyStage, latents, toy_config


def _no_data(seed: int) -> grain.MapDataset:
    from tests.toy_method import points

    return points(seed)[:1]  # enough for the shapes, far too little to train on


def mlp_stage(batch_size: int) -> ToyStage:
    return ToyStage(
        "fit",
        lambda key: {"regressor": MLP((4, 128, 128, 2), nnx.Rngs(key))},
        lambda: (
            Phase(
                "fit",
                ("regressor",),
                optax.adam(1e-3),
                lambda networks, batch, key, step: (
                    {"mse": Term((networks["regressor"](batch["x"]) - batch["y"]) ** 2)},
                    {},
                ),
            ),
        ),
        batch_size=batch_size,
        ema_decay=0.99,
        data=_no_data,
    )


def test_numbers_of_a_known_mlp(capsys: pytest.CaptureFixture[str]) -> None:
    batch_size = 4096
    cost, upper = dry_run(toy_config(), [mlp_stage(batch_size), latents(data=_no_data)])
    weights, biases = 4 * 128 + 128 * 128 + 128 * 2, 128 + 128 + 2
    assert cost.parameters == weights + biases
    # Forward and weight gradients of all three layers, input gradients of the last two.
    expected = 2 * batch_size * (2 * weights + 128 * 128 + 128 * 2)
    assert cost.matmul_flops == expected
    assert cost.flops == pytest.approx(expected, rel=0.05)
    # Parameters, two moments and their average; beside them the step, Adam's count and a few numbers of the log.
    assert 0 <= cost.state_bytes - 4 * 4 * cost.parameters < 200
    batch_bytes = batch_size * 4 * (4 + 2)
    assert cost.state_bytes + batch_bytes <= cost.argument_bytes <= cost.state_bytes + batch_bytes * 1.2 + 1000
    # Two hidden layers of activations have to be somewhere.
    assert cost.temporary_bytes >= 2 * batch_size * 128 * 4
    assert cost.state_bytes + cost.temporary_bytes < cost.peak_bytes < 3 * (cost.state_bytes + cost.temporary_bytes)
    assert (upper.parameters, upper.frozen_parameters) == (12, cost.parameters)
    said = capsys.readouterr().out
    assert f"{cost.parameters:,}" in said and "matmul FLOPs per step" in said and "regressor/layers/1/kernel" in said


def test_what_would_stop_the_run_stops_the_dry_run() -> None:
    with pytest.raises(JaxtalkError, match="fsdp"):
        dry_run(toy_config(fsdp=3), [mlp_stage(8)])
    with pytest.raises(ValueError, match="not before it"):
        dry_run(toy_config(), [latents()])
