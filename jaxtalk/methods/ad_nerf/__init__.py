"""AD-NeRF (Guo et al., ICCV 2021): a radiance field of one talking head, conditioned on speech. See README.md."""

from __future__ import annotations

from pathlib import Path

import ml_collections

from jaxtalk.audio import FeatureSpec
from jaxtalk.clip import ClipView
from jaxtalk.methods.ad_nerf.avatar import FieldAvatar, fit_avatar
from jaxtalk.methods.ad_nerf.config import read
from jaxtalk.methods.ad_nerf.stages import FieldStage, make_stages
from jaxtalk.methods.api import Run

__all__ = ["audio_feature", "fit", "load_avatar", "stages"]


def stages(config: ml_collections.ConfigDict) -> tuple[FieldStage, ...]:
    """`head` and `torso`, or `portrait` for both at once."""
    return make_stages(read(config))


def fit(run: Run, clip: ClipView) -> FieldAvatar:
    """The avatar of the person whom the run was trained on, in the scene of `clip`."""
    return fit_avatar(read(run.config), run, clip)


def load_avatar(folder: Path) -> FieldAvatar:
    """Reads what `Avatar.save` wrote."""
    return FieldAvatar.load(Path(folder))


def audio_feature(config: ml_collections.ConfigDict) -> FeatureSpec:
    """The speech feature, in windows long enough for the neighbours of the attention."""
    settings = read(config)
    return settings.model.audio.feature(settings.feature)
