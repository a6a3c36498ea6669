"""Pictures of a speaker to feature maps: E_c of GDRF and DFRF (card gdrf 2.2, A.2).

Every encoder is called with images [*batch, H, W, 3] and the cameras' places in head space [*batch, 3], which only
`DfrfFeatures` reads, and gives [*batch, h, w, channels].
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
from flax import nnx
from flax.typing import Dtype
from jaxtyping import Array, Float

from jaxtalk.nn.convolution import convolution
from jaxtalk.nn.linear import linear
from jaxtalk.nn.resnet import ResNet34, load_imagenet
from jaxtalk.ops.encodings import encoding_size, positional_encoding
from jaxtalk.ops.grid_sample import resize

FREQUENCIES = 5  # of DFRF's encodings


class Resnet34Features(nnx.Module):
    """conv1 and the first three layers of ResNet-34, each resized to half the pictures' size: 512 channels.

    `norm` as in `ResNet34`; "frozen_batch" is for ImageNet weights, which `load_imagenet(path)` writes into it.
    """

    channels = 512

    def __init__(self, norm: str = "group", *, rngs: nnx.Rngs, dtype: Dtype | None = None) -> None:
        self.network = ResNet34(norm, layers=3, rngs=rngs, dtype=dtype)

    def load_imagenet(self, path: str | Path) -> None:
        """Reads the weights that `resnet.load_imagenet` describes."""
        load_imagenet(self.network, path)

    def __call__(
        self, images: Float[Array, "*batch height width 3"], camera_centre: Float[Array, "*#batch 3"] | None = None
    ) -> Float[Array, "*batch rows columns channels"]:
        maps = self.network(images)
        height, width = maps[0].shape[-3:-1]
        return jnp.concatenate([maps[0], *(resize(x, (height, width)) for x in maps[1:])], -1)


class DfrfFeatures(nnx.Module):
    """DFRF's encoder: colour and camera place, encoded, through two convolutions and a linear layer.

    128 channels at the pictures' own size; 83,328 parameters.
    """

    channels = 128

    def __init__(self, *, rngs: nnx.Rngs, dtype: Dtype | None = None) -> None:
        inputs = 2 * encoding_size(3, FREQUENCIES)
        self.convolutions = nnx.List([convolution(size, 64, 3, rngs=rngs, dtype=dtype) for size in (inputs, 64)])
        self.out = linear(64, self.channels, rngs=rngs, dtype=dtype)

    def __call__(
        self, images: Float[Array, "*batch height width 3"], camera_centre: Float[Array, "*#batch 3"]
    ) -> Float[Array, "*batch height width channels"]:
        colour = positional_encoding(images, FREQUENCIES)
        place = positional_encoding(camera_centre, FREQUENCIES)[..., None, None, :]
        x = jnp.concatenate([colour, jnp.broadcast_to(place, colour.shape)], -1)
        for layer in self.convolutions:
            x = jax.nn.relu(layer(x))
        return self.out(x)


class SmallFeatures(nnx.Module):
    """For small pictures: convolutions at full, half and quarter size, resized to the picture and joined with it.

    3 + sum(channels) channels at the pictures' own size. The 4 x 4 convolutions of stride 2 and the resizing keep the
    centres of the pixels where they are.
    """

    def __init__(self, channels: Sequence[int] = (16, 24, 32), *, rngs: nnx.Rngs, dtype: Dtype | None = None) -> None:
        sizes = (3, *channels)
        self.channels = sum(sizes)
        self.convolutions = nnx.List(
            [
                convolution(sizes[i], sizes[i + 1], 4 if i else 3, stride=2 if i else 1, rngs=rngs, dtype=dtype)
                for i in range(len(channels))
            ]
        )

    def __call__(
        self, images: Float[Array, "*batch height width 3"], camera_centre: Float[Array, "*#batch 3"] | None = None
    ) -> Float[Array, "*batch height width channels"]:
        x, maps = images, [images]
        for layer in self.convolutions:
            x = jax.nn.relu(layer(x))
            maps.append(jax.image.resize(x, (*images.shape[:-1], x.shape[-1]), "bilinear"))
        return jnp.concatenate(maps, -1)


def make_encoder(
    kind: str,
    *,
    channels: Sequence[int] = (16, 24, 32),
    norm: str = "group",
    rngs: nnx.Rngs,
    dtype: Dtype | None = None,
) -> Resnet34Features | DfrfFeatures | SmallFeatures:
    """The encoder `kind`: "resnet34" (reads `norm`), "dfrf_conv" or "small" (reads `channels`)."""
    if kind == "resnet34":
        return Resnet34Features(norm, rngs=rngs, dtype=dtype)
    if kind == "dfrf_conv":
        return DfrfFeatures(rngs=rngs, dtype=dtype)
    if kind == "small":
        return SmallFeatures(channels, rngs=rngs, dtype=dtype)
    raise ValueError(f"encoder must be 'resnet34', 'dfrf_conv' or 'small', not {kind!r}")
