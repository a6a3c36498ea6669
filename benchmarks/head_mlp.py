"""AD-NeRF's head MLP: evaluations/s of training and of inference in JAX. The same in PyTorch: head_mlp_torch.py.

    uv run benchmarks/head_mlp.py --out benchmarks/head_mlp.json
    python benchmarks/head_mlp_torch.py --out benchmarks/head_mlp.json     # in an environment with torch

65,536 evaluations a step of the 595,844-parameter network (card gdrf 2.8), forward, backward and Adam. Inputs are
encoded already (63 + 64 and 27 numbers an evaluation). Both write their medians under their own key of the same file.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import nnx

from jaxtalk.nn.mlp import RadianceMLP

EVALUATIONS = 65_536
BLOCK = 2_048  # gradients are summed over blocks of this size, whose activations stay in a CPU's cache
MULTIPLY_ADDS = 595_844 - (8 * 256 + 1 + 3 * 128 + 3)  # weights without biases


def seconds_per_call(call: Callable[[], Any], repeats: int) -> float:
    """Median time of `repeats` calls after a first one that compiles."""
    jax.block_until_ready(call())
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        jax.block_until_ready(call())
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def measure(dtype: str, repeats: int) -> dict[str, Any]:
    """Evaluations/s of one training step and of the forward pass alone."""
    graph, abstract = nnx.split(nnx.eval_shape(lambda: _network(dtype)))
    parameters = jax.jit(lambda: nnx.to_pure_dict(nnx.state(_network(dtype))))()
    assert sum(leaf.size for leaf in jax.tree.leaves(abstract)) == 595_844
    keys = jax.random.split(jax.random.key(1), 4)
    *inputs, target = (
        jax.random.normal(key, (EVALUATIONS, size)) for key, size in zip(keys, (63, 64, 27, 4), strict=True)
    )
    block = BLOCK if jax.default_backend() == "cpu" else EVALUATIONS
    blocks = [array.reshape(-1, block, array.shape[-1]) for array in (*inputs, target)]
    transform = optax.adam(5e-4)

    def forward(parameters: Any, *inputs: jax.Array) -> tuple[jax.Array, jax.Array]:
        return nnx.merge(graph, parameters)(*inputs)

    @functools.partial(jax.jit, donate_argnums=(0, 1))
    def step(parameters: Any, state: optax.OptState) -> tuple[Any, optax.OptState]:
        def loss(parameters: Any, *inputs: jax.Array, target: jax.Array) -> jax.Array:
            density, color = forward(parameters, *inputs)
            return jnp.mean((density - target[:, 0]) ** 2) + jnp.mean((color - target[:, 1:]) ** 2)

        def add(total: Any, block: list[jax.Array]) -> tuple[Any, None]:
            *inputs, target = block
            return jax.tree.map(jnp.add, total, jax.grad(loss)(parameters, *inputs, target=target)), None

        total, _ = jax.lax.scan(add, jax.tree.map(jnp.zeros_like, parameters), blocks)
        gradient = jax.tree.map(lambda value: value / len(blocks[0]), total)
        updates, state = transform.update(gradient, state)
        return optax.apply_updates(parameters, updates), state

    only_forward = jax.jit(forward)
    inference = seconds_per_call(lambda: only_forward(parameters, *inputs), repeats)
    carry = [(parameters, transform.init(parameters))]

    def train() -> Any:
        carry[0] = step(*carry[0])
        return carry[0]

    training = seconds_per_call(train, repeats)
    return {
        "framework": f"jax {jax.__version__}",
        "device": str(jax.devices()[0].device_kind),
        "processor": platform.machine(),
        "cores": os.cpu_count(),
        "load_average": round(os.getloadavg()[0], 1),
        "dtype": dtype,
        "evaluations": EVALUATIONS,
        "block": block,
        "training_evaluations_per_s": round(EVALUATIONS / training),
        "inference_evaluations_per_s": round(EVALUATIONS / inference),
        "training_gflop_per_s": round(6 * MULTIPLY_ADDS * EVALUATIONS / training / 1e9, 1),
        "repeats": repeats,
    }


def _network(dtype: str) -> RadianceMLP:
    return RadianceMLP(63 + 64, 27, dtype=jnp.dtype(dtype), rngs=nnx.Rngs(0))


def write(path: Path | None, key: str, result: dict[str, Any]) -> None:
    """Prints the result and puts it under `key` of the JSON file."""
    print(json.dumps(result, indent=1))
    if path is not None:
        data = json.loads(path.read_text()) if path.is_file() else {}
        path.write_text(json.dumps(data | {key: result}, indent=1) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    key = f"jax_{jax.default_backend()}_{options.dtype}"
    write(options.out, key, measure(options.dtype, options.repeats))


if __name__ == "__main__":
    main()
