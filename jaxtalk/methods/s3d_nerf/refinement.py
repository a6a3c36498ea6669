"""From the coarse inner face and the full source picture to the fine frame (card 2.8)."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from jaxtalk.methods.s3d_nerf.config import SuperResolutionConfig
from jaxtalk.nn.superresolution import Hybrid4x
from jaxtalk.nn.unet import UNet


class Refinement(nnx.Module):
    """`I_fine = Supres(I_coarse, I_source)`, pictures in [0, 1].

    With `blend` the frame is a mixture, with weights that the U-Net gives for each pixel, of four pictures: the coarse
    face made larger, the source as it stands, the source moved as face and head are, and new colours. The U-Net then
    need not learn to copy.
    """

    def __init__(self, settings: SuperResolutionConfig, rngs: nnx.Rngs) -> None:
        self.blend = settings.blend
        if settings.sr == "hybrid4x":
            self.network: Hybrid4x | UNet = Hybrid4x(3, rngs=rngs)
            return
        self.network = UNet(
            9 if settings.blend else 6,
            7 if settings.blend else 3,
            settings.widths,
            norm="none",
            activation="leaky_relu",
            residual_blocks=settings.residual_blocks,
            rngs=rngs,
        )

    def __call__(
        self,
        coarse: Float[Array, "batch h w 3"],
        source: Float[Array, "batch height width 3"],
        moved: Float[Array, "batch height width 3"],
    ) -> Float[Array, "batch height width 3"]:
        """`moved`: the source as the geometry alone would show it in the target's pose; `blend` alone reads it."""
        if isinstance(self.network, Hybrid4x):
            return 0.5 + 0.5 * self.network(2 * coarse - 1, 2 * source - 1)
        large = jax.image.resize(coarse, source.shape, "linear")
        if not self.blend:
            return 0.5 + 0.5 * jnp.tanh(self.network(2 * jnp.concatenate([large, source], -1) - 1))
        found = self.network(2 * jnp.concatenate([large, source, moved], -1) - 1)
        shares = jax.nn.softmax(found[..., 3:], -1)
        pictures = jnp.stack([large, source, moved, jax.nn.sigmoid(found[..., :3])], -2)
        return (shares[..., None] * pictures).sum(-2)
