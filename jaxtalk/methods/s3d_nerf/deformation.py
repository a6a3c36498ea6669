"""Where points are moved from by speech: backward deformation in head space (card 2.6, eq. 4, and 2.11)."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from jaxtalk.methods.s3d_nerf.config import DeformConfig
from jaxtalk.nn.linear import linear
from jaxtalk.nn.mlp import split_linear
from jaxtalk.nn.unet import UNet
from jaxtalk.ops.encodings import encoding_size, positional_encoding
from jaxtalk.ops.triplane import sample_planes

_POINT_UNET = (256, 128, 64, 128, 256)
_ND_WIDTHS = (128, 128, 128, 128)


class Deformation(nnx.Module):
    """Offsets of points from what they are, the speech, and what the source picture's places hear.

    Kinds: "full" reads F_cm, by planes that a U-Net makes of it; "fcd" tri-plane features at the point instead; "nd"
    neither. All read the mean token, but "full" without `hears_mean`, whose speech comes by F_cm alone. The last layer
    starts at zero: nothing moves.

    Args:
        heard: channels of F_cm; `speech`: of the mean token; `features`: of the tri-planes at a point.
        side: cells along a side of F_cm.
    """

    def __init__(
        self, settings: DeformConfig, heard: int, speech: int, features: int, side: int, rngs: nnx.Rngs
    ) -> None:
        self.settings = settings
        read = {"full": settings.plane_channels, "fcd": features, "nd": 0}[settings.kind]
        self.hears_mean = settings.hears_mean or settings.kind != "full"
        mean = speech if self.hears_mean else 0
        if settings.kind == "full":
            steps = _halvings(side)
            widths = settings.widths[: steps + 1]
            outputs = settings.planes * settings.plane_channels
            self.maps = UNet(heard + mean, outputs, widths, norm=settings.norm, rngs=rngs)
        hidden: tuple[int, ...] = _ND_WIDTHS if settings.kind == "nd" else (settings.hidden,) * 2
        self.skips = settings.arch == "point_unet" and settings.kind != "nd"
        if self.skips:
            hidden = tuple(width * settings.hidden // 128 for width in _POINT_UNET)
        self.sizes = (encoding_size(3, settings.frequencies), read, mean)
        inputs = [sum(self.sizes), *hidden]
        if self.skips:  # the last two layers also read what was as wide on the way down
            inputs[4] += hidden[1]
            inputs[5] += hidden[0]
        self.layers = nnx.List([linear(a, b, rngs=rngs) for a, b in zip(inputs[:-1], hidden, strict=True)])
        zeros = nnx.initializers.zeros
        self.out = nnx.Linear(inputs[-1], 3, kernel_init=zeros, bias_init=zeros, rngs=rngs)

    def planes(
        self, heard: Float[Array, "*batch side side heard"], speech: Float[Array, "*batch speech"]
    ) -> Float[Array, "*batch planes side side channels"] | None:
        """What the U-Net makes of F_cm and the speech: once a frame."""
        if self.settings.kind != "full":
            return None
        x = heard
        if self.hears_mean:
            tiled = jnp.broadcast_to(speech[..., None, None, :], (*heard.shape[:-1], speech.shape[-1]))
            x = jnp.concatenate([heard, tiled], -1)
        x = self.maps(x.reshape(-1, *x.shape[-3:])).reshape(*x.shape[:-1], -1)
        return jnp.moveaxis(x.reshape(*x.shape[:-1], self.settings.planes, -1), -2, -4)

    def __call__(
        self,
        coordinates: Float[Array, "*batch points 3"],
        planes: Float[Array, "*batch planes side side channels"] | None,
        speech: Float[Array, "*batch speech"],
        features: Float[Array, "*batch points features"] | None,
    ) -> Float[Array, "*batch points 3"]:
        """Offsets in units of the planes' box, along the axes of head space.

        Args:
            coordinates: of the undeformed points in the source's planes.
            features: the tri-planes there; "fcd" alone reads them.
        """
        parts = [positional_encoding(coordinates, self.settings.frequencies)]
        if planes is not None:
            parts.append(sample_planes(planes, coordinates))
        if self.settings.kind == "fcd":
            assert features is not None
            parts.append(features)
        if self.hears_mean:
            parts.append(speech[..., None, :])
        kept: list[jax.Array] = []
        for index, layer in enumerate(self.layers):
            if self.skips and index >= 4:
                parts = [*parts, kept[1]]
            parts = [jax.nn.silu(split_linear(layer, parts))]
            kept.append(parts[0])
        return self.out(jnp.concatenate([*parts, kept[0]], -1) if self.skips else parts[0])


def _halvings(side: int) -> int:
    """How often a side may be halved."""
    return (side & -side).bit_length() - 1
