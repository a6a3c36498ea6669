"""wav2vec2-base (Baevski et al., NeurIPS 2020): speech at 16 kHz to 50 vectors a second (metrics card, section 5).

The encoder normalises after each sum (post-norm); GELU is exact. The published network knows no mask: here sound may
be filled up behind its end, and the tokens of the sound are as if it were not.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import TypeVar

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int

KERNELS, STRIDES = (10, 3, 3, 3, 3, 2, 2), (5, 2, 2, 2, 2, 2, 2)
HOP, SPAN = 320, 400  # samples from token to token, and under one token
_EXACT = jax.lax.Precision.HIGHEST
_EPSILON = 1e-5
_gelu = functools.partial(jax.nn.gelu, approximate=False)
_Count = TypeVar("_Count", int, jax.Array)


@dataclasses.dataclass(frozen=True)
class Wav2Vec2Config:
    """Sizes; the defaults are wav2vec2-base's."""

    conv_width: int = 512
    width: int = 768
    hidden: int = 3072  # of the feed-forward layers
    heads: int = 12
    layers: int = 12
    position_kernel: int = 128
    position_groups: int = 16


class Wav2Vec2(nnx.Module):
    """The last hidden states [batch, tokens, 768] of normalised sound [batch, samples]; 94,371,712 parameters.

    N samples give (N - 400) // 320 + 1 tokens, and token k is made of the samples 320 k .. 320 k + 399. The sound has
    mean 0 and variance 1 over the utterance (`jaxtalk.audio.wav2vec2`). Where `lengths` [batch] are given, what lies
    behind them is filling, and tokens that reach into it mean nothing.
    """

    def __init__(self, config: Wav2Vec2Config | None = None, *, rngs: nnx.Rngs) -> None:
        config = config or Wav2Vec2Config()
        convs = []
        for index, (kernel, stride) in enumerate(zip(KERNELS, STRIDES, strict=True)):
            inputs = config.conv_width if index else 1
            convs.append(_convolution(inputs, config.conv_width, kernel, rngs, strides=stride, use_bias=False))
        self.convs = nnx.List(convs)
        self.conv_norm = _NormOverTime(config.conv_width)
        self.projection_norm = _norm(config.conv_width, rngs)
        self.projection = _linear(config.conv_width, config.width, rngs)
        self.masked = nnx.Param(jnp.zeros(config.width))  # part of the published file; pretraining alone used it
        self.position = _PositionalConvolution(config, rngs)
        self.norm = _norm(config.width, rngs)
        self.layers = nnx.List([_Layer(config, rngs) for _ in range(config.layers)])

    def __call__(
        self, samples: Float[Array, "batch samples"], lengths: Int[Array, " batch"] | None = None
    ) -> Float[Array, "batch tokens width"]:
        return self.taps(samples, lengths)[-1]

    def taps(
        self, samples: Float[Array, "batch samples"], lengths: Int[Array, " batch"] | None = None
    ) -> list[jax.Array]:
        """Convolutions' output, projected, with positions and normalised, and then each layer's output."""
        if lengths is None:
            lengths = jnp.full(samples.shape[:1], samples.shape[1])
        features = self.features(samples, lengths)
        x = self.projection(self.projection_norm(features))
        taps = [features, x]
        real = jnp.arange(x.shape[1]) < token_count(lengths)[:, None]
        x = self.norm(x + self.position(jnp.where(real[..., None], x, 0)))
        taps.append(x)
        for layer in self.layers:
            x = layer(x, real)
            taps.append(x)
        return taps

    def features(
        self, samples: Float[Array, "batch samples"], lengths: Int[Array, " batch"]
    ) -> Float[Array, "batch tokens channels"]:
        """The seven convolutions."""
        x = samples[..., None]
        for index, conv in enumerate(self.convs):
            x = conv(x)
            x = _gelu(x if index else self.conv_norm(x, (lengths - KERNELS[0]) // STRIDES[0] + 1))
        return x


def token_count(samples: _Count) -> _Count:
    """Tokens of that many samples, at least 400."""
    return (samples - SPAN) // HOP + 1


class _NormOverTime(nnx.Module):
    """Group normalisation with a group for each channel."""

    def __init__(self, channels: int) -> None:
        self.scale = nnx.Param(jnp.ones(channels))
        self.bias = nnx.Param(jnp.zeros(channels))

    def __call__(
        self, x: Float[Array, "batch time channels"], lengths: Int[Array, " batch"]
    ) -> Float[Array, "batch time channels"]:
        share = (jnp.arange(x.shape[1]) < lengths[:, None]) / lengths[:, None]
        # As products of matrices: XLA for CPUs fuses sums into the subtraction, which takes quadratic time.
        mean_over_time = functools.partial(jnp.einsum, "bt,btc->bc", share, precision=_EXACT)
        mean = mean_over_time(x)[:, None]
        variance = mean_over_time(jnp.square(x - mean))[:, None]
        return (x - mean) * jax.lax.rsqrt(variance + _EPSILON) * self.scale[...] + self.bias[...]


class _PositionalConvolution(nnx.Module):
    """GELU of a grouped convolution over time, whose kernel has a direction and, for each tap, a length."""

    def __init__(self, config: Wav2Vec2Config, rngs: nnx.Rngs) -> None:
        shape = (config.position_kernel, config.width // config.position_groups, config.width)
        self.direction = nnx.Param(nnx.initializers.normal(shape[0] ** -0.5)(rngs.params(), shape))
        self.length = nnx.Param(jnp.ones((config.position_kernel, 1, 1)))
        self.bias = nnx.Param(jnp.zeros(config.width))
        self.groups = config.position_groups

    def __call__(self, x: jax.Array) -> jax.Array:
        direction = self.direction[...]
        norm = jnp.sqrt(jnp.sum(jnp.square(direction), axis=(1, 2), keepdims=True))
        half = len(direction) // 2
        y = jax.lax.conv_general_dilated(
            x,
            direction * (self.length[...] / norm),
            (1,),
            ((half, half - 1 + len(direction) % 2),),  # an even kernel's last output is dropped
            dimension_numbers=("NTC", "TIO", "NTC"),
            feature_group_count=self.groups,
            precision=_EXACT,
        )
        return _gelu(y + self.bias[...])


class _Layer(nnx.Module):
    """Self-attention, sum, norm; feed-forward, sum, norm."""

    def __init__(self, config: Wav2Vec2Config, rngs: nnx.Rngs) -> None:
        self.query, self.key, self.value, self.out = (_linear(config.width, config.width, rngs) for _ in range(4))
        self.attention_norm = _norm(config.width, rngs)
        self.inner = _linear(config.width, config.hidden, rngs)
        self.outer = _linear(config.hidden, config.width, rngs)
        self.final_norm = _norm(config.width, rngs)
        self.heads = config.heads

    def __call__(self, x: jax.Array, real: jax.Array) -> jax.Array:
        x = self.attention_norm(x + self._attended(x, real))
        return self.final_norm(x + self.outer(_gelu(self.inner(x))))

    def _attended(self, x: jax.Array, real: jax.Array) -> jax.Array:
        batch, tokens, width = x.shape
        size = width // self.heads
        query, key, value = (
            part(x).reshape(batch, tokens, self.heads, size) for part in (self.query, self.key, self.value)
        )
        scores = jnp.einsum("bqhs,bkhs->bhqk", query * size**-0.5, key, precision=_EXACT)
        scores = jnp.where(real[:, None, None], scores, -jnp.inf)
        mixed = jnp.einsum("bhqk,bkhs->bqhs", jax.nn.softmax(scores, axis=-1), value, precision=_EXACT)
        return self.out(mixed.reshape(batch, tokens, width))


def _convolution(inputs: int, outputs: int, kernel: int, rngs: nnx.Rngs, *, strides: int, use_bias: bool) -> nnx.Conv:
    return nnx.Conv(
        inputs, outputs, (kernel,), strides=strides, padding="VALID", use_bias=use_bias, precision=_EXACT, rngs=rngs
    )


def _linear(inputs: int, outputs: int, rngs: nnx.Rngs) -> nnx.Linear:
    return nnx.Linear(inputs, outputs, precision=_EXACT, rngs=rngs)


def _norm(width: int, rngs: nnx.Rngs) -> nnx.LayerNorm:
    return nnx.LayerNorm(width, epsilon=_EPSILON, use_fast_variance=False, rngs=rngs)
