"""S3D-NeRF: a talking head from a single picture (card s3d_nerf). See README.md."""

from __future__ import annotations

from pathlib import Path

import ml_collections

from jaxtalk.audio import FeatureSpec
from jaxtalk.clip import ClipView
from jaxtalk.methods.api import Run, Stage
from jaxtalk.methods.s3d_nerf.avatar import S3DAvatar, avatar_of
from jaxtalk.methods.s3d_nerf.config import read
from jaxtalk.methods.s3d_nerf.field_stage import FieldStage
from jaxtalk.methods.s3d_nerf.sync_judging import sync_embeddings
from jaxtalk.methods.s3d_nerf.sync_stage import SyncStage

__all__ = ["audio_feature", "fit", "generalises", "load_avatar", "stages", "sync_embeddings"]

generalises = True  # it meets people that it was not trained on


def stages(config: ml_collections.ConfigDict) -> tuple[Stage, ...]:
    """`sync`, unless nothing is judged by it, then `field`."""
    settings = read(config)
    field = FieldStage(settings)
    if not settings.syncs:
        return (field,)
    return SyncStage(settings.model.sync, settings.stages.sync, (settings.size,) * 2), field


def fit(run: Run, clip: ClipView) -> S3DAvatar:
    """The person of a clip's first frame: one encoder pass, no training."""
    return avatar_of(read(run.config), run.networks("field"), clip)


def load_avatar(folder: Path) -> S3DAvatar:
    """Reads what `Avatar.save` wrote."""
    return S3DAvatar.load(Path(folder))


def audio_feature(config: ml_collections.ConfigDict) -> FeatureSpec:
    """Tokens of wav2vec 2.0, or mel bands."""
    return read(config).feature
