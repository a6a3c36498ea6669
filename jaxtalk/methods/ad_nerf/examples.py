"""What one example is: some rays of one frame, with its speech, pose, and the colours they should have."""

from __future__ import annotations

import sys
from typing import Any

import grain
import jax
import numpy as np

from jaxtalk.audio import clip_windows
from jaxtalk.clip import MASK_HEAD, ClipView
from jaxtalk.methods.ad_nerf.config import AdNerfConfig, StageConfig
from jaxtalk.methods.ad_nerf.scene import Scene, scene_of
from jaxtalk.rays.bounds import all_bounds, bounds_at
from jaxtalk.rays.pixels import choose_pixels, rectangle, share_counts


def example_spec(config: AdNerfConfig, rays: int) -> dict[str, jax.ShapeDtypeStruct]:
    """Shapes and types of one example's arrays."""
    audio = config.model.audio
    shapes: dict[str, tuple[int, ...]] = {
        "audio": (audio.rows, audio.channels),
        "eye_openness": (2,),
        "rotation": (3, 3),
        "translation": (3,),
        "camera": (3,),
        "depth_range": (2,),
        "torso_rotation": (3, 3),
        "torso_translation": (3,),
        "pixels": (rays, 2),
        "bounds": (rays, 2),
        "frame": (rays, 3),
        "is_head": (rays, 1),
        "background": (rays, 3),
    }
    return {name: jax.ShapeDtypeStruct(shape, np.float32) for name, shape in shapes.items()}


class RayExamples(grain.MapDataset[dict[str, np.ndarray]]):
    """Random-access stream of examples; element i depends on (clip, seed, i) alone.

    Elements i with the same i // splits_per_frame show the same frame, so that one frame's rays can be spread over
    devices.
    """

    def __init__(self, config: AdNerfConfig, stage: StageConfig, clip: ClipView, seed: int) -> None:
        super().__init__()
        self.clip, self.stage, self._seed = clip, stage, seed
        self.scene: Scene = scene_of(clip)
        self.size = clip.meta.size
        self.audio = clip_windows(config.model.audio.feature(config.feature), clip)
        track = clip.track
        sampling = config.model.sampling
        self.bounds = all_bounds(self.scene.geometry, sampling, self.size, track.rotation, track.translation)
        self.counts = share_counts(stage.rays_per_example, stage.mouth_share, stage.face_share)
        self.constants = {name: getattr(self.scene, name) for name in _CONSTANTS}

    def __len__(self) -> int:
        return sys.maxsize

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return self.slice(index)
        group, split = divmod(int(index), self.stage.splits_per_frame)
        frame = int(np.random.default_rng((self._seed, group)).integers(self.clip.track.num_frames))
        rng = np.random.default_rng((self._seed, group, split))
        return self.example(frame, self.choose(rng, frame))

    def choose(self, rng: np.random.Generator, frame: int) -> np.ndarray:
        """Pixels (column, row) of one example."""
        track, order = self.clip.track, self.stage.rect_order
        mouth, face = (rectangle(box[frame], self.size, order) for box in (track.mouth_box, track.face_box))
        if self.stage.mouth_share == self.stage.face_share == 0:
            face = (0, 0, 0, 0)  # the rest is anywhere
        return choose_pixels(rng, self.size, mouth, face, self.counts)

    def example(self, frame: int, pixels: np.ndarray) -> dict[str, np.ndarray]:
        """The example of these pixels [R, 2] (column, row) of a frame."""
        column, row = pixels[:, 0], pixels[:, 1]
        track = self.clip.track
        color = self.clip.frame(frame)[row, column] / np.float32(255)
        background = self.scene.plate[row, column]
        is_head = self.clip.mask(frame)[row, column] == MASK_HEAD
        return self.constants | {
            "audio": self.audio[frame],
            "eye_openness": track.eye_openness[frame].astype(np.float32),
            "rotation": track.rotation[frame].astype(np.float32),
            "translation": track.translation[frame].astype(np.float32),
            "pixels": (pixels + 0.5).astype(np.float32),
            "bounds": bounds_at(self.bounds[frame], pixels, self.size),
            "frame": color,
            "is_head": is_head[:, None].astype(np.float32),
            "background": background,
        }


_CONSTANTS = ("camera", "depth_range", "torso_rotation", "torso_translation")
