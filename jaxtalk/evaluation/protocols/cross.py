"""Cross-driven: another person's or another language's speech (metrics card, section 7).

Nobody filmed the head saying it, so only metrics that need no truth apply: lip sync, sharpness, identity, FID.
"""

from __future__ import annotations

from pathlib import Path

from jaxtalk.evaluation import controls
from jaxtalk.evaluation.protocols.one_avatar import REGIONS, TRUTH, Case, Plan, RowPlan, others_speech
from jaxtalk.evaluation.protocols.tested import tested_clips, tested_part
from jaxtalk.evaluation.records import Protocol, Row


def foreign_speech(case: Case) -> controls.Speech:
    """The recordings of the settings in turn, clip after clip; without any, what another clip's person says."""
    names = case.subject.settings.speech
    if not names:
        return others_speech(case)
    position = [view.name for view in case.subject.clips].index(case.view.name)
    return controls.recording(Path(names[position % len(names)]), case.view.meta.sample_rate)


OURS = RowPlan(
    Row("ours", "Ours", "method", "The avatar at the test frames' poses and eyes, hearing speech that is not its own."),
    foreign_speech,
    says=foreign_speech,
    has_truth=False,
)
OWN = RowPlan(
    Row("audio_own", "Its own speech", "control", "The same avatar, hearing what its person said in these frames."),
    has_truth=False,
)
PLAN = Plan(
    name="cross",
    rows=(OURS, OWN, TRUTH),
    split=tested_part,
    pictures=("truth", "ours", "audio_own"),
    mouths=("truth", "ours", "audio_own"),
    film=foreign_speech,
)
PROTOCOL = Protocol(
    name=PLAN.name,
    title="Cross-driven",
    description="Somebody else's speech, with the test frames' poses and eyes. Nobody filmed this head saying it: only "
    "metrics that need no truth are given; the ground truth's row is the real video with its own sound.",
    regions=REGIONS,
    clips=tested_clips,
    evaluate_clip=PLAN.evaluate_clip,
    layout=PLAN.layout,
)
