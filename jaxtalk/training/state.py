"""What a stage carries from step to step: one pure dict, so that it can be donated, sharded, saved and hashed.

step    int32 []                     steps taken
params  {network: pure dict}         `nnx.Param` leaves
stats   {network: pure dict}         every other leaf of the modules (batch statistics, codebook usage, ...)
ema     {network: pure dict}         averaged parameters; empty where the stage keeps none
opt     {phase: optax state}
log     {sum [K], count [P]}         metrics added up since the last line of the log
bad     {step, term, values [K]}     the first step whose loss was not finite; step is -1 while all is well
"""

from __future__ import annotations

import dataclasses
import hashlib
import zlib
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.sharding import Mesh

from jaxtalk.methods.api import Networks, Phase, Stage
from jaxtalk.training.sharding import replicated, state_sharding, with_sharding

State = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Modules:
    """The networks of a stage with the arrays taken out: graphs, and the shapes of what was in them."""

    graphs: dict[str, nnx.GraphDef]
    params: dict[str, Any]
    stats: dict[str, Any]

    @classmethod
    def of(cls, stage: Stage) -> Modules:
        """Traces `stage.networks` for its structure; no array is made."""
        modules = nnx.eval_shape(lambda: stage.networks(jax.random.key(0)))
        graphs = {name: nnx.split(module, nnx.Param, ...)[0] for name, module in modules.items()}
        params, stats = split_networks(modules)
        return cls(graphs, params, stats)

    def merge(self, params: dict[str, Any], stats: dict[str, Any]) -> Networks:
        """Modules that hold these arrays."""
        return {name: nnx.merge(graph, params[name], stats[name]) for name, graph in self.graphs.items()}

    def select(self, names: Sequence[str]) -> Modules:
        """Only the networks of these names."""
        return Modules(_only(self.graphs, names), _only(self.params, names), _only(self.stats, names))

    def __or__(self, other: Modules) -> Modules:
        """Both; a network of `other` hides one of the same name."""
        return Modules(self.graphs | other.graphs, self.params | other.params, self.stats | other.stats)


def _only(part: dict[str, Any], names: Sequence[str]) -> dict[str, Any]:
    return {name: part[name] for name in names}


def split_networks(networks: Networks) -> tuple[dict[str, Any], dict[str, Any]]:
    """(parameters, every other leaf) of the modules, each {network: pure dict}."""
    params, stats = {}, {}
    for name, module in networks.items():
        _, *parts = nnx.split(module, nnx.Param, ...)
        params[name], stats[name] = map(nnx.to_pure_dict, parts)
    return params, stats


def stream_key(key: jax.Array, *names: str | int | jax.Array) -> jax.Array:
    """A key for the stream of these names (texts by their CRC, numbers as they are)."""
    for name in names:
        key = jax.random.fold_in(key, zlib.crc32(name.encode()) & 0x7FFFFFFF if isinstance(name, str) else name)
    return key


def seed_key(seed: int, mesh: Mesh) -> jax.Array:
    """The run's key, on every device. The compiled step takes it as an argument, so seeds share one program."""
    return jax.jit(jax.random.key, out_shardings=replicated(mesh))(np.uint32(seed))


def _initial(
    stage: Stage, phases: tuple[Phase, ...], num_values: int, key: jax.Array, start_from: dict[str, Any]
) -> State:
    params, stats = split_networks(stage.networks(stream_key(key, stage.name, "networks")))
    params, stats = params | start_from["params"], stats | start_from["stats"]
    state = {
        "step": jnp.zeros((), jnp.int32),
        "params": params,
        "stats": stats,
        "ema": {} if stage.ema_decay is None else params,
        "opt": {phase.name: phase.optimizer.init({name: params[name] for name in phase.trains}) for phase in phases},
        "log": {"sum": jnp.zeros(num_values), "count": jnp.zeros(len(phases), jnp.int32)},
        "bad": {"step": jnp.int32(-1), "term": jnp.int32(-1), "values": jnp.zeros(num_values)},
    }
    # Each leaf gets a buffer of its own: a donated state may hold no buffer twice, nor one of another stage.
    return jax.tree.map(jnp.copy, state)


def abstract_state(
    stage: Stage, phases: tuple[Phase, ...], num_values: int, mesh: Mesh, start_from: dict[str, Any]
) -> State:
    """Shapes, types and shardings of the state; `start_from` holds the networks of `init_from` (or their shapes)."""
    shapes = jax.eval_shape(lambda key, given: _initial(stage, phases, num_values, key, given),
                            jax.random.key(0), start_from)  # fmt: skip
    return with_sharding(shapes, state_sharding(shapes, mesh))


def init_state(
    stage: Stage, phases: tuple[Phase, ...], key: jax.Array, abstract: State, start_from: dict[str, Any]
) -> State:
    """The state before the first step, made where it will live."""
    num_values = abstract["log"]["sum"].shape[0]
    shardings = jax.tree.map(lambda leaf: leaf.sharding, abstract)
    make = jax.jit(lambda key, given: _initial(stage, phases, num_values, key, given), out_shardings=shardings)
    return make(key, start_from)


def state_sha256(state: State) -> str:
    """Hash over parameters, optimiser and averaged parameters: names, types, shapes and bytes, in tree order.

    Arrays must be whole on this process (`sharding.local_copy`).
    """
    digest = hashlib.sha256()
    for part in ("params", "opt", "ema"):
        for path, leaf in jax.tree_util.tree_leaves_with_path(state[part]):
            array = np.asarray(leaf)
            digest.update(f"{part}{jax.tree_util.keystr(path)}:{array.dtype}:{array.shape};".encode())
            digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()
