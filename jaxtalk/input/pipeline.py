"""Batches from a random-access stream of examples: deterministic, sharded by process, prefetched, resumable by step.

Batch number `step` of the whole run holds examples step * B ... step * B + B - 1 of the stream; process p of n makes
those with index p modulo n. As example i depends on i alone, neither the number of processes nor of workers changes
what a step sees, and a run resumes from its step without any state of the iterator.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator
from types import TracebackType
from typing import Any, Self

import grain
import numpy as np

from jaxtalk.errors import JaxtalkError

_ENDLESS = 1 << 40  # a stream shorter than this is no stream but one epoch
_PREFETCH = 4  # batches ready ahead of the step, per reading process


class Batches(Iterator[dict[str, np.ndarray]]):
    """Endless iterator over this process's share [B / n, ...] of each global batch. Use as a context manager.

    `close` stops threads and worker processes; it may be called again.
    """

    def __init__(self, dataset: grain.IterDataset, step: int) -> None:
        self.step = step  # of the next batch
        self._iterator = iter(dataset)
        self._lock = threading.Lock()

    def __next__(self) -> dict[str, np.ndarray]:
        with self._lock:
            batch = next(self._iterator)
            self.step += 1
            return batch

    def close(self) -> None:
        self._iterator.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def batches(
    examples: grain.MapDataset,
    batch_size: int,
    *,
    process_index: int = 0,
    process_count: int = 1,
    workers: int = 0,
    start_step: int = 0,
) -> Batches:
    """Iterates over local batches (dicts of arrays [batch_size / process_count, ...]) from `start_step` on.

    Args:
        examples: endless (`.repeat()`) random-access stream of dicts of numpy arrays; element i depends on i alone.
        batch_size: examples per step over all processes.
        process_index: this process, 0 to process_count - 1.
        process_count: processes that share the batch.
        workers: processes that make batches; 0: threads of this process, the faster choice where frames are cached.
        start_step: the first step to make.

    Raises:
        JaxtalkError: the batch cannot be divided among the processes.
        ValueError: the stream is finite.
    """
    if batch_size % process_count:
        raise JaxtalkError(
            f"a batch of {batch_size} cannot be divided among {process_count} processes; make it a multiple"
        )
    if len(examples) < _ENDLESS:
        raise ValueError(f"a stream of {len(examples)} examples is finite; end it with .repeat()")
    local = _LocalBatches(examples, batch_size, process_index, process_count)
    dataset = local[start_step:].to_iter_dataset(_read_options(workers))
    if workers:
        _parse_grain_flags()
        options = grain.MultiprocessingOptions(num_workers=workers, per_worker_buffer_size=_PREFETCH)
        dataset = dataset.mp_prefetch(options, worker_init_fn=_leave_devices_alone)
    return Batches(dataset, start_step)


class _LocalBatches(grain.MapDataset[dict[str, np.ndarray]]):
    """Element `step` is this process's share of batch `step`. One layer instead of grain's slice and batch, whose
    bookkeeping per example costs as much as a small example."""

    def __init__(self, examples: grain.MapDataset, batch_size: int, index: int, count: int) -> None:
        super().__init__(examples)
        self._examples, self._size, self._index, self._count = examples, batch_size, index, count

    def __len__(self) -> int:
        return len(self._examples) // self._size

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return self.slice(index)
        start = index * self._size
        members = [self._examples[i] for i in range(start + self._index, start + self._size, self._count)]
        return {name: np.stack([example[name] for example in members]) for name in members[0]}


def _read_options(workers: int) -> grain.ReadOptions:
    # Making a batch is mostly short numpy calls under one interpreter lock: more threads than this only contend.
    threads = 1 if workers else min(2, os.cpu_count() or 1)
    return grain.ReadOptions(num_threads=threads, prefetch_buffer_size=_PREFETCH)


def _leave_devices_alone(worker: int, count: int) -> None:
    """Worker processes use numpy alone: what they import must not claim an accelerator."""
    os.environ["JAX_PLATFORMS"] = "cpu"
    import jax

    jax.config.update("jax_platforms", "cpu")  # imported before, by grain, it has read the variable already


def _parse_grain_flags() -> None:
    """grain reads absl flags when it starts workers; outside `app.run` (tests, notebooks) nobody has parsed them."""
    from absl import flags

    if not flags.FLAGS.is_parsed():
        flags.FLAGS(sys.argv[:1])
