"""LPIPS 0.1, how different two pictures look to a classifier (metrics card, section 1)."""

from __future__ import annotations

import numpy as np
from flax import nnx

from jaxtalk import weights
from jaxtalk.errors import JaxtalkError
from jaxtalk.metrics.batches import Batched
from jaxtalk.nn.pretrained.lpips import Lpips

TRUNKS = {"alex": "alexnet", "vgg": "vgg16"}
MIN_SIZE = {"alex": 31, "vgg": 16}  # pixels: smaller frames leave nothing of the last tap


class LpipsMetric:
    """The distance of each frame to the truth: zero for the same picture, symmetric, about 0.7 for unlike ones.

    Args:
      network: see `load_lpips`.
      net: which trunk it has, 'alex' or 'vgg'.
    """

    def __init__(self, network: Lpips, net: str) -> None:
        self._smallest = MIN_SIZE[net]
        self._measure = Batched(network, lambda network, truth, image: network(truth, image))

    def __call__(self, truth: np.ndarray, image: np.ndarray) -> np.ndarray:
        """[F] float32, of frames [F, H, W, 3] RGB, uint8 or float32 in [0, 1].

        Raises `JaxtalkError` where shapes differ or frames are too small for the network.
        """
        if truth.shape != image.shape:
            raise JaxtalkError(f"lpips: truth is {truth.shape} and image {image.shape}; render at the size of the clip")
        if min(truth.shape[1:3]) < self._smallest:
            raise JaxtalkError(f"lpips: frames of {truth.shape[1:3]} are smaller than {self._smallest} pixels")
        return self._measure(truth, image)


def load_lpips(net: str = "alex") -> LpipsMetric:
    """The metric with its published weights: the trunk's by torchvision, the heads' by Zhang et al.

    Args:
      net: 'alex' (the one that is usually printed) or 'vgg'.

    Raises:
      WeightsAbsent: the trunk or the heads are not on this machine; the message says how to get them.
    """
    trunk, heads = weights.load(TRUNKS[net]), weights.load(f"lpips_{net}")
    network = nnx.eval_shape(lambda: Lpips(net, rngs=nnx.Rngs(0)))
    nnx.update(network.trunk, nnx.state(trunk))
    nnx.update(network.heads, nnx.state(heads))
    return LpipsMetric(network, net)
