"""From coefficients of a face (identity, expression, pose) to the code that steers the warping (card gdrf 2.3)."""

from __future__ import annotations

import jax
from flax import nnx
from jaxtyping import Array, Float

from jaxtalk.nn.linear import linear

SLOPE = 0.1  # of the leaky ReLU


class SemanticMapping(nnx.Module):
    """A linear layer and residual blocks x + Linear(lrelu(x)); two of them by default.

    With `window` > 0 it reads that many consecutive frames instead: a convolution over 7 frames, residual
    convolutions over 3 frames, 3 apart (three by default), and the mean over the frames that remain (27 frames:
    21, 15, 9, 3). Raises `ValueError` for a window that the blocks use up.
    """

    def __init__(
        self, inputs: int, width: int = 256, blocks: int | None = None, window: int = 0, *, rngs: nnx.Rngs
    ) -> None:
        self.window = window
        if blocks is None:
            blocks = 3 if window else 2
        if window and window < 7 + 6 * blocks:
            raise ValueError(f"{blocks} blocks need a window of {7 + 6 * blocks} frames, not {window}")
        taps = 3 if window else 1
        self.first = linear((7 if window else 1) * inputs, width, rngs=rngs)
        self.blocks = nnx.List([linear(taps * width, width, rngs=rngs) for _ in range(blocks)])

    def __call__(self, x: Float[Array, "*batch inputs"]) -> Float[Array, "*batch width"]:
        """The code of `x`: [*batch, inputs], or [*batch, window, inputs] where the module has a window."""
        if not self.window:
            x = self.first(x)
            for block in self.blocks:
                x = x + block(jax.nn.leaky_relu(x, SLOPE))
            return x
        if x.shape[-2] != self.window:
            raise ValueError(f"the mapping reads windows of {self.window} frames, not {x.shape[-2]}")
        x = _convolve(self.first, x, taps=7, dilation=1)
        for block in self.blocks:
            x = x[..., 3:-3, :] + _convolve(block, jax.nn.leaky_relu(x, SLOPE), taps=3, dilation=3)
        return x.mean(-2)


def _convolve(layer: nnx.Linear, x: Float[Array, "*batch time inputs"], *, taps: int, dilation: int) -> jax.Array:
    """A convolution over time without padding; the kernel's rows are ordered (tap, channel)."""
    steps = x.shape[-2] - dilation * (taps - 1)
    shifted = [x[..., dilation * tap : dilation * tap + steps, :] for tap in range(taps)]
    return layer(jax.numpy.concatenate(shifted, -1))
