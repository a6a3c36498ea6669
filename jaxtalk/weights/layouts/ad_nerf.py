"""The networks in AD-NeRF's checkpoints (card gdrf.md, A.1 and B): speech to a code, its smoothing, a radiance field.

Fields hold a `feature_linear` that their code never asks.
"""

from __future__ import annotations

import numpy as np

from jaxtalk.nn.audio import AudioAttNet, AudioNet
from jaxtalk.nn.mlp import RadianceMLP
from jaxtalk.weights.convert import Layout, Rule, modules


def _taps(array: np.ndarray) -> np.ndarray:
    """A convolution over time, [out, in, taps] -> the matrix [taps * in, out] of `nn.audio.Conv1d`."""
    return array.transpose(2, 1, 0).reshape(-1, len(array))


def _convolutions(count: int, theirs: str) -> tuple[Rule, ...]:
    """Every other module of a torch Sequential is an activation."""
    return tuple(
        rule
        for i in range(count)
        for rule in (
            Rule(f"convolutions/{i}/linear/kernel", (f"{theirs}.{2 * i}.weight",), _taps),
            Rule(f"convolutions/{i}/linear/bias", (f"{theirs}.{2 * i}.bias",)),
        )
    )


AUDIO_NET = Layout(
    name="AD-NeRF's AudioNet",
    network=lambda rngs: AudioNet(rngs=rngs),
    rules=(*_convolutions(4, "encoder_conv"), *modules({"hidden": "encoder_fc1.0", "out": "encoder_fc1.2"})),
)
AUDIO_ATT_NET = Layout(
    name="AD-NeRF's AudioAttNet",
    network=lambda rngs: AudioAttNet(rngs=rngs),
    rules=(*_convolutions(5, "attentionConvNet"), *modules({"scores": "attentionNet.0"})),
)
FIELD = Layout(
    name="AD-NeRF's FaceNeRF",
    network=lambda rngs: RadianceMLP(127, 27, rngs=rngs),
    rules=modules(
        {
            "trunk/*": "pts_linears.*",
            "density": "alpha_linear",
            "branch/*": "views_linears.*",
            "color": "rgb_linear",
        }
    ),
    ignored=("feature_linear.weight", "feature_linear.bias"),
)
