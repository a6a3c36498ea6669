"""Networks as pure dicts of arrays, and back: what passes through `jax.jit`, and into an avatar's folder."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
from flax import nnx

Networks = dict[str, nnx.Module]
Parameters = Mapping[str, Any]  # network name -> pure dict of arrays
Make = Callable[..., Networks]  # of settings, which can be hashed, and a key


def parameters_of(networks: Networks) -> dict[str, Any]:
    """The networks' parameters and statistics."""
    return {name: nnx.to_pure_dict(nnx.state(module)) for name, module in networks.items()}


def abstract_parameters(make: Make, *settings: Any) -> dict[str, Any]:
    """The tree of shapes that `parameters_of` gives for the networks that `make(*settings, key)` makes."""
    return _split(make, *settings)[1]


def networks_of(parameters: Parameters, make: Make, *settings: Any) -> Networks:
    """The modules that hold `parameters`, as `make(*settings, key)` would make them."""
    return {name: nnx.merge(graph, parameters[name]) for name, graph in _split(make, *settings)[0].items()}


@functools.cache
def _split(make: Make, *settings: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """Graph definitions, and abstract parameters."""
    networks = nnx.eval_shape(lambda: make(*settings, jax.random.key(0)))
    split = {name: nnx.split(module) for name, module in networks.items()}
    graphs = {name: graph for name, (graph, _) in split.items()}
    return graphs, {name: nnx.to_pure_dict(state) for name, (_, state) in split.items()}
