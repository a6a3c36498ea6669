"""PSNR and SSIM against the card's golden values and slow, obvious references."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from jaxtalk.errors import JaxtalkError
from jaxtalk.metrics import Material, Pictures, box_mask, quantised
from jaxtalk.metrics.pixel import by_region, psnr, ssim_gauss11, ssim_skimage7

FRAME = {"frame": None}
FUNCTIONS = {"psnr/rgb": psnr, "ssim/gauss11": ssim_gauss11, "ssim/skimage7": ssim_skimage7}


def measure(truth: np.ndarray, image: np.ndarray, boxes: Any) -> dict[str, Mapping[str, np.ndarray]]:
    material = Material(Pictures(image), Pictures(truth), boxes, np.arange(len(image)) / 25, 25.0)
    return {name: by_region(function)(material) for name, function in FUNCTIONS.items()}


def _pair(seed: int = 0, count: int = 2, size: tuple[int, int] = (21, 17)) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    truth = rng.uniform(0.2, 0.8, (count, *size, 3)).astype(np.float32)
    return truth, np.clip(truth + 0.1 * rng.normal(size=truth.shape), 0, 1).astype(np.float32)


def _slow_ssim(x: np.ndarray, y: np.ndarray, weights: np.ndarray, sample: bool, inside: np.ndarray) -> float:
    """The definition, window by window, in float64; `inside` [H, W] chooses windows by their centre."""
    n = len(weights)
    factor = n * n / (n * n - 1) if sample else 1.0
    values = []
    for row in range(x.shape[0] - n + 1):
        for column in range(x.shape[1] - n + 1):
            if not inside[row + n // 2, column + n // 2]:
                continue
            for channel in range(3):
                a = x[row : row + n, column : column + n, channel].astype(np.float64)
                b = y[row : row + n, column : column + n, channel].astype(np.float64)
                mean_a, mean_b = (weights * a).sum(), (weights * b).sum()
                var_a = factor * (weights * (a - mean_a) ** 2).sum()
                var_b = factor * (weights * (b - mean_b) ** 2).sum()
                cov = factor * (weights * (a - mean_a) * (b - mean_b)).sum()
                numerator = (2 * mean_a * mean_b + 1e-4) * (2 * cov + 9e-4)
                values.append(numerator / ((mean_a**2 + mean_b**2 + 1e-4) * (var_a + var_b + 9e-4)))
    return float(np.mean(values))


def _gauss() -> np.ndarray:
    line = np.exp(-((np.arange(11) - 5.0) ** 2) / (2 * 1.5**2))
    return np.outer(line, line) / line.sum() ** 2


def test_golden_values_of_constant_pictures() -> None:
    a, b = (np.full((1, 16, 16, 3), value, np.float32) for value in (0.5, 0.6))
    regions = np.ones((1, 1, 16, 16), bool)
    assert np.asarray(psnr(a, b, regions)) == pytest.approx(20.0, abs=1e-4)
    assert np.asarray(ssim_gauss11(a, b, regions)) == pytest.approx(0.983609, abs=2e-6)
    assert np.asarray(ssim_skimage7(a, b, regions)) == pytest.approx(0.983609, abs=2e-6)


@pytest.mark.parametrize("boxed", [False, True])
def test_ssim_agrees_with_the_definition(boxed: bool) -> None:
    truth, image = _pair()
    inside = np.zeros((2, 21, 17), bool) if boxed else np.ones((2, 21, 17), bool)
    inside[:, 4:12, 6:10] = True
    uniform = np.full((7, 7), 1 / 49)
    for frame in range(2):
        args = truth[frame], image[frame]
        expected = _slow_ssim(*args, _gauss(), False, inside[frame])
        assert np.asarray(ssim_gauss11(truth, image, inside[None]))[0, frame] == pytest.approx(expected, abs=2e-6)
        expected = _slow_ssim(*args, uniform, True, inside[frame])
        assert np.asarray(ssim_skimage7(truth, image, inside[None]))[0, frame] == pytest.approx(expected, abs=2e-6)


def test_psnr_is_per_frame_and_per_box() -> None:
    truth, image = _pair(1)
    boxes = np.array([[2.0, 3.0, 9.0, 11.0], [2.6, 3.4, 9.5, 11.4]])  # the second takes columns 3..8, rows 3..10
    result = np.asarray(psnr(truth, image, box_mask(boxes, (21, 17))[None]))[0]
    for frame, columns in ((0, slice(2, 9)), (1, slice(3, 9))):
        rows = slice(3, 11)
        error = np.mean((truth[frame, rows, columns].astype(np.float64) - image[frame, rows, columns]) ** 2)
        assert result[frame] == pytest.approx(-10 * np.log10(error), abs=1e-4)


def test_identical_pictures_reach_the_cap() -> None:
    truth = (255 * _pair()[0]).astype(np.uint8)
    values = measure(truth, truth, FRAME)
    np.testing.assert_allclose(values["psnr/rgb"]["frame"], 100.0, atol=1e-4)
    np.testing.assert_allclose(values["ssim/gauss11"]["frame"], 1.0, atol=1e-6)


def test_a_box_that_moves_with_the_picture_keeps_its_value() -> None:
    truth, image = ((255 * frames).astype(np.uint8) for frames in _pair(2, 1, (40, 44)))
    box = np.array([[12.0, 14.0, 24.0, 22.0]])
    before = measure(truth, image, {"box": box})
    shift = (3, 5)  # rows, columns; both windows stay in the frame
    moved = [np.roll(frames, shift, axis=(1, 2)) for frames in (truth, image)]
    after = measure(*moved, {"box": box + np.array(2 * shift[::-1])})
    unmoved = measure(*moved, {"box": box})
    for name in FUNCTIONS:
        assert after[name]["box"][0] == pytest.approx(before[name]["box"][0], rel=2e-5)
        assert abs(unmoved[name]["box"][0] - before[name]["box"][0]) > 1e-3


def test_batches_do_not_change_values() -> None:
    truth, image = ((255 * frames).astype(np.uint8) for frames in _pair(3, 11, (16, 16)))
    together = measure(truth, image, FRAME)
    for name in FUNCTIONS:
        alone = [measure(truth[i : i + 1], image[i : i + 1], FRAME)[name]["frame"][0] for i in range(11)]
        np.testing.assert_allclose(together[name]["frame"], alone, rtol=1e-6)


def test_a_box_outside_the_frame_has_no_value() -> None:
    truth = (255 * _pair()[0]).astype(np.uint8)
    boxes = np.array([[-9.0, -9.0, -1.0, -1.0], [0.0, 0.0, 3.0, 3.0]])  # the second is a corner that no window reaches
    values = measure(truth, truth, {"box": boxes})
    assert np.isnan(values["psnr/rgb"]["box"][0]) and values["psnr/rgb"]["box"][1] == pytest.approx(100)
    assert np.isnan(values["ssim/gauss11"]["box"]).all()


def test_measure_refuses_what_cannot_be_compared() -> None:
    truth = np.zeros((1, 16, 16, 3), np.uint8)
    with pytest.raises(JaxtalkError, match="size of the clip"):
        measure(truth, np.zeros((1, 12, 16, 3), np.uint8), FRAME)
    with pytest.raises(JaxtalkError, match="smaller than"):
        measure(truth[:, :8], truth[:, :8], FRAME)


def test_quantised_rounds_and_clips_and_names_the_bad_frame() -> None:
    frames = np.array([0.0, 0.4999 / 255, 0.5001 / 255, 1.2, -0.1]).reshape(5, 1, 1, 1)
    assert quantised(frames).ravel().tolist() == [0, 0, 1, 255, 0]
    with pytest.raises(JaxtalkError, match="frame 19"):
        quantised(np.where(np.arange(5).reshape(5, 1, 1, 1) == 3, np.nan, frames), first=16)
