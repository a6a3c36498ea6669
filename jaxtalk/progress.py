"""Progress on the terminal: a live bar where there is one, a line now and then where there is none."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

T = TypeVar("T")
console = Console(stderr=True)
_QUIET_SECONDS = 10.0  # between two lines of a log that is not a terminal


def quiet_libraries() -> None:
    """Leaves warnings and errors of absl's log on the terminal; the libraries' own notes would bury ours."""
    from absl import logging

    logging.set_verbosity(logging.WARNING)


class Bar:
    """One running bar. `advance(n, note)` moves it; the note stands at its right end (a rate, a loss)."""

    def __init__(self, description: str, total: int, progress: Progress | None) -> None:
        self._description, self._total, self._progress = description, total, progress
        self._task = progress.add_task(description, total=total, note="") if progress else None
        self._done, self._started, self._printed = 0, time.monotonic(), time.monotonic()
        self._note, self._before = "", 0

    def advance(self, count: int = 1, note: str = "") -> None:
        self._done += count
        if self._progress is not None:
            assert self._task is not None
            self._note = note or self._note
            self._progress.update(self._task, advance=count, note=self._note)
        elif time.monotonic() - self._printed > _QUIET_SECONDS:
            self._print(note)

    def _print(self, note: str) -> None:
        self._printed = time.monotonic()
        elapsed = self._printed - self._started
        remaining = elapsed / max(self._done - self._before, 1) * (self._total - self._done)
        line = f"{self._description}: {self._done}/{self._total} in {elapsed:.0f} s, ETA {remaining:.0f} s {note}"
        print(line.rstrip(), file=sys.stderr, flush=True)


@contextlib.contextmanager
def bar(description: str, total: int, done: int = 0) -> Iterator[Bar]:
    """A progress bar with elapsed time, ETA and a note; `done` of `total` may be finished already (a resumed run)."""
    if not console.is_terminal:
        handle = Bar(description, total, None)
        handle._done = handle._before = done
        yield handle
        handle._print("done")
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("ETA"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, console=console) as progress:
        handle = Bar(description, total, progress)
        if done:
            handle.advance(done)
        yield handle


def track(items: Iterable[T], description: str, total: int) -> Iterator[T]:
    """Yields `items` and moves a bar by one for each."""
    with bar(description, total) as handle:
        for item in items:
            yield item
            handle.advance()
