"""VGG16's and VGG19's convolutions with torchvision's structure (metrics card, section 1)."""

from __future__ import annotations

import re

import jax
from flax import nnx
from jaxtyping import Array, Float

CHANNELS = (64, 128, 256, 512, 512)
REPEATS = {16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}  # convolutions of each stage
LPIPS_TAPS = ("relu1_2", "relu2_2", "relu3_3", "relu4_3", "relu5_3")
PERCEPTUAL_TAPS = LPIPS_TAPS[:4]
_EXACT = jax.lax.Precision.HIGHEST


class Vgg(nnx.Module):
    """The outputs of chosen convolutions after their ReLU; stage n has 1 / 2^(n - 1) of the pictures' sides.

    14,714,688 parameters of depth 16, 20,024,384 of depth 19.

    Args:
        depth: 16 or 19.
        taps: names such as "relu3_1": the first convolution of the third stage. What follows the last one is not
            computed, though its parameters are there.

    Pictures [batch, H, W, 3] are normalised by the caller; sides of at least 16 pixels for all stages.
    """

    def __init__(self, depth: int = 16, taps: tuple[str, ...] = LPIPS_TAPS, *, rngs: nnx.Rngs) -> None:
        if depth not in REPEATS:
            raise ValueError(f"depth must be one of {tuple(REPEATS)}, not {depth}")
        self.taps = tuple(_place(tap, depth) for tap in taps)
        stages, inputs = [], 3
        for channels, repeats in zip(CHANNELS, REPEATS[depth], strict=True):
            stages.append(nnx.List([_convolution(channels if i else inputs, channels, rngs) for i in range(repeats)]))
            inputs = channels
        self.stages = nnx.List(stages)

    def __call__(self, images: Float[Array, "batch height width 3"]) -> list[jax.Array]:
        """The taps in the order in which they were named."""
        outputs: dict[tuple[int, int], jax.Array] = {}
        x, last = images, max(self.taps)
        for stage, convs in enumerate(self.stages):
            if stage:
                x = nnx.max_pool(x, (2, 2), strides=(2, 2))
            for index, conv in enumerate(convs):
                x = jax.nn.relu(conv(x))
                outputs[stage, index] = x
                if (stage, index) == last:
                    return [outputs[place] for place in self.taps]
        raise AssertionError("a tap outside of the network")


def _convolution(inputs: int, outputs: int, rngs: nnx.Rngs) -> nnx.Conv:
    return nnx.Conv(inputs, outputs, (3, 3), padding=((1, 1), (1, 1)), precision=_EXACT, rngs=rngs)


def _place(tap: str, depth: int) -> tuple[int, int]:
    """Stage and convolution, from 0, of 'relu3_1'."""
    match = re.fullmatch(r"relu([1-5])_(\d)", tap)
    if not match or not 1 <= int(match[2]) <= REPEATS[depth][int(match[1]) - 1]:
        raise ValueError(f"VGG{depth} has no {tap!r}")
    return int(match[1]) - 1, int(match[2]) - 1
