"""AD-NeRF. A clip comes from `jaxtalk prepare VIDEO --out CLIP`.

    uv run train.py --config=configs/ad_nerf.py:tiny,clip=CLIP --workdir=runs/tiny
    uv run train.py --config=configs/ad_nerf.py:tiny,clip=CLIP,size=96,steps=5000 --workdir=runs/tiny96
    uv run train.py --config=configs/ad_nerf.py:paper,clip=CLIP --workdir=runs/paper
    uv run train.py --config=configs/ad_nerf.py:paper,clip=CLIP,sampling=mesh_bounded --workdir=runs/bounded

`tiny`: head and torso in one stage, six samples a ray around the tracked mesh. On two CPU cores, a news presenter of
71 s, tested on all frames of the last 10 s (the second before them left out): PSNR in dB, means of seeds.

                       training   frame  face   mouth   over mean frame      face over    speech 1 s late
                                                         frame  face  mouth   nearest      costs the mouth
    64 x 64, 2,000     1 min      25.8   26.6   28.3      5.2    7.6   7.3     3.9          0.8 +- 0.1
    96 x 96, 5,000     3 min      25.8   26.9   27.6      5.6    8.2   7.1     4.9          1.0 +- 0.1

`paper`: the reference's networks, samples, rays and schedules (card gdrf A.1), head then torso, 400,000 steps each, on
450 x 450 or 512 x 512 frames; days on one GPU, not run to its end by us. `model.head.dtype=bfloat16` halves the
products' time where the chip has such units.

After the variant come comma-separated settings: `clip`, `size`, `steps`, `sampling`, or any key of the config by its
full name (`model.eye_condition=True`). Later ones win; flags such as `--config.train.log_every=10` win over all.
"""

from __future__ import annotations

import dataclasses

import ml_collections

from jaxtalk.config import apply_arguments, base
from jaxtalk.errors import JaxtalkError
from jaxtalk.methods.ad_nerf.config import (
    AudioConfig,
    FieldConfig,
    ModelConfig,
    SamplingConfig,
    StageConfig,
    StagesConfig,
)

SHORT = {"size": "data.size", "sampling": "model.sampling.kind"}


def get_config(arg: str = "tiny") -> ml_collections.ConfigDict:
    """The locked config of `VARIANT[,key=value...]`. Raises `JaxtalkError` for an unknown variant or key."""
    variant, *settings = arg.split(",")
    if variant not in VARIANTS:
        raise JaxtalkError(f"configs/ad_nerf.py: there is no variant {variant!r}; known are {', '.join(VARIANTS)}")
    config = base()
    config.method = "ad_nerf"
    VARIANTS[variant](config)
    config.lock()  # a misspelt key is an error
    apply_arguments(config, settings, SHORT, "configs/ad_nerf.py")
    return config


def paper(config: ml_collections.ConfigDict) -> None:
    """The reference. Its rays of one frame come as eight examples, so that up to eight devices share a step."""
    head = StageConfig(splits_per_frame=8)
    torso = StageConfig(splits_per_frame=8, rays_per_frame=1024, face_share=0.0)
    _systems(config, ModelConfig(), StagesConfig(head, torso, None))
    config.data.size = 512
    config.train.update(log_every=500, preview_every=10_000, checkpoint_every=10_000)


def tiny(config: ml_collections.ConfigDict) -> None:
    """Small fields, few samples where the head is, both fields at once, averaged weights."""
    head = tiny_field()
    model = ModelConfig(
        audio=AudioConfig(attention_windows=0),  # what it smooths in hours, it blurs in minutes
        head=head,
        torso=dataclasses.replace(head, depth=3),
        sampling=SamplingConfig(kind="mesh_bounded"),
        eye_condition=True,
        torso_pose_frequencies=1,
        torso_pose_scale=(20.0, 20.0),
        torso_audio=False,
        torso_behind=True,
    )
    stage = StageConfig(
        steps=2000,
        rays_per_frame=48,
        frames_per_step=32,  # many: speech differs from frame to frame
        mouth_share=0.4,
        face_share=0.4,
        learning_rate=5e-3,
        decay_steps=2000,
        weight_decay=0.05,
        attention_start=0,
        attention_factor=1.0,
        random_background=True,
        ema_decay=0.995,
    )
    _systems(config, model, StagesConfig(None, None, stage))
    config.evaluation.max_frames = 0  # all: they are rendered in seconds, and speech needs many to show


def tiny_field() -> FieldConfig:
    """A field that learns in minutes on two CPU cores."""
    return FieldConfig(
        depth=4,
        width=64,
        skips=(),
        branch_depth=0,
        view_dependent=False,
        position_frequencies=7,
        position_scale=10.0,
        double_angle=True,
        density="softplus",
        density_scale=100.0,
        init="he",
    )


VARIANTS = {"tiny": tiny, "paper": paper}


def _systems(config: ml_collections.ConfigDict, model: ModelConfig, stages: StagesConfig) -> None:
    config.model = ml_collections.ConfigDict(dataclasses.asdict(model))
    config.stages = ml_collections.ConfigDict(dataclasses.asdict(stages))
