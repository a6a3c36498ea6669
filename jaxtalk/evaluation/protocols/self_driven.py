"""Self-driven: the last part of each clip, with its own poses, eyes and speech (metrics card, section 7).

Beside the system stand baselines that need no learning, and the system itself hearing the wrong speech: one that does
not lose by that does not listen.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxtalk.clip import ClipView
from jaxtalk.datasets.splits import time_split
from jaxtalk.errors import JaxtalkError
from jaxtalk.evaluation.protocols.one_avatar import (
    LATE,
    MEAN,
    NEAREST,
    OTHER,
    PLATE,
    REGIONS,
    TRUTH,
    Plan,
    RowPlan,
)
from jaxtalk.evaluation.records import Protocol, Row, Settings
from jaxtalk.methods.api import Run


def learnt_clips(run: Run, method: Any, settings: Settings) -> Sequence[ClipView]:
    """The clips that the run was trained on, whole."""
    from jaxtalk.input import clips  # one place for tests and for runs

    return clips.reopen_clips(run.config, run.workdir)


def last_part(view: ClipView, settings: Settings) -> tuple[np.ndarray, np.ndarray]:
    """Training frames of a clip, and those that training left out. Raises `JaxtalkError` where there are none."""
    try:
        train, test = time_split(view.track.time, settings.test_seconds, settings.guard_seconds)
    except JaxtalkError as error:
        raise JaxtalkError(f"clip {view.name}: {error}") from error
    if not len(test):
        raise JaxtalkError(
            f"clip {view.name}: no frame was left out of training (data.test_seconds is {settings.test_seconds:g}); "
            "train a run with data.test_seconds above 0 to evaluate it"
        )
    return train, test


OURS = RowPlan(
    Row("ours", "Ours", "method", "The trained system with the test frames' own pose, eyes and speech."),
)
PLAN = Plan(
    name="self",
    rows=(OURS, NEAREST, MEAN, PLATE, LATE, OTHER, TRUTH),
    split=last_part,
    pictures=("truth", "ours", "error", "audio_shifted", "nearest", "mean"),
    mouths=("truth", "ours", "audio_shifted"),
)
PROTOCOL = Protocol(
    name=PLAN.name,
    title="Self-driven",
    description="The last part of each clip, never trained on, rendered with {poses}.",
    regions=REGIONS,
    clips=learnt_clips,
    evaluate_clip=PLAN.evaluate_clip,
    layout=PLAN.layout,
)
