"""The functions by which a reference-conditioned system meets the rest (see `jaxtalk.methods.api`)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import ml_collections

from jaxtalk.audio import FeatureSpec
from jaxtalk.clip import ClipView
from jaxtalk.few_shot.adaptation import adapt as _adapt
from jaxtalk.few_shot.avatar import FewShotAvatar
from jaxtalk.few_shot.config import read
from jaxtalk.few_shot.speech import FEATURE
from jaxtalk.few_shot.stages import make_stages
from jaxtalk.methods.api import Run, Stage


def stages(config: ml_collections.ConfigDict) -> Sequence[Stage]:
    """The stages of a config, in order."""
    return make_stages(read(config))


def fit(run: Run, clip: ClipView) -> FewShotAvatar:
    """The avatar of a person, adapted for `stages.adapt.steps` steps."""
    return adapt(run, clip, read(run.config).stages.adapt.steps)


def adapt(
    run: Run, clip: ClipView, steps: int, *, from_scratch: bool = False, folder: Path | None = None
) -> FewShotAvatar:
    """The avatar of a person after so many steps on `clip`."""
    return _adapt(read(run.config), run, clip, steps, from_scratch=from_scratch, folder=folder)


def load_avatar(folder: Path, method: str) -> FewShotAvatar:
    """Reads what `Avatar.save` of the system `method` wrote."""
    return FewShotAvatar.load(Path(folder), method)


def audio_feature(config: ml_collections.ConfigDict) -> FeatureSpec:
    """MFCC windows of the LSTM, or the feature of audio64."""
    settings = read(config)
    return FEATURE if settings.model.listens else settings.model.audio.feature(settings.feature)
