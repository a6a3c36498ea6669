"""What is left behind when a loss is not finite: the step, the term, the batch."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path

import jax
import numpy as np

from jaxtalk.errors import JaxtalkError
from jaxtalk.training.checkpoints import steps_saved
from jaxtalk.training.step import Plan


class NonFiniteError(JaxtalkError):
    """A loss was not finite. `step` is the step as the loss saw it (0 is the first), `term` is PHASE/NAME."""

    def __init__(self, message: str, step: int, term: str, dump: Path) -> None:
        super().__init__(message)
        self.step, self.term, self.dump = step, term, dump


def non_finite_error(
    folder: Path, plan: Plan, step: int, term: int, values: np.ndarray, batch: Mapping[str, np.ndarray]
) -> NonFiniteError:
    """Writes FOLDER/nonfinite-STEP.npz (by the first process, with its rows of the batch) and makes the error.

    The file holds `step`, `term`, `value/NAME` for every logged value of that step, and `batch/NAME`.
    """
    path, name = folder / f"nonfinite-{step}.npz", plan.names[term]
    if jax.process_index() == 0:
        arrays = {f"value/{name}": value for name, value in zip(plan.names, values, strict=True)}
        arrays |= {f"batch/{name}": np.asarray(array) for name, array in batch.items()}
        with contextlib.suppress(OSError):  # a disk that is full may not hide the cause
            np.savez(path, step=step, term=name, **arrays)
    saved = steps_saved(folder / "checkpoints")
    last = f"the checkpoint of {saved[-1]} steps is from before" if saved else "there is no checkpoint before it"
    message = (
        f"stage {plan.stage.name}: {name} is {values[term]} at step {step}; the batch and all terms are in {path}; "
        f"{last}: look for a division by zero or lower the learning rate"
    )
    return NonFiniteError(message, step, name, path)
