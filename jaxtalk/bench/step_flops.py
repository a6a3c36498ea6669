"""FLOPs of a traced program at a known step: of what a `cond` chooses by the step, only what is chosen then counts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.extend import core

from jaxtalk.training.flops import matmul_flops

CYCLE = 48  # steps over which a mean is taken: whole cycles of what runs every 2, 3, 4, 6, 8 or 16 steps
_NO_NAMES = jax.make_jaxpr(lambda: ())().jaxpr.debug_info
_Known = Sequence[Any]  # a number for each input or output, or None where it is not known


def mean_flops(closed: core.ClosedJaxpr, step_index: int, first_step: int) -> float:
    """Mean FLOPs of the matrix products (`matmul_flops`) over `CYCLE` steps from `first_step` on.

    Args:
        step_index: which of the program's inputs, flattened, is the step.
    """
    known: list[Any] = [None] * len(closed.jaxpr.invars)
    same: dict[int, float] = {}
    total = 0.0
    for step in range(first_step, first_step + CYCLE):
        known[step_index] = np.int32(step)
        total += _flops(closed, known, same)[0]
    return total / CYCLE


def _flops(closed: core.ClosedJaxpr, known: _Known, same: dict[int, float]) -> tuple[float, _Known]:
    """FLOPs of a program, and its outputs, as far as known; `same` keeps those of equations that read no known number.

    Equations are recognised by their identity: a program is the same object at every step.
    """
    jaxpr = closed.jaxpr
    values: dict[Any, Any] = {
        var: value for var, value in zip(jaxpr.constvars, closed.consts, strict=True) if np.ndim(value) == 0
    }
    values |= {var: value for var, value in zip(jaxpr.invars, known, strict=True) if value is not None}

    def read(atom: Any) -> Any:
        return atom.val if isinstance(atom, core.Literal) else values.get(atom)

    total = 0.0
    for equation in jaxpr.eqns:
        inputs = [read(atom) for atom in equation.invars]
        inner = _chosen(equation, inputs)
        if _is_number(equation, inputs):
            found: _Known = _evaluated(equation, inputs)
        elif inner is not None:
            flops, found = _flops(*inner, same)
            total += flops
        else:
            if id(equation) not in same:
                same[id(equation)] = matmul_flops(core.Jaxpr((), (), (), (equation,), debug_info=_NO_NAMES))
            total += same[id(equation)]
            continue
        values |= {var: value for var, value in zip(equation.outvars, found, strict=True) if value is not None}
    return total, [read(atom) for atom in jaxpr.outvars]


def _is_number(equation: core.JaxprEqn, inputs: _Known) -> bool:
    """Whether an equation makes single numbers of known numbers."""
    known = all(value is not None and np.ndim(value) == 0 for value in inputs)
    return bool(inputs) and known and all(getattr(var.aval, "shape", None) == () for var in equation.outvars)


def _evaluated(equation: core.JaxprEqn, inputs: _Known) -> _Known:
    named = {
        atom: value for atom, value in zip(equation.invars, inputs, strict=True) if not isinstance(atom, core.Literal)
    }
    program = core.Jaxpr((), tuple(named), equation.outvars, (equation,), debug_info=_NO_NAMES)
    return core.jaxpr_as_fun(core.ClosedJaxpr(program, ()))(*named.values())


def _chosen(equation: core.JaxprEqn, inputs: _Known) -> tuple[core.ClosedJaxpr, _Known] | None:
    """The program that an equation runs once, with its inputs: a known branch, or that of jit, checkpoint, ..."""
    name = equation.primitive.name
    if name == "cond":
        return None if inputs[0] is None else (equation.params["branches"][int(inputs[0])], inputs[1:])
    if name in ("scan", "while") or all(value is None for value in inputs):
        return None
    program = _program(equation.params)
    return None if program is None or len(program.jaxpr.invars) != len(inputs) else (program, inputs)


def _program(params: Mapping[str, Any]) -> core.ClosedJaxpr | None:
    """The one program among an equation's parameters; None where there is none, or several."""
    found = [value for value in params.values() if isinstance(value, core.ClosedJaxpr | core.Jaxpr)]
    if len(found) != 1:
        return None
    return found[0] if isinstance(found[0], core.ClosedJaxpr) else core.ClosedJaxpr(found[0], ())
