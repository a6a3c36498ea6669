"""What the device could do: its matrix rate by data sheet or by measurement, and its memory."""

from __future__ import annotations

import dataclasses
import functools
import resource
import sys
import time

import jax
import jax.numpy as jnp

# Dense matrix rate of one device in FLOP/s, from the makers' data sheets, by a part of `device_kind`: for bfloat16
# operands, and for float32 operands at JAX's default precision (TF32 on NVIDIA from Ampere on, one pass of bfloat16 on
# TPU). The first match counts. None: measure.
_RATES: tuple[tuple[str, float | None, float | None], ...] = (
    ("H200", 989e12, 495e12),
    ("H100 PCIe", 756e12, 378e12),
    ("H100", 989e12, 495e12),
    ("B200", 2250e12, 1125e12),
    ("A100", 312e12, 156e12),
    ("A10G", 70e12, 35e12),
    ("L40S", 362e12, 183e12),
    ("L4", 121e12, 60e12),
    ("V100", None, 15.7e12),
    ("T4", None, 8.1e12),
    ("4090", 165e12, 83e12),
    ("3090", 71e12, 35.6e12),
    ("TPU v6", 918e12, 918e12),
    ("TPU v5p", 459e12, 459e12),
    ("TPU v5 lite", 197e12, 197e12),
    ("TPU v5e", 197e12, 197e12),
    ("TPU v4", 275e12, 275e12),
    ("TPU v3", 61.5e12, 61.5e12),  # a core, which is what JAX calls a device there
    ("TPU v2", 22.5e12, 22.5e12),
)
_LARGEST = 16384


@dataclasses.dataclass(frozen=True)
class MatrixRate:
    """FLOP/s of one device for large matrix products of one type."""

    dtype: str
    measured: float
    data_sheet: float | None

    @property
    def peak(self) -> float:
        """What utilisation is measured against: the data sheet's rate, or the measured one where none is known."""
        return self.data_sheet or self.measured


@functools.cache
def matrix_rate(dtype: str) -> MatrixRate:
    """Measures the first device's rate in a square product that is large enough to fill it, and looks its peak up.

    Measured once: every utilisation of a bench is against the same figure.
    """
    device = jax.local_devices()[0]
    return MatrixRate(dtype, _measured_rate(dtype, device), data_sheet_rate(device.device_kind, dtype))


def data_sheet_rate(kind: str, dtype: str) -> float | None:
    """The known rate of a kind of device, or None."""
    for part, bfloat16, float32 in _RATES:
        if part in kind:
            return bfloat16 if dtype == "bfloat16" else float32
    return None


def _measured_rate(dtype: str, device: jax.Device) -> float:
    product = jax.jit(lambda a, b: a @ b)
    size, best = 512, 0.0
    while True:
        a = jax.device_put(jnp.ones((size, size), dtype), device)
        product(a, a).block_until_ready()
        for _ in range(3):
            started = time.perf_counter()
            repeats = max(1, (1024 // size) ** 3)
            for _ in range(repeats):
                result = product(a, a)
            result.block_until_ready()
            seconds = (time.perf_counter() - started) / repeats
            best = max(best, 2 * size**3 / seconds)
        if seconds > 0.02 or size >= _LARGEST:
            return best
        size *= 2


def peak_memory() -> tuple[float, str]:
    """(bytes, of what): the most that the first device had in use, or the process where the device does not say."""
    stats = jax.local_devices()[0].memory_stats() or {}
    if "peak_bytes_in_use" in stats:
        return float(stats["peak_bytes_in_use"]), "device"
    unit = 1 if sys.platform == "darwin" else 1024
    return float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss) * unit, "process"
