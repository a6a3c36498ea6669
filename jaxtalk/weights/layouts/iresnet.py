"""insightface's `backbone.pth` of arcface_torch: a plain state dict (metrics card, section 2, CSIM).

The models of its ONNX zoo hold their norms folded into the convolutions and are not readable by name.
"""

from __future__ import annotations

from jaxtalk.nn.pretrained.iresnet import DEPTHS, IResNet
from jaxtalk.weights.convert import Layout, Rule, module

_RULES = (
    Rule("prelu/slope", ("prelu.weight",)),
    Rule("**/prelu/slope", ("**.prelu.weight",)),
    *module("**", "**"),
)
IRESNET50 = Layout("iresnet50", lambda rngs: IResNet(DEPTHS["r50"], rngs=rngs), _RULES)
IRESNET100 = Layout("iresnet100", lambda rngs: IResNet(DEPTHS["r100"], rngs=rngs), _RULES)
