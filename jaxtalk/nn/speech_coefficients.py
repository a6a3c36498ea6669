"""From speech to the coefficients of a face and the pose of a head (card gdrf 2.1, equation 2)."""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from jaxtalk.nn.linear import linear
from jaxtalk.nn.lstm import LSTM, State

WINDOW, CHANNELS = 28, 12  # rows and cepstra of one window (`jaxtalk.audio.atc`)
_BEFORE_POOL = 2  # convolutions before the first pooling


class SpeechToCoefficients(nnx.Module):
    """A convolutional code of each frame's window, an LSTM over the frames, and a linear layer.

    Convolutions 3 x 3 with ReLU, a maximum over 3 x 3 at stride (1, 2) after the second and one at stride (2, 2) after
    the last, which leave 12 x 2 cells; these, channels first, go through two dense layers with ReLU. The defaults are
    the reference's: 12,288 -> 2,048 -> 256, three layers of 256, 641 million floating point operations (forward) a
    window. widths=(8, 16, 32), embedding=(64, 64), hidden=64, layers=1, norm="none" need 2.2 million.

    Args:
        outputs: coefficients and pose, E + 6.
        widths: channels of the convolutions, at least two.
        embedding: widths of the dense layers before the LSTM.
        hidden: width of the LSTM.
        layers: of the LSTM.
        norm: "batch": batch normalisation after each convolution, which then has no bias; "none": a bias instead.
    """

    def __init__(
        self,
        outputs: int,
        *,
        rngs: nnx.Rngs,
        widths: Sequence[int] = (64, 128, 256, 256, 512),
        embedding: Sequence[int] = (2048, 256),
        hidden: int = 256,
        layers: int = 3,
        norm: str = "batch",
    ) -> None:
        if norm not in ("batch", "none"):
            raise ValueError(f"norm must be 'batch' or 'none', not {norm!r}")
        sizes = (1, *widths)
        self.convolutions = nnx.List(
            [
                nnx.Conv(sizes[i], sizes[i + 1], (3, 3), use_bias=norm == "none", kernel_init=_he, rngs=rngs)
                for i in range(len(widths))
            ]
        )
        count = len(widths) if norm == "batch" else 0
        self.norms = nnx.List([nnx.BatchNorm(widths[i], momentum=0.9, epsilon=1e-5, rngs=rngs) for i in range(count)])
        sizes = (12 * 2 * widths[-1], *embedding)
        self.dense = nnx.List([linear(sizes[i], sizes[i + 1], rngs=rngs) for i in range(len(embedding))])
        self.lstm = LSTM(sizes[-1], hidden, layers, rngs=rngs)
        self.out = linear(hidden, outputs, rngs=rngs)

    def __call__(
        self,
        windows: Float[Array, "*batch time 28 12"],
        state: State | None = None,
        *,
        use_running_average: bool = True,
    ) -> tuple[Float[Array, "*batch time outputs"], State]:
        """Standardised coefficients of consecutive frames, and the state after the last.

        `use_running_average=False` (training) normalises by this batch's statistics and updates the running ones.
        """
        return self.decode(self.encode(windows, use_running_average=use_running_average), state)

    def encode(
        self, windows: Float[Array, "*batch 28 12"], *, use_running_average: bool = True
    ) -> Float[Array, "*batch code"]:
        """The code of each window by itself."""
        x = windows.reshape(-1, WINDOW, CHANNELS, 1)
        for index, convolution in enumerate(self.convolutions):
            x = convolution(x)
            if self.norms:
                x = self.norms[index](x, use_running_average=use_running_average)
            x = jax.nn.relu(x)
            if index == _BEFORE_POOL - 1:
                x = _max_pool(x, 1, 2)
        x = _max_pool(x, 2, 2)
        x = jnp.moveaxis(x, -1, 1).reshape(len(x), -1)
        for layer in self.dense:
            x = jax.nn.relu(layer(x))
        return x.reshape(*windows.shape[:-2], x.shape[-1])

    def decode(
        self, codes: Float[Array, "*batch time code"], state: State | None = None
    ) -> tuple[Float[Array, "*batch time outputs"], State]:
        """Standardised coefficients from the codes of consecutive frames, and the state after the last."""
        hidden, state = self.lstm(codes, state)
        return self.out(hidden), state


class Normaliser(nnx.Module):
    """Mean and standard deviation [D] of coefficients over the base set; statistics, not parameters.

    Saved with the networks, so that whoever reads a checkpoint knows the units of what they predict.
    """

    def __init__(self, size: int) -> None:
        self.mean = nnx.BatchStat(jnp.zeros(size))
        self.std = nnx.BatchStat(jnp.ones(size))

    def fit_to(self, mean: Float[Array, " size"], std: Float[Array, " size"]) -> None:
        """Takes these statistics; deviations must be positive."""
        self.mean[...] = jnp.asarray(mean, jnp.float32)
        self.std[...] = jnp.asarray(std, jnp.float32)

    def standardise(self, x: Float[Array, "*batch size"]) -> Float[Array, "*batch size"]:
        return (x - self.mean[...]) / self.std[...]

    def restore(self, x: Float[Array, "*batch size"]) -> Float[Array, "*batch size"]:
        return x * self.std[...] + self.mean[...]


def _max_pool(
    x: Float[Array, "batch rows columns channels"], row_stride: int, column_stride: int
) -> Float[Array, "batch out_rows out_columns channels"]:
    """The maximum over 3 x 3 without padding.

    As maxima of slices: on a CPU a training step of a small network takes two thirds of the time that it takes with
    `nnx.max_pool`, whose gradient scatters.
    """
    for axis, stride in ((1, row_stride), (2, column_stride)):
        end = x.shape[axis] - 2
        taps = [jax.lax.slice_in_dim(x, tap, tap + end, stride, axis) for tap in range(3)]
        x = jnp.maximum(jnp.maximum(taps[0], taps[1]), taps[2])
    return x


_he = nnx.initializers.he_normal()
