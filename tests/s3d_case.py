"""S3D-NeRF of the least size, on balls with a face's outline, for its tests."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import ml_collections
import numpy as np

from configs import s3d_nerf
from jaxtalk.clip import Clip, ClipView
from jaxtalk.config import apply_arguments
from jaxtalk.input.views import DerivedView
from jaxtalk.methods.s3d_nerf.config import S3DConfig, read
from tests.fake_clip import write_fake_clip

SIZE = 16


class Outlined(DerivedView):
    """A ball whose landmarks stand around it: what is inside is its face."""

    def __init__(self, clip: ClipView) -> None:
        super().__init__(clip)
        box = clip.track.face_box
        centre, radius = (box[:, :2] + box[:, 2:]) / 2, (box[:, 2:] - box[:, :2]) / 2
        turn = 2 * np.pi * np.arange(68) / 68
        circle = np.stack([np.cos(turn), np.sin(turn)], -1)
        landmarks = centre[:, None] + radius[:, None] * circle * 0.9
        landmarks[:, 17:27] = centre[:, None] - radius[:, None] * np.array([0.0, 0.5])  # brows
        landmarks[:, 8] = centre + radius * np.array([0.0, 0.9])  # chin
        self.track = dataclasses.replace(clip.track, landmarks=landmarks.astype(np.float32))
        self._clip = clip

    def frame(self, index: int) -> np.ndarray:
        return self._clip.frame(index)

    def mask(self, index: int) -> np.ndarray:
        return self._clip.mask(index)


def ball(folder: Path, seconds: float = 3.0, size: int = SIZE) -> ClipView:
    """A prepared clip of a ball."""
    return Outlined(write_fake_clip(folder, seconds=seconds, size=size))


def small_config(arg: str = "tiny") -> ml_collections.ConfigDict:
    """The config of a variant with few and narrow layers, for balls of 16 x 16 pixels; then come the arguments."""
    variant, *arguments = arg.split(",")
    config = s3d_nerf.get_config(variant)
    config.data.size = SIZE
    model, stages = config.model, config.stages
    model.coarse_size, model.face_rays = 8, 0
    model.encoder.update(widths=(8, 12), plane_channels=4)
    model.slots.update(grid=4, width=8, iterations=1)
    model.speech.update(feature="mel", widths=(8, 8), heads=2, audio_tokens=4)
    model.speech.update(placed=False, lips=False, null_token=False)
    model.deform.update(widths=(8, 8), plane_channels=4, hidden=8, frequencies=2)
    model.deform.update(norm="group", planes=3, hears_mean=True)
    model.decoder.update(hidden=(8, 8))
    model.superres.update(widths=(8, 8), residual_blocks=0)
    model.discriminator.update(base=64, limit=8)
    model.sync.update(divisor=32, least_width=4)
    model.sampling.update(num_samples=4, num_coarse=4, num_fine=4)
    stages.sync.update(steps=2, batch_size=2)
    model.decoder.hears = False
    stages.field.update(
        steps=2, clips_per_step=2, w_per=0.0, w_shape=0.0, w_listen=0.0, mouth_weight=8.0, critic_frames=1
    )
    apply_arguments(config, arguments, s3d_nerf.SHORT, "s3d_case")
    return config


def settings(arg: str = "tiny") -> S3DConfig:
    """`small_config` as its frozen record."""
    return read(small_config(arg))


__all__ = ["SIZE", "Clip", "Outlined", "ball", "settings", "small_config"]
