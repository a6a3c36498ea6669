"""Fréchet Inception distance between two sets of pictures (metrics card, section 2).

As pytorch-fid computes it: pictures resized to 299 pixels without smoothing, Inception-v3 of 2015 with its poolings,
the 2048 means before the classifier, Gaussians fitted with N - 1. Few pictures make the covariance rank deficient and
the distance large: numbers of sets of different sizes do not compare, so say how many there were.
"""

from __future__ import annotations

import jax
import numpy as np

from jaxtalk import weights
from jaxtalk.errors import JaxtalkError
from jaxtalk.metrics.batches import Batched
from jaxtalk.nn.pretrained.inception import SIZE, Inception


class FidFeatures:
    """Features [F, 2048] float32 of frames [F, H, W, 3] RGB of any size, uint8 or float32 in [0, 1]."""

    def __init__(self, network: Inception) -> None:
        self._features = Batched(network, lambda network, pictures: network(resized(pictures)))

    def __call__(self, frames: np.ndarray) -> np.ndarray:
        return self._features(frames)


def load_fid_features() -> FidFeatures:
    """With the published weights. Raises `WeightsAbsent` where they are not on this machine."""
    network = weights.load("inception_fid")
    assert isinstance(network, Inception)
    return FidFeatures(network)


def resized(pictures: jax.Array) -> jax.Array:
    """[B, H, W, 3] -> [B, 299, 299, 3], bilinear between pixel centres; also smaller without smoothing first."""
    shape = (pictures.shape[0], SIZE, SIZE, pictures.shape[3])
    return jax.image.resize(pictures, shape, "bilinear", antialias=False, precision=jax.lax.Precision.HIGHEST)


def statistics(features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean [D] and covariance [D, D] (divided by N - 1) of features [N, D], in float64.

    Raises `JaxtalkError` for less than two pictures, and for features that are not finite.
    """
    mean, deviations = _deviations(features)
    return mean, deviations.T @ deviations


def frechet(mean: np.ndarray, covariance: np.ndarray, other_mean: np.ndarray, other_covariance: np.ndarray) -> float:
    """|m1 - m2|^2 + Tr(S1 + S2 - 2 (S1 S2)^(1/2)) of two Gaussians, never negative.

    The root's trace is the sum of the roots of the eigenvalues of S1^(1/2) S2 S1^(1/2), which is symmetric; those that
    rounding makes negative count zero.
    """
    values, vectors = np.linalg.eigh(covariance)
    root = (vectors * np.sqrt(np.maximum(values, 0.0))) @ vectors.T
    product = root @ other_covariance @ root
    spectrum = np.linalg.eigvalsh((product + product.T) / 2)
    cross = np.sqrt(np.maximum(spectrum, 0.0)).sum()
    apart = np.sum((mean - other_mean) ** 2)
    return max(float(apart + np.trace(covariance) + np.trace(other_covariance) - 2 * cross), 0.0)


def fid(features: np.ndarray, other: np.ndarray) -> float:
    """The distance of two sets by their features [N, D] and [M, D]. Raises as `statistics` does.

    With fewer pictures than features the covariances A^T A and B^T B are not formed: the root's trace is the sum of
    the singular values of A B^T, which is quicker and exact to the last digits.
    """
    if max(len(features), len(other)) >= features.shape[1]:
        return frechet(*statistics(features), *statistics(other))
    (mean, a), (other_mean, b) = _deviations(features), _deviations(other)
    cross = np.linalg.svd(a @ b.T, compute_uv=False).sum()
    return max(float(np.sum((mean - other_mean) ** 2) + np.sum(a**2) + np.sum(b**2) - 2 * cross), 0.0)


def _deviations(features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean [D], and the rows' deviations from it over sqrt(N - 1): [N, D], whose A^T A is the covariance."""
    if len(features) < 2:
        raise JaxtalkError(f"fid: a set of {len(features)} pictures has no covariance; measure at least two")
    values = np.asarray(features, np.float64)
    finite = np.isfinite(values).all(axis=1)
    if not finite.all():
        raise JaxtalkError(f"fid: features of picture {int(np.argmin(finite))} are not finite")
    mean = values.mean(axis=0)
    return mean, (values - mean) / np.sqrt(len(values) - 1)
