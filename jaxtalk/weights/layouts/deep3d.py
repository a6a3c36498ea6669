"""Deep3DFaceRecon_pytorch's `epoch_20.pth`: a checkpoint whose `net_recon` holds the network (card nerffacespeech)."""

from __future__ import annotations

import numpy as np

from jaxtalk.nn.pretrained.deep3d import Deep3D
from jaxtalk.weights.convert import Layout, Rule, module


def _dense(array: np.ndarray) -> np.ndarray:
    """A 1 x 1 convolution over one pixel, [out, in, 1, 1] -> [in, out]."""
    return array[:, :, 0, 0].T


DEEP3D_RESNET50 = Layout(
    name="deep3d_resnet50",
    network=lambda rngs: Deep3D(rngs=rngs),
    rules=(Rule("final_layers/*/kernel", ("final_layers.*.weight",), _dense), *module("**", "**")),
    entry="net_recon",
)
