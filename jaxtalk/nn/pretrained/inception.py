"""Inception-v3 as FID uses it: torchvision's structure with three changes to its poolings (metrics card, section 2).

Average poolings leave the padding out, and the pool branch of the last block takes the maximum. Blocks are data: a
branch is a chain of convolutions, and a block joins its branches' outputs.
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

SIZE = 299  # pixels, side of the pictures
FEATURES = 2048
MIN_SIZE = 75
EPSILON = 1e-3
_EXACT = jax.lax.Precision.HIGHEST
Spec = tuple[str, int, tuple[int, int], int]  # of a convolution: name, outputs, window (rows, columns), stride
Step = tuple[Spec, ...]  # convolutions of the same input, whose outputs are joined: one, or two
Branch = tuple[Step, ...]

STEM: tuple[tuple[str, int, tuple[int, int], int, int], ...] = (  # a Spec and its padding
    ("conv1a", 32, (3, 3), 2, 0),
    ("conv2a", 32, (3, 3), 1, 0),
    ("conv2b", 64, (3, 3), 1, 1),
    ("conv3b", 80, (1, 1), 1, 0),
    ("conv4a", 192, (3, 3), 1, 0),
)
_POOL_AFTER = ("conv2b", "conv4a")


def _one(name: str, outputs: int) -> Step:
    return ((name, outputs, (1, 1), 1),)


def _square(name: str, outputs: int, side: int = 3, stride: int = 1) -> Step:
    return ((name, outputs, (side, side), stride),)


def _row(name: str, outputs: int, side: int = 7) -> Step:
    return ((name, outputs, (1, side), 1),)


def _column(name: str, outputs: int, side: int = 7) -> Step:
    return ((name, outputs, (side, 1), 1),)


def _block_a(pooled: int) -> tuple[Branch, ...]:
    return (
        (_one("branch1x1", 64),),
        (_one("branch5x5_1", 48), _square("branch5x5_2", 64, 5)),
        (_one("branch3x3dbl_1", 64), _square("branch3x3dbl_2", 96), _square("branch3x3dbl_3", 96)),
        (_one("branch_pool", pooled),),
    )


_BLOCK_B: tuple[Branch, ...] = (
    (_square("branch3x3", 384, stride=2),),
    (_one("branch3x3dbl_1", 64), _square("branch3x3dbl_2", 96), _square("branch3x3dbl_3", 96, stride=2)),
)


def _block_c(width: int) -> tuple[Branch, ...]:
    return (
        (_one("branch1x1", 192),),
        (_one("branch7x7_1", width), _row("branch7x7_2", width), _column("branch7x7_3", 192)),
        (
            _one("branch7x7dbl_1", width),
            _column("branch7x7dbl_2", width),
            _row("branch7x7dbl_3", width),
            _column("branch7x7dbl_4", width),
            _row("branch7x7dbl_5", 192),
        ),
        (_one("branch_pool", 192),),
    )


_BLOCK_D: tuple[Branch, ...] = (
    (_one("branch3x3_1", 192), _square("branch3x3_2", 320, stride=2)),
    (
        _one("branch7x7x3_1", 192),
        _row("branch7x7x3_2", 192),
        _column("branch7x7x3_3", 192),
        _square("branch7x7x3_4", 192, stride=2),
    ),
)
_BLOCK_E: tuple[Branch, ...] = (
    (_one("branch1x1", 320),),
    (_one("branch3x3_1", 384), _row("branch3x3_2a", 384, 3) + _column("branch3x3_2b", 384, 3)),
    (
        _one("branch3x3dbl_1", 448),
        _square("branch3x3dbl_2", 384),
        _row("branch3x3dbl_3a", 384, 3) + _column("branch3x3dbl_3b", 384, 3),
    ),
    (_one("branch_pool", 192),),
)
# Branches of each block, and how its input is pooled: by the mean or the maximum for the last branch, or by the maximum
# with stride 2 ("halve") for a branch without convolutions.
BLOCKS: tuple[tuple[tuple[Branch, ...], str], ...] = (
    *((_block_a(pooled), "mean") for pooled in (32, 64, 64)),
    (_BLOCK_B, "halve"),
    *((_block_c(width), "mean") for width in (128, 160, 160, 192)),
    (_BLOCK_D, "halve"),
    (_BLOCK_E, "mean"),
    (_BLOCK_E, "maximum"),
)


class Inception(nnx.Module):
    """The 2048 features [batch, 2048] of pictures [batch, H, W, 3] in [0, 1], sides of at least 75 (meant: 299).

    21,785,568 parameters and 34,432 statistics; the classifier and torchvision's side branch are left out.
    """

    def __init__(self, *, rngs: nnx.Rngs) -> None:
        inputs = 3
        for name, outputs, window, stride, pad in STEM:
            setattr(self, name, _ConvNorm(inputs, outputs, window, stride, (pad, pad), rngs))
            inputs = outputs
        blocks = []
        for branches, pool in BLOCKS:
            blocks.append(_Block(inputs, branches, pool, rngs))
            inputs = blocks[-1].outputs
        self.blocks = nnx.List(blocks)

    def __call__(self, images: Float[Array, "batch height width 3"]) -> Float[Array, "batch 2048"]:
        return self.taps(images)[-1].mean((1, 2))

    def taps(self, images: Float[Array, "batch height width 3"]) -> list[jax.Array]:
        """Outputs of the stem and of each of the eleven blocks, [batch, height, width, channels]."""
        x = 2.0 * images - 1.0
        for name, *_ in STEM:
            x = getattr(self, name)(x)
            if name in _POOL_AFTER:
                x = nnx.max_pool(x, (3, 3), strides=(2, 2))
        taps = [x]
        for block in self.blocks:
            taps.append(block(taps[-1]))
        return taps


class _Block(nnx.Module):
    """Convolutions of stride 2 are not padded, the others keep the size."""

    def __init__(self, inputs: int, branches: tuple[Branch, ...], pool: str, rngs: nnx.Rngs) -> None:
        self.branches, self.pool, self.outputs = branches, pool, inputs if pool == "halve" else 0
        for branch in branches:
            width = inputs
            for step in branch:
                for name, outputs, window, stride in step:
                    pad = (window[0] // 2, window[1] // 2) if stride == 1 else (0, 0)
                    setattr(self, name, _ConvNorm(width, outputs, window, stride, pad, rngs))
                width = sum(outputs for _, outputs, _, _ in step)
            self.outputs += width

    def __call__(self, x: jax.Array) -> jax.Array:
        pooled = _POOLS[self.pool](x)
        if self.pool == "halve":
            outputs = [*(self._run(branch, x) for branch in self.branches), pooled]
        else:
            *others, last = self.branches
            outputs = [*(self._run(branch, x) for branch in others), self._run(last, pooled)]
        return jnp.concatenate(outputs, axis=-1)

    def _run(self, branch: Branch, x: jax.Array) -> jax.Array:
        for step in branch:
            x = jnp.concatenate([getattr(self, name)(x) for name, *_ in step], axis=-1)
        return x


_POOLS = {
    "mean": functools.partial(
        nnx.avg_pool, window_shape=(3, 3), strides=(1, 1), padding=((1, 1), (1, 1)), count_include_pad=False
    ),
    "maximum": functools.partial(nnx.max_pool, window_shape=(3, 3), strides=(1, 1), padding=((1, 1), (1, 1))),
    "halve": functools.partial(nnx.max_pool, window_shape=(3, 3), strides=(2, 2)),
}


class _ConvNorm(nnx.Module):
    """Convolution without a bias, batch normalisation by stored statistics, ReLU."""

    def __init__(
        self, inputs: int, outputs: int, window: tuple[int, int], stride: int, pad: tuple[int, int], rngs: nnx.Rngs
    ) -> None:
        padding = ((pad[0], pad[0]), (pad[1], pad[1]))
        self.conv = nnx.Conv(
            inputs, outputs, window, strides=stride, padding=padding, use_bias=False, precision=_EXACT, rngs=rngs
        )
        self.bn = nnx.BatchNorm(outputs, use_running_average=True, epsilon=EPSILON, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        return jax.nn.relu(self.bn(self.conv(x)))
