"""Convolutions over pictures with the initialisation of the reference codes."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from flax.typing import Dtype


def convolution(
    inputs: int,
    outputs: int,
    kernel: int,
    *,
    rngs: nnx.Rngs,
    stride: int = 1,
    init: str = "torch",
    dtype: Dtype | None = None,
    **options: Any,
) -> nnx.Conv:
    """A square convolution, zero padded by (kernel - 1) // 2 on every side: sizes are divided by the stride.

    `init`: "torch" draws weights and biases from U(-1/sqrt(fan in), 1/sqrt(fan in)); "zero" starts at zero. Products
    are taken in `dtype` (None: that of the input); parameters stay float32. `options` go to `flax.nnx.Conv`.
    """
    weights, bias = _initialisers(inputs * kernel**2, init)
    pad = ((kernel - 1) // 2,) * 2
    return nnx.Conv(
        inputs,
        outputs,
        (kernel, kernel),
        strides=stride,
        padding=(pad, pad),
        kernel_init=weights,
        bias_init=bias,
        dtype=dtype,
        rngs=rngs,
        **options,
    )


def upconvolution(inputs: int, outputs: int, *, rngs: nnx.Rngs, dtype: Dtype | None = None) -> nnx.ConvTranspose:
    """A transposed 3 x 3 convolution of stride 2 that doubles height and width."""
    weights, bias = _initialisers(inputs * 9, "torch")
    pad = (1, 2)  # torch's padding 1 and output padding 1
    return nnx.ConvTranspose(
        inputs,
        outputs,
        (3, 3),
        strides=2,
        padding=(pad, pad),
        kernel_init=weights,
        bias_init=bias,
        dtype=dtype,
        rngs=rngs,
    )


def _initialisers(fan_in: int, init: str) -> tuple[Any, Any]:
    if init == "zero":
        return nnx.initializers.zeros, nnx.initializers.zeros
    if init != "torch":
        raise ValueError(f"init must be 'torch' or 'zero', not {init!r}")
    bound = fan_in**-0.5

    def uniform(key: jax.Array, shape: tuple[int, ...], dtype: Dtype = jnp.float32) -> jax.Array:
        return jax.random.uniform(key, shape, dtype, -bound, bound)

    return uniform, uniform
