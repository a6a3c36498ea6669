"""The settings of reference-conditioned fields. The defaults are GDRF's (card gdrf 2, 4)."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from typing import Any

from jaxtalk.clip import FaceModelInfo
from jaxtalk.config import frozen
from jaxtalk.errors import JaxtalkError
from jaxtalk.few_shot.speech import SpeechConfig, SpeechNetConfig
from jaxtalk.losses.sequences import POSE_SIZE
from jaxtalk.rays.settings import FIELD_CHOICES, SAMPLING_CHOICES, FieldConfig, SamplingConfig, check_choices
from jaxtalk.rays.speech_code import AudioConfig

LEAST_WINDOW = 25  # frames that three blocks of `nn.mapping` use up

FACE_MODELS = {"ict": (100, 57), "deep3d": (80, 64), "procedural": (22, 27)}  # identity, expression


@dataclasses.dataclass(frozen=True)
class ReferenceConfig:
    """The reference frames: how many, how they are encoded, warped, and gathered (card gdrf 2.2 to 2.7)."""

    count: int = 4
    encoder: str = "resnet34"  # dfrf_conv, small
    channels: tuple[int, ...] = (16, 24, 32)  # of small
    norm: str = "group"  # of resnet34; or frozen_batch
    imagenet: str = ""  # .npz of torchvision's resnet34 to start from, with norm=frozen_batch
    feature_scale: float = 1.0  # of the pictures' size when they are encoded
    warp: str = "feature"  # dfrf_point, none
    flow_cond: str = "target"  # what steers the warping; or source_target
    warp_stride: int = 1  # the warping looks at means of so many by so many cells of the maps
    warp_base: int = 32
    warp_limit: int = 256
    warp_encoder: int = 5
    warp_decoder: int = 3
    warp_hidden: int = 128
    width: int = 128  # of the slots
    hidden: int = 32
    slots: int = 2
    iterations: int = 2
    slot_init: str = "shared"  # or per_slot
    project: bool = True  # a linear layer from the encoder's channels to `width`; DFRF has none
    residual_color: bool = False  # colours are what the references show there, plus what the field adds
    gap: int = 0  # frames around the target from which no reference is drawn in training
    place_origin: float = 0.0  # whole (row, column) of a place count from pixels' edges, or from centres (0.5: DFRF's)


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """The networks and how rays ask them."""

    motion: str = "lstm_id"  # what moves the face: lstm (expression, pose), lstm_id (and identity), audio64
    face_model: str = "ict"  # whose coefficients the clips hold: ict, deep3d, procedural, or NAME:IDENTITY:EXPRESSION
    speech: SpeechNetConfig = dataclasses.field(default_factory=SpeechNetConfig)
    lstm_stateful: bool = False  # one pass over an utterance with the state carried, instead of windows
    audio: AudioConfig = dataclasses.field(default_factory=AudioConfig)  # of audio64
    mapping: int = 256  # width of the semantic mapping; 0: the field hears the code itself, as DFRF's does
    semantic_window: int = 0  # frames that the mapping reads; 0: the frame alone
    references: ReferenceConfig = ReferenceConfig()
    field: FieldConfig = dataclasses.field(default_factory=FieldConfig)
    sampling: SamplingConfig = dataclasses.field(default_factory=SamplingConfig)
    eye_condition: bool = False  # how open the eyes are is told beside the motion
    stop_grad_z_to_lstm: bool = False  # the speech network learns from coefficients alone
    torso_frames: int = 64  # frames of the person whose torsos stand behind the head
    torso_radius: float = 0.02  # how near in pose (radians, and metres over 0.1) they must be to count much
    neck: float = 0.1  # of the picture's height by which the torso is continued upwards behind the head

    @property
    def face(self) -> FaceModelInfo:
        """The face model with its numbers of coefficients; clips of another one are refused."""
        name, *sizes = self.face_model.split(":")
        identity, expression = map(int, sizes) if sizes else FACE_MODELS[name]
        return FaceModelInfo(name, identity, expression)

    @property
    def listens(self) -> bool:
        """Whether speech becomes coefficients by a sequence model."""
        return self.motion != "audio64"

    @property
    def num_coefficients(self) -> int:
        """Expression and pose."""
        return self.face.num_expression + POSE_SIZE

    @property
    def motion_size(self) -> int:
        """Numbers that describe one frame to the mapping."""
        if not self.listens:
            return self.audio.code_size
        return self.num_coefficients + (self.face.num_identity if self.motion == "lstm_id" else 0)

    @property
    def condition_size(self) -> int:
        """Numbers that condition field and warping."""
        return self.mapping or self.motion_size + 2 * self.eye_condition


@dataclasses.dataclass(frozen=True)
class StageConfig:
    """How the field is trained, on many people or on one."""

    steps: int = 300_000
    rays_per_frame: int = 1024
    frames_per_step: int = 1
    mouth_share: float = 0.0  # share of rays in the mouth box,
    face_share: float = 0.95  # in the face box, and the rest outside it; both 0: anywhere
    rect_order: str = "xy_fixed"  # legacy compares rows with x and columns with y, as the reference does
    own_references: bool = False  # those that the clip's avatar has, in place of any of its frames
    random_background: bool = False  # behind the head, in place of torso and plate
    learning_rate: float = 1e-4
    decay_steps: int = 750_000  # learning rate * 0.1^(step / decay_steps); 0: constant
    weight_decay: float = 0.0
    adam_eps: float = 1e-8
    speech_weight: float = 1.0  # lambda_l of equation 14
    # Share of pictures that are moved by the tracked coefficients in place of the heard ones. The field then learns
    # what a coefficient looks like, though ears err; where ears are unsure they hear the mean, which moves it little.
    tracked_share: float = 0.0
    motion_noise: float = 0.0  # added to heard coefficients, in their deviations: fields must bear the errors of ears
    speech_factor: float = 1.0  # learning rate of the speech network over the rest's
    warp_factor: float = 1.0  # and of the warping network
    offset_weight: float = 5e-9  # of dfrf_point's offsets
    attention_start: int = 100_000  # step from which audio64's codes are smoothed
    attention_factor: float = 5.0  # learning rate of that attention over the rest's
    ema_decay: float | None = None


@dataclasses.dataclass(frozen=True)
class StagesConfig:
    """Speech first (where an LSTM hears it), then the field on everybody; `adapt` trains all of it for one person."""

    audio: SpeechConfig = dataclasses.field(default_factory=SpeechConfig)
    field: StageConfig = StageConfig()
    adapt: StageConfig = StageConfig(steps=10_000, decay_steps=0)


@dataclasses.dataclass(frozen=True)
class FewShotConfig:
    """Everything that a reference-conditioned system needs to know of a run."""

    method: str
    model: ModelConfig
    stages: StagesConfig
    size: int  # of the pictures, which are squares
    feature: str = "mfcc"  # of audio64


_MODEL = {"motion": ("audio64", "lstm", "lstm_id")}
_SPEECH = {"norm": ("batch", "none")}
_REFERENCES = {
    "encoder": ("resnet34", "dfrf_conv", "small"),
    "norm": ("group", "frozen_batch"),
    "warp": ("feature", "dfrf_point", "none"),
    "flow_cond": ("target", "source_target"),
    "slot_init": ("shared", "per_slot"),
}
_STAGE = {"rect_order": ("xy_fixed", "legacy")}


def read(config: Mapping[str, Any]) -> FewShotConfig:
    """The frozen record of `config.model` and `config.stages`. Raises `JaxtalkError` for settings that cannot be."""
    result = FewShotConfig(
        method=config["method"],
        model=frozen(ModelConfig, config["model"], "config.model"),
        stages=frozen(StagesConfig, config["stages"], "config.stages"),
        size=config["data"]["size"],
        feature=config["data"]["audio_feature"],
    )
    model, stages = result.model, result.stages
    check_choices(model, "config.model", _MODEL)
    check_choices(model.speech, "config.model.speech", _SPEECH)
    check_choices(model.references, "config.model.references", _REFERENCES)
    check_choices(model.field, "config.model.field", FIELD_CHOICES)
    check_choices(model.sampling, "config.model.sampling", SAMPLING_CHOICES)
    for name in ("field", "adapt"):
        check_choices(getattr(stages, name), f"config.stages.{name}", _STAGE)
    _check(model, stages)
    _check_maps(model, result.size)
    return result


def _check_maps(model: ModelConfig, size: int) -> None:
    """That the encoder's maps, of pictures of `size`, fit what reads them."""
    settings = model.references
    channels = {"resnet34": 512, "dfrf_conv": 128, "small": 3 + sum(settings.channels)}[settings.encoder]
    if not settings.project and channels != settings.width:
        raise JaxtalkError(
            f"config.model.references: without `project` the {channels} channels of encoder={settings.encoder} must "
            f"equal width={settings.width}"
        )
    side = round(size * settings.feature_scale)
    side = -(-side // 2) if settings.encoder == "resnet34" else side
    factor = settings.warp_stride * 2**settings.warp_encoder
    if settings.warp == "feature" and (side < factor or side % factor):
        raise JaxtalkError(
            f"config.data.size: {size} gives feature maps of {side} x {side}, and the warping needs sides that "
            f"{factor} divides (warp_stride * 2^warp_encoder); choose another size or fewer warp_encoder"
        )


def _check(model: ModelConfig, stages: StagesConfig) -> None:
    if model.references.count < 1:
        raise JaxtalkError("config.model.references.count: at least one reference is needed")
    if not re.fullmatch(r"\w+:\d+:\d+", model.face_model) and model.face_model not in FACE_MODELS:
        raise JaxtalkError(
            f"config.model.face_model: {model.face_model!r} is not one of {', '.join(FACE_MODELS)}, nor "
            "NAME:IDENTITY:EXPRESSION, e.g. flame:100:50"
        )
    if model.references.imagenet and (model.references.encoder, model.references.norm) != ("resnet34", "frozen_batch"):
        raise JaxtalkError("config.model.references.imagenet needs encoder=resnet34 and norm=frozen_batch")
    if model.semantic_window and not (model.listens and model.mapping):
        raise JaxtalkError("config.model.semantic_window: only with model.motion=lstm or lstm_id, and a mapping")
    if 0 < model.semantic_window < LEAST_WINDOW:
        raise JaxtalkError(f"config.model.semantic_window: {model.semantic_window} frames are too few; the mapping's "
                           f"convolutions need {LEAST_WINDOW}, the reference has 27; or 0 for none")  # fmt: skip
    if model.references.flow_cond == "source_target" and not (model.listens and model.mapping):
        raise JaxtalkError("config.model.references.flow_cond=source_target needs coefficients: model.motion=lstm")
    if model.references.warp == "feature" and not model.mapping:
        raise JaxtalkError("config.model.references.warp=feature is steered by the mapping: set model.mapping above 0")
    for name in ("field", "adapt"):
        stage = getattr(stages, name)
        if not 0 <= stage.mouth_share + stage.face_share <= 1:
            raise JaxtalkError(f"config.stages.{name}: mouth_share and face_share must add up to at most 1")
