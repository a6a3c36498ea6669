"""The settings of AD-NeRF. The defaults are the reference's (card gdrf A.1); `configs/ad_nerf.py` has the variants."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from jaxtalk.config import frozen
from jaxtalk.errors import JaxtalkError
from jaxtalk.rays import settings as rays
from jaxtalk.rays.settings import FieldConfig
from jaxtalk.rays.speech_code import AudioConfig


@dataclasses.dataclass(frozen=True)
class SamplingConfig(rays.SamplingConfig):
    """Where rays are sampled, of the head and of the torso."""

    torso_samples: int = 3  # of mesh_bounded: seen from one pose only, the torso is a thin slab
    torso_slab: float = 0.03  # metres before and behind the head's centre in frame 0


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """The networks and how rays ask them."""

    audio: AudioConfig = dataclasses.field(default_factory=AudioConfig)
    head: FieldConfig = dataclasses.field(default_factory=FieldConfig)
    torso: FieldConfig | None = dataclasses.field(default_factory=FieldConfig)
    sampling: SamplingConfig = SamplingConfig()
    eye_condition: bool = False  # the head field also sees how open the eyes are
    torso_pose_frequencies: int = 3
    # The torso sees the pose itself, as in the reference (empty); or the change of angles and position since frame 0,
    # times these two.
    torso_pose_scale: tuple[float, ...] = ()
    torso_audio: bool = True  # the torso hears the speech
    torso_behind: bool = False  # the torso is the head's background, and not before the head: no gap at the chin


@dataclasses.dataclass(frozen=True)
class StageConfig:
    """How one stage is trained."""

    steps: int = 400_000
    rays_per_frame: int = 2048
    frames_per_step: int = 1
    splits_per_frame: int = 1  # one frame's rays as so many examples, to spread them over devices
    mouth_share: float = 0.0  # share of rays in the mouth box,
    face_share: float = 0.95  # in the face box, and the rest outside it; both 0: anywhere
    random_background: bool = False  # behind the head, in its own loss, in place of the plate
    rect_order: str = "xy_fixed"  # legacy compares rows with x and columns with y, as the reference does
    learning_rate: float = 5e-4
    decay_steps: int = 250_000  # learning rate * 0.1^(step / decay_steps)
    weight_decay: float = 0.0
    adam_eps: float = 1e-8
    attention_start: int = 200_000  # step from which codes are smoothed
    attention_factor: float = 5.0  # learning rate of the attention over that of the rest
    ema_decay: float | None = None

    @property
    def batch_size(self) -> int:
        return self.frames_per_step * self.splits_per_frame

    @property
    def rays_per_example(self) -> int:
        return self.rays_per_frame // self.splits_per_frame


@dataclasses.dataclass(frozen=True)
class StagesConfig:
    """Head first, then torso, as in the paper; or both in one stage, `portrait`."""

    head: StageConfig | None = StageConfig()
    torso: StageConfig | None = StageConfig(rays_per_frame=1024, face_share=0.0)
    portrait: StageConfig | None = None


@dataclasses.dataclass(frozen=True)
class AdNerfConfig:
    """Everything a system needs to know of a run."""

    model: ModelConfig
    stages: StagesConfig
    feature: str = "mfcc"


_RECT_ORDERS = {"rect_order": ("xy_fixed", "legacy")}


def read(config: Mapping[str, Any]) -> AdNerfConfig:
    """The frozen record of `config.model` and `config.stages`. Raises `JaxtalkError` for settings that cannot be."""
    result = AdNerfConfig(
        model=frozen(ModelConfig, config["model"], "config.model"),
        stages=frozen(StagesConfig, config["stages"], "config.stages"),
        feature=config["data"]["audio_feature"],
    )
    rays.check_choices(result.model.sampling, "config.model.sampling", rays.SAMPLING_CHOICES)
    for name in ("head", "torso"):
        if (field := getattr(result.model, name)) is not None:
            rays.check_choices(field, f"config.model.{name}", rays.FIELD_CHOICES)
    for name in ("head", "torso", "portrait"):
        if (stage := getattr(result.stages, name)) is not None:
            rays.check_choices(stage, f"config.stages.{name}", _RECT_ORDERS)
    _check_stages(result)
    return result


def _check_stages(config: AdNerfConfig) -> None:
    stages = config.stages
    if (stages.portrait is None) == (stages.head is None):
        raise JaxtalkError("config.stages: give either `head` (then `torso`) or `portrait`, and leave the other None")
    if stages.portrait is not None and (stages.torso is not None or config.model.torso is None):
        raise JaxtalkError("config.stages.portrait trains head and torso: set stages.torso to None, and model.torso")
    if stages.torso is not None and config.model.torso is None:
        raise JaxtalkError("config.stages.torso: model.torso is None; set both or neither")
    for name in ("head", "torso", "portrait"):
        stage = getattr(stages, name)
        if stage is None:
            continue
        if stage.rays_per_frame % stage.splits_per_frame:
            raise JaxtalkError(f"config.stages.{name}.splits_per_frame: does not divide {stage.rays_per_frame} rays")
        if not 0 <= stage.mouth_share + stage.face_share <= 1:
            raise JaxtalkError(f"config.stages.{name}: mouth_share and face_share must add up to at most 1")
