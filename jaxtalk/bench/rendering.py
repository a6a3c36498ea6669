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

from jaxtalk import weights
from jaxtalk.audio import FeatureSpec
from jaxtalk.bench.device import matrix_rate
from jaxtalk.bench.timing import rate
from jaxtalk.bench.training import Trained, TrainingSpeed, evaluations_per_step, images_per_step
from jaxtalk.clip import ClipView
from jaxtalk.media.video import VideoWriter
from jaxtalk.methods.api import Avatar, Drive, Networks, Stage
from jaxtalk.synthesis import pipeline, poses
from jaxtalk.synthesis.speech import speech_windows
from jaxtalk.training.flops import matmul_flops


@dataclasses.dataclass(frozen=True)
class RenderingSpeed:
    """Frames a second on one device.

    FLOPs are those of the program that renders, where the avatar shows it (`trace`: a drive to its traced program);
    else those of the forward evaluations along all rays of a frame, beside which what runs once a frame (speech, pose)
    is small. Rays and evaluations of a frame are the last stage's: for each image that a step of it makes, or for each
    ray times the pixels; None where that stage has no rays.
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

    rays, per_frame = _counts_per_frame(stage, head.size)
    flops = _flops_per_frame(head, drive, per_frame, speed)
    return RenderingSpeed(
        size=(head.size[0], head.size[1]),
        chunk=chunk,
        frames_per_second=alone,
        frames_per_second_with_io=with_io,
        rays_per_second=alone * rays,
        evaluations_per_second=per_frame and alone * per_frame,
        flops_per_frame=flops,
        utilisation=flops and flops * alone / matrix_rate(speed.dtype).peak,
        compile_seconds=max(0.0, first - chunk / alone),
    )


def _counts_per_frame(stage: Stage, size: tuple[int, int]) -> tuple[float, float | None]:
    """Rays of a rendered frame, and evaluations along them."""
    pixels, rays, evaluations = size[0] * size[1], getattr(stage, "rays_per_step", None), evaluations_per_step(stage)
    if not rays:
        return pixels, None
    frames = images_per_step(stage) or rays / pixels  # that the rays of a step make up
    return rays / frames, evaluations and evaluations / frames


def _flops_per_frame(head: Avatar, drive: Drive, evaluations: float | None, speed: TrainingSpeed) -> float | None:
    trace = getattr(head, "trace", None)
    if trace is not None:
        return matmul_flops(trace(drive).jaxpr) / len(drive.audio)
    each = speed.forward_flops_per_evaluation
    return evaluations * each if evaluations and each else None


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
    """Windows for `count` frames; random ones of the same shape where the sound alone does not give them."""
    if spec.name == "deepspeech" or (spec.name == "wav2vec2" and not _has_wav2vec2()):
        return iter([np.random.default_rng(0).normal(size=(count, spec.window, spec.num_channels)).astype(np.float32)])
    return speech_windows(audio, spec, np.arange(count) / fps)


def _has_wav2vec2() -> bool:
    try:
        weights.find("wav2vec2_base")
    except weights.WeightsAbsent:
        return False
    return True


def _sound(clip: ClipView, seconds: float, folder: Path) -> Path:
    """The clip's sound, again and again, as a file of this length."""
    path, samples = folder / "bench.wav", clip.audio()
    length = max(1, round(seconds * clip.meta.sample_rate))
    soundfile.write(path, np.resize(samples, length), clip.meta.sample_rate)
    return path
