"""What one example is: rays of a target frame, its speech, and N other frames of the same person as references."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from jaxtalk.audio import clip_windows
from jaxtalk.clip import MASK_HEAD, ClipView
from jaxtalk.errors import JaxtalkError
from jaxtalk.few_shot.coefficients import coefficient_statistics, coefficients
from jaxtalk.few_shot.config import FewShotConfig, ModelConfig, StageConfig
from jaxtalk.few_shot.listening import SEQUENCE
from jaxtalk.few_shot.person import check_face_model, check_size, evenly_spaced
from jaxtalk.few_shot.speech import FEATURE, consecutive_starts
from jaxtalk.few_shot.torso import behind_head
from jaxtalk.input.examples import Example
from jaxtalk.nn.speech_coefficients import CHANNELS, WINDOW
from jaxtalk.rays.bounds import all_bounds, bounds_at, geometry_of
from jaxtalk.rays.pixels import choose_pixels, rectangle, share_counts


def sequence_length(model: ModelConfig) -> int:
    """Consecutive frames of speech that an example holds."""
    return max(SEQUENCE, model.semantic_window)


def example_spec(model: ModelConfig, stage: StageConfig, size: int) -> dict[str, jax.ShapeDtypeStruct]:
    """Shapes and types of one example's arrays, for clips of `size` x `size` pixels."""
    rays, count, numbers = stage.rays_per_frame, model.references.count, model.num_coefficients
    shapes: dict[str, tuple[int, ...]] = {
        "eye_openness": (2,),
        "rotation": (3, 3),
        "translation": (3,),
        "camera": (3,),
        "pixels": (rays, 2),
        "bounds": (rays, 2),
        "frame": (rays, 3),
        "is_head": (rays, 1),
        "background": (rays, 3),
        "reference_rotation": (count, 3, 3),
        "reference_translation": (count, 3),
    }
    if model.listens:
        length = sequence_length(model)
        shapes |= {
            "windows": (length, WINDOW, CHANNELS),
            "coefficients": (length, numbers),
            "valid": (length,),
            "position": (length,),
            "mean": (numbers,),
            "std": (numbers,),
            "identity": (model.face.num_identity,),
            "reference_coefficients": (count, numbers),
        }
    else:
        shapes["audio"] = (model.audio.rows, model.audio.channels)
    spec = {name: jax.ShapeDtypeStruct(shape, np.float32) for name, shape in shapes.items()}
    return spec | {"reference_images": jax.ShapeDtypeStruct((count, size, size, 3), np.uint8)}


class TargetExamples:
    """Makes the example of one target: item i is clip i, of which a frame is drawn, so that long clips count no more.

    Pure: the same item and generator give the same example. Raises `JaxtalkError` for clips of another face model or
    of different sizes, and for a clip with too few frames for its references.
    """

    def __init__(self, config: FewShotConfig, stage: StageConfig, clips: Sequence[ClipView]) -> None:
        self.config, self.stage, self.clips = config, stage, clips
        model = config.model
        for clip in clips:
            if model.listens:  # others read no coefficients
                check_face_model(clip, model.face)
            check_size(clip, config.size)
        self.sources = [_Source(config, clip) for clip in clips]
        self.counts = share_counts(stage.rays_per_frame, stage.mouth_share, stage.face_share)
        self.statistics: Example = {}
        if model.listens:
            self.statistics = dict(
                zip(("mean", "std"), coefficient_statistics(clips, model.speech.centred), strict=True)
            )

    def __call__(self, item: int, rng: np.random.Generator) -> Example:
        source = self.sources[item]
        frame = int(rng.choice(source.targets))
        references = source.choose_references(rng, frame, self.stage.own_references)
        example = source.rays(frame, self._pixels(rng, source.clip, frame)) | source.references(references)
        if not self.config.model.listens:
            return example | {"audio": source.audio[frame]}
        return example | source.speech(rng, frame) | self.statistics

    def _pixels(self, rng: np.random.Generator, clip: ClipView, frame: int) -> np.ndarray:
        """Pixels (column, row) of one example."""
        track, size, order = clip.track, clip.meta.size, self.stage.rect_order
        mouth, face = (rectangle(box[frame], size, order) for box in (track.mouth_box, track.face_box))
        if self.stage.mouth_share == self.stage.face_share == 0:
            face = (0, 0, 0, 0)  # the rest is anywhere
        return choose_pixels(rng, size, mouth, face, self.counts)


class _Source:
    """One clip with what its examples need, made once."""

    def __init__(self, config: FewShotConfig, clip: ClipView) -> None:
        self.model, self.clip = config.model, clip
        self.geometry = geometry_of(clip)
        track = clip.track
        self.bounds = all_bounds(self.geometry, self.model.sampling, clip.meta.size, track.rotation, track.translation)
        self.plate = clip.background()
        self.coefficients = coefficients(clip, self.model.speech.centred)
        count = track.num_frames
        needed = self.model.references.count + 2 * self.model.references.gap + 1
        if count < needed:
            raise JaxtalkError(
                f"clip {clip.name}: {count} frames, {needed} are needed for {self.model.references.count} references "
                "besides every target; lower model.references.count (or gap), or use a longer clip"
            )
        if self.model.listens:
            self.windows = clip_windows(FEATURE, clip)
            length = sequence_length(self.model)
            starts = consecutive_starts(clip, length)
            # A target is every frame that a run of consecutive frames holds; which of its runs is drawn each time.
            self.runs = {f: starts[(starts <= f) & (f < starts + length)] for f in range(count)}
            self.targets = [f for f in range(count) if len(self.runs[f])]
        else:
            self.audio = clip_windows(config.model.audio.feature(config.feature), clip)
            self.targets = list(range(count))

    def choose_references(self, rng: np.random.Generator, frame: int, own: bool = False) -> np.ndarray:
        """Frames [N] of the clip, none twice, none the target or within `gap` frames of it (card gdrf 5.11).

        `own`: those that the avatar of the clip has, wherever the target is none of them.
        """
        settings, count = self.model.references, self.clip.track.num_frames
        kept = evenly_spaced(count, settings.count)
        if own and (np.abs(kept - frame) > settings.gap).all():
            return kept
        allowed = np.flatnonzero(np.abs(np.arange(count) - frame) > settings.gap)
        return rng.choice(allowed, settings.count, replace=False)

    def rays(self, frame: int, pixels: np.ndarray) -> dict[str, np.ndarray]:
        """The target's rays through pixels [R, 2] (column, row), and the colours that they should see."""
        column, row = pixels[:, 0], pixels[:, 1]
        track, image, mask = self.clip.track, self.clip.frame(frame), self.clip.mask(frame)
        behind, _ = behind_head(image, mask, self.plate, self.model.neck)
        return {
            "eye_openness": track.eye_openness[frame].astype(np.float32),
            "rotation": track.rotation[frame].astype(np.float32),
            "translation": track.translation[frame].astype(np.float32),
            "camera": self.geometry.camera,
            "pixels": (pixels + 0.5).astype(np.float32),
            "bounds": bounds_at(self.bounds[frame], pixels, self.clip.meta.size),
            "frame": image[row, column] / np.float32(255),
            "is_head": (mask[row, column] == MASK_HEAD)[:, None].astype(np.float32),
            "background": behind[row, column] / np.float32(255),
        }

    def references(self, frames: np.ndarray) -> dict[str, Any]:
        """Pictures and poses of these frames [N]."""
        track = self.clip.track
        found: dict[str, Any] = {
            "reference_images": np.stack([self.clip.frame(int(f)) for f in frames]),
            "reference_rotation": track.rotation[frames].astype(np.float32),
            "reference_translation": track.translation[frames].astype(np.float32),
        }
        if self.model.listens:
            found["reference_coefficients"] = self.coefficients[frames]
        return found

    def speech(self, rng: np.random.Generator, frame: int) -> dict[str, np.ndarray]:
        """Consecutive frames of speech and coefficients around the target, which stands at a random place among them
        (in the middle where the mapping reads a window); `position` is one there and zero elsewhere."""
        length, runs = sequence_length(self.model), self.runs[frame]
        if self.model.semantic_window:
            start = int(runs[np.argmin(np.abs(runs + length // 2 - frame))])
        else:
            start = int(rng.choice(runs))
        part = slice(start, start + length)
        return {
            "windows": self.windows[part],
            "coefficients": self.coefficients[part],
            "valid": self.clip.track.valid[part].astype(np.float32),
            "position": (np.arange(length) == frame - start).astype(np.float32),
            "identity": self.clip.track.identity.astype(np.float32),
        }
