"""Where arrays live: one mesh for one CPU, eight virtual ones, N GPUs or many hosts.

The mesh has two axes. Batches are split over both; large parameters (and their optimiser moments) over `fsdp`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import grain
import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from jaxtalk.errors import JaxtalkError

# Splitting an array smaller than this costs more in messages than it saves in memory.
MIN_SPLIT_SIZE = 1 << 16


def make_mesh(fsdp: int = 1) -> Mesh:
    """Mesh [data, fsdp] over all devices of all processes. Raises `JaxtalkError` when `fsdp` does not divide them."""
    count = jax.device_count()
    if fsdp < 1 or count % fsdp:
        raise JaxtalkError(f"config.train.fsdp: {fsdp} does not divide the {count} devices; set it to a divisor")
    return jax.make_mesh((count // fsdp, fsdp), ("data", "fsdp"), axis_types=(AxisType.Auto, AxisType.Auto))


def replicated(mesh: Mesh) -> NamedSharding:
    return NamedSharding(mesh, PartitionSpec())


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """The leading axis split over every device."""
    return NamedSharding(mesh, PartitionSpec(("data", "fsdp")))


def state_sharding(tree: Any, mesh: Mesh) -> Any:
    """For each leaf of a tree of arrays (or their shapes): its largest axis that `fsdp` divides is split, if large."""
    ways = mesh.shape["fsdp"]

    def leaf_sharding(leaf: Any) -> NamedSharding:
        divisible = [axis for axis, size in enumerate(leaf.shape) if size % ways == 0]
        if ways == 1 or not divisible or np.prod(leaf.shape) < MIN_SPLIT_SIZE:
            return replicated(mesh)
        axis = max(divisible, key=lambda axis: leaf.shape[axis])
        return NamedSharding(mesh, PartitionSpec(*[None] * axis, "fsdp"))

    return jax.tree.map(leaf_sharding, tree)


def with_sharding(tree: Any, shardings: Any) -> Any:
    """The shapes of `tree` as `jax.ShapeDtypeStruct`s that also say where they live."""
    return jax.tree.map(
        lambda leaf, sharding: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding), tree, shardings
    )


def check_batch_size(stage: str, batch_size: int, mesh: Mesh) -> None:
    """Raises `JaxtalkError` when the global batch cannot be split evenly over the devices."""
    if batch_size % mesh.size:
        raise JaxtalkError(
            f"stage {stage}: batch_size {batch_size} does not split over {mesh.size} devices; "
            f"make it a multiple of {mesh.size}, or show fewer devices to the program"
        )


def rows_by_process(examples: grain.MapDataset, batch_size: int, process_count: int) -> grain.MapDataset:
    """The stream in an order whose examples p, p + n, ... are block p of n of each batch.

    `input.pipeline` deals examples out in turn, arrays are assembled from blocks: after this, row r of the global
    batch is example r whatever the number of processes, and so is the random number that a loss draws for it.
    """
    if process_count == 1:
        return examples
    block = batch_size // process_count

    def example(i: int) -> dict[str, np.ndarray]:
        batch, row = divmod(i, batch_size)
        return examples[batch * batch_size + row % process_count * block + row // process_count]

    return grain.MapDataset.range(len(examples)).map(example)


def global_batch(local: Mapping[str, np.ndarray], batch_size: int, mesh: Mesh) -> dict[str, jax.Array]:
    """Global arrays [batch_size, ...] from this process's rows [batch_size / processes, ...]."""
    sharding = batch_sharding(mesh)
    if jax.process_count() == 1:
        return jax.device_put(dict(local), sharding)  # the same, in a third of the time
    return {
        name: jax.make_array_from_process_local_data(sharding, array, (batch_size, *array.shape[1:]))
        for name, array in local.items()
    }


def barrier(name: str) -> None:
    """Waits until every process is here: what the first one wrote before, the others can read after."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(name)


def local_copy(tree: Any, mesh: Mesh) -> Any:
    """The whole tree on this process's first device. A collective: every process calls it."""
    whole = jax.jit(lambda tree: tree, out_shardings=replicated(mesh))(tree)
    return jax.tree.map(lambda array: array.addressable_data(0), whole)
