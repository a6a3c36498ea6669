"""AlexNet's convolutions with torchvision's structure (metrics card, section 1, LPIPS)."""

from __future__ import annotations

import jax
from flax import nnx
from jaxtyping import Array, Float

CHANNELS = (64, 192, 384, 256, 256)
_WINDOWS = (11, 5, 3, 3, 3)
_POOLED = (1, 2)  # convolutions before which a 3 x 3 maximum of stride 2 is taken
_EXACT = jax.lax.Precision.HIGHEST


class AlexNet(nnx.Module):
    """The outputs of the five convolutions after their ReLU: 1/4, 1/8, 1/16, 1/16, 1/16 of the pictures' sides.

    2,469,696 parameters. Pictures [batch, H, W, 3] are normalised by the caller; sides of at least 35 pixels.
    """

    def __init__(self, *, rngs: nnx.Rngs) -> None:
        convs, inputs = [], 3
        for index, (channels, window) in enumerate(zip(CHANNELS, _WINDOWS, strict=True)):
            pad = (2 if index == 0 else window // 2,) * 2
            convs.append(
                nnx.Conv(
                    inputs,
                    channels,
                    (window, window),
                    strides=1 if index else 4,
                    padding=(pad, pad),
                    precision=_EXACT,
                    rngs=rngs,
                )
            )
            inputs = channels
        self.convs = nnx.List(convs)

    def __call__(self, images: Float[Array, "batch height width 3"]) -> list[jax.Array]:
        taps: list[jax.Array] = []
        x = images
        for index, conv in enumerate(self.convs):
            if index in _POOLED:
                x = nnx.max_pool(x, (3, 3), strides=(2, 2))
            x = jax.nn.relu(conv(x))
            taps.append(x)
        return taps
