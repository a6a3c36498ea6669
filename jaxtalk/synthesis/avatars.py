"""The heads of a run: found by name, fitted when they are missing or older than the run's parameters."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jaxtalk.clip import ClipView
from jaxtalk.errors import JaxtalkError
from jaxtalk.methods.api import Avatar, Run, load_method

_ORIGIN = "made_from.json"  # in an avatar's folder: which parameters it holds, and whose head it is


def open_avatar(run: Run, name: str | None = None) -> tuple[Avatar, dict[str, Any]]:
    """An avatar of the run, by its clip's name or its identity; the first clip's when no name is given.

    Reads WORKDIR/avatars/NAME, or lets the method fit it from the clip's training part and keeps it there. An avatar
    made from other parameters than the run has now is made again. Returns the avatar and what is known of it (name,
    identity, consent, synthetic). Raises `JaxtalkError` for an unknown name.
    """
    method, state = load_method(run.config.method), state_sha256(run.workdir)
    kept = _kept(run, name, state)
    if kept is not None:
        return method.load_avatar(kept), _read_origin(kept)
    clip = _choose(run, name)
    from jaxtalk.input.clips import training_part

    avatar = method.fit(run, training_part(clip, run.config.data))
    origin = {
        "state_sha256": state,
        "name": clip.name,
        "identity": clip.meta.identity,
        "synthetic": clip.meta.synthetic,
        "consent": dict(clip.meta.consent),
    }
    _save(avatar, run.workdir / "avatars" / clip.name, origin)
    return avatar, origin


def state_sha256(workdir: Path) -> str | None:
    """The hash over parameters, optimiser and averages that the last finished stage left in metrics.jsonl, or None."""
    try:
        lines = (workdir / "metrics.jsonl").read_text().splitlines()
    except FileNotFoundError:
        return None
    marked = [line for line in lines if '"state_sha256"' in line]
    return json.loads(marked[-1])["state_sha256"] if marked else None


def _kept(run: Run, name: str | None, state: str | None) -> Path | None:
    """The folder of an avatar of that name or identity that was made from these parameters, if there is one.

    Finding it opens no clip: those of a run that has moved may be gone, and decoding them takes long.
    """
    wanted = name if name is not None else next((Path(clip).name for clip in run.config.data.clips), None)
    for folder in sorted((run.workdir / "avatars").glob("*")):
        origin = _read_origin(folder)
        up_to_date = "state_sha256" in origin and state in (None, origin["state_sha256"])
        whole = folder.suffix != ".partial"
        if whole and up_to_date and wanted in (folder.name, origin["identity"]):
            return folder
    return None


def _choose(run: Run, name: str | None) -> ClipView:
    """The clip of that name or identity; the first when none is given."""
    from jaxtalk.input.clips import reopen_clips

    clips: Sequence[ClipView] = reopen_clips(run.config, run.workdir)
    chosen = [clip for clip in clips if name is None or name in (clip.name, clip.meta.identity)]
    if not chosen:
        known = ", ".join(clip.name for clip in clips)
        raise JaxtalkError(f"{run.workdir}: there is no head {name!r} in this run; known are {known}")
    return chosen[0]


def _save(avatar: Avatar, folder: Path, origin: Mapping[str, Any]) -> None:
    """Writes the avatar's folder so that it appears whole or not at all."""
    partial = folder.with_name(folder.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.parent.mkdir(parents=True, exist_ok=True)
    avatar.save(partial)
    (partial / _ORIGIN).write_text(json.dumps(origin, indent=1))
    shutil.rmtree(folder, ignore_errors=True)
    os.replace(partial, folder)


def _read_origin(folder: Path) -> dict[str, Any]:
    try:
        return json.loads((folder / _ORIGIN).read_text())
    except (OSError, ValueError):
        return {}
