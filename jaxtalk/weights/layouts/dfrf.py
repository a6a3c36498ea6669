"""The networks that DFRF adds to AD-NeRF's in its checkpoints (card gdrf.md, 2.7, A.2 and B).

Two of their conventions are turned into ours: the attention reads where a feature was found as (row, column) in whole
pixels, ours as parts of the picture's height and width; and the point warping's offset is (row, column), ours (x, y).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from jaxtalk.nn.feature_encoders import DfrfFeatures
from jaxtalk.nn.slot_attention import ReferenceAttention
from jaxtalk.nn.warping import PointWarp
from jaxtalk.weights.convert import Layout, Rule, kernel, modules

FEATURES = 128  # of the encoder: what stands before (row, column)

ENCODER = Layout(
    name="DFRF's Feature_extractor",
    network=lambda rngs: DfrfFeatures(rngs=rngs),
    rules=modules({"convolutions/0": "conv1.0", "convolutions/1": "conv2.0", "out": "fc"}),
)
WARP = Layout(
    name="DFRF's Position_warp",
    network=lambda rngs: PointWarp(255, rngs=rngs),
    rules=(
        Rule("layers/2/kernel", ("mlp.4.weight",), lambda array: kernel(array)[:, ::-1]),
        Rule("layers/2/bias", ("mlp.4.bias",), lambda array: array[::-1]),
        *modules({"layers/0": "mlp.0", "layers/1": "mlp.2"}),
    ),
)


def references(size: tuple[int, int]) -> Layout:
    """Of networks trained on pictures of `size` (height, width), pixels."""
    return Layout(
        name="DFRF's SlotAttention",
        network=lambda rngs: ReferenceAttention(FEATURES, 63, project=False, rngs=rngs),
        rules=(
            Rule("place/kernel", ("fc1.0.weight",), _in_parts(size)),
            Rule("join/kernel", ("fc7.0.weight",), _in_parts(size)),
            Rule("attention/mean", ("slots_mu",), lambda array: array[0]),
            Rule("attention/log_deviation", ("slots_logsigma",), lambda array: array[0]),
            Rule("attention/cell/input_kernel", ("gru.weight_ih",), kernel),
            Rule("attention/cell/input_bias", ("gru.bias_ih",)),
            Rule("attention/cell/hidden_kernel", ("gru.weight_hh",), kernel),
            Rule("attention/cell/hidden_bias", ("gru.bias_hh",)),
            *modules(
                {
                    "place": "fc1.0",
                    "place_out": "fc6",
                    "join": "fc7.0",
                    "attention/norm_inputs": "norm_input",
                    "attention/norm_slots": "norm_slots",
                    "attention/norm_mlp": "norm_pre_ff",
                    "attention/query": "to_q",
                    "attention/key": "to_k",
                    "attention/value": "to_v",
                    "attention/hidden": "mlp.0",
                    "attention/out": "mlp.2",
                }
            ),
        ),
    )


def _in_parts(size: tuple[int, int]) -> Callable[[np.ndarray], np.ndarray]:
    """A dense layer whose inputs `FEATURES` and `FEATURES` + 1 were pixels, for parts of the picture's size."""

    def transform(array: np.ndarray) -> np.ndarray:
        result = kernel(array).copy()
        result[FEATURES : FEATURES + 2] *= np.array(size, np.float32)[:, None]
        return result

    return transform
