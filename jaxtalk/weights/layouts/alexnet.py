"""torchvision's AlexNet: convolutions 0, 3, 6, 8, 10 of `features`; the classifier is not read."""

from __future__ import annotations

from jaxtalk.nn.pretrained.alexnet import AlexNet
from jaxtalk.weights.convert import Layout, modules

ALEXNET = Layout(
    name="alexnet",
    network=lambda rngs: AlexNet(rngs=rngs),
    rules=modules({f"convs/{i}": f"features.{place}" for i, place in enumerate((0, 3, 6, 8, 10))}),
    ignored=("classifier.*.weight", "classifier.*.bias"),
)
