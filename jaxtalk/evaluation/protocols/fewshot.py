"""Few-shot: from seconds of a person never trained on to a talking head (GDRF card, sections 1 and 6).

The first seconds of a clip adapt the base model, and what follows after a gap tests it: the same frames for every
length and every number of steps. Beside each adapted avatar stand the base model as it is, the same steps from
scratch, two answers that need no learning, made of the same seconds, and the avatar itself hearing speech late.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from jaxtalk.clip import ClipView
from jaxtalk.errors import JaxtalkError
from jaxtalk.evaluation import baselines, controls
from jaxtalk.evaluation.adaptation import Cell, adapted, check_adapts, forget
from jaxtalk.evaluation.exhibits import evenly_spaced, film, film_frames, frames_of, mouths, repeated, shown
from jaxtalk.evaluation.measuring import ClipMeasurements
from jaxtalk.evaluation.protocols.fewshot_layout import TRUTH, control_row, layout, length_rows, row_of
from jaxtalk.evaluation.protocols.strangers import (
    MIN_TEST_SECONDS,
    clip_seconds,
    frames_since_start,
    needed_seconds,
    stranger_clips,
)
from jaxtalk.evaluation.records import ClipResult, FewShot, Protocol, Row, Settings, Subject, Unreadable
from jaxtalk.evaluation.rendering import check_size, drive_of, render
from jaxtalk.input.clips import select_frames
from jaxtalk.methods.api import Avatar, Run
from jaxtalk.metrics import Suite
from jaxtalk.progress import bar

_PANELS = ("truth", "adapted", "error", "before", "scratch", "audio_shifted", "copy", "mean")
_MOUTHS = ("truth", "adapted", "audio_shifted", "copy")


def unseen_clips(run: Run, method: Any, settings: Settings) -> Sequence[ClipView | Unreadable]:
    """The clips to adapt to: folders of the user's, or the run's held-out ones.

    Raises:
        JaxtalkError: a system that does not adapt, nothing to adapt with or to, somebody the run was trained on.
    """
    asked = _asked(settings)
    check_adapts(method, run.config.method)
    if not asked.seconds or not asked.steps:
        raise JaxtalkError(
            "--protocol=fewshot needs --seconds and --steps, e.g. --seconds=3,5,10 --steps=1000,5000 "
            "(or config.evaluation.fewshot)"
        )
    if min(asked.seconds) <= 0 or min(asked.steps) < 0:
        raise JaxtalkError("--protocol=fewshot: --seconds must be above 0 and --steps no less than 0")
    found = stranger_clips(run, method, settings)
    longest = max((clip_seconds(view) for view in found if not isinstance(view, Unreadable)), default=np.inf)
    if longest < needed_seconds(asked.seconds[0], settings):
        raise JaxtalkError(
            f"the longest clip has {longest:.2f} s, and {asked.seconds[0]:g} s to adapt to, the gap of "
            f"{settings.guard_seconds:g} s and {MIN_TEST_SECONDS:g} s to test on need "
            f"{needed_seconds(asked.seconds[0], settings):g}; lower --seconds"
        )
    return found


def _asked(settings: Settings) -> FewShot:
    assert settings.fewshot is not None
    return settings.fewshot


def split(view: ClipView, settings: Settings) -> tuple[dict[float, np.ndarray], np.ndarray]:
    """Frames to adapt to by seconds, of the lengths that the clip is long enough for, and the frames to test on.

    Those are what follows the longest of them and the gap, one set for all. Nothing to adapt to: nothing to test on.
    """
    since, lasts = frames_since_start(view), clip_seconds(view) + 1e-3
    parts = {s: np.flatnonzero(since < s) for s in _asked(settings).seconds if needed_seconds(s, settings) <= lasts}
    if not parts:
        return {}, np.arange(0)
    return parts, np.flatnonzero(since >= max(parts) + settings.guard_seconds)


def evaluate_clip(subject: Subject, view: ClipView) -> ClipResult:
    """Adapts to each length of a clip with each number of steps, and measures all on the same frames."""
    settings, track, asked = subject.settings, view.track, _asked(subject.settings)
    parts, test = split(view, settings)
    tested = evenly_spaced(test, settings.max_frames)
    absent = {
        f"{seconds:g} s": f"shorter than the {needed_seconds(seconds, settings):g} s that {seconds:g} s to adapt to, "
        f"the gap and {MIN_TEST_SECONDS:g} s to test on need"
        for seconds in asked.seconds
        if seconds not in parts
    }
    if not parts:
        nothing = np.arange(0)
        return ClipResult(view.name, view.meta.identity, nothing, nothing, {}, {}, [], {}, [], absent)

    keep = _panels(Cell(max(parts), asked.steps[-1]))
    measured = _Measured(subject.suite, view, tested, parts[max(parts)], keep)
    speeches = {"": controls.true_speech(view, subject.audio_feature),
                "audio_shifted": controls.shifted_speech(view, subject.audio_feature)}  # fmt: skip
    said = speeches[""]
    measured.add(TRUTH.name, measured.truth, said)
    best: Avatar | None = None
    for seconds, train in parts.items():
        part = select_frames(view, train)
        nearest = train[baselines.nearest_frames(track.take(train), track.take(tested))]
        mean, copy = length_rows(seconds)
        measured.add(mean.name, repeated(baselines.mean_frame(part), len(tested)), said)
        measured.add(copy.name, frames_of(view, nearest), said)
        cells = _cells(seconds, asked)
        if asked.fresh:
            for cell in cells:
                forget(subject.trained, view.name, cell)
        for cell in cells:
            avatar = adapted(subject.trained, subject.method, part, cell)
            check_size(avatar, view)
            for row, frames in _rendered(subject, view, avatar, cell, tested, speeches):
                measured.add(row.name, frames, said)
            if not cell.from_scratch:
                best = avatar  # in the end that of the longest part and of the most steps

    assert best is not None
    images, panels = measured.exhibits()
    order = [name for name in _PANELS if name in images or name == "error"]
    worst_by = measured.values[panels["adapted"]]["psnr/rgb"]["mouth"]
    note = f" {row_of(Cell(max(parts), asked.steps[-1])).label}."
    return ClipResult(
        clip=view.name,
        identity=view.meta.identity,
        frames=tested,
        times=track.time[tested],
        values=measured.values,
        facts=_facts(view, parts, test, speeches),
        pictures=shown(subject, view, tested, images, "adapted", worst_by, order),
        mouths=mouths(subject, view, tested, {name: images[name] for name in _MOUTHS if name in images}),
        videos=_videos(subject, view, best, test, note),
        absent=absent,
        unmeasured=measured.unmeasured,
        missing_faces=measured.missing_faces,
        lips={row: measured.lips[row] for row in panels.values() if row in measured.lips},
        panels=panels,
    )


class _Measured(ClipMeasurements):
    """Keeps the pictures of the few rows that the page shows: all would not fit in memory."""

    def __init__(
        self, suite: Suite, view: ClipView, tested: np.ndarray, made_of: np.ndarray, keep: Mapping[str, str]
    ) -> None:
        super().__init__(suite, view, tested, made_of, frames_of(view, tested))
        self._keep = keep
        self._images: dict[str, np.ndarray] = {}

    def add(self, row: str, frames: np.ndarray, speech: controls.Speech, has_truth: bool = True) -> None:
        super().add(row, frames, speech, has_truth)
        if row in self._keep.values():
            self._images[row] = frames

    def exhibits(self) -> tuple[dict[str, np.ndarray], dict[str, str]]:
        """Frames by panel, and which row each panel shows."""
        panels = {panel: row for panel, row in self._keep.items() if row in self._images}
        return {panel: self._images[row] for panel, row in panels.items()}, panels


def _cells(seconds: float, asked: FewShot) -> list[Cell]:
    """The avatars of one length: adapted ones in the order of their steps, then those from scratch."""
    cells = [Cell(seconds, steps) for steps in asked.steps]
    scratch = [Cell(seconds, steps, from_scratch=True) for steps in asked.steps if steps]
    return cells + scratch if asked.from_scratch else cells


def _rendered(
    subject: Subject, view: ClipView, avatar: Avatar, cell: Cell, tested: np.ndarray, speeches: Mapping[str, Any]
) -> Iterator[tuple[Row, np.ndarray]]:
    """The test frames of an avatar by row; an adapted one hears late speech, too."""
    spec, pose = subject.audio_feature, subject.settings.pose
    rows = {"": row_of(cell)}
    if cell.steps and not cell.from_scratch:
        rows["audio_shifted"] = control_row(cell)
    with bar(f"render {view.name}, {rows[''].label.lower()}", len(rows) * len(tested)) as progress:
        for speech, row in rows.items():
            yield row, render(avatar, drive_of(avatar, view, tested, speeches[speech], spec, pose), progress)


def _panels(cell: Cell) -> dict[str, str]:
    """Which row each picture of the page shows: those that belong to the clip's best cell."""
    mean, copy = length_rows(cell.seconds)
    rows = {
        "truth": TRUTH.name,
        "adapted": row_of(cell).name,
        "before": row_of(Cell(cell.seconds, 0)).name,
        "scratch": row_of(Cell(cell.seconds, cell.steps, from_scratch=True)).name,
        "audio_shifted": control_row(cell).name,
        "copy": copy.name,
        "mean": mean.name,
    }
    if not cell.steps:
        del rows["before"]  # it is what `adapted` shows
    return rows


def _facts(
    view: ClipView, parts: Mapping[float, np.ndarray], test: np.ndarray, speeches: Mapping[str, controls.Speech]
) -> dict[str, Any]:
    time = view.track.time
    return {
        "adapted_to": {
            f"{seconds:g}": {"frames": len(train), "seconds": [float(time[i]) for i in train[[0, -1]]]}
            for seconds, train in parts.items()
        },
        "test_frames": len(test),
        "test_seconds": [float(time[test[0]]), float(time[test[-1]])],
        "speech": {name or "own": speech.label for name, speech in speeches.items()},
    }


def _videos(subject: Subject, view: ClipView, avatar: Avatar, test: np.ndarray, note: str) -> list[dict[str, str]]:
    index = film_frames(view.track.time, test, subject.settings.video_seconds)
    if not len(index):
        return []
    with bar(f"film {view.name}", len(index)) as progress:
        return film(subject, view, avatar, index, PROTOCOL.name, progress, note=note)


PROTOCOL = Protocol(
    name="fewshot",
    title="Few-shot",
    description="People never trained on: the first seconds of a clip adapt the base model, and what follows after a "
    "gap tests it, with {poses}.",
    regions={"frame": "Frame", "face": "Face", "mouth": "Mouth"},
    clips=unseen_clips,
    evaluate_clip=evaluate_clip,
    layout=layout,
)
