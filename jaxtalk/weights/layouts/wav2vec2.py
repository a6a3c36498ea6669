"""wav2vec2-base as transformers saves it, alone or under the heads of CTC and pretraining (metrics card, section 5)."""

from __future__ import annotations

from jaxtalk.nn.pretrained.wav2vec2 import Wav2Vec2
from jaxtalk.weights.convert import Layout, Rule, kernel, module, modules

_POSITION = "encoder.pos_conv_embed.conv"

WAV2VEC2_BASE = Layout(
    name="wav2vec2_base",
    network=lambda rngs: Wav2Vec2(rngs=rngs),
    rules=(
        Rule("masked", ("masked_spec_embed",)),
        Rule("position/length", (f"{_POSITION}.weight_g",), kernel),
        Rule("position/direction", (f"{_POSITION}.weight_v",), kernel),
        *module("position", _POSITION),
        *module("convs/*", "feature_extractor.conv_layers.*.conv"),
        *modules(
            {
                "conv_norm": "feature_extractor.conv_layers.0.layer_norm",
                "projection_norm": "feature_projection.layer_norm",
                "projection": "feature_projection.projection",
                "norm": "encoder.layer_norm",
                "layers/*/query": "encoder.layers.*.attention.q_proj",
                "layers/*/key": "encoder.layers.*.attention.k_proj",
                "layers/*/value": "encoder.layers.*.attention.v_proj",
                "layers/*/out": "encoder.layers.*.attention.out_proj",
                "layers/*/attention_norm": "encoder.layers.*.layer_norm",
                "layers/*/inner": "encoder.layers.*.feed_forward.intermediate_dense",
                "layers/*/outer": "encoder.layers.*.feed_forward.output_dense",
                "layers/*/final_norm": "encoder.layers.*.final_layer_norm",
            }
        ),
    ),
    ignored=("lm_head.**", "quantizer.**", "project_q.**", "project_hid.**"),
    prefix="wav2vec2.",
    renames={
        f"{_POSITION}.parametrizations.weight.original0": f"{_POSITION}.weight_g",
        f"{_POSITION}.parametrizations.weight.original1": f"{_POSITION}.weight_v",
    },
)
