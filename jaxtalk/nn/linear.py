"""Dense layers with the initialisation of the reference codes."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
from flax import nnx
from flax.typing import Dtype


def linear(inputs: int, outputs: int, *, rngs: nnx.Rngs, dtype: Dtype | None = None, init: str = "torch") -> nnx.Linear:
    """A dense layer whose product is taken in `dtype` (None: that of its inputs); its parameters stay float32.

    `init`: "torch" draws weights and biases from U(-1/sqrt(inputs), 1/sqrt(inputs)), as the published codes do;
    "he" draws normal weights of variance 2/inputs and zero biases, which starts ReLU networks faster.
    """
    if init == "torch":
        bound = 1 / math.sqrt(inputs)

        def bias_init(key: jax.Array, shape: tuple[int, ...], dtype: Dtype = jnp.float32) -> jax.Array:
            return jax.random.uniform(key, shape, dtype, -bound, bound)

        kernel_init = nnx.initializers.variance_scaling(1 / 3, "fan_in", "uniform")
        return nnx.Linear(inputs, outputs, kernel_init=kernel_init, bias_init=bias_init, dtype=dtype, rngs=rngs)
    if init == "he":
        return nnx.Linear(inputs, outputs, kernel_init=nnx.initializers.he_normal(), dtype=dtype, rngs=rngs)
    raise ValueError(f"init must be 'torch' or 'he', not {init!r}")
