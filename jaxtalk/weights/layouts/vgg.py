"""torchvision's VGG: `features` counts convolutions, ReLUs and poolings; the classifier is not read."""

from __future__ import annotations

from jaxtalk.nn.pretrained.vgg import REPEATS, Vgg
from jaxtalk.weights.convert import Layout, modules


def _places(depth: int) -> dict[str, str]:
    table, place = {}, 0
    for stage, repeats in enumerate(REPEATS[depth]):
        for index in range(repeats):
            table[f"stages/{stage}/{index}"] = f"features.{place}"
            place += 2
        place += 1
    return table


def _layout(depth: int) -> Layout:
    return Layout(
        name=f"vgg{depth}",
        network=lambda rngs: Vgg(depth, ("relu5_3",), rngs=rngs),
        rules=modules(_places(depth)),
        ignored=("classifier.*.weight", "classifier.*.bias"),
    )


VGG16, VGG19 = _layout(16), _layout(19)
