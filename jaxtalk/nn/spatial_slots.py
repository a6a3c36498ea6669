"""Slot attention with one slot for each cell of a map (card s3d_nerf 2.3)."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from jaxtalk.nn.linear import linear
from jaxtalk.nn.slot_attention import EPSILON, GRUCell


class SpatialSlots(nnx.Module):
    """K slots that compete for K inputs, both the cells of a map.

    A softmax over slots, 1e-8 added, normalised over the inputs; the weighted mean goes through a GRU and a residual
    MLP, `iterations` times.

    Args:
        side: of the square map; K is its square.
        init: "input" starts each slot from the input of its own cell and a learned position (at first `place_waves`),
            so that slot k means place k; "gaussian" from learned noise (one mean and deviation for all), drawn once and
            kept.
    """

    def __init__(
        self, inputs: int, width: int, side: int, iterations: int = 3, init: str = "input", *, rngs: nnx.Rngs
    ) -> None:
        if init not in ("input", "gaussian"):
            raise ValueError(f"init must be 'input' or 'gaussian', not {init!r}")
        self.iterations, self.init = iterations, init
        self.norm_inputs = nnx.LayerNorm(inputs, epsilon=1e-5, rngs=rngs)
        self.norm_slots = nnx.LayerNorm(width, epsilon=1e-5, rngs=rngs)
        self.norm_mlp = nnx.LayerNorm(width, epsilon=1e-5, rngs=rngs)
        self.query, self.key, self.value = (
            nnx.Linear(size, width, use_bias=False, rngs=rngs) for size in (width, inputs, inputs)
        )
        self.cell = GRUCell(width, width, rngs=rngs)
        self.hidden = linear(width, 2 * width, rngs=rngs)
        self.out = linear(2 * width, width, rngs=rngs)
        if init == "input":
            self.first = linear(inputs, width, rngs=rngs)
            self.position = nnx.Param(place_waves(side, width))
        else:
            self.mean = nnx.Param(jax.random.normal(rngs.params(), (1, width)) * width**-0.5)
            self.log_deviation = nnx.Param(jnp.zeros((1, width)))
            self.noise = nnx.Variable(jax.random.normal(rngs.params(), (side**2, width)))

    def __call__(self, inputs: Float[Array, "batch cells inputs"]) -> Float[Array, "batch cells width"]:
        inputs = self.norm_inputs(inputs)
        slots = self._start(inputs)
        key, value = self.key(inputs), self.value(inputs)
        for _ in range(self.iterations):
            weights = self._attention(slots, key)
            update = jnp.einsum("bsi,biw->bsw", weights, value)
            slots = self.cell(update @ self.cell.input_kernel[...] + self.cell.input_bias[...], slots)
            slots = slots + self.out(jax.nn.relu(self.hidden(self.norm_mlp(slots))))
        return slots

    def attention(self, inputs: Float[Array, "batch cells inputs"]) -> Float[Array, "batch slots cells"]:
        """The weights of the first iteration: those of each slot sum to 1 over the inputs."""
        inputs = self.norm_inputs(inputs)
        return self._attention(self._start(inputs), self.key(inputs))

    def _start(self, inputs: jax.Array) -> jax.Array:
        """The first slots, from inputs that are normalised already."""
        if self.init == "input":
            return self.first(inputs) + self.position[...]
        slots = self.mean[...] + jnp.exp(self.log_deviation[...]) * self.noise[...]
        return jnp.broadcast_to(slots, (len(inputs), *slots.shape))

    def _attention(self, slots: jax.Array, key: jax.Array) -> jax.Array:
        query = self.query(self.norm_slots(slots)) * slots.shape[-1] ** -0.5
        scores = jnp.einsum("bsw,biw->bsi", query, key).astype(jnp.float32)
        shares = jax.nn.softmax(scores, 1) + EPSILON
        return (shares / shares.sum(-1, keepdims=True)).astype(key.dtype)


def place_waves(side: int, width: int) -> Float[Array, "cells width"]:
    """Sines and cosines of the row and of the column of each of side x side cells, of half a wave to side / 4 waves."""
    count = -(-width // 4)
    rates = jnp.pi * (side / 2) ** (jnp.arange(count) / max(count - 1, 1))
    angles = (jnp.arange(side) + 0.5)[:, None] / side * rates
    waves = jnp.concatenate([jnp.sin(angles), jnp.cos(angles)], -1)
    both = jnp.concatenate(jnp.broadcast_arrays(waves[:, None], waves[None]), -1)
    return both.reshape(side**2, -1)[:, :width]
