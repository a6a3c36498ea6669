"""People that a run never saw: who they are, and how their clips are split into a source and what is tested."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxtalk.clip import ClipError, ClipView
from jaxtalk.errors import JaxtalkError
from jaxtalk.evaluation.records import Settings, Unreadable
from jaxtalk.methods.api import Run, check_generalises

MIN_TEST_SECONDS = 0.4  # a clip needs as much behind the seconds that make the avatar, and the gap


def stranger_clips(run: Run, method: Any, settings: Settings) -> Sequence[ClipView | Unreadable]:
    """The clips named in the settings, or those of the run's held-out people.

    Raises:
        JaxtalkError: a system that serves the person of its run alone, nobody held out, somebody the run was trained
            on unless `settings.allow_seen`.
    """
    check_generalises(method, run.config.method, "this protocol tests strangers")
    from jaxtalk.input import clips  # one place for tests and for runs

    found = _named(run, settings) if settings.clips else clips.held_out_clips(run.config, run.workdir)
    if not found:
        raise JaxtalkError(
            f"{run.workdir}: nobody was held out (config.data.held_out is empty); "
            "name clips of somebody else with --clips=FOLDER,FOLDER"
        )
    return found


def _named(run: Run, settings: Settings) -> list[ClipView | Unreadable]:
    """The clips of the settings: folders, or manifests beside their clips. A damaged one does not stop the others."""
    from jaxtalk.input import clips

    named = [Path(name) for name in settings.clips]
    folders = [folder for path in named for folder in (clips.manifest_folders(path) if path.is_file() else [path])]
    twice = [folder for folder in folders if sum(other.name == folder.name for other in folders) > 1]
    if twice:
        raise JaxtalkError(f"--clips: {twice[0]} and {twice[1]} have the same name; rename one of the folders")
    found: list[ClipView | Unreadable] = []
    for folder in folders:
        try:
            found += clips.unseen_folders(run.config, run.workdir, [folder], allow_seen=settings.allow_seen)
        except ClipError as error:
            found.append(Unreadable(folder.name, str(error)))
    return found


def clip_seconds(view: ClipView) -> float:
    """How long a clip lasts; its last frame lasts one median interval."""
    times = view.track.time
    return float(times[-1] - times[0] + (np.median(np.diff(times)) if len(times) > 1 else 0.0))


def needed_seconds(source: float, settings: Settings) -> float:
    """How long a clip must be for a source of so many seconds."""
    return source + settings.guard_seconds + MIN_TEST_SECONDS


def frames_since_start(view: ClipView) -> np.ndarray:
    """Seconds from the clip's first frame to the middle of each, [F]."""
    times = view.track.time
    return times - times[0] + 0.5 * (np.median(np.diff(times)) if len(times) > 1 else 0.0)


def first_part(view: ClipView, settings: Settings) -> tuple[np.ndarray, np.ndarray]:
    """Frames that make the avatar, the first seconds (0: the first frame), and after a gap those that test it.

    Raises:
        JaxtalkError: the clip is too short.
    """
    source, since = settings.source_seconds, frames_since_start(view)
    if needed_seconds(source, settings) > clip_seconds(view) + 1e-3:
        raise JaxtalkError(
            f"clip {view.name}: {clip_seconds(view):.2f} s are too short for {source:g} s to make the avatar, the gap "
            f"of {settings.guard_seconds:g} s and {MIN_TEST_SECONDS:g} s to test on; lower --source_seconds"
        )
    made_of = np.flatnonzero(since < source) if source else np.arange(1)
    return made_of, np.flatnonzero(since >= since[made_of[-1]] + settings.guard_seconds)
