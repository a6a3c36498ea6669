"""What surrounds a run: other processes, the cache of compiled programs, the order of batches, the folder's lock."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from pathlib import Path

import grain
import jax
import numpy as np
import pytest
from jax.sharding import AbstractMesh, PartitionSpec

from jaxtalk.errors import JaxtalkError
from jaxtalk.input.pipeline import batches
from jaxtalk.training.compile_cache import enable_compile_cache
from jaxtalk.training.distributed import initialize
from jaxtalk.training.run import train_stages
from jaxtalk.training.sharding import check_batch_size, rows_by_process, state_sharding
from tests.toy_method import regressor, toy_config


@pytest.mark.parametrize("processes", [1, 2, 4])
def test_processes_get_blocks_of_the_same_batch(processes: int) -> None:
    """What the processes read, block after block, is the batch that one process reads, at any step."""
    stream = grain.MapDataset.range(1 << 40).map(lambda i: {"i": np.array(i)})
    shares = []
    for index in range(processes):
        local = rows_by_process(stream, 8, processes)
        with batches(local, 8, process_index=index, process_count=processes, start_step=3) as share:
            shares.append(next(share)["i"])
    assert np.concatenate(shares).tolist() == list(range(24, 32))


EIGHT = AbstractMesh((4, 2), ("data", "fsdp"))


def test_a_batch_that_does_not_split_is_named() -> None:
    check_batch_size("fit", 24, EIGHT)
    with pytest.raises(JaxtalkError, match="fit: batch_size 12 does not split over 8 devices"):
        check_batch_size("fit", 12, EIGHT)


@pytest.mark.parametrize(
    ("shape", "spec"),
    [
        ((300, 400), (None, "fsdp")),
        ((400, 300), ("fsdp",)),
        ((501, 300), (None, "fsdp")),  # the largest axis is odd
        ((501, 301), ()),
        ((8, 8), ()),  # too small to be worth it
        ((), ()),
    ],
)
def test_the_largest_axis_that_divides_is_split(shape: tuple[int, ...], spec: tuple[str | None, ...]) -> None:
    assert state_sharding(jax.ShapeDtypeStruct(shape, np.float32), EIGHT).spec == PartitionSpec(*spec)


def test_a_lonely_process_joins_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("JAX_COORDINATOR_ADDRESS", "JAXTALK_DISTRIBUTED"):
        monkeypatch.delenv(name, raising=False)
    assert initialize() is False


def test_an_incomplete_set_of_processes_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jax.distributed, "initialize", lambda *_, **__: pytest.fail("joined with nonsense"))
    monkeypatch.setenv("JAX_COORDINATOR_ADDRESS", "localhost:1234")
    monkeypatch.setenv("JAX_NUM_PROCESSES", "two")
    with pytest.raises(JaxtalkError, match="JAX_NUM_PROCESSES: 'two'"):
        initialize()
    monkeypatch.setenv("JAX_NUM_PROCESSES", "2")
    monkeypatch.setenv("JAX_PROCESS_ID", "2")
    with pytest.raises(JaxtalkError, match="2 is not below"):
        initialize()


@pytest.fixture
def no_cache_chosen() -> Iterator[None]:
    names = (
        "jax_compilation_cache_dir",
        "jax_persistent_cache_min_compile_time_secs",
        "jax_persistent_cache_min_entry_size_bytes",
    )
    old = {name: jax.config.values[name] for name in names}
    jax.config.update(names[0], None)
    yield
    for name, value in old.items():
        jax.config.update(name, value)


def test_the_cache_is_where_it_is_told(no_cache_chosen: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("JAXTALK_CACHE", str(tmp_path))
    folder = enable_compile_cache()
    assert folder.parent == tmp_path / "xla" and jax.config.values["jax_compilation_cache_dir"] == str(folder)
    monkeypatch.setenv("JAXTALK_CACHE", str(tmp_path / "other"))
    assert enable_compile_cache() == folder  # chosen already


def test_two_trainers_do_not_share_a_folder(tmp_path: Path) -> None:
    with open(tmp_path / ".lock", "a") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(JaxtalkError, match="another process is training here"):
            train_stages(toy_config(), tmp_path, [], [regressor(steps=0)])
    assert not (tmp_path / "config.json").exists()
