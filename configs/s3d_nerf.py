"""S3D-NeRF: a talking head of an unseen person from one picture.

    uv run train.py --config=configs/s3d_nerf.py:tiny,clip=CLIP,clip=CLIP,held_out=NAME --workdir=runs/s3d
    uv run eval.py --workdir=runs/s3d --protocol=heldout
    uv run jaxtalk synthesize --workdir=runs/s3d --image=FACE.png --audio=SPEECH.wav --out=OUT.mp4

`paper` is the card's: 256 x 256, tri-planes at four levels, 1,024 slots, wav2vec 2.0, 48 + 48 samples, fine pictures
by a U-Net of 23 M parameters, discriminators of 29 M; it was never run to its end by us. `tiny` is for two CPU cores:
1,400 steps of `sync` take six minutes, 1,000 of `field` five and a half. After both on 16 real clips, from one picture
of somebody never seen, PSNR in dB of frames at least a second later (frame / face / mouth), and what the mouth loses by
speech that is a second late:

    unseen person            a woman, 80 frames                    a man, 50 frames
    one picture              27.7 / 26.9 / 25.5    0.24 +- 0.09    31.9 / 29.2 / 28.6    0.97 +- 0.16
    the same, seed=1         27.7 / 26.9 / 25.7    0.30 +- 0.10    32.4 / 29.7 / 27.8    0.39 +- 0.08
    deform=nd                27.9 / 27.0 / 25.2    0.27 +- 0.08    32.1 / 29.4 / 28.3    0.78 +- 0.13
    deform=fcd               28.0 / 27.1 / 25.3    0.39 +- 0.12    31.7 / 29.1 / 28.0    1.12 +- 0.19
    deform=none              27.7 / 26.8 / 25.3    0.06 +- 0.04    32.2 / 29.5 / 27.3    0.43 +- 0.08
    w_sync=0                 28.0 / 27.1 / 25.6    0.16 +- 0.06    32.6 / 29.8 / 28.0    0.35 +- 0.07
    the picture itself       24.2 / 22.9 / 20.0                    30.9 / 27.9 / 25.8

One run each. Nearly all heat in their faces (`jaxtalk heat-maps`) lies below the nose: 1.00 and 1.00, with the other
seed 0.97 and 1.00. The lip-sync discriminator tells their speech from speech that is 5 to 15 frames off in 0.69 (0.67)
of windows of 0.2 s, and in 0.98 (0.95) of means over a second.

After the variant come comma-separated settings, later ones over earlier ones: `clip` (a folder; again for each),
`held_out` (an identity; again for each), `same_person=a=b`, `size`, `steps`, the ablations below, or any key of the
config by its full name.

    deform=full|nd|fcd|none     what moves points: F_cm; speech alone; tri-plane features; nothing
    w_sync=0                    without the lip-sync discriminator
    feature=wav2vec2|mel        what speech looks like; wav2vec2 needs `jaxtalk weights get wav2vec2_base`
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import ml_collections

from jaxtalk.config import apply_arguments, base
from jaxtalk.errors import JaxtalkError
from jaxtalk.methods.s3d_nerf.config import (
    DecoderConfig,
    DeformConfig,
    DiscriminatorConfig,
    EncoderConfig,
    FieldStageConfig,
    ModelConfig,
    SlotConfig,
    SpeechConfig,
    StagesConfig,
    SuperResolutionConfig,
)
from jaxtalk.methods.s3d_nerf.sync_config import SyncAugmentConfig, SyncNetConfig, SyncStageConfig
from jaxtalk.rays.settings import SamplingConfig

SHORT: dict[str, str | tuple[str, ...]] = {
    "size": "data.size",
    "deform": "model.deform.kind",
    "deform_arch": "model.deform.arch",
    "w_sync": "stages.field.w_sync",
    "w_adv": "stages.field.w_adv",
    "feature": "model.speech.feature",
    "hears": "model.decoder.hears",
    "slot_init": "model.slots.slot_init",
    "plane_proj": "model.encoder.plane_proj",
    "sr": "model.superres.sr",
    "coarse_size": "model.coarse_size",
    "sampling": "model.sampling.kind",
    "sync_steps": "stages.sync.steps",
    "field_steps": "stages.field.steps",
}


def get_config(arg: str = "tiny") -> ml_collections.ConfigDict:
    """The locked config of `VARIANT[,key=value...]`. Raises `JaxtalkError` for an unknown variant or key."""
    variant, *settings = arg.split(",")
    where = "configs/s3d_nerf.py"
    if variant not in VARIANTS:
        raise JaxtalkError(f"{where}: there is no variant {variant!r}; known are {', '.join(VARIANTS)}")
    model, stages = VARIANTS[variant]()
    config = base()
    config.method = "s3d_nerf"
    config.model = ml_collections.ConfigDict(dataclasses.asdict(model))
    config.stages = ml_collections.ConfigDict(dataclasses.asdict(stages))
    config.data.test_seconds = 0.0  # whole clips are learnt from; who is tested is held out
    if variant == "paper":
        config.data.size = 256
        config.train.update(log_every=500, preview_every=10_000, checkpoint_every=5_000)
    config.lock()  # a misspelt key is an error
    apply_arguments(config, settings, SHORT, where)
    return config


def paper() -> tuple[ModelConfig, StagesConfig]:
    """The card's sizes."""
    return ModelConfig(), StagesConfig()


def tiny() -> tuple[ModelConfig, StagesConfig]:
    """64 x 64, narrow networks, few samples where the face is, mel bands: minutes on two cores."""
    return ModelConfig(
        encoder=EncoderConfig(widths=(16, 32, 48, 24), plane_channels=8, plane_proj="perspective", merged=True),
        slots=SlotConfig(grid=16, width=48),
        speech=SpeechConfig(feature="mel", widths=(48, 48, 48), heads=4, placed=True, lips=True, null_token=True),
        deform=DeformConfig(widths=(48,), norm="none", planes=1, plane_channels=8, hidden=48, hears_mean=False),
        decoder=DecoderConfig(hidden=(48, 32), density_scale=30.0, source_color=True, hears=True),
        superres=SuperResolutionConfig(widths=(16, 32, 48), residual_blocks=1, blend=True),
        discriminator=DiscriminatorConfig(base=1024, limit=64),
        sync=SyncNetConfig(divisor=8, least_width=16, motion_gain=4.0, lip_size=(24, 48), dropout=0.2),
        sampling=SamplingConfig(kind="mesh_bounded", num_samples=6),
        coarse_size=32,
        face_rays=448,
        frames_at_once=16,
    ), StagesConfig(
        sync=SyncStageConfig(
            steps=1400,
            batch_size=16,
            windows=4,
            min_shift=2,
            share_other=0.0,
            learning_rate=1e-3,
            decay_steps=1400,
            articulation=1.0,
            triplet=0.3,
            weight_decay=1e-2,
            augment=SyncAugmentConfig(flip=True, box=0.03, colour=0.1, level=4.0, tone=3.0, erase=0.2),
        ),
        field=FieldStageConfig(
            steps=1000,
            clips_per_step=2,
            learning_rate=2e-3,
            discriminator_rate=1e-3,
            decay_steps=1000,
            adam_b1=0.5,
            w_adv=0.002,
            w_sync=0.05,
            w_listen=0.005,
            w_shape=0.2,
            listen_start=200,
            mouth_weight=30.0,
            adv_start=0,
            sync_start=0,
            critic_frames=1,
            frames_at_once=5,
            augment=True,
            ema_decay=0.99,
        ),
    )


Variant = Callable[[], tuple[ModelConfig, StagesConfig]]
VARIANTS: dict[str, Variant] = {"tiny": tiny, "paper": paper}
