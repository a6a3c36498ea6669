"""Processes that work off a list of tasks; one that dies costs its task only."""

from __future__ import annotations

import contextlib
import dataclasses
import multiprocessing
import multiprocessing.connection
import os
import signal
import threading
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from multiprocessing.connection import Connection
from typing import Any

_TASKS_OF_ONE = 64  # then a process is replaced: what libraries keep of every clip would fill the memory


@dataclasses.dataclass(frozen=True)
class Died:
    """In place of a task's result: its process ended while it worked. Negative exit codes are signals."""

    exit_code: int | None


@dataclasses.dataclass
class _Worker:
    process: Any
    connection: Connection
    task: int = -1
    done: int = 0


def in_processes(
    function: Callable[[Any], Any],
    tasks: Sequence[Any],
    processes: int,
    environment: Mapping[str, str] | None = None,
) -> Generator[tuple[int, Any], None, None]:
    """Yields (index of the task, `function`'s result or `Died`), in the order in which they end.

    Ending the iteration early ends the processes; they end with the caller, too, however that ends. What they print
    is dropped.

    Args:
        function: picklable by its name; what it raises ends its process.
        tasks: what it is called with, each once.
        processes: how many at once.
        environment: variables that the processes start with, where not set already.
    """
    waiting = iter(range(len(tasks)))
    workers: dict[Connection, _Worker] = {}

    def hand_out(worker: _Worker | None) -> None:
        """Gives the next task to the worker, or to a new one; ends the worker where there is nothing left."""
        index = next(waiting, None)
        if worker is not None and (index is None or worker.done >= _TASKS_OF_ONE):
            _end(workers.pop(worker.connection))
            worker = None
        if index is None:
            return
        if worker is None:
            worker = _start(function, environment or {})
            workers[worker.connection] = worker
        worker.task = index
        with contextlib.suppress(OSError):  # it died meanwhile, which is seen when its answer is awaited
            worker.connection.send(tasks[index])

    try:
        for _ in range(min(processes, len(tasks))):
            hand_out(None)
        while workers:
            for ready in multiprocessing.connection.wait(list(workers)):
                worker = workers[ready]  # type: ignore[index]
                index = worker.task
                try:
                    result = worker.connection.recv()
                except (EOFError, OSError):
                    result = Died(_end(workers.pop(worker.connection)))
                    hand_out(None)
                else:
                    worker.done += 1
                    hand_out(worker)
                yield index, result
    finally:
        for worker in workers.values():
            worker.process.terminate()
            _end(worker)


def _start(function: Callable[[Any], Any], environment: Mapping[str, str]) -> _Worker:
    # Forking a process that runs JAX's threads may hang; a spawned one starts clean.
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(theirs, function), daemon=True)
    with _environment(environment):
        process.start()
    theirs.close()
    return _Worker(process, ours)


def _end(worker: _Worker) -> int | None:
    worker.connection.close()
    worker.process.join()
    return worker.process.exitcode


@contextlib.contextmanager
def _environment(variables: Mapping[str, str]) -> Iterator[None]:
    """Sets those of the variables that are not set, for as long as a process is started."""
    added = {name: value for name, value in variables.items() if name not in os.environ}
    os.environ.update(added)
    try:
        yield
    finally:
        for name in added:
            del os.environ[name]


def _serve(connection: Connection, function: Callable[[Any], Any]) -> None:
    """A process's life: tasks in, results out, until there are no more."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the caller is interrupted, too, and ends us
    threading.Thread(target=_end_with_parent, daemon=True).start()
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (1, 2):
        os.dup2(nowhere, stream)
    with contextlib.suppress(EOFError, OSError):
        while True:
            connection.send(function(connection.recv()))


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
