"""DFA-NeRF's released disentangler: two checkpoints with the state dict in `net` (card dfa_nerf, 2.1 and 7)."""

from __future__ import annotations

from jaxtalk.nn.pretrained.disentangler import DisentanglerDecoder, DisentanglerEncoder
from jaxtalk.weights.convert import Layout, modules

ENCODER = Layout(
    name="dfa_disentangler",
    network=lambda rngs: DisentanglerEncoder(rngs=rngs),
    rules=modules(
        {"other": "branch1", "mouth": "branch2", **{f"layers/{index}": f"fc{index + 1}" for index in range(3)}}
    ),
    entry="net",
)
DECODER = Layout(
    name="dfa_cat",
    network=lambda rngs: DisentanglerDecoder(rngs=rngs),
    rules=modules({"layers/0": "fc1", "layers/1": "fc2", "out": "fc3"}),
    entry="net",
)
