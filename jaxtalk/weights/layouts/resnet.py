"""torchvision's ImageNet classifiers: plain state dicts whose last layer, `fc`, nobody here needs."""

from __future__ import annotations

from jaxtalk.nn.pretrained.resnet50 import ResNet50
from jaxtalk.nn.resnet import ResNet34
from jaxtalk.weights.convert import Layout, module

RESNET34 = Layout(
    "resnet34", lambda rngs: ResNet34("frozen_batch", rngs=rngs), module("**", "**"), ignored=("fc.weight", "fc.bias")
)
RESNET50 = Layout("resnet50", lambda rngs: ResNet50(rngs=rngs), module("**", "**"), ignored=("fc.weight", "fc.bias"))
