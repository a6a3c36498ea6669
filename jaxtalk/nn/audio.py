"""AD-NeRF's speech networks: a code per window, and attention over neighbouring codes (card gdrf A.1)."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from jaxtalk.nn.linear import linear

WINDOW = 16  # rows of one window of features
SLOPE = 0.02  # of the leaky ReLU


class Conv1d(nnx.Module):
    """A convolution of width 3 over time, zero padded by one, as one matrix product.

    The kernel's rows are ordered (tap, channel). Written as a product because the windows are tiny: as a convolution
    they cost several times as much on a CPU.
    """

    def __init__(self, inputs: int, outputs: int, stride: int, *, rngs: nnx.Rngs) -> None:
        self.stride = stride
        self.linear = linear(3 * inputs, outputs, rngs=rngs)

    def __call__(self, x: Float[Array, "*batch time inputs"]) -> Float[Array, "*batch out outputs"]:
        time = x.shape[-2]
        padded = jnp.pad(x, [(0, 0)] * (x.ndim - 2) + [(1, 1), (0, 0)])
        taps = [padded[..., tap : tap + time : self.stride, :] for tap in range(3)]
        return self.linear(jnp.concatenate(taps, -1))


class AudioNet(nnx.Module):
    """One window of speech features to a code. 32,800 parameters with 29 channels and 64 outputs."""

    def __init__(self, channels: int = 29, outputs: int = 64, *, rngs: nnx.Rngs) -> None:
        sizes = (channels, 32, 32, 64, 64)
        self.convolutions = nnx.List([Conv1d(sizes[i], sizes[i + 1], 2, rngs=rngs) for i in range(4)])
        self.hidden = linear(64, 64, rngs=rngs)
        self.out = linear(64, outputs, rngs=rngs)

    def __call__(self, windows: Float[Array, "*batch 16 channels"]) -> Float[Array, "*batch outputs"]:
        x = windows
        for convolution in self.convolutions:
            x = jax.nn.leaky_relu(convolution(x), SLOPE)
        return self.out(jax.nn.leaky_relu(self.hidden(x[..., 0, :]), SLOPE))


class AudioAttNet(nnx.Module):
    """Smooths codes in time: a softmax over neighbouring windows, read from their first 32 channels.

    2,149 parameters with 8 windows.
    """

    CHANNELS = 32

    def __init__(self, windows: int = 8, *, rngs: nnx.Rngs) -> None:
        sizes = (self.CHANNELS, 16, 8, 4, 2, 1)
        self.convolutions = nnx.List([Conv1d(sizes[i], sizes[i + 1], 1, rngs=rngs) for i in range(5)])
        self.scores = linear(windows, windows, rngs=rngs)

    def __call__(self, codes: Float[Array, "*batch windows channels"]) -> Float[Array, "*batch channels"]:
        x = codes[..., : self.CHANNELS]
        for convolution in self.convolutions:
            x = jax.nn.leaky_relu(convolution(x), SLOPE)
        weights = jax.nn.softmax(self.scores(x[..., 0]), -1)
        return jnp.einsum("...w,...wc->...c", weights, codes)


def neighbour_windows(
    rows: Float[Array, "*batch rows channels"], count: int, stride: int
) -> Float[Array, "*batch count 16 channels"]:
    """The windows [i - count/2, i + count/2) around a frame, cut from one long stretch of feature rows.

    `rows` is centred on the frame; neighbours are `stride` rows apart (50 Hz features at 25 fps: 2). The frame's own
    window is number count/2. Raises `ValueError` when the rows do not reach far enough.
    """
    centre, half = rows.shape[-2] // 2, count // 2
    starts = [centre - WINDOW // 2 + stride * (index - half) for index in range(count)]
    if starts[0] < 0 or starts[-1] + WINDOW > rows.shape[-2]:
        raise ValueError(f"{count} windows at stride {stride} need more than {rows.shape[-2]} rows")
    return jnp.stack([rows[..., start : start + WINDOW, :] for start in starts], -3)
