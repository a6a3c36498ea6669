"""What the targets of a batch show, for the losses of equation 9 (card 5.17)."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxtalk.methods.api import Batch


class Truth:
    """What the targets show. Pictures [batch, T, ...] in [0, 1]."""

    def __init__(self, fine: jax.Array, coarse: jax.Array, mouth_box: jax.Array) -> None:
        self.fine, self.coarse, self._mouth_box = fine, coarse, mouth_box

    @classmethod
    def of(cls, batch: Batch, coarse_size: int) -> Truth:
        """Fine: the whole frame. Coarse: the inner face before black, made smaller by averaging (card 5.17)."""
        fine = batch["frames"].astype(jnp.float32) / 255
        masked = fine * (batch["faces"].astype(jnp.float32) / 255)[..., None]
        return cls(fine, shrunk(masked, coarse_size), batch["mouth_box"])

    def mouth(self, side: int) -> Float[Array, "batch frames rows columns"]:
        """1 in the mouth's box, for pictures of `side` pixels."""
        x0, y0, x1, y1 = (self._mouth_box * (side / self.fine.shape[-3])).transpose(2, 0, 1)[..., None]
        place = jnp.arange(side) + 0.5
        across, down = (place >= x0) & (place < x1), (place >= y0) & (place < y1)
        return (down[..., :, None] & across[..., None, :]).astype(jnp.float32)


def shrunk(images: Float[Array, "*batch height width 3"], side: int) -> Float[Array, "*batch side side 3"]:
    """Pictures made smaller by averaging whole blocks of pixels."""
    *batch, height, width, channels = images.shape
    blocks = images.reshape(*batch, side, height // side, side, width // side, channels)
    return blocks.mean((-4, -2))


def psnr_in(error: jax.Array, mask: jax.Array) -> jax.Array:
    """The PSNR of squared errors [..., 3], dB, where `mask` [...] is 1."""
    mean = (error.mean(-1) * mask).sum() / jnp.maximum(mask.sum(), 1)
    return -10 * jnp.log10(mean)
