"""Batches: a function of the step alone, whatever the processes, workers and interruptions."""

from __future__ import annotations

import itertools
import os
import threading

import grain
import numpy as np
import pytest

from jaxtalk.errors import JaxtalkError
from jaxtalk.input.examples import endless
from jaxtalk.input.pipeline import batches

COUNT = 10


def make(item: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """An example that knows its item and its draw; module level, so that workers can have it."""
    return {"item": np.array(item), "draw": rng.integers(1 << 30, size=3)}


def _take(count: int, **options: int) -> list[dict[str, np.ndarray]]:
    with batches(endless(COUNT, make, 3), 4, **options) as stream:
        return list(itertools.islice(stream, count))


def _same(first: list[dict[str, np.ndarray]], second: list[dict[str, np.ndarray]]) -> None:
    assert len(first) == len(second)
    for one, other in zip(first, second, strict=True):
        assert one.keys() == other.keys()
        for name in one:
            np.testing.assert_array_equal(one[name], other[name])


def test_every_epoch_visits_every_item_once_in_a_new_order() -> None:
    stream = endless(COUNT, make, 3)
    epochs = [[int(stream[e * COUNT + i]["item"]) for i in range(COUNT)] for e in range(4)]
    assert all(sorted(epoch) == list(range(COUNT)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 4
    draws = {tuple(stream[i]["draw"].tolist()) for i in range(4 * COUNT)}
    assert len(draws) == 4 * COUNT, "each visit draws anew"


def test_examples_depend_on_seed_and_index_alone() -> None:
    first, second, other = endless(COUNT, make, 3), endless(COUNT, make, 3), endless(COUNT, make, 4)
    backwards = [second[i] for i in reversed(range(30))][::-1]
    _same([first[i] for i in range(30)], backwards)
    assert any(int(first[i]["item"]) != int(other[i]["item"]) for i in range(30))
    assert not np.array_equal(first[0]["draw"], other[0]["draw"])


def test_batches_are_the_stream_in_order() -> None:
    stream = endless(COUNT, make, 3)
    for step, batch in enumerate(_take(6)):
        assert batch["draw"].shape == (4, 3)
        _same([{k: v[j] for k, v in batch.items()} for j in range(4)], [stream[4 * step + j] for j in range(4)])


@pytest.mark.parametrize("count", [2, 4])
def test_processes_together_make_the_single_stream(count: int) -> None:
    parts = [_take(5, process_index=p, process_count=count) for p in range(count)]
    merged = [
        {name: np.stack([part[step][name] for part in parts], 1).reshape(whole[name].shape) for name in whole}
        for step, whole in enumerate(_take(5))
    ]
    _same(merged, _take(5))
    assert parts[0][0]["item"].shape == (4 // count,)


@pytest.mark.parametrize("step", [0, 1, 7, 123_456])
def test_resuming_continues_exactly(step: int) -> None:
    stream = endless(COUNT, make, 3)
    resumed = _take(3, start_step=step)
    _same(resumed, [{k: np.stack([stream[4 * s + j][k] for j in range(4)]) for k in ("item", "draw")}
                    for s in range(step, step + 3)])  # fmt: skip
    if step < 10:
        _same(resumed, _take(step + 3)[step:])


def test_step_counts_what_was_handed_out() -> None:
    with batches(endless(COUNT, make, 3), 4, start_step=5) as stream:
        assert stream.step == 5
        next(stream)
        assert stream.step == 6


def test_workers_change_nothing() -> None:
    _same(_take(7, workers=2, start_step=2), _take(7, start_step=2))


def make_platform(item: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
    import jax

    return {"cpu": np.array(jax.config.jax_platforms == "cpu"), "pid": np.array(os.getpid())}


def test_workers_leave_accelerators_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("JAX_PLATFORMS")
    with batches(endless(COUNT, make_platform, 0), 2, workers=1) as stream:
        batch = next(stream)
    assert batch["cpu"].all() and not (batch["pid"] == os.getpid()).any()


def test_errors_of_examples_reach_the_loop() -> None:
    def broken(item: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
        raise JaxtalkError(f"frame {item} is unreadable")

    with batches(endless(COUNT, broken, 0), 4) as stream, pytest.raises(JaxtalkError, match="is unreadable"):
        next(stream)


def test_closing_stops_threads_and_may_be_repeated() -> None:
    before = threading.active_count()
    stream = batches(endless(COUNT, make, 3), 4)
    next(stream)
    stream.close()
    stream.close()
    deadline = threading.Event()
    for _ in range(50):
        if threading.active_count() <= before:
            break
        deadline.wait(0.1)
    assert threading.active_count() <= before


def test_any_grain_stream_will_do() -> None:
    stream = grain.MapDataset.range(COUNT).seed(0).shuffle().repeat().map(lambda i: {"item": np.array(i)})
    with batches(stream, 4, process_index=1, process_count=2, start_step=3) as local:
        np.testing.assert_array_equal(next(local)["item"], [stream[13]["item"], stream[15]["item"]])


def test_what_cannot_be_batched() -> None:
    with pytest.raises(JaxtalkError, match="a batch of 4 cannot be divided among 3 processes"):
        batches(endless(COUNT, make, 0), 4, process_count=3)
    with pytest.raises(ValueError, match=r"finite; end it with \.repeat"):
        batches(grain.MapDataset.range(COUNT).map(lambda i: {"item": np.array(i)}), 4)
    with pytest.raises(ValueError, match="at least one item"):
        endless(0, make, 0)
