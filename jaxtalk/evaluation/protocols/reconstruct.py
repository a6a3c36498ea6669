"""Reconstruction: the avatar moved by the tracked coefficients of the test frames; no ear, only the renderer is tested.

What it loses with speech in place of the coefficients is the ear's share of the error.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from jaxtalk.errors import JaxtalkError
from jaxtalk.evaluation.protocols.one_avatar import (
    MEAN,
    NEAREST,
    REGIONS,
    TRUTH,
    Case,
    Plan,
    RowPlan,
    own_speech,
)
from jaxtalk.evaluation.protocols.tested import tested_clips, tested_part
from jaxtalk.evaluation.records import Protocol, Row
from jaxtalk.methods.api import Drive


def _tracked(case: Case) -> Drive:
    tracked = getattr(case.avatar, "tracked_motion", None)
    if tracked is None:
        raise JaxtalkError(
            f"--protocol=reconstruct: avatars of {case.subject.run['method']} hear speech alone and cannot be moved by "
            "tracked coefficients"
        )
    motion = np.asarray(tracked(case.view))[case.tested]
    return dataclasses.replace(case.drive(own_speech(case)), audio=motion)


OURS = RowPlan(
    Row("ours", "Tracked coefficients", "method", "The avatar, moved by the coefficients tracked in the test frames."),
    make=_tracked,
)
SPEECH = RowPlan(Row("speech", "Its own speech", "control", "The same avatar, hearing the test frames' speech."))
PLAN = Plan(
    name="reconstruct",
    rows=(OURS, SPEECH, NEAREST, MEAN, TRUTH),
    split=tested_part,
    pictures=("truth", "ours", "error", "speech", "nearest"),
    mouths=("truth", "ours", "speech"),
)
PROTOCOL = Protocol(
    name=PLAN.name,
    title="Reconstruction",
    description="Rendered from the tracked coefficients of the test frames, with their poses and eyes: a test of the "
    "renderer without its ear.",
    regions=REGIONS,
    clips=tested_clips,
    evaluate_clip=PLAN.evaluate_clip,
    layout=PLAN.layout,
)
