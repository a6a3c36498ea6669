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
        return method.load_avatar(kept), read_origin(kept)
    clip = _choose(run, name)
    from jaxtalk.input.clips import training_part

    avatar = method.fit(run, training_part(clip, run.config.data))
    return avatar, keep_avatar(run, avatar, clip.name, clip)


def keep_avatar(run: Run, avatar: Avatar, name: str, clip: ClipView, **facts: Any) -> dict[str, Any]:
    """Saves an avatar as WORKDIR/avatars/NAME, where `open_avatar` finds it, and returns what is known of it.

    `facts` say what else it was made from; `kept_avatar` compares them. An avatar that was adapted to part of a clip
    has `adapted`, with its seconds and steps.
    """
    origin = {
        "state_sha256": state_sha256(run.workdir),
        "name": clip.name,
        "identity": clip.meta.identity,
        "synthetic": clip.meta.synthetic,
        "consent": dict(clip.meta.consent),
        **facts,
    }
    _save(avatar, run.workdir / "avatars" / name, origin)
    return origin


def kept_avatar(run: Run, name: str, **facts: Any) -> Path | None:
    """The folder of the avatar NAME where it was made from the parameters that the run has now, and from `facts`."""
    folder = run.workdir / "avatars" / name
    wanted = {"state_sha256": state_sha256(run.workdir), **facts}
    origin = read_origin(folder)
    return folder if origin and all(origin.get(key) == value for key, value in wanted.items()) else None


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
    found: list[tuple[tuple[bool, ...], int, Path]] = []
    for folder in sorted((run.workdir / "avatars").glob("*")):
        origin = read_origin(folder)
        up_to_date = "state_sha256" in origin and state in (None, origin["state_sha256"])
        whole = folder.suffix != ".partial"
        if whole and up_to_date and wanted in (folder.name, origin["identity"]):
            adapted = origin.get("adapted", {})
            # The very name first, then a head that was fitted to all it may see, then the one adapted most.
            rank = (folder.name == wanted, not adapted, not adapted.get("from_scratch", False))
            found.append((rank, adapted.get("steps", 0), folder))
    return max(found, key=lambda head: head[:2])[-1] if found else None


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


def read_origin(folder: Path) -> dict[str, Any]:
    """What is known of a kept avatar; empty where there is none."""
    try:
        return json.loads((folder / _ORIGIN).read_text())
    except (OSError, ValueError):
        return {}
