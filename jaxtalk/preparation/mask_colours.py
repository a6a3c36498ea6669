"""The colours of hair, torso and background over a clip, as histograms in Lab, and the background as a picture."""

from __future__ import annotations

import dataclasses

import numpy as np
from scipy.ndimage import gaussian_filter

from jaxtalk.clip import MASK_BACKGROUND, MASK_HEAD, MASK_TORSO

BINS = 24  # along each of L, a, b
_FLOOR = 2e-5  # of a bin's share: no colour is impossible
_CHROMA = 100.0  # range of a and b that the bins span, in OpenCV's units
_LOCAL_SHARE = 0.8  # of background pixels that look as their place in the plate does
_NOISE = 30.0  # least variance of a plate's pixel, squared 8-bit steps


def quantised(image: np.ndarray) -> np.ndarray:
    """Index [H, W] int32 of each pixel's colour bin; `image` [H, W, 3] uint8 RGB."""
    import cv2

    lab = cv2.cvtColor(image, cv2.COLOR_RGB2LAB).astype(np.float32)
    place = np.stack([lab[..., 0] / 255, *(np.clip((lab[..., k] - 128) / _CHROMA + 0.5, 0, 1) for k in (1, 2))])
    index = np.rint(place * (BINS - 1)).astype(np.int32)
    return (index[0] * BINS + index[1]) * BINS + index[2]


def _log_histogram(bins: np.ndarray, weight: np.ndarray) -> np.ndarray:
    counts = np.bincount(bins.ravel(), weights=weight.ravel(), minlength=BINS**3).reshape(BINS, BINS, BINS)
    smooth = gaussian_filter(counts, (1.0, 0.7, 0.7))
    return np.log(smooth / max(smooth.sum(), 1e-9) + _FLOOR).ravel().astype(np.float32)


@dataclasses.dataclass(frozen=True)
class ColourModel:
    """What pixels of each label look like; `place` is where in the picture they tend to be."""

    histograms: np.ndarray  # [3, BINS^3] log probability of a colour bin: background, hair, torso
    place: np.ndarray  # [3, L, L] log prior learnt from the clip
    typical_hair: float  # log probability that four fifths of the hair exceed
    mean: np.ndarray | None = None  # [L, L, 3] the background's picture where `seen`, and its variance
    variance: np.ndarray | None = None
    seen: np.ndarray | None = None  # [L, L] bool

    @classmethod
    def of(cls, bins: np.ndarray, weights: np.ndarray, images: np.ndarray | None = None,
           found: np.ndarray | None = None) -> ColourModel:  # fmt: skip
        """Learns from key frames.

        Args:
          bins: [K, L, L] colour bins.
          weights: [K, 3, L, L] how surely a pixel is an example of the label's colours.
          images: [K, L, L, 3] uint8, and
          found: [K, 3, L, L] probabilities of the labels, once there are any: they give the plate and the places.
        """
        histograms = np.stack([_log_histogram(bins, weights[:, label]) for label in range(3)])
        hair, weight = histograms[MASK_HEAD][bins].ravel(), weights[:, MASK_HEAD].ravel()
        typical = float(np.percentile(hair[weight > 0.5], 20)) if (weight > 0.5).any() else 0.0
        if images is None or found is None:
            return cls(histograms, np.zeros((3, *bins.shape[1:]), np.float32), typical)
        surely = np.where(found[:, MASK_BACKGROUND] > 0.8, found[:, MASK_BACKGROUND], 0)[..., None]
        total = surely.sum(axis=0)
        mean = (surely * images).sum(axis=0) / np.maximum(total, 1e-6)
        variance = (surely * (images - mean) ** 2).sum(axis=0) / np.maximum(total, 1e-6) + _NOISE
        picture = mean.astype(np.float32), variance.astype(np.float32), total[..., 0] > 2
        return cls(histograms, _places(found), typical, *picture)

    def looks_like_hair(self, image: np.ndarray) -> np.ndarray:
        """[L, L] bool: the colour is common in the clip's hair."""
        return np.asarray(self.histograms[MASK_HEAD][quantised(image)] > self.typical_hair)

    def log_likelihood(self, image: np.ndarray) -> np.ndarray:
        """[3, L, L] log probability of each pixel's colour under each label, with the learnt places."""
        bins = quantised(image)
        values = self.histograms[:, bins] + self.place
        if self.mean is not None and self.variance is not None and self.seen is not None:
            # A density in 8-bit steps, made comparable with a bin's probability by the bin's volume.
            distance = ((image - self.mean) ** 2 / self.variance).sum(axis=-1)
            density = -0.5 * (distance + np.log(2 * np.pi * self.variance).sum(axis=-1))
            local = density + 3 * np.log(256 / BINS)
            anywhere = self.histograms[MASK_BACKGROUND][bins]
            mixed = np.logaddexp(np.log(_LOCAL_SHARE) + local, np.log(1 - _LOCAL_SHARE) + anywhere)
            values[MASK_BACKGROUND] = np.where(self.seen, mixed, anywhere) + self.place[MASK_BACKGROUND]
        return values


def _places(found: np.ndarray) -> np.ndarray:
    """Log prior [3, L, L]: background and torso hardly move, so where they were they are; the head may be anywhere."""
    average = found.mean(axis=0)
    place = np.full(average.shape, np.log(0.35), np.float32)
    for label, least in ((MASK_BACKGROUND, 0.08), (MASK_TORSO, 0.5)):  # hair may hang over any part of the torso
        place[label] = np.log(gaussian_filter(average[label], average.shape[-1] / 64) + least)
    return place
