"""The metrics as data: what each is called, what it needs, how it is read and computed.

A protocol measures with `suite.Suite`; a report reads names, units and digits from `METRICS`. Every id names its
variant (`ssim/gauss11`), because the literature's numbers of one name differ by more than its models do (metrics card, intro).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping

import numpy as np

from jaxtalk.metrics.material import Material
from jaxtalk.metrics.pixel import by_region, psnr, ssim_gauss11, ssim_skimage7

Measure = Callable[[Material], Mapping[str, np.ndarray]]  # {region: values}, see `Suite.measure`

FRAME, CLIP, SET = "frame", "clip", "set"
PICTURES, FACE, MOTION, SYNC = "Pictures", "Sharpness and identity", "Landmarks and motion", "Lip sync"
BOXES = ("frame", "face", "mouth")
WHOLE = ("frame",)


@dataclasses.dataclass(frozen=True)
class Metric:
    """A metric in one exact variant.

    `level` says what one value belongs to: a frame, a clip, or a set of clips (then `load` gives features, and the
    value is the distance of two sets of them). `needs` are what the material must have: see `Material.lacks`; `faces`
    needs a landmarker. `load` brings what it computes with, and raises `JaxtalkError` where that is absent, saying how
    to get it.
    """

    id: str
    label: str
    unit: str
    higher_is_better: bool | None  # None: nearer to the truth's own value is better
    digits: int
    group: str
    definition: str
    load: Callable[[], Measure]
    level: str = FRAME
    regions: tuple[str, ...] = WHOLE
    needs: tuple[str, ...] = ("truth",)
    distance: Callable[[np.ndarray, np.ndarray], float] | None = None  # of a set's features to the truth's


METRICS: dict[str, Metric] = {
    metric.id: metric
    for metric in (
        Metric(
            "psnr/rgb", "PSNR", "dB", True, 2, PICTURES,
            "−10 log10 of the mean squared error over all RGB values of a frame's region; mean of the frames' dB; "
            "identical pictures count 100.",
            lambda: by_region(psnr), regions=BOXES,
        ),
        Metric(
            "ssim/gauss11", "SSIM", "", True, 4, PICTURES,
            "Gaussian window of 11 pixels, sigma 1.5, K1 0.01, K2 0.03, windows that fit in the frame only, mean over "
            "RGB; a box takes the windows centred in it.",
            lambda: by_region(ssim_gauss11), regions=BOXES,
        ),
        Metric(
            "ssim/skimage7", "SSIM (7×7)", "", True, 4, PICTURES,
            "As scikit-image: uniform window of 7 pixels, sample covariance, data range 1, mean over RGB; a box takes "
            "the windows centred in it.",
            lambda: by_region(ssim_skimage7), regions=BOXES,
        ),
    )
}  # fmt: skip
