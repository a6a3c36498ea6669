"""Checkpoints of one stage: written whole or not at all, in the background, and read back newest first."""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import re
import shutil
import sys
import warnings
from pathlib import Path
from types import TracebackType
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from orbax.checkpoint import v1 as ocp

from jaxtalk.errors import JaxtalkError
from jaxtalk.training.sharding import barrier
from jaxtalk.training.state import State

# `model` can be read without the optimiser; `training` is what only a resumed run needs.
_PARTS: dict[str, tuple[str, ...]] = {"model": ("params", "stats", "ema"), "training": ("step", "opt", "log", "bad")}


def steps_saved(folder: Path) -> list[int]:
    """Steps of the complete checkpoints in a folder, oldest first. Damage after writing is not noticed here."""
    if not folder.is_dir():
        return []
    return sorted(int(path.name) for path in folder.iterdir() if path.name.isdecimal() and path.is_dir())


class Checkpoints:
    """Checkpoints FOLDER/STEP of one stage; use as a context, which waits for what is being written.

    Every process calls every method. Raises `JaxtalkError` where a checkpoint cannot be written (a full disk): those
    written before stay as they were.
    """

    def __init__(self, folder: Path, keep: int) -> None:
        self.folder = folder.absolute()
        self._saving: tuple[int, Any] | None = None
        self._keep = max(keep, 1)
        logging.getLogger("absl").addFilter(_raised_anyway)
        self._orbax = self._open()

    def _open(self) -> ocp.training.Checkpointer:
        if jax.process_index() == 0:
            for remnant in self.folder.glob("*.orbax-checkpoint-tmp"):  # of a writer that was killed or failed
                shutil.rmtree(remnant, ignore_errors=True)
        barrier("remnants of checkpoints removed")
        return ocp.training.Checkpointer(
            self.folder,
            preservation_policy=ocp.training.preservation_policies.LatestN(self._keep),
        )

    def __enter__(self) -> Checkpoints:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.wait()
            self._orbax.close()
            return
        with contextlib.suppress(Exception):  # a second failure of the same cause would hide the first
            self.wait()
        with contextlib.suppress(Exception):
            self._orbax.close()

    def save(self, step: int, state: State, position: dict[str, Any]) -> None:
        """Starts writing; the caller may donate `state` at once. `position` says in plain words where the data are."""
        self.wait()
        if step in steps_saved(self.folder):
            return
        parts = {part: {name: state[name] for name in names} for part, names in _PARTS.items()}
        try:
            response = self._orbax.save_checkpointables_async(
                step, parts, force=True, custom_metadata={"data": position}
            )
        except (OSError, ValueError, RuntimeError) as error:
            raise self._not_written(step, error) from error
        self._saving = (step, response)

    def wait(self) -> None:
        """Returns when the checkpoint last asked for is on disk."""
        if self._saving is None:
            return
        (step, response), self._saving = self._saving, None
        try:
            response.result()
        except (OSError, ValueError, RuntimeError) as error:
            raise self._not_written(step, error) from error

    def _not_written(self, step: int, error: Exception) -> JaxtalkError:
        kept = steps_saved(self.folder)
        left = f"the checkpoint of step {kept[-1]} is intact" if kept else "there is none before it"
        return JaxtalkError(
            f"{self.folder / str(step)}: the checkpoint could not be written ({_reason(error)}); {left}: "
            "make room on the disk and run the same command again"
        )

    def restore(self, abstract: State) -> State | None:
        """The newest readable state, onto the shardings of `abstract`; None where there is no checkpoint.

        A damaged checkpoint is passed over for the one before, with a line on stderr, and moved out of the way.
        Raises `JaxtalkError` when there are checkpoints and none can be read.
        """
        damaged: list[tuple[int, str]] = []
        for step in reversed(steps_saved(self.folder)):
            try:
                state = _load(self._orbax, step, abstract, tuple(_PARTS))
                reason = ""
            except Exception as error:  # Orbax and its storage raise many kinds for a damaged file
                state, reason = None, _reason(error)
            if _everywhere(state is not None):
                self._set_aside(damaged, step)
                return state
            damaged.append((step, reason))
            with warnings.catch_warnings():  # of Orbax about the half of a failed load that it never began
                warnings.simplefilter("ignore", RuntimeWarning)
                gc.collect()
        if damaged:
            step, reason = damaged[0]
            raise JaxtalkError(
                f"{self.folder}: no checkpoint of {[step for step, _ in damaged]} can be read ({reason}); "
                "was it made by another version? Use another --workdir, or delete this folder to train the stage anew"
            )
        return None

    def _set_aside(self, damaged: list[tuple[int, str]], restored: int) -> None:
        if not damaged:
            return
        self._orbax.close()
        for step, reason in damaged:
            aside = self.folder / f"damaged-{step}"
            if jax.process_index() == 0:
                print(f"checkpoint {self.folder / str(step)} is damaged ({reason}): continuing from step {restored}; "
                      f"the damaged one is now {aside.name}", file=sys.stderr, flush=True)  # fmt: skip
                while aside.exists():
                    aside = aside.with_name(aside.name + "+")
                (self.folder / str(step)).rename(aside)
        barrier("damaged checkpoints set aside")
        self._orbax = self._open()


def load_model(folder: Path, step: int, abstract: State) -> State:
    """{"params", "stats", "ema"} of a checkpoint, without its optimiser. Raises `JaxtalkError` where it is damaged.

    Every process calls it, unless `abstract` lies on devices of this process alone: then no other is waited for.
    """
    model = {name: abstract[name] for name in _PARTS["model"]}
    alone = jax.process_count() > 1 and all(leaf.sharding.is_fully_addressable for leaf in jax.tree.leaves(model))
    try:
        with _reading_alone() if alone else contextlib.nullcontext():
            return ocp.load_checkpointables(folder.absolute() / str(step), {"model": model})["model"]
    except Exception as error:
        raise JaxtalkError(
            f"{folder / str(step)}: the checkpoint cannot be read ({_reason(error)}); "
            "delete it and run train.py again, which continues from the one before"
        ) from error


def _reading_alone() -> ocp.Context:
    """Orbax meets the other processes at barriers unless told which take part."""
    index = jax.process_index()
    options = ocp.options.MultiprocessingOptions(
        primary_host=index, active_processes={index}, barrier_sync_key_prefix=f"process {index} alone"
    )
    return ocp.Context(multiprocessing_options=options)


def _load(orbax: ocp.training.Checkpointer, step: int, abstract: State, parts: tuple[str, ...]) -> State:
    wanted = {part: {name: abstract[name] for name in _PARTS[part]} for part in parts}
    loaded = orbax.load_checkpointables(step, wanted)
    return {name: value for part in parts for name, value in loaded[part].items()}


def _everywhere(ok: bool) -> bool:
    """Whether it is so on every process."""
    if jax.process_count() == 1:
        return ok
    return bool(np.all(multihost_utils.process_allgather(np.array(ok))))


def _reason(error: Exception) -> str:
    """An error of Orbax or its storage in a few words: the system's own where it has an error number."""
    number = error.errno if isinstance(error, OSError) else None
    found = re.search(r"os_error_code='(\d+)'", str(error))
    if number or found:
        return os.strerror(number or int(found[1]))  # type: ignore[index]
    return f"{type(error).__name__}: {error}".splitlines()[0][:200]


def _raised_anyway(record: logging.LogRecord) -> bool:
    """Drops what Orbax's threads log about errors (some hundred lines each): we raise or report them in one."""
    return not (record.exc_info and f"orbax{os.sep}checkpoint" in record.pathname)
