"""Held-out identities: avatars of people never trained on, made of the start of their clips, tested on the rest."""

from __future__ import annotations

from jaxtalk.evaluation.protocols.one_avatar import (
    LATE,
    MEAN,
    NEAREST,
    OTHER,
    REGIONS,
    TRUTH,
    Plan,
    RowPlan,
)
from jaxtalk.evaluation.protocols.strangers import first_part, stranger_clips
from jaxtalk.evaluation.records import Protocol, Row

OURS = RowPlan(
    Row("ours", "Ours", "method", "The avatar of a stranger with the test frames' own pose, eyes and speech."),
)
PLAN = Plan(
    name="heldout",
    rows=(OURS, NEAREST, MEAN, LATE, OTHER, TRUTH),
    split=first_part,
    pictures=("truth", "ours", "error", "audio_shifted", "nearest", "mean"),
    mouths=("truth", "ours", "audio_shifted", "nearest"),
)
PROTOCOL = Protocol(
    name=PLAN.name,
    title="Held-out identities",
    description="People never trained on: the start of each clip makes the avatar, and what follows after a gap tests "
    "it, with {poses}.",
    regions=REGIONS,
    clips=stranger_clips,
    evaluate_clip=PLAN.evaluate_clip,
    layout=PLAN.layout,
)
