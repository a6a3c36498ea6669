"""Settings of the lip-sync discriminator and of its training; the defaults are the card's (s3d_nerf, section 2.9)."""

from __future__ import annotations

import dataclasses

from jaxtalk.losses.sync import MARGIN


@dataclasses.dataclass(frozen=True)
class SyncNetConfig:
    """Sizes of the network (`nn.sync_network`)."""

    divisor: int = 1  # divides all widths
    frames: int = 5  # consecutive frames that one judgement sees
    lip_size: tuple[int, int] = (48, 96)  # rows and columns of the crops; or (24, 48), a quarter of the work
    least_width: int = 1  # no layer is narrower, whatever the divisor
    motion_gain: float = (
        1.0  # how much larger than the still picture what moves in it enters; 1: the pictures themselves
    )
    dropout: float = 0.0
    expert: bool = False  # begin with Wav2Lip's published weights (`jaxtalk weights`), which fit the sizes above alone


@dataclasses.dataclass(frozen=True)
class SyncAugmentConfig:
    """How examples are varied, each window of frames and sound by draws of its own; 0: not at all."""

    flip: bool = False  # half of the pictures mirrored
    box: float = 0.0  # shift and change of size of the box, largest part of its sides
    colour: float = 0.0  # brightness, contrast and the weights of the colours, largest part
    level: float = 0.0  # loudness of the sound, at most so many dB up or down
    tone: float = 0.0  # level of the bands, a smooth curve of at most so many dB
    erase: float = 0.0  # largest part of the bands, and of the columns, that is silenced in one piece


@dataclasses.dataclass(frozen=True)
class SyncStageConfig:
    """How the stage `sync` trains."""

    steps: int = 100_000
    batch_size: int = 64
    learning_rate: float = 1e-4
    decay_steps: int = 0  # over which the rate falls to nothing (a cosine); 0: it stays
    adam_b1: float = 0.9
    adam_b2: float = 0.999
    weight_decay: float = 0.0
    ema_decay: float | None = None
    margin: float = MARGIN
    windows: int = 2  # of an example: the first, and negatives to it
    min_shift: int = 5  # frames between windows of one clip that are compared
    share_other: float = 0.5  # of the negatives, from other clips
    triplet: float = 1.0  # weight of equation 7
    contrast: float = 0.0  # weight of `losses.sync.contrast`, which compares all windows of the batch
    temperature: float = 0.1
    articulation: float = 0.0  # weight of telling the lips' shape from either vector: clips of minutes need it
    augment: SyncAugmentConfig = dataclasses.field(default_factory=SyncAugmentConfig)
