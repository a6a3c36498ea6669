"""The heads of LPIPS 0.1: one 1 x 1 convolution [1, channels, 1, 1] for each tap."""

from __future__ import annotations

import numpy as np

from jaxtalk.nn.pretrained.lpips import LpipsHeads
from jaxtalk.weights.convert import Layout, Rule


def _row(array: np.ndarray) -> np.ndarray:
    return array[0, :, 0, 0]


def _layout(net: str) -> Layout:
    return Layout(
        name=f"lpips_{net}",
        network=lambda _: LpipsHeads(net),
        rules=(Rule("weights/*", ("lin*.model.1.weight",), _row),),
    )


ALEX, VGG = _layout("alex"), _layout("vgg")
