"""The multilayer perceptron of a radiance field."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import nnx
from flax.typing import Dtype
from jaxtyping import Array, Float

from jaxtalk.nn.linear import linear


class RadianceMLP(nnx.Module):
    """NeRF's network: a trunk that gives density, and a branch that gives colour from trunk and viewing direction.

    The input is concatenated again after the layers in `skips`. With the defaults, 127 inputs (position 63 and audio
    64) and 27 view inputs it has AD-NeRF's 595,844 parameters (card gdrf A.1). `view_inputs=0` leaves the direction
    out; `branch_depth=0` reads the colour from the trunk itself.
    """

    def __init__(
        self,
        inputs: int,
        view_inputs: int,
        *,
        rngs: nnx.Rngs,
        width: int = 256,
        depth: int = 8,
        skips: Sequence[int] = (4,),
        branch_width: int = 128,
        branch_depth: int = 3,
        init: str = "torch",
        dtype: Dtype | None = None,
    ) -> None:
        self.skips = tuple(skips)
        self.dtype = dtype
        sizes = [inputs] + [width + inputs * (i in self.skips) for i in range(depth)]
        self.trunk = nnx.List(
            [linear(sizes[i], width, rngs=rngs, dtype=dtype, init=init) for i in range(depth)],
        )
        self.density = linear(sizes[-1], 1, rngs=rngs, dtype=dtype, init=init)
        sizes = [sizes[-1] + view_inputs] + [branch_width] * branch_depth
        self.branch = nnx.List(
            [linear(sizes[i], branch_width, rngs=rngs, dtype=dtype, init=init) for i in range(branch_depth)],
        )
        self.color = linear(sizes[-1], 3, rngs=rngs, dtype=dtype, init=init)

    def __call__(
        self,
        points: Float[Array, "*batch inputs"],
        condition: Float[Array, "*#batch condition"],
        view: Float[Array, "*#batch view"] | None,
    ) -> tuple[Float[Array, "*batch"], Float[Array, "*batch 3"]]:
        """Raw density and raw colour, float32, of encoded positions under a condition and an encoded direction.

        `condition` and `view` broadcast against `points` (size 1 where they are shared, for example by the samples of
        a ray): their products are taken once per distinct row, not once per point.
        """
        dtype = self.dtype or points.dtype
        points, condition = points.astype(dtype), condition.astype(dtype)
        hidden = None
        for index, layer in enumerate(self.trunk):
            if hidden is None:
                parts = [points, condition]
            else:
                parts = [points, condition, hidden] if index - 1 in self.skips else [hidden]
            hidden = jax.nn.relu(split_linear(layer, parts))
        assert hidden is not None
        last = [points, condition, hidden] if len(self.trunk) - 1 in self.skips else [hidden]
        density = split_linear(self.density, last)[..., 0]
        parts = last if view is None else [*last, view.astype(dtype)]
        for layer in self.branch:
            parts = [jax.nn.relu(split_linear(layer, parts))]
        return density.astype(jnp.float32), split_linear(self.color, parts).astype(jnp.float32)


def split_linear(layer: nnx.Linear, parts: Sequence[jax.Array]) -> jax.Array:
    """`layer` applied to the concatenation of `parts`, whose batch axes may broadcast.

    Equal to concatenating, but a part of few rows (a condition shared by all samples of a ray) is multiplied as few
    times as it has rows.
    """
    if len(parts) == 1:
        return layer(parts[0])
    assert layer.bias is not None
    dtype = parts[0].dtype
    ends = list(itertools.accumulate(part.shape[-1] for part in parts))
    kernels = jnp.split(layer.kernel[...].astype(dtype), ends[:-1])
    products = [part @ kernel for part, kernel in zip(parts, kernels, strict=True)]
    products.sort(key=lambda product: product.size)  # add the few rows first
    return sum(products, start=layer.bias[...].astype(dtype))
