"""SIGTERM and SIGINT become a wish to stop, which the loop grants between two steps."""

from __future__ import annotations

import signal
from types import FrameType, TracebackType

import jax
import numpy as np
from jax.experimental import multihost_utils


class Interrupted(SystemExit):
    """Training was asked to stop, saved its state, and can be resumed by the same command.

    Exit code 128 + signal, as a shell reports it: 143 after SIGTERM, 130 after SIGINT (Ctrl-C).
    """

    def __init__(self, number: int) -> None:
        super().__init__(128 + number)


class StopRequest:
    """As a context, catches SIGTERM and SIGINT. A second signal has its usual effect, at once."""

    def __init__(self) -> None:
        self.signal = 0
        self._old: dict[int, object] = {}

    def __enter__(self) -> StopRequest:
        for number in (signal.SIGTERM, signal.SIGINT):
            try:
                self._old[number] = signal.signal(number, self._caught)
            except ValueError:  # not the main thread: signals are somebody else's business
                return self
        return self

    def _caught(self, number: int, frame: FrameType | None) -> None:
        self.signal = number
        self._restore()

    def _restore(self) -> None:
        while self._old:
            number, handler = self._old.popitem()
            signal.signal(number, handler)  # type: ignore[arg-type]

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._restore()

    def everywhere(self) -> int:
        """The signal that any process caught, 0 for none. A collective: every process calls it at the same step."""
        if jax.process_count() == 1:
            return self.signal
        return int(np.max(multihost_utils.process_allgather(np.array(self.signal))))
