"""Several processes as one program."""

from __future__ import annotations

import os

import jax

from jaxtalk.errors import JaxtalkError

# After training, the others wait at their end for the first process, which evaluates and renders; after JAX's own five
# minutes they would give up and take it down with them.
_SHUTDOWN_SECONDS = 24 * 3600


def initialize(coordinator: str | None = None, num_processes: int | None = None, process_id: int | None = None) -> bool:
    """Joins this process to the others and says whether there are any. Call it before anything else touches JAX.

    What is not given comes from $JAX_COORDINATOR_ADDRESS (HOST:PORT of the first process), $JAX_NUM_PROCESSES and
    $JAX_PROCESS_ID. With $JAXTALK_DISTRIBUTED=auto, JAX asks the cluster itself (TPU pods, Slurm, Open MPI).
    """
    if os.environ.get("JAXTALK_DISTRIBUTED") == "auto" and coordinator is None:
        jax.distributed.initialize(shutdown_timeout_seconds=_SHUTDOWN_SECONDS)
        return True
    coordinator = coordinator or os.environ.get("JAX_COORDINATOR_ADDRESS")
    if not coordinator:
        return False
    num_processes = _number("JAX_NUM_PROCESSES", num_processes)
    process_id = _number("JAX_PROCESS_ID", process_id)
    if not 0 <= process_id < num_processes:
        raise JaxtalkError(f"JAX_PROCESS_ID: {process_id} is not below JAX_NUM_PROCESSES {num_processes}; "
                           "number the processes from 0")  # fmt: skip
    jax.distributed.initialize(coordinator, num_processes, process_id, shutdown_timeout_seconds=_SHUTDOWN_SECONDS)
    return True


def _number(variable: str, given: int | None) -> int:
    if given is not None:
        return given
    text = os.environ.get(variable, "")
    if not text.isdecimal():
        raise JaxtalkError(f"{variable}: {text!r} is no number; with a coordinator, every process needs it")
    return int(text)
