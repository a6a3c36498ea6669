"""Inception-v3 as FID's authors published it, ported to torch: torchvision's names, no side branch, 1008 classes."""

from __future__ import annotations

from jaxtalk.nn.pretrained.inception import Inception
from jaxtalk.weights.convert import Layout, modules

_STEM = ("1a_3x3", "2a_3x3", "2b_3x3", "3b_1x1", "4a_3x3")
_BLOCKS = ("5b", "5c", "5d", "6a", "6b", "6c", "6d", "6e", "7a", "7b", "7c")

INCEPTION_FID = Layout(
    name="inception_fid",
    network=lambda rngs: Inception(rngs=rngs),
    rules=modules(
        {
            **{f"conv{place[:2]}/*": f"Conv2d_{place}.*" for place in _STEM},
            **{f"blocks/{index}/*/*": f"Mixed_{place}.*.*" for index, place in enumerate(_BLOCKS)},
        }
    ),
    ignored=("fc.weight", "fc.bias"),
)
