"""GDRF: a talking head of an unseen person from seconds of video.

    uv run train.py --config=configs/gdrf.py:tiny,clip=CLIP,clip=CLIP,held_out=NAME --workdir=runs/gdrf
    uv run eval.py --workdir=runs/gdrf --protocol=fewshot --seconds=5 --steps=0,200,1000
    uv run train.py --config=configs/gdrf.py:paper,clip=CLIP,... --workdir=runs/gdrf_paper

`paper` is the card's: 512 x 512, four references, ResNet-34 features, a warping hourglass, slot attention, 64 + 128
samples, 300,000 steps; it was never run to its end by us. `tiny` is for two CPU cores: 2,500 steps at 64 x 64 took nine
minutes, 1,000 of adaptation two. After 1,800 steps on 16 real clips and 1,000 on the first seconds of somebody else,
what followed gave PSNR in dB (frame / face / mouth):

    unseen person            a woman, 5 s             a man, 1.5 s
    adapted, 1,000 steps     30.2 / 29.8 / 26.4       34.2 / 31.3 / 28.9
    adapted, 200 steps       29.9 / 29.5 / 26.3       34.0 / 31.1 / 28.6
    from scratch, 1,000      29.2 / 28.9 / 26.3       32.4 / 29.4 / 24.0
    before adaptation        19.4 / 20.0 / 23.5       32.1 / 29.1 / 27.0
    speech a second late     30.1 / 29.6 / 25.9       33.3 / 30.4 / 25.4
    warp=none, adapted       30.4 / 29.9 / 26.2       34.2 / 31.3 / 28.0
    nearest frame            29.2 / 28.1 / 24.4       31.3 / 28.4 / 26.8
    mean frame               27.2 / 26.0 / 22.9       32.1 / 29.0 / 28.5

After the variant come comma-separated settings, later ones over earlier ones: `clip` (a folder; again for each),
`held_out` (an identity; again for each), `same_person=a=b`, `size`, `steps`, the ablations below, or any key of the
config by its full name.

    num_refs=2|4|6|8        reference frames
    motion=audio64|lstm|lstm_id   what moves the face: DFRF's audio code, coefficients, coefficients and identity
    warp=none|dfrf_point|feature  how references follow the target's expression
    flow_cond=target|source_target    what steers the warping
    lstm_stateful=True      one pass over an utterance with the state carried, in place of overlapping windows
    rect_order=legacy       the reference code's transposed face rectangle
    sampling=mesh_bounded   samples around the tracked mesh, in one or two passes
    face_model=ict|deep3d|procedural  whose coefficients the clips hold
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping

import ml_collections

from configs.ad_nerf import tiny_field
from jaxtalk.config import apply_arguments, base
from jaxtalk.errors import JaxtalkError
from jaxtalk.few_shot.config import ModelConfig, ReferenceConfig, StageConfig, StagesConfig
from jaxtalk.few_shot.speech import SpeechConfig, SpeechNetConfig
from jaxtalk.rays.settings import SamplingConfig
from jaxtalk.rays.speech_code import AudioConfig

SHORT: dict[str, str | tuple[str, ...]] = {
    "size": "data.size",
    "num_refs": "model.references.count",
    "motion": "model.motion",
    "warp": "model.references.warp",
    "flow_cond": "model.references.flow_cond",
    "lstm_stateful": "model.lstm_stateful",
    "rect_order": ("stages.field.rect_order", "stages.adapt.rect_order"),
    "sampling": "model.sampling.kind",
    "face_model": "model.face_model",
    "base_steps": "stages.field.steps",
    "adapt_steps": "stages.adapt.steps",
}


def get_config(arg: str = "tiny") -> ml_collections.ConfigDict:
    """The locked config of `VARIANT[,key=value...]`. Raises `JaxtalkError` for an unknown variant or key."""
    return build("gdrf", VARIANTS, arg)


def build(method: str, variants: Mapping[str, Variant], arg: str) -> ml_collections.ConfigDict:
    """The locked config of a variant of GDRF or DFRF."""
    variant, *settings = arg.split(",")
    where = f"configs/{method}.py"
    if variant not in variants:
        raise JaxtalkError(f"{where}: there is no variant {variant!r}; known are {', '.join(variants)}")
    model, stages = variants[variant]()
    config = base()
    config.method = method
    config.model = ml_collections.ConfigDict(dataclasses.asdict(model))
    config.stages = ml_collections.ConfigDict(dataclasses.asdict(stages))
    config.data.test_seconds = 0.0  # whole clips are learnt from; who is tested is held out
    if variant == "paper":
        config.data.size = 512
        config.train.update(log_every=500, preview_every=10_000, checkpoint_every=5_000)
    config.lock()  # a misspelt key is an error
    apply_arguments(config, settings, SHORT, where)
    return config


def paper() -> tuple[ModelConfig, StagesConfig]:
    """The card's sizes. Deep3D's coefficients, as the paper's 80 and 64 imply."""
    sampling = SamplingConfig(num_samples=16, num_refined=16)  # the counts of sampling=mesh_bounded
    return ModelConfig(face_model="deep3d", sampling=sampling), StagesConfig()


def tiny() -> tuple[ModelConfig, StagesConfig]:
    """Small networks, few samples where the head is, averaged weights."""
    return ModelConfig(
        motion="lstm",
        speech=SpeechNetConfig(
            widths=(8, 16, 32),
            embedding=(64, 64),
            hidden=64,
            layers=1,
            norm="none",
            centred=True,
            expression_continuity=0.001,
        ),
        audio=AudioConfig(attention_windows=0),
        mapping=64,
        references=ReferenceConfig(
            count=2,
            encoder="small",
            channels=(12, 16, 24),
            warp_stride=2,
            warp_base=8,
            warp_limit=32,
            warp_encoder=3,
            warp_decoder=2,
            warp_hidden=32,
            width=24,
            hidden=16,
            slot_init="per_slot",
            residual_color=True,
            gap=3,
        ),
        field=tiny_field(),
        sampling=SamplingConfig(kind="mesh_bounded"),
        eye_condition=True,
    ), small_stages()


def small_stages() -> StagesConfig:
    """Minutes on two CPU cores."""
    field = StageConfig(
        steps=2500,
        rays_per_frame=256,
        frames_per_step=6,
        mouth_share=0.4,
        face_share=0.4,
        learning_rate=3e-3,
        decay_steps=2500,
        weight_decay=0.05,
        random_background=True,
        attention_start=0,
        attention_factor=1.0,
        speech_weight=0.03,
        tracked_share=0.5,
        speech_factor=0.1,
        warp_factor=0.1,  # at the field's rate it tears pictures apart
        ema_decay=0.99,
    )
    # Seconds of speech teach ears nothing but these words: they stay the base model's, and the pictures are moved by
    # tracked coefficients. The references are those that the avatar will have: any others make its mouth a guess.
    adapt = dataclasses.replace(
        field,
        steps=1000,
        frames_per_step=3,
        mouth_share=0.3,
        face_share=0.5,
        own_references=True,
        learning_rate=1e-3,
        decay_steps=0,
        tracked_share=1.0,
        speech_factor=0.0,
        speech_weight=0.0,
    )
    return StagesConfig(audio=SpeechConfig(steps=300, learning_rate=1e-3, adam_b1=0.9), field=field, adapt=adapt)


Variant = Callable[[], tuple[ModelConfig, StagesConfig]]
VARIANTS: dict[str, Variant] = {"tiny": tiny, "paper": paper}
