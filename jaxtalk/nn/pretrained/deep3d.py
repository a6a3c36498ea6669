"""The network of Deep3DFaceRecon (Deng et al., CVPRW 2019): a face's 257 coefficients from one picture.

Structure: card nerffacespeech (BFM), and Deep3DFaceRecon_pytorch models/networks.py. The coefficients are those that
`jaxtalk.preparation.importers.deep3d` reads.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from jaxtalk.nn.pretrained.resnet50 import DEPTHS, ResNet50

SIZE = 224  # pixels, side of the pictures
HEADS = (("id", 80), ("exp", 64), ("tex", 80), ("angle", 3), ("gamma", 27), ("trans_xy", 2), ("trans_z", 1))


class Deep3D(nnx.Module):
    """Coefficients [batch, 257], in the order of `HEADS`, of faces [batch, 224, 224, 3], RGB in [0, 1].

    Args:
        depths: blocks per layer of the ResNet.
        divisor: divides its widths; 1 is the published network.
    """

    def __init__(self, depths: tuple[int, ...] = DEPTHS, divisor: int = 1, *, rngs: nnx.Rngs) -> None:
        self.backbone = ResNet50(depths, divisor, rngs=rngs)
        self.final_layers = nnx.List(
            [
                nnx.Linear(self.backbone.outputs, size, precision=jax.lax.Precision.HIGHEST, rngs=rngs)
                for _, size in HEADS
            ]
        )

    def __call__(self, faces: Float[Array, "batch height width 3"]) -> Float[Array, "batch 257"]:
        pooled = self.backbone(faces)[-1].mean(axis=(1, 2))
        return jnp.concatenate([layer(pooled) for layer in self.final_layers], axis=-1)
