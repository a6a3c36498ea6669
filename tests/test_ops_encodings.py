"""Positional encoding: order of its features, and the recurrence against the sines."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest

from jaxtalk.ops.encodings import encoding_size, positional_encoding


@pytest.mark.parametrize("double_angle", [False, True])
def test_order_is_raw_then_sine_and_cosine_per_frequency(double_angle: bool) -> None:
    x = np.array([0.3, -0.7], np.float32)
    expected = [*x]
    for power in (1, 2, 4):
        expected += [*np.sin(power * x), *np.cos(power * x)]
    np.testing.assert_allclose(positional_encoding(jnp.asarray(x), 3, double_angle), expected, atol=1e-6)


def test_sizes_of_the_paper() -> None:
    assert encoding_size(3, 10) == positional_encoding(jnp.zeros((5, 3)), 10).shape[-1] == 63
    assert encoding_size(3, 4) == 27
    assert encoding_size(3, 0) == positional_encoding(jnp.zeros((5, 3)), 0).shape[-1] == 3


def test_recurrence_stays_close_at_ten_frequencies() -> None:
    x = jnp.linspace(-2.0, 2.0, 300)[:, None]
    difference = positional_encoding(x, 10, True) - positional_encoding(x, 10, False)
    assert float(jnp.abs(difference).max()) < 1e-3
