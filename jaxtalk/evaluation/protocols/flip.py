"""Flipped poses: how much worse a head becomes at the mirror image of its pose (metrics card, section 6).

"Internal Differences" are the metric of the input pose minus that of the flipped one, signed and absolute.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from jaxtalk.evaluation.protocols.one_avatar import REGIONS, TRUTH, Case, Plan, RowPlan, own_speech
from jaxtalk.evaluation.protocols.tested import tested_clips, tested_part
from jaxtalk.evaluation.records import Protocol, Row
from jaxtalk.methods.api import Drive

_MIRROR = np.array([-1.0, 1.0, 1.0], np.float32)  # left becomes right


def mirrored(drive: Drive) -> Drive:
    """The drive at mirrored poses: a head turned to its left is turned as far to its right, about the image's middle.

    With S = diag(-1, 1, 1): R' = S R S and t' = S t. Speech and eyes stay.
    """
    rotation = np.asarray(drive.rotation) * _MIRROR[:, None] * _MIRROR[None, :]
    return dataclasses.replace(drive, rotation=rotation, translation=np.asarray(drive.translation) * _MIRROR)


def _flipped(case: Case) -> Drive:
    return mirrored(case.drive(own_speech(case)))


OURS = RowPlan(Row("ours", "Input pose", "method", "The avatar at the test frames' poses."))
FLIPPED = RowPlan(
    Row("flipped", "Flipped pose", "control", "The avatar at the mirror images of these poses, saying the same."),
    make=_flipped,
    has_truth=False,
)
PLAN = Plan(
    name="flip",
    rows=(OURS, FLIPPED, TRUTH),
    split=tested_part,
    pictures=("truth", "ours", "error", "flipped"),
    mouths=("truth", "ours"),
)
PROTOCOL = Protocol(
    name=PLAN.name,
    title="Flipped pose",
    description="The same speech at each test frame's pose and at its mirror image. The difference of a metric between "
    "them is what turning the head the other way costs.",
    regions=REGIONS,
    clips=tested_clips,
    evaluate_clip=PLAN.evaluate_clip,
    layout=PLAN.layout,
)
