"""Floating-point operations of the matrix products in a traced program."""

from __future__ import annotations

import math
from typing import Any

from jax.extend import core


def matmul_flops(jaxpr: core.Jaxpr) -> float:
    """2 x multiplications of every `dot_general` and convolution; a scan counts as often as it runs.

    Of a `cond` the costliest branch counts; the body of a `while` of unknown length counts once.
    """
    total = 0.0
    for equation in jaxpr.eqns:
        name, params = equation.primitive.name, equation.params
        if name == "dot_general":
            (contracted, _), _ = params["dimension_numbers"]
            lhs = equation.invars[0].aval.shape  # type: ignore[attr-defined]
            total += 2.0 * math.prod(equation.outvars[0].aval.shape) * math.prod(lhs[axis] for axis in contracted)  # type: ignore[attr-defined]
        elif name == "conv_general_dilated":
            total += _conv_flops(equation)
        elif name == "cond":
            total += max(matmul_flops(branch.jaxpr) for branch in params["branches"])
        else:
            inner = sum(map(matmul_flops, _inner(params)))
            total += inner * (params["length"] if name == "scan" else 1)
    return total


def _conv_flops(equation: core.JaxprEqn) -> float:
    """Each output value takes one product per kernel tap and input channel of its group; padding counts too."""
    kernel = equation.invars[1].aval.shape  # type: ignore[attr-defined]
    out_channels_axis = equation.params["dimension_numbers"].rhs_spec[0]
    taps = math.prod(kernel) / kernel[out_channels_axis]
    output = math.prod(equation.outvars[0].aval.shape)  # type: ignore[attr-defined]
    dilated = math.prod(equation.params["lhs_dilation"])  # zeros put between inputs: no work in a good kernel
    return 2.0 * output * taps / dilated


def _inner(params: dict[str, Any]) -> list[core.Jaxpr]:
    """Programs inside an equation: of jit, scan, while, checkpoint, custom derivatives, shard_map."""
    found = []
    for value in params.values():
        for item in value if isinstance(value, tuple | list) else (value,):
            if isinstance(item, core.ClosedJaxpr):
                found.append(item.jaxpr)
            elif isinstance(item, core.Jaxpr):
                found.append(item)
    return found
