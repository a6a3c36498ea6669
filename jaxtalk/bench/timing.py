"""How often something happens in a second, warm and with the device's work finished."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

import jax

_LEAST = 3  # calls, where there is time for them


def rate(call: Callable[[], Any], seconds: float) -> float:
    """Calls a second of `call`, which returns arrays (or something else) of its last work.

    One call warms up and one is timed; then as many run as fit `seconds`, and the clock stops when the device has
    finished the last. Where one call alone takes longer than `seconds`, its own time is the answer.
    """
    jax.block_until_ready(call())
    started = time.perf_counter()
    jax.block_until_ready(call())
    once = time.perf_counter() - started
    if once > seconds:
        return 1 / once
    count = max(_LEAST, math.ceil(seconds / max(once, 1e-6)))
    started, done = time.perf_counter(), 0
    result = None
    while done < count and time.perf_counter() - started < 2 * seconds:
        result = call()
        done += 1
    jax.block_until_ready(result)
    return done / (time.perf_counter() - started)
