"""What passes between the runner, a protocol and the report."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxtalk.clip import ClipView
from jaxtalk.methods.api import Avatar


@dataclasses.dataclass(frozen=True)
class Row:
    """One line of the results: `kind` is method, baseline, control (the method with other inputs) or truth."""

    name: str
    label: str
    kind: str
    description: str


@dataclasses.dataclass(frozen=True)
class Settings:
    """What an evaluation is run with; written into results.json."""

    max_frames: int  # evenly spaced over a clip's test frames; 0: all
    video_seconds: float  # length of the comparison video; 0: none
    test_seconds: float
    guard_seconds: float


@dataclasses.dataclass(frozen=True)
class Subject:
    """What a protocol tests: the clips of a run, how an avatar is made from training frames, and what it hears."""

    clips: Sequence[ClipView]
    fit: Callable[[ClipView], Avatar]
    audio_feature: Any  # jaxtalk.audio FeatureSpec
    settings: Settings
    run: Mapping[str, Any]  # name, method, hashes: goes into results.json and into videos
    folder: Path  # pictures and videos go here


@dataclasses.dataclass(frozen=True)
class ClipResult:
    """Measurements of one clip: values {row: {metric: {region: [F]}}} of F test frames, and what to show."""

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


@dataclasses.dataclass(frozen=True)
class Protocol:
    """A way to test a run. `subject_row` is the row that the paired differences are taken from."""

    name: str
    title: str
    description: str
    rows: tuple[Row, ...]
    regions: Mapping[str, str]  # name -> label
    evaluate_clip: Callable[[Subject, ClipView], ClipResult]
    subject_row: str = "ours"
