"""The metrics as data: what each is called, what it needs, how it is read and computed.

A protocol measures with `suite.Suite`; a report reads names, units and digits from `METRICS`. Every id names its
variant (`ssim/gauss11`), because the literature's numbers of one name differ by more than its models do (metrics card,
intro).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np

from jaxtalk.metrics import measures, poses
from jaxtalk.metrics.fid import fid
from jaxtalk.metrics.measures import Measure
from jaxtalk.metrics.pixel import by_region, psnr, ssim_gauss11, ssim_skimage7

FRAME, CLIP, SET = "frame", "clip", "set"
PICTURES, FACE, MOTION, SYNC = "Pictures", "Sharpness and identity", "Landmarks and motion", "Lip sync"
BOXES = ("frame", "face", "mouth")
WHOLE = ("frame",)
SPOKEN = ("sound", "consecutive", "faces")


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
        Metric(
            "lpips/alex", "LPIPS", "", False, 4, PICTURES,
            "LPIPS v0.1 with AlexNet, of the whole frame.",
            lambda: measures.perceptual_distance("alex"),
        ),
        Metric(
            "lpips/vgg", "LPIPS (VGG)", "", False, 4, PICTURES,
            "LPIPS v0.1 with VGG16, of the whole frame.",
            lambda: measures.perceptual_distance("vgg"),
        ),
        Metric(
            "fid/inception2048", "FID", "", False, 2, PICTURES,
            "Fréchet distance of Inception-v3 features (2048) of all frames of all clips from those of the real "
            "frames; frames are resized to 299 pixels without smoothing.",
            measures.inception_features, SET, needs=(), distance=fid,
        ),
        Metric(
            "cpbd/python", "CPBD", "", True, 4, FACE,
            "Share of edges whose blur nobody notices, as the Python package computes it (Canny blocks, horizontal "
            "widths, just-noticeable width 3 or 5); depends on the resolution.",
            measures.sharpness, needs=(),
        ),
        Metric(
            "csim_src/r50", "CSIM, source", "", True, 4, FACE,
            "Cosine of ArcFace embeddings (IResNet-50) of each frame and the mean of those of the pictures that the "
            "avatar was made of (at most 8).",
            lambda: measures.identity("source"), needs=("source", "faces"),
        ),
        Metric(
            "csim_gt/r50", "CSIM, truth", "", True, 4, FACE,
            "Cosine of ArcFace embeddings (IResNet-50) of each frame and its true one.",
            lambda: measures.identity("truth"), needs=("truth", "faces"),
        ),
        Metric(
            "lmd/mouth", "M-LMD", "px", False, 3, MOTION,
            "Mean distance of the mouth's 20 landmarks from the truth's, centroids taken together, in pixels of the "
            "frame; landmarks by MediaPipe in both.",
            lambda: measures.landmark_distance("mouth"), needs=("truth", "faces"),
        ),
        Metric(
            "lmd/mouth@256", "M-LMD at 256", "px", False, 3, MOTION,
            "The same as of frames of 256 pixels.",
            lambda: measures.landmark_distance("mouth", rescaled=True), needs=("truth", "faces"),
        ),
        Metric(
            "lmd/all", "F-LMD", "px", False, 3, MOTION,
            "Mean distance of all 68 landmarks from the truth's, centroids taken together, in pixels of the frame.",
            lambda: measures.landmark_distance("all"), needs=("truth", "faces"),
        ),
        Metric(
            "lmd/all@256", "F-LMD at 256", "px", False, 3, MOTION,
            "The same as of frames of 256 pixels.",
            lambda: measures.landmark_distance("all", rescaled=True), needs=("truth", "faces"),
        ),
        Metric(
            "drot/geodesic", "D-Rot", "°", False, 2, MOTION,
            "Angle between the head rotations that the landmarker sees in truth and render.",
            lambda: measures.rotation_error(poses.drot_deg), needs=("truth", "faces"),
        ),
        Metric(
            "drot/range", "D-Rot", "%", False, 1, MOTION,
            "Difference of yaw, pitch and roll, each over its range in the truth, mean of the three.",
            lambda: measures.rotation_error(poses.drot_pct), needs=("truth", "faces"),
        ),
        Metric(
            "dpos/jaw", "D-Pos", "%", False, 2, MOTION,
            "Shift of nose and eye corners in the image over the true face's width (landmarks 0 to 16).",
            measures.position_error, needs=("truth", "faces"),
        ),
        Metric(
            "blinks/fixed", "Blinks", "1/s", None, 2, MOTION,
            "Runs of at least two frames with an eye aspect ratio below 0.2, a second; compare with the truth's.",
            lambda: measures.blink_rate(adaptive=False), CLIP, needs=("consecutive", "faces"),
        ),
        Metric(
            "blinks/adaptive", "Blinks (adaptive)", "1/s", None, 2, MOTION,
            "The same with a threshold of 0.7 of the clip's median ratio.",
            lambda: measures.blink_rate(adaptive=True), CLIP, needs=("consecutive", "faces"),
        ),
        Metric(
            "jitter/rotation", "Jitter, rotation", "°", None, 3, MOTION,
            "RMS second difference of the head's rotation, degrees per frame squared (1/25 s); to be compared with the "
            "truth's.",
            measures.rotation_jitter, CLIP, needs=("consecutive", "faces"),
        ),
        Metric(
            "jitter/place", "Jitter, place", "%", None, 3, MOTION,
            "RMS second difference of nose and eye corners in the image, percent of the face's width per frame squared "
            "(1/25 s); to be compared with the truth's.",
            measures.position_jitter, CLIP, needs=("consecutive", "faces"),
        ),
        Metric(
            "sync/lse_c", "LSE-C (Sync)", "", True, 3, SYNC,
            "SyncNet's confidence: median less least mean distance of face and speech over offsets of up to 15 frames. "
            "Systems trained against a sync network can exceed the truth.",
            lambda: measures.lip_sync(lambda scores: scores.confidence), CLIP, needs=SPOKEN,
        ),
        Metric(
            "sync/lse_d", "LSE-D", "", False, 3, SYNC,
            "The least of SyncNet's mean distances of face and speech over these offsets.",
            lambda: measures.lip_sync(lambda scores: scores.distance), CLIP, needs=SPOKEN,
        ),
        Metric(
            "sync/offset", "AV offset", "frames", None, 1, SYNC,
            "The offset of the least distance, frames of 1/25 s; negative: the voice is late.",
            lambda: measures.lip_sync(lambda scores: float(scores.offset)), CLIP, needs=SPOKEN,
        ),
    )
}  # fmt: skip
