"""Settings of S3D-NeRF. The defaults are the card's (cards/s3d_nerf.md; the numbers name its sections)."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from jaxtalk.audio import FeatureSpec
from jaxtalk.config import frozen
from jaxtalk.errors import JaxtalkError
from jaxtalk.methods.s3d_nerf.sync_config import SyncNetConfig, SyncStageConfig
from jaxtalk.ops.triplane import PROJECTIONS
from jaxtalk.rays.settings import SAMPLING_CHOICES, SamplingConfig, check_choices


@dataclasses.dataclass(frozen=True)
class EncoderConfig:
    """The pyramid that turns the picture into tri-planes (2.1), and how they are read (2.2)."""

    widths: tuple[int, ...] = (64, 128, 256, 96)  # channels of D0 .. D3, each half as wide as the one before
    plane_channels: int = 32
    plane_proj: str = "orthographic"  # or perspective, which is exact
    box: float = 0.3  # metres that the planes reach along the viewing axis
    merged: bool = False  # all levels are brought to the finest one's size and read at once: faster, a little smoother


@dataclasses.dataclass(frozen=True)
class SlotConfig:
    """Slots that gather the planes (2.3)."""

    grid: int = 32  # grid x grid slots, one for each cell
    width: int = 256
    iterations: int = 3
    slot_init: str = "input"  # or gaussian


@dataclasses.dataclass(frozen=True)
class SpeechConfig:
    """From windows of speech to tokens (2.4), and who asks them (2.5)."""

    feature: str = "wav2vec2"  # or mel
    audio_tokens: int = 16  # rows of a window, 50 a second
    widths: tuple[int, ...] = (256, 256, 256)
    heads: int = 8
    null_token: bool = False  # places may attend to a token without value, and so hear nothing; w_listen makes them
    placed: bool = False  # tokens know their place in the window, and the middle counts most in their mean
    lips: bool = False  # the lips' shape is told of the mean, and all that follows reads it; w_shape teaches it


@dataclasses.dataclass(frozen=True)
class DeformConfig:
    """Where a point is moved from by speech (2.6, 2.11)."""

    kind: str = "full"  # nd: from the point and speech alone; fcd: tri-plane features in place of F_cm; none
    arch: str = "maps"  # or point_unet
    widths: tuple[int, ...] = (128, 256, 256)  # of the U-Net over maps
    norm: str = "group"  # of its layers; or none: a normalisation over places tells each what the others heard
    planes: int = 3  # that the U-Net makes; 1: only xy, whose cells are the places of the picture that heard
    plane_channels: int = 32
    hidden: int = 128  # of the MLP at each point
    frequencies: int = 4
    hears_mean: bool = True  # points and the U-Net read the mean token beside F_cm; else kind=full hears F_cm alone


@dataclasses.dataclass(frozen=True)
class DecoderConfig:
    """From features to density and colour (2.7)."""

    hidden: tuple[int, ...] = (128, 64)
    density_scale: float = 1.0  # densities count per box of the encoder; thin intervals need more
    source_color: bool = False  # colours start from what the source shows at the point
    hears: bool = False  # the decoder reads what the point hears, too; otherwise speech acts by moving points alone


@dataclasses.dataclass(frozen=True)
class SuperResolutionConfig:
    """From the coarse inner face and the full source to the fine frame (2.8)."""

    sr: str = "unet"  # or hybrid4x
    widths: tuple[int, ...] = (64, 128, 256, 512)
    residual_blocks: int = 4
    blend: bool = False  # the frame is a mixture of the face, the source, the source moved as the head, and new colours


@dataclasses.dataclass(frozen=True)
class DiscriminatorConfig:
    """StyleGAN2's discriminators (2.10)."""

    base: int = 32768
    limit: int = 512


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """All networks."""

    encoder: EncoderConfig = EncoderConfig()
    slots: SlotConfig = SlotConfig()
    speech: SpeechConfig = SpeechConfig()
    deform: DeformConfig = DeformConfig()
    decoder: DecoderConfig = DecoderConfig()
    superres: SuperResolutionConfig = SuperResolutionConfig()
    discriminator: DiscriminatorConfig = DiscriminatorConfig()
    sync: SyncNetConfig = dataclasses.field(default_factory=SyncNetConfig)
    sampling: SamplingConfig = dataclasses.field(default_factory=lambda: SamplingConfig(num_coarse=48, num_fine=48))
    coarse_size: int = 64  # pixels of the rendered inner face
    face_rays: int = 0  # of the coarse pixels, so many nearest to the face are rendered and the rest is black; 0: all
    frames_at_once: int = 4  # rendered side by side


@dataclasses.dataclass(frozen=True)
class FieldStageConfig:
    """How the generator is trained (2.10, 4): the weights of equation 9, and from which step a term counts."""

    steps: int = 400_000
    clips_per_step: int = 8
    frames: int = 5  # consecutive targets of a clip
    gap_seconds: float = 1.0  # between the source and its targets
    learning_rate: float = 1e-4
    discriminator_rate: float = 2e-4
    decay_steps: int = 0  # learning rates * 0.1^(step / decay_steps); 0: constant
    adam_b1: float = 0.0
    adam_b2: float = 0.99
    w_pix: float = 1.0
    w_per: float = 0.01
    w_adv: float = 1.0
    w_sync: float = 0.5
    w_deform: float = 0.001
    w_listen: float = 0.0  # of how much the places of the source listen, so that they do where it pays
    w_shape: float = 0.0  # of the lips' shape that is told of speech: clips of minutes need it
    shape_windows: int = 32  # of each clip, at any of its frames, that w_shape is learnt from
    shape_share: float = 0.5  # of the clips whose pictures are moved by the true shapes in place of the told ones
    listen_start: int = 0
    per_start: int = 0
    adv_start: int = 30_000
    sync_start: int = 50_000
    pix_reduction: str = "mean"  # or sum: over the pixels and channels of a frame
    mouth_weight: float = 0.0  # added to the weight 1 of each pixel in the mouth's box
    sync_on: str = "fine"  # or both
    r1_gamma: float = 5.0
    r1_every: int = 16
    critic_frames: int = 0  # targets of a clip that the discriminators see; 0: all
    frames_at_once: int = 1  # targets whose rays are held in memory together
    augment: bool = False  # mirrored clips, and another brightness of each colour
    ema_decay: float | None = 0.999


@dataclasses.dataclass(frozen=True)
class StagesConfig:
    """First the lip-sync discriminator, then everything else."""

    sync: SyncStageConfig = dataclasses.field(default_factory=SyncStageConfig)
    field: FieldStageConfig = FieldStageConfig()


@dataclasses.dataclass(frozen=True)
class S3DConfig:
    """Everything that S3D-NeRF needs to know of a run."""

    model: ModelConfig
    stages: StagesConfig
    size: int  # of the frames, which are squares

    @property
    def feature(self) -> FeatureSpec:
        """What speech looks like: 16 tokens of wav2vec 2.0, or as many rows of 80 mel bands."""
        speech = self.model.speech
        channels = {"wav2vec2": 768, "mel": 80}[speech.feature]
        return FeatureSpec(speech.feature, num_channels=channels, window=speech.audio_tokens)

    @property
    def syncs(self) -> bool:
        """Whether the generator is judged by a lip-sync discriminator."""
        return self.stages.field.w_sync > 0


_CHOICES: dict[str, dict[str, tuple[str, ...]]] = {
    "encoder": {"plane_proj": PROJECTIONS},
    "slots": {"slot_init": ("input", "gaussian")},
    "speech": {"feature": ("wav2vec2", "mel")},
    "deform": {"kind": ("full", "nd", "fcd", "none"), "arch": ("maps", "point_unet"), "norm": ("group", "none")},
    "superres": {"sr": ("unet", "hybrid4x")},
    "sampling": dict(SAMPLING_CHOICES),
}


def read(config: Mapping[str, Any]) -> S3DConfig:
    """The frozen record of `config.model` and `config.stages`. Raises `JaxtalkError` for settings that cannot be."""
    result = S3DConfig(
        model=frozen(ModelConfig, config["model"], "config.model"),
        stages=frozen(StagesConfig, config["stages"], "config.stages"),
        size=config["data"]["size"],
    )
    model, field = result.model, result.stages.field
    for name, choices in _CHOICES.items():
        check_choices(getattr(model, name), f"config.model.{name}", choices)
    check_choices(field, "config.stages.field", {"pix_reduction": ("mean", "sum"), "sync_on": ("fine", "both")})
    _check(result)
    return result


def _check(config: S3DConfig) -> None:
    model, size = config.model, config.size
    levels, steps = len(model.encoder.widths), len(model.superres.widths) - 1
    if size % 2**levels or size % 2**steps:
        raise JaxtalkError(
            f"config.data.size: {size} cannot be halved {max(levels, steps)} times, as the networks do; "
            f"choose a multiple of {2 ** max(levels, steps)}"
        )
    planes = 3 * model.encoder.plane_channels
    if model.encoder.widths[-1] != planes:
        raise JaxtalkError(
            f"config.model.encoder.widths: the last level is the coarsest planes, "
            f"3 x plane_channels = {planes} channels, not {model.encoder.widths[-1]}"
        )
    if size % model.coarse_size:
        raise JaxtalkError(f"config.model.coarse_size: {model.coarse_size} does not divide the frames' {size} pixels")
    if model.superres.sr == "hybrid4x" and size != 4 * model.coarse_size:
        raise JaxtalkError(
            f"config.model.superres.sr=hybrid4x makes pictures four times as wide: with frames of {size} pixels set "
            f"config.model.coarse_size={size // 4}"
        )
    if model.superres.sr == "hybrid4x" and model.superres.blend:
        raise JaxtalkError("config.model.superres.blend: only with sr=unet")
    if model.speech.audio_tokens < 2:
        raise JaxtalkError(
            "config.model.speech.audio_tokens: attention over a single token is the same everywhere; at least 2"
        )
    if model.speech.widths[-1] % model.speech.heads:
        raise JaxtalkError(
            f"config.model.speech.heads: {model.speech.heads} do not divide the {model.speech.widths[-1]} channels"
        )
    if not 1 <= model.deform.planes <= 3:
        raise JaxtalkError(f"config.model.deform.planes: {model.deform.planes}; 1 (xy), 2 (and yz) or 3 (and xz)")
    if config.stages.field.w_shape and not model.speech.lips:
        raise JaxtalkError("config.stages.field.w_shape teaches what config.model.speech.lips tells; set that to True")
    if config.stages.field.w_listen and not model.speech.null_token:
        raise JaxtalkError(
            "config.stages.field.w_listen: places can only listen less with config.model.speech.null_token=True; set it"
        )
    if config.syncs and config.stages.field.frames != model.sync.frames:
        raise JaxtalkError(
            f"config.stages.field.frames: {config.stages.field.frames}, and the lip-sync discriminator reads "
            f"{model.sync.frames} consecutive frames (config.model.sync.frames); make them equal"
        )
