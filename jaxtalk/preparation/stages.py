"""Stages of preparation: each one's result is kept on disk under the key of everything it depends on."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

Arrays = dict[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class Stage:
    """What a stage's result depends on: its version in the code, its parameters, and the stages before it."""

    name: str
    version: int
    parameters: Mapping[str, Any]
    needs: tuple[Stage, ...] = ()

    @property
    def key(self) -> str:
        text = json.dumps([self.name, self.version, self.parameters, [need.key for need in self.needs]], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def record(self) -> dict[str, Any]:
        """What clip.json says about the stage."""
        return {"version": self.version, **self.parameters}


class StageStore:
    """Results of stages in a folder: `NAME.npz` and, last, `NAME.key`, so that half a result is never taken."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def run(self, stage: Stage, make: Callable[[], Arrays]) -> Arrays:
        """The stage's arrays: read if they were made with the same key, made (and kept) otherwise."""
        data, key = self.folder / f"{stage.name}.npz", self.folder / f"{stage.name}.key"
        if data.is_file() and key.is_file() and key.read_text() == stage.key:
            with np.load(data) as stored:
                return dict(stored)
        key.unlink(missing_ok=True)
        arrays = make()
        temporary = data.with_suffix(".tmp")
        with open(temporary, "wb") as file:
            np.savez(file, **arrays)  # type: ignore[arg-type]
        os.replace(temporary, data)
        key.write_text(stage.key)
        return arrays


def first_difference(old: Mapping[str, Any], new: Mapping[str, Any], prefix: str = "") -> tuple[str, Any, Any] | None:
    """The first setting of `new`, as a dotted name, whose value is another in `old`, with both values; or None."""
    for name in {**new, **old}:
        before, after = old.get(name), new.get(name)
        if isinstance(before, Mapping) and isinstance(after, Mapping):
            inner = first_difference(before, after, f"{prefix}{name}.")
            if inner is not None:
                return inner
        elif json.dumps(before, sort_keys=True) != json.dumps(after, sort_keys=True):
            return f"{prefix}{name}", before, after
    return None
