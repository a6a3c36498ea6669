"""Long short-term memory over a sequence, laid out as torch's."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

# Hidden and cell values of all layers after the last element read.
State = tuple[Float[Array, "*batch layers hidden"], Float[Array, "*batch layers hidden"]]


class LSTMLayer(nnx.Module):
    """One layer: gates in the order input, forget, cell, output, with one bias for the input and one for the past.

    The kernels are torch's `weight_ih` and `weight_hh` transposed: [inputs, 4 hidden] and [hidden, 4 hidden].
    """

    def __init__(self, inputs: int, hidden: int, *, rngs: nnx.Rngs) -> None:
        bound = 1 / math.sqrt(hidden)

        def draw(*shape: int) -> nnx.Param:
            return nnx.Param(jax.random.uniform(rngs.params(), shape, jnp.float32, -bound, bound))

        self.kernel_input, self.kernel_hidden = draw(inputs, 4 * hidden), draw(hidden, 4 * hidden)
        self.bias_input, self.bias_hidden = draw(4 * hidden), draw(4 * hidden)

    def __call__(
        self,
        x: Float[Array, "*batch time inputs"],
        hidden: Float[Array, "*batch hidden"],
        cell: Float[Array, "*batch hidden"],
    ) -> tuple[Float[Array, "*batch time hidden"], Float[Array, "*batch hidden"], Float[Array, "*batch hidden"]]:
        """Hidden values of all times, and hidden and cell values after the last."""
        # What the input gives to the gates needs no past: one product for all times.
        given = x @ self.kernel_input[...] + (self.bias_input[...] + self.bias_hidden[...])
        kernel = self.kernel_hidden[...]

        def step(carry: tuple[jax.Array, jax.Array], gates: jax.Array) -> tuple[tuple[jax.Array, jax.Array], jax.Array]:
            hidden, cell = carry
            enter, forget, new, out = jnp.split(gates + hidden @ kernel, 4, -1)
            cell = jax.nn.sigmoid(forget) * cell + jax.nn.sigmoid(enter) * jnp.tanh(new)
            hidden = jax.nn.sigmoid(out) * jnp.tanh(cell)
            return (hidden, cell), hidden

        (hidden, cell), outputs = jax.lax.scan(step, (hidden, cell), jnp.moveaxis(given, -2, 0))
        return jnp.moveaxis(outputs, 0, -2), hidden, cell


class LSTM(nnx.Module):
    """Stacked layers: each reads the hidden values of the one below. Without a state it starts from zeros."""

    def __init__(self, inputs: int, hidden: int, layers: int, *, rngs: nnx.Rngs) -> None:
        self.hidden = hidden
        self.layers = nnx.List([LSTMLayer(hidden if i else inputs, hidden, rngs=rngs) for i in range(layers)])

    def __call__(
        self, x: Float[Array, "*batch time inputs"], state: State | None = None
    ) -> tuple[Float[Array, "*batch time hidden"], State]:
        """Hidden values of the last layer at all times, and the state after the last, from which a call continues."""
        if state is None:
            zeros = jnp.zeros((*x.shape[:-2], len(self.layers), self.hidden), x.dtype)
            state = (zeros, zeros)
        ends = []
        for index, layer in enumerate(self.layers):
            x, hidden, cell = layer(x, state[0][..., index, :], state[1][..., index, :])
            ends.append((hidden, cell))
        hidden, cell = (jnp.stack(parts, -2) for parts in zip(*ends, strict=True))
        return x, (hidden, cell)
