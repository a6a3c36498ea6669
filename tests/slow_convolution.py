"""Convolutions and blurs written out in NumPy, to compare with."""

from __future__ import annotations

import numpy as np


def slow_convolution(
    maps: np.ndarray, kernel: np.ndarray, pad: int | None = None, stride: int = 1, bias: np.ndarray | float = 0.0
) -> np.ndarray:
    """Weight by weight; `maps` [batch, height, width, inputs], `kernel` [k, k, inputs, outputs], zeros outside."""
    size = len(kernel)
    pad = (size - 1) // 2 if pad is None else pad
    maps = np.pad(maps.astype(np.float64), ((0, 0), (pad, pad), (pad, pad), (0, 0)))
    rows, columns = ((side - size) // stride + 1 for side in maps.shape[1:3])
    result = np.zeros((len(maps), rows, columns, kernel.shape[-1]))
    for i, j in np.ndindex(size, size):
        result += maps[:, i : i + rows * stride : stride, j : j + columns * stride : stride] @ kernel[i, j]
    return result + bias


def slow_blur(maps: np.ndarray, pad: int) -> np.ndarray:
    """By the kernel [1, 3, 3, 1] / 8 in both directions at once."""
    line = np.array([1.0, 3.0, 3.0, 1.0]) / 8
    channels = maps.shape[-1]
    kernel = np.einsum("i,j,co->ijco", line, line, np.eye(channels))
    return slow_convolution(maps, kernel, pad)


def leaky(x: np.ndarray, slope: float = 0.2) -> np.ndarray:
    return np.where(x > 0, x, slope * x)
