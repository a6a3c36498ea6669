"""Frames of an avatar with random parameters: rendering alone, and from a sound file to an mp4."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType

import jax
import ml_collections
import numpy as np
import soundfile

from jaxtalk.audio import FeatureSpec
from jaxtalk.bench.device import matrix_rate
from jaxtalk.bench.timing import rate
from jaxtalk.bench.training import Trained, TrainingSpeed, evaluations_per_step
from jaxtalk.clip import ClipView
from jaxtalk.media.video import VideoWriter
from jaxtalk.methods.api import Avatar, Drive, Networks, Stage
from jaxtalk.synthesis import pipeline, poses
from jaxtalk.synthesis.speech import speech_windows


@dataclasses.dataclass(frozen=True)
class RenderingSpeed:
    """Frames a second on one device. FLOPs: those of the forward evaluations along all rays of a frame.

    The counts per frame are the last stage's per ray times the pixels; None where that stage has no rays. What runs
    once a frame (speech, pose) is not counted apart: it is small beside the rays.
    """

    size: tuple[int, int]
    chunk: int  # frames rendered at once
    frames_per_second: float
    frames_per_second_with_io: float  # speech features, rendering, H.264 and AAC
    rays_per_second: float
    evaluations_per_second: float | None
    flops_per_frame: float | None
    utilisation: float | None
    compile_seconds: float


@dataclasses.dataclass(frozen=True)
class RandomRun:
    """A run as `fit` sees it whose stages have random parameters."""

    workdir: Path
    config: ml_collections.ConfigDict
    trained: Trained

    def networks(self, stage: str) -> Networks:
        modules, arrays = self.trained[stage]
        return modules.merge(arrays["params"], arrays["stats"])

    def train(self, stage: Stage, clips: Sequence[ClipView], folder: Path) -> Networks:
        """The networks of a stage that was never trained."""
        return stage.networks(jax.random.key(0))


def measure_rendering(
    method: ModuleType, run: RandomRun, clip: ClipView, stage: Stage, speed: TrainingSpeed, seconds: float
) -> RenderingSpeed:
    """Fits an avatar to the clip and renders the clip's own speech. `stage` is the last one, `speed` its figures."""
    head: Avatar = method.fit(run, clip)
    spec: FeatureSpec = method.audio_feature(run.config)
    chunk = pipeline.chunk_frames(head.size)
    drive = _drive(head, spec, clip, chunk, run.workdir)
    started = time.perf_counter()
    jax.block_until_ready(head.render(drive))
    first = time.perf_counter() - started
    alone = rate(lambda: head.render(drive), seconds) * chunk
    with_io = _frames_per_second_with_io(head, spec, clip, run.workdir, max(chunk, round(alone * seconds)))

    pixels = head.size[0] * head.size[1]
    evaluations, rays = evaluations_per_step(stage), getattr(stage, "rays_per_step", None)
    per_frame = pixels * evaluations / rays if evaluations and rays else None
    flops = per_frame * speed.forward_flops_per_evaluation if per_frame and speed.forward_flops_per_evaluation else None
    return RenderingSpeed(
        size=(head.size[0], head.size[1]),
        chunk=chunk,
        frames_per_second=alone,
        frames_per_second_with_io=with_io,
        rays_per_second=alone * pixels,
        evaluations_per_second=per_frame and alone * per_frame,
        flops_per_frame=flops,
        utilisation=flops and flops * alone / matrix_rate(speed.dtype).peak,
        compile_seconds=max(0.0, first - chunk / alone),
    )


def _drive(head: Avatar, spec: FeatureSpec, clip: ClipView, count: int, folder: Path) -> Drive:
    audio = _sound(clip, count / head.fps, folder)
    windows = np.concatenate(list(head.listen(_windows(audio, spec, head.fps, count))))
    motion = poses.play(poses.motion_of(head.track, head.fps), "mirror", count, head.fps)
    return Drive(windows, motion.rotation, motion.translation, motion.eye_openness)


def _frames_per_second_with_io(head: Avatar, spec: FeatureSpec, clip: ClipView, folder: Path, count: int) -> float:
    audio = _sound(clip, count / head.fps, folder)
    motion = poses.play(poses.motion_of(head.track, head.fps), "mirror", count, head.fps)
    started = time.perf_counter()
    windows = _windows(audio, spec, head.fps, count)
    with VideoWriter(folder / "bench.mp4", head.size, head.fps, audio=audio) as video:
        for frames in pipeline.render(head, head.listen(windows), motion):
            for frame in frames:
                video.write(frame)
    return count / (time.perf_counter() - started)


def _windows(audio: Path, spec: FeatureSpec, fps: float, count: int) -> Iterator[np.ndarray]:
    """Windows for `count` frames; for stored features, random ones of the same shape."""
    if spec.name == "deepspeech":
        return iter([np.random.default_rng(0).normal(size=(count, spec.window, spec.num_channels)).astype(np.float32)])
    return speech_windows(audio, spec, np.arange(count) / fps)


def _sound(clip: ClipView, seconds: float, folder: Path) -> Path:
    """The clip's sound, again and again, as a file of this length."""
    path, samples = folder / "bench.wav", clip.audio()
    length = max(1, round(seconds * clip.meta.sample_rate))
    soundfile.write(path, np.resize(samples, length), clip.meta.sample_rate)
    return path
