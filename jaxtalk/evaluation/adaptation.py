"""Avatars after so many steps on so many seconds of an unseen person: adapted once, kept in the run's folder.

WORKDIR/avatars/CLIP-5s-1000[-scratch]   the avatar; `jaxtalk synthesize --avatar` takes this name
WORKDIR/adaptation/CLIP-5s[-scratch]     where the adaptation stands, so that an interrupted one goes on
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

from jaxtalk.clip import ClipView
from jaxtalk.errors import JaxtalkError
from jaxtalk.methods.api import Avatar, Run, load_method, method_names
from jaxtalk.progress import console
from jaxtalk.synthesis.avatars import keep_avatar, kept_avatar, state_sha256

_ASKED = "asked.json"  # in the folder of an adaptation: what it was begun for


@dataclasses.dataclass(frozen=True)
class Cell:
    """One avatar of a few-shot evaluation. No steps: the base model, with references from those seconds."""

    seconds: float
    steps: int
    from_scratch: bool = False

    @property
    def name(self) -> str:
        return f"{self.seconds:g}s-{self.steps}{'-scratch' if self.from_scratch else ''}"


def check_adapts(method: Any, name: str) -> None:
    """Raises `JaxtalkError` for a system that does not adapt to unseen people."""
    if not hasattr(method, "adapt"):
        able = [other for other in method_names() if hasattr(load_method(other), "adapt")]
        raise JaxtalkError(
            f"{name} does not adapt to a person it never saw (it has no `adapt`), and --protocol=fewshot tests that; "
            f"systems that do: {', '.join(able) or 'none yet'}"
        )


def adapted(run: Run, method: Any, part: ClipView, cell: Cell) -> Avatar:
    """The avatar of a cell: kept from an earlier evaluation of the same run and the same frames, or made and kept now.

    Args:
        part: the frames of the clip to adapt to.
        cell: ask for those of one length in the order of their steps: each goes on where the one before stood.
    """
    name = f"{part.name}-{cell.name}"
    facts = {"adapted": {**dataclasses.asdict(cell), "frames": part.meta.num_frames, "sha256": clip_sha256(part)}}
    kept = kept_avatar(run, name, **facts)
    if kept is not None:
        console.print(f"{name}: adapted before (--fresh adapts anew)", highlight=False, soft_wrap=True)
        return method.load_avatar(kept)
    folder = _begin(run, part, cell, facts["adapted"]["sha256"])
    avatar = method.adapt(run, part, cell.steps, from_scratch=cell.from_scratch, folder=folder)
    keep_avatar(run, avatar, name, part, **facts)
    return avatar


def forget(run: Run, clip: str, cell: Cell) -> None:
    """Removes what an earlier evaluation left of a cell."""
    shutil.rmtree(run.workdir / "avatars" / f"{clip}-{cell.name}", ignore_errors=True)
    shutil.rmtree(_place(run, clip, cell), ignore_errors=True)


def _place(run: Run, clip: str, cell: Cell) -> Path:
    return run.workdir / "adaptation" / f"{clip}-{cell.seconds:g}s{'-scratch' if cell.from_scratch else ''}"


def _begin(run: Run, part: ClipView, cell: Cell, sha256: str) -> Path:
    """The folder in which a cell adapts; emptied where what it holds belongs to something else, or is beyond it."""
    folder = _place(run, part.name, cell)
    asked = {"state_sha256": state_sha256(run.workdir), "sha256": sha256}
    try:
        before = json.loads((folder / _ASKED).read_text())
    except (OSError, ValueError):
        before = {}
    if not all(before.get(key) == value for key, value in asked.items()) or before["steps"] > cell.steps:
        shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / _ASKED).write_text(json.dumps({**asked, "steps": cell.steps}))
    return folder


def clip_sha256(view: ClipView) -> str:
    """Hash of what tells one clip from another of the same name: its record, track and sound, and its first frame."""
    digest = hashlib.sha256(json.dumps(view.meta.to_json(), sort_keys=True).encode())
    for name, array in sorted(view.track.arrays().items()):
        digest.update(name.encode() + array.tobytes())
    digest.update(view.audio().tobytes())
    digest.update(view.frame(0).tobytes())
    return digest.hexdigest()
