"""Whom an evaluation tested: a manifest with a hash, and who of them the run had been trained on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from jaxtalk.clip import ClipView
from jaxtalk.datasets.splits import TEST, ClipEntry, Manifest
from jaxtalk.evaluation.adaptation import clip_sha256
from jaxtalk.methods.api import Run


def tested_split(run: Run, clips: Sequence[ClipView], allow_seen: bool) -> dict[str, Any]:
    """{"manifest": of the tested clips at the size they were tested, "seen": {clip: a clip that the run learnt of}}.

    `seen` is looked for where people were let in whom the run may know.
    """
    entries = {view.name: ClipEntry(view.meta.identity, TEST, clip_sha256(view)) for view in clips}
    found: dict[str, Any] = {"manifest": Manifest(entries).to_json(), "seen": {}}
    if allow_seen:
        from jaxtalk.input.clips import learnt_of, run_split

        split = run_split(run.config, run.workdir)
        known = {view.name: learnt_of(run.config, split, view.meta.identity, "") for view in clips}
        found["seen"] = {name: learnt for name, learnt in known.items() if learnt}
    return found
