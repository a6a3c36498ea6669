"""FID: the pictures' size, the features, the Gaussians and their distance."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import scipy.linalg

from jaxtalk.errors import JaxtalkError
from jaxtalk.metrics.fid import fid, frechet, load_fid_features, resized, statistics
from jaxtalk.weights import WeightsAbsent
from tests.goldens import drawn
from tests.pretrained_case import GOLDEN, put_in_cache


@pytest.mark.parametrize(("which", "size"), [("small", (40, 56)), ("large", (350, 310))])
def test_pictures_are_resized_as_torch_does(which: str, size: tuple[int, int]) -> None:
    images = drawn.uniform(f"{which} pictures", (2, *size, 3))
    with np.load(GOLDEN) as golden:
        assert np.abs(drawn.kept(np.asarray(resized(images))) - golden[f"fid/{which}/resized"]).max() < 1e-5


def test_features_are_those_of_torch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JAXTALK_CACHE", str(tmp_path))
    put_in_cache(tmp_path, "inception_fid")
    with np.load(GOLDEN) as golden:
        expected = golden["fid/small/features"]
    features = load_fid_features()(drawn.uniform("small pictures", (2, 40, 56, 3)))
    assert features.shape == (2, 2048)
    assert np.abs(features - expected).max() < 1e-4 * np.abs(expected).max()
    assert np.abs(expected[0] - expected[1]).max() > 1e-3 * np.abs(expected).max()


def test_absent_weights_say_how_to_get_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JAXTALK_CACHE", str(tmp_path))
    with pytest.raises(WeightsAbsent, match=r"inception_fid.*Apache-2\.0.*6726825d\.pth.*jaxtalk weights get"):
        load_fid_features()


def gaussian(seed: int, count: int, size: int) -> np.ndarray:
    generator = np.random.default_rng(seed)
    return generator.normal(size=(count, size)) @ generator.normal(size=(size, size)) + generator.normal(size=size)


def test_statistics_are_those_of_numpy() -> None:
    features = gaussian(0, 30, 5).astype(np.float32)
    mean, covariance = statistics(features)
    assert mean.dtype == covariance.dtype == np.float64
    np.testing.assert_allclose(mean, features.astype(np.float64).mean(0), rtol=1e-12)
    np.testing.assert_allclose(covariance, np.cov(features.astype(np.float64), rowvar=False), rtol=1e-10)


def test_a_large_mean_loses_no_digits() -> None:
    features = gaussian(0, 30, 5)
    np.testing.assert_allclose(statistics(features + 1e6)[1], statistics(features)[1], rtol=1e-6)


def test_golden_of_the_card() -> None:
    first, second = (np.array([0.0, 0.0]), np.diag([1.0, 4.0])), (np.array([3.0, 4.0]), np.diag([9.0, 16.0]))
    assert frechet(*first, *second) == pytest.approx(33.0, abs=1e-10)
    assert frechet(*second, *first) == pytest.approx(33.0, abs=1e-10)


def test_covariances_that_do_not_commute() -> None:
    """Against the matrix root of the definition."""
    (m1, s1), (m2, s2) = statistics(gaussian(0, 60, 6)), statistics(gaussian(1, 50, 6))
    root = np.real(scipy.linalg.sqrtm(s1 @ s2))
    expected = np.sum((m1 - m2) ** 2) + np.trace(s1 + s2 - 2 * root)
    assert frechet(m1, s1, m2, s2) == pytest.approx(expected, rel=1e-9)
    assert frechet(m2, s2, m1, s1) == pytest.approx(expected, rel=1e-9)
    assert np.trace(s1 @ s2 - s2 @ s1) == pytest.approx(0) and np.abs(s1 @ s2 - s2 @ s1).max() > 1


@pytest.mark.parametrize("counts", [(12, 9), (12, 80), (80, 9)])
def test_fewer_pictures_than_features(counts: tuple[int, int]) -> None:
    """Both ways to the root's trace agree, as far as eigenvalues of a product that is mostly zero are exact."""
    first, second = gaussian(0, counts[0], 64), gaussian(1, counts[1], 64)
    expected = frechet(*statistics(first), *statistics(second))
    assert fid(first, second) == pytest.approx(expected, rel=1e-5)
    assert fid(second, first) == pytest.approx(expected, rel=1e-5)
    a, b = ((part - part.mean(0)) / np.sqrt(len(part) - 1) for part in (first, second))
    cross = np.linalg.svd(a @ b.T, compute_uv=False).sum()
    apart = np.sum((first.mean(0) - second.mean(0)) ** 2)
    assert expected == pytest.approx(apart + np.sum(a**2) + np.sum(b**2) - 2 * cross, rel=1e-5)


@pytest.mark.parametrize("count", [9, 200])
def test_zero_for_the_same_set_and_the_shift_of_a_moved_one(count: int) -> None:
    features = gaussian(0, count, 32)
    mean, covariance = statistics(features)
    scale, shift = float(np.trace(covariance)), np.linspace(-1, 2, 32)
    assert 0.0 <= fid(features, features) < 1e-10 * scale
    assert 0.0 <= fid(features, features[::-1]) < 1e-10 * scale
    assert 0.0 <= frechet(mean, covariance, mean, covariance) < 1e-5 * scale
    assert fid(features, features + shift) == pytest.approx(np.sum(shift**2), abs=1e-10 * scale)


def test_sets_that_cannot_be_measured() -> None:
    with pytest.raises(JaxtalkError, match="a set of 1 pictures has no covariance"):
        fid(np.zeros((1, 4)), np.zeros((5, 4)))
    features = np.zeros((3, 4))
    features[1, 2] = np.inf
    with pytest.raises(JaxtalkError, match="picture 1 are not finite"):
        fid(features, np.zeros((5, 4)))
