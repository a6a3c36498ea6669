"""What passes between the runner, a protocol and the report."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxtalk.clip import ClipView
from jaxtalk.methods.api import Run
from jaxtalk.metrics import Suite


@dataclasses.dataclass(frozen=True)
class Row:
    """One line of the results: `kind` is method, baseline, control (the method with other inputs) or truth.

    A row of a protocol that tests a method after several lengths of video and numbers of steps says what it is made
    of: `variant` (adapted, scratch, copy, ...), `seconds` and `steps`; None where it does not depend on them.
    """

    name: str
    label: str
    kind: str
    description: str
    variant: str = ""
    seconds: float | None = None
    steps: int | None = None


@dataclasses.dataclass(frozen=True)
class Comparison:
    """A paired difference of the results: row `first` minus row `second`, frame by frame."""

    name: str
    first: str
    second: str


@dataclasses.dataclass(frozen=True)
class FewShot:
    """What a few-shot evaluation adapts with: every length of video with every number of steps."""

    seconds: tuple[float, ...]  # from the start of a clip
    steps: tuple[int, ...]  # 0: the base model as it is
    from_scratch: bool = False  # the same steps without base training, too
    fresh: bool = False  # adapt anew what an earlier evaluation has adapted


@dataclasses.dataclass(frozen=True)
class Settings:
    """What an evaluation is run with; written into results.json."""

    max_frames: int  # evenly spaced over a clip's test frames; 0: all
    video_seconds: float  # length of the comparison video; 0: none
    test_seconds: float
    guard_seconds: float
    source_seconds: float = 0.0  # of an unseen person's clip, for an avatar that is not adapted; 0: its first frame
    pose: str = "gt"  # tracked poses of the test frames; or predicted: those that the avatar makes of the speech
    metrics: tuple[str, ...] = ()  # ids; empty: all
    clips: tuple[str, ...] = ()  # folders of clips of unseen people, or manifests; empty: the run's held-out clips
    speech: tuple[str, ...] = ()  # recordings for `cross`; empty: those of the other clips
    allow_seen: bool = False  # test people that the run was trained on as if they were strangers
    fewshot: FewShot | None = None


@dataclasses.dataclass(frozen=True)
class Unreadable:
    """A clip that should have been tested and cannot be opened."""

    name: str
    reason: str


@dataclasses.dataclass(frozen=True)
class Subject:
    """What a protocol tests: a trained run of a method, and the clips to test it on."""

    trained: Run
    method: Any  # the module of the system (methods.api)
    clips: Sequence[ClipView]
    audio_feature: Any  # jaxtalk.audio FeatureSpec
    suite: Suite
    settings: Settings
    run: Mapping[str, Any]  # name, method, hashes: goes into results.json and into videos
    folder: Path  # pictures and videos go here


@dataclasses.dataclass(frozen=True)
class ClipResult:
    """Measurements of one clip and what to show of it.

    `values` {row: {metric: {region: array}}} has a value for each of F test frames, one for a metric of the whole
    clip, or features [F, D] for a metric of the set of all clips.
    """

    clip: str
    identity: str
    frames: np.ndarray  # [F] indices in the clip
    times: np.ndarray  # [F] seconds
    values: Mapping[str, Mapping[str, Mapping[str, np.ndarray]]]
    facts: Mapping[str, Any]  # split, sources of audio, ...
    pictures: Sequence[Mapping[str, Any]]  # {"frame", "time", "note", "files": {row: path in the folder}}
    mouths: Mapping[str, Any]  # close-ups of the mouth: {"path", "rows": names from above}
    videos: Sequence[Mapping[str, str]]  # {"path", "caption"}
    absent: Mapping[str, str] = dataclasses.field(default_factory=dict)  # row -> why it could not be made
    unmeasured: Mapping[str, Mapping[str, str]] = dataclasses.field(default_factory=dict)  # metric -> row -> why
    missing_faces: Mapping[str, int] = dataclasses.field(default_factory=dict)  # row -> frames without a face
    lips: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)  # row -> lip opening [F]
    speed: Mapping[str, float] = dataclasses.field(default_factory=dict)  # fit_seconds, frames_per_second
    panels: Mapping[str, str] = dataclasses.field(default_factory=dict)  # picture's name -> row, where they differ


@dataclasses.dataclass(frozen=True)
class Layout:
    """How measurements become tables. `subject_row` is the row that the page speaks of."""

    rows: tuple[Row, ...]
    comparisons: tuple[Comparison, ...]
    subject_row: str


@dataclasses.dataclass(frozen=True)
class Protocol:
    """A way to test a run."""

    name: str
    title: str
    description: str  # with {poses} in the place of whose poses the frames have
    regions: Mapping[str, str]  # name -> label
    clips: Callable[[Run, Any, Settings], Sequence[ClipView | Unreadable]]  # (run, method, settings): whom to test
    evaluate_clip: Callable[[Subject, ClipView], ClipResult]
    layout: Callable[[Settings, Sequence[ClipResult]], Layout]
