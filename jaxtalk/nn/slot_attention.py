"""Slots that compete for the references' features, in any number and order (card gdrf 2.7)."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx
from flax.typing import Dtype
from jaxtyping import Array, Float

from jaxtalk.nn.linear import linear
from jaxtalk.nn.mlp import split_linear

EPSILON = 1e-8  # added to the attention before its normalisation over the inputs
SLOPE = 0.01  # of the leaky ReLU


class GRUCell(nnx.Module):
    """torch's gated recurrent unit: gates in the order r, z, n, and two bias vectors."""

    def __init__(self, inputs: int, width: int, *, rngs: nnx.Rngs) -> None:
        bound = width**-0.5  # torch draws by the width, also where the inputs differ

        def draw(*shape: int) -> nnx.Param:
            return nnx.Param(jax.random.uniform(rngs.params(), shape, jnp.float32, -bound, bound))

        self.input_kernel, self.input_bias = draw(inputs, 3 * width), draw(3 * width)
        self.hidden_kernel, self.hidden_bias = draw(width, 3 * width), draw(3 * width)

    def __call__(
        self, products: Float[Array, "*batch gates"], hidden: Float[Array, "*#batch width"]
    ) -> Float[Array, "*batch width"]:
        """The next state, from `products`: the input times `input_kernel` plus `input_bias`, taken by the caller."""
        recurrent = hidden @ self.hidden_kernel[...].astype(hidden.dtype) + self.hidden_bias[...].astype(hidden.dtype)
        reset, update, new = jnp.split(products, 3, -1)
        hidden_reset, hidden_update, hidden_new = jnp.split(recurrent, 3, -1)
        update = jax.nn.sigmoid(update + hidden_update)
        new = jnp.tanh(new + jax.nn.sigmoid(reset + hidden_reset) * hidden_new)
        return new + update * (hidden - new)


class SlotAttention(nnx.Module):
    """Slot attention: a softmax over slots, a weighted mean over inputs, a GRU and a residual MLP, repeated.

    The slots start at mu + exp(log sigma) noise, with one mu for all (`init="shared"`: noise must be given, and be
    the same for every point and frame of a rendering, or it flickers), or with a learned mu per slot ("per_slot":
    noise may be left out). Zero noise on a shared mu would make all slots equal.

    Computed in another order than written: keys and values are never formed. A query times the keys' kernel is
    compared with the inputs themselves, and the mean over the inputs is multiplied by the values' kernel and the
    GRU's at once. The result is the same; products per point do not grow with the number of inputs, and what noise
    shared by all points makes equal is computed once. Inputs and slots are few: they are separate arrays, with one row
    per point, which a CPU works through up to a third faster than products of many tiny matrices.
    """

    def __init__(
        self,
        width: int,
        slots: int = 2,
        iterations: int = 2,
        init: str = "shared",
        *,
        rngs: nnx.Rngs,
        dtype: Dtype | None = None,
    ) -> None:
        if init not in ("shared", "per_slot"):
            raise ValueError(f"init must be 'shared' or 'per_slot', not {init!r}")
        self.iterations, self.init, self.dtype = iterations, init, dtype
        rows = slots if init == "per_slot" else 1
        self.mean = nnx.Param(jax.random.normal(rngs.params(), (rows, width)))
        self.log_deviation = nnx.Param(jnp.zeros((rows, width)))
        self.norm_inputs = nnx.LayerNorm(width, epsilon=1e-5, rngs=rngs)
        self.norm_slots = nnx.LayerNorm(width, epsilon=1e-5, rngs=rngs)
        self.norm_mlp = nnx.LayerNorm(width, epsilon=1e-5, rngs=rngs)
        self.query = linear(width, width, rngs=rngs)
        self.key = linear(width, width, rngs=rngs)
        self.value = linear(width, width, rngs=rngs)
        self.cell = GRUCell(width, width, rngs=rngs)
        self.hidden = linear(width, width, rngs=rngs, dtype=dtype)
        self.out = linear(width, width, rngs=rngs, dtype=dtype)

    def __call__(
        self, inputs: Float[Array, "*batch inputs width"], noise: Float[Array, "*#batch slots width"] | None = None
    ) -> Float[Array, "*batch slots width"]:
        dtype = self.dtype or inputs.dtype
        inputs = self.norm_inputs(inputs).astype(dtype)
        slots = self._start(noise, inputs.ndim).astype(dtype)
        width = inputs.shape[-1]
        # (s Q + q)(x K + k) = x (K Q^T s + K q) + k (Q^T s + q)
        assert self.query.bias is not None and self.key.bias is not None and self.value.bias is not None
        query, key = self.query.kernel[...], self.key.kernel[...]
        query_bias, key_bias = self.query.bias[...], self.key.bias[...]
        compare = (query @ key.T).astype(dtype), (key @ query_bias).astype(dtype)
        offset = (query @ key_bias).astype(dtype), (query_bias @ key_bias).astype(dtype)
        # Attention sums to one over the inputs: the mean of x V + v is (mean of x) V + v.
        gates, value = self.cell.input_kernel[...], self.value.kernel[...]
        combine = (value @ gates).astype(dtype)
        combine_bias = (self.value.bias[...] @ gates + self.cell.input_bias[...]).astype(dtype)
        views = [inputs[..., index, :] for index in range(inputs.shape[-2])]
        states = [slots[..., index, :] for index in range(slots.shape[-2])]
        for _ in range(self.iterations):
            scores = []
            for state in states:
                normed = self.norm_slots(state).astype(dtype)
                question, shift = normed @ compare[0] + compare[1], normed @ offset[0] + offset[1]
                scores.append(jnp.stack([(view * question).sum(-1) + shift for view in views], -1))
            attention = jax.nn.softmax(jnp.stack(scores).astype(jnp.float32) * width**-0.5, 0) + EPSILON
            attention = (attention / attention.sum(-1, keepdims=True)).astype(dtype)
            for slot, state in enumerate(states):
                shares = [attention[slot, ..., index, None] * view for index, view in enumerate(views)]
                state = self.cell(sum(shares[1:], shares[0]) @ combine + combine_bias, state)
                hidden = jax.nn.relu(self.hidden(self.norm_mlp(state).astype(dtype)))
                states[slot] = state + self.out(hidden)
        return jnp.stack(states, -2)

    def _start(self, noise: jax.Array | None, ndim: int) -> jax.Array:
        """The first slots, with as many axes as the inputs and size 1 where all points share them."""
        mean = self.mean[...]
        if noise is None:
            if self.init == "shared":
                raise ValueError("slots that share a mean need noise: without it they are all equal")
            slots = mean
        else:
            slots = mean + jnp.exp(self.log_deviation[...]) * noise
        return slots.reshape((1,) * (ndim - slots.ndim) + slots.shape)


class ReferenceAttention(nnx.Module):
    """Features of N references at a point, with where they were read and the encoded point, to slots (paper eq. 10).

    Args:
        features: channels of the maps; `encoded`: of the encoded point; `width`: of the slots.
        project: the maps' channels first go through a linear layer, `project`, to `width`. Apply it to the maps: it
            commutes with interpolation, and fewer channels are sampled. Without it `features` must equal `width`.

    DFRF's sizes (128, 63, no projection) give 216,832 parameters.
    """

    def __init__(
        self,
        features: int,
        encoded: int,
        width: int = 128,
        hidden: int = 32,
        slots: int = 2,
        iterations: int = 2,
        init: str = "shared",
        project: bool = True,
        *,
        rngs: nnx.Rngs,
        dtype: Dtype | None = None,
    ) -> None:
        if not project and features != width:
            raise ValueError(f"without a projection, {features} features must equal the width {width}")
        self.dtype = dtype
        self.projection = nnx.data(linear(features, width, rngs=rngs, dtype=dtype) if project else None)
        self.place = linear(width + 2, hidden, rngs=rngs, dtype=dtype)
        self.place_out = linear(hidden, hidden, rngs=rngs, dtype=dtype)
        self.join = linear(width + 2 + encoded + hidden, width, rngs=rngs, dtype=dtype)
        self.attention = SlotAttention(width, slots, iterations, init, rngs=rngs, dtype=dtype)

    def project(self, maps: Float[Array, "*batch height width features"]) -> Float[Array, "*batch height width out"]:
        """The maps that `__call__` reads samples of."""
        return maps if self.projection is None else self.projection(maps)

    def __call__(
        self,
        sampled: Float[Array, "*batch references width"],
        places: Float[Array, "*batch references 2"],
        encoded: Float[Array, "*batch encoded"],
        noise: Float[Array, "*#batch slots width"] | None = None,
    ) -> Float[Array, "*batch out"]:
        """Slots, flattened. `places`: (row, column) divided by the picture's (height, width)."""
        dtype = self.dtype or sampled.dtype
        sampled, places, encoded = sampled.astype(dtype), places.astype(dtype), encoded.astype(dtype)
        hidden = self.place_out(jax.nn.relu(split_linear(self.place, [sampled, places])))
        joined = split_linear(self.join, [sampled, places, encoded[..., None, :], hidden])
        slots = self.attention(jax.nn.leaky_relu(joined, SLOPE), noise)
        return slots.reshape(*slots.shape[:-2], -1)
