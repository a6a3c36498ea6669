"""DFA-NeRF's disentangler: an expression into what the mouth does and the rest, and back (card dfa_nerf, 2.1)."""

from __future__ import annotations

import itertools

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

EXPRESSION = 79  # coefficients of BFM, each divided by its standard deviation
OTHER, MOUTH = 64, 32
_EXACT = jax.lax.Precision.HIGHEST


class DisentanglerEncoder(nnx.Module):
    """Codes (other [*, 64], mouth [*, 32]) of an expression [*, 79]; `other` holds eyes, brows and nose.

    Args:
        inputs: coefficients of the expression.
        other, mouth: sizes of the codes. The released network has 79, 64, 32: 133,728 parameters.
    """

    def __init__(self, inputs: int = EXPRESSION, other: int = OTHER, mouth: int = MOUTH, *, rngs: nnx.Rngs) -> None:
        self.layers = _layers((inputs, 128, 256, 256), rngs)
        self.other = nnx.Linear(256, other, precision=_EXACT, rngs=rngs)
        self.mouth = nnx.Linear(256, mouth, precision=_EXACT, rngs=rngs)

    def __call__(
        self, expression: Float[Array, "*batch inputs"]
    ) -> tuple[Float[Array, "*batch other"], Float[Array, "*batch mouth"]]:
        x = expression
        for layer in self.layers:
            x = jax.nn.relu(layer(x))
        return self.other(x), self.mouth(x)


class DisentanglerDecoder(nnx.Module):
    """The expression [*, 79] of two codes: (other [*, 64], mouth [*, 32]). Released: 65,743 parameters."""

    def __init__(self, outputs: int = EXPRESSION, other: int = OTHER, mouth: int = MOUTH, *, rngs: nnx.Rngs) -> None:
        self.layers = _layers((other + mouth, 128, 256), rngs)
        self.out = nnx.Linear(256, outputs, precision=_EXACT, rngs=rngs)

    def __call__(
        self, other: Float[Array, "*batch other"], mouth: Float[Array, "*batch mouth"]
    ) -> Float[Array, "*batch outputs"]:
        x = jnp.concatenate([other, mouth], axis=-1)
        for layer in self.layers:
            x = jax.nn.relu(layer(x))
        return self.out(x)


def _layers(sizes: tuple[int, ...], rngs: nnx.Rngs) -> nnx.List:
    pairs = itertools.pairwise(sizes)
    return nnx.List([nnx.Linear(inputs, outputs, precision=_EXACT, rngs=rngs) for inputs, outputs in pairs])
