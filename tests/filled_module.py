"""Modules filled by NumPy: drawing every parameter with JAX compiles a program for each of its shapes, for seconds."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import jax.numpy as jnp
import numpy as np
from flax import nnx

ModuleT = TypeVar("ModuleT", bound=nnx.Module)


def filled(make: Callable[[], ModuleT], *, equalised: bool = False, plain: bool = False, seed: int = 0) -> ModuleT:
    """What `make` builds, with kernels from N(0, 1 / fan in), or N(0, 1) where `equalised`.

    Scales and styles lie around one and biases around zero, or are just that where `plain`.
    """
    graph, state = nnx.split(nnx.eval_shape(make))
    rng = np.random.default_rng(seed)
    spread = 0.0 if plain else 0.3

    def value(name: str, shape: tuple[int, ...]) -> np.ndarray:
        drawn = rng.normal(size=shape)
        if name == "kernel":
            return drawn if equalised and len(shape) == 4 else drawn * np.prod(shape[:-1]) ** -0.5
        return spread * drawn + (name in ("scale", "style"))

    flat = [
        (path, leaf.replace(jnp.asarray(value(str(path[-1]), leaf.shape), jnp.float32)))
        for path, leaf in nnx.to_flat_state(state)
    ]
    return nnx.merge(graph, nnx.from_flat_state(flat))
