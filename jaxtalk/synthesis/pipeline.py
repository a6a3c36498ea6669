"""From a run folder and a recording to an mp4: speech windows and poses in, frames rendered, encoded as they come."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxtalk.clip import Clip
from jaxtalk.config import config_sha256
from jaxtalk.errors import JaxtalkError
from jaxtalk.media.video import VideoWriter
from jaxtalk.methods.api import Avatar, Drive, Run, load_method
from jaxtalk.metrics import quantised
from jaxtalk.progress import bar
from jaxtalk.synthesis import poses, provenance
from jaxtalk.synthesis.avatars import open_avatar, state_sha256
from jaxtalk.synthesis.frames import FrameFolder
from jaxtalk.synthesis.pictures import PictureModels, avatar_of_picture
from jaxtalk.synthesis.speech import count_frames, speech_windows

PREDICTED = "predicted"  # the pose that the system hears in the speech
MOST_ORBIT = 90.0  # degrees
_CHUNK_PIXELS = 1 << 18  # rendered at once: progress moves, and few frames are held in memory
_MAX_CHUNK = 16


@dataclasses.dataclass(frozen=True)
class SynthesisResult:
    """What was made. `render_fps` counts rendering alone, after compilation; `total_fps` everything."""

    path: Path
    sidecar: Path
    frames: int
    seconds: float
    fps: float
    render_fps: float
    total_fps: float


def synthesize(
    run: Run | str | os.PathLike[str],
    audio: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    avatar: str | None = None,
    image: str | os.PathLike[str] | None = None,
    pose: str = "hold",
    pose_from: str | os.PathLike[str] | None = None,
    orbit: float | None = None,
    frames_dir: str | os.PathLike[str] | None = None,
    features: str | os.PathLike[str] | None = None,
    models: PictureModels | None = None,
) -> SynthesisResult:
    """Lets an avatar of a run say the speech of `audio` and writes `out` (mp4 with that sound) and `out`.json.

    Args:
      run: a trained run or its folder.
      audio: any sound or video file, of any length.
      avatar: name of a clip of the run or of its identity; the run's first clip when None.
      image: a picture of anybody, for a system that meets strangers, in place of `avatar`.
      pose: `hold`, `loop`, `mirror` (jaxtalk.synthesis.poses), `predicted` (heard in the speech, where the system
        does) or a clip's folder that lends its movement.
      pose_from: a clip's folder that lends its movement, in place of `pose`.
      orbit: degrees by which the held head turns to both sides, in place of `pose`.
      frames_dir: folder for the frames as PNG files, too.
      features: .npy with the speech's features, for a run that reads stored ones, e.g. deepspeech [F, 16, 29].
      models: what finds the face in `image`.

    There are round(seconds x fps) frames, streamed into the file. Raises `JaxtalkError` for what the user can mend;
    nothing is left at `out` then.
    """
    started = time.perf_counter()
    audio, out = Path(audio), Path(out)
    _check_out(out, audio, image)
    if image is not None and avatar is not None:
        raise JaxtalkError(f"--avatar {avatar} and --image {image} are two heads; give one of them")
    pose = _check_pose(pose, pose_from, orbit)
    opened = _open(run)
    if image is None:
        head, origin = open_avatar(opened, avatar)
    else:
        head, origin = avatar_of_picture(opened, Path(image), models)
    count, seconds = count_frames(audio, head.fps)
    spec = load_method(opened.config.method).audio_feature(opened.config)
    windows = speech_windows(audio, spec, np.arange(count) / head.fps, None if features is None else Path(features))
    heard = head.listen(windows)
    if pose == PREDICTED:
        parts = list(heard)
        heard, motion = iter(parts), predicted_motion(head, parts)
    else:
        motion = pose_motion(head, pose, count, orbit)
    settings = {"pose": pose, "size": list(head.size), "fps": head.fps} | ({} if orbit is None else {"orbit": orbit})
    entry = provenance.record(audio, _run_record(opened), origin, **settings)
    note = provenance.comment(entry)

    timer = _RenderTimer()
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(FrameFolder(Path(frames_dir), note)) if frames_dir is not None else None
        video = stack.enter_context(VideoWriter(out, head.size, head.fps, audio=audio, comment=note))
        progress = stack.enter_context(bar(f"speaking {audio.name}", count))
        done = 0
        for chunk in render(head, heard, motion, timer):
            for frame in quantised(chunk, done):
                video.write(frame)
                if folder is not None:
                    folder.write(frame)
            done += len(chunk)
            progress.advance(len(chunk), f"{timer.fps:.1f} frames/s")
    sidecar = provenance.write_sidecar(out, entry)
    total = time.perf_counter() - started
    return SynthesisResult(out, sidecar, count, seconds, head.fps, timer.fps, count / total)


def pose_motion(head: Avatar, pose: str, count: int, orbit: float | None = None) -> poses.Motion:
    """`count` frames of movement: by a policy over the avatar's own track, or another clip's, there and back.

    With `orbit` the head turns by so many degrees to both sides of its held pose.
    """
    own = poses.motion_of(head.track, head.fps)
    if orbit is not None:
        return poses.orbit(own, orbit, count, head.fps)
    if pose in poses.POLICIES or not Path(pose).exists():
        return poses.play(own, pose, count, head.fps)
    other = poses.motion_of(Clip.open(pose).track, head.fps)
    return poses.play(poses.rebase(other, own), "mirror", count, head.fps)


def predicted_motion(head: Avatar, heard: Sequence[np.ndarray]) -> poses.Motion:
    """The poses that the avatar hears in the speech (`Avatar.listen`), with blinks of its own track.

    Raises `JaxtalkError` for a system that predicts none.
    """
    predict = getattr(head, "predicted_pose", None)
    if predict is None:
        raise JaxtalkError(
            f"--pose {PREDICTED}: this system predicts no pose; use {', '.join(poses.POLICIES)} or a clip"
        )
    rotation, translation = predict(np.concatenate(heard))
    eyes = poses.play(poses.motion_of(head.track, head.fps), "mirror", len(rotation), head.fps).eye_openness
    return poses.Motion(rotation, translation, eyes)


def render(
    head: Avatar, heard: Iterable[np.ndarray], motion: poses.Motion, timer: _RenderTimer | None = None
) -> Iterator[np.ndarray]:
    """Frames [n, H, W, 3] float32, chunk by chunk, in order. Every call of the avatar has the same number of frames.

    `heard` is what `Avatar.listen` gave.
    """
    size = min(chunk_frames(head.size), len(motion))
    first = 0
    for segment in heard:
        for begin in range(0, len(segment), size):
            audio = segment[begin : begin + size]
            index = np.minimum(np.arange(size), len(audio) - 1)  # a short chunk is filled up: nothing compiles anew
            here = motion.take(first + index)
            drive = Drive(audio[index], here.rotation, here.translation, here.eye_openness)
            with timer or contextlib.nullcontext():
                frames = np.asarray(head.render(drive))
            if timer is not None:
                timer.count(len(audio))
            yield frames[: len(audio)]
            first += len(audio)


def chunk_frames(size: tuple[int, int]) -> int:
    """Frames to render at once at this size: a power of two, so that segments of speech divide evenly."""
    return 1 << max(0, min(_MAX_CHUNK, _CHUNK_PIXELS // (size[0] * size[1])).bit_length() - 1)


class _RenderTimer:
    """Frames a second of rendering alone. The first chunk compiles and does not count, unless there is no other."""

    def __init__(self) -> None:
        self._seconds, self._frames, self._chunks = 0.0, 0, 0

    def __enter__(self) -> None:
        self._started = time.perf_counter()

    def __exit__(self, *_: object) -> None:
        self._last = time.perf_counter() - self._started

    def count(self, frames: int) -> None:
        if self._chunks == 1:  # the second chunk: start anew without the first
            self._seconds, self._frames = 0.0, 0
        self._seconds += self._last
        self._frames += frames
        self._chunks += 1

    @property
    def fps(self) -> float:
        return self._frames / max(self._seconds, 1e-9)


def _open(run: Run | str | os.PathLike[str]) -> Run:
    if not isinstance(run, str | os.PathLike):
        return run
    from jaxtalk.training.compile_cache import enable_compile_cache
    from jaxtalk.training.run import open_run  # Orbax and its kin: slow to import

    enable_compile_cache()
    return open_run(Path(run))


def _check_pose(pose: str, pose_from: str | os.PathLike[str] | None, orbit: float | None) -> str:
    """What `pose_motion` and the record call the movement. Raises `JaxtalkError` for two of them at once."""
    asked = (
        [pose] * (pose != "hold") + ["a clip's movement"] * (pose_from is not None) + ["orbit"] * (orbit is not None)
    )
    if len(asked) > 1:
        raise JaxtalkError(
            f"{' and '.join(asked)} move the head in two ways; ask for one of --pose, --pose-from, --orbit"
        )
    if orbit is not None and not abs(orbit) <= MOST_ORBIT:
        raise JaxtalkError(f"orbit {orbit:g}: choose at most {MOST_ORBIT:g} degrees to each side")
    if pose_from is None:
        return pose
    Clip.open(pose_from)  # told before anything is rendered
    return os.fspath(pose_from) if os.path.dirname(pose_from) else os.path.join(os.curdir, pose_from)


def _check_out(out: Path, audio: Path, image: str | os.PathLike[str] | None) -> None:
    if out.suffix.lower() != ".mp4":
        raise JaxtalkError(f"{out}: the video is written as mp4; give the file a name that ends in .mp4")
    if out.exists() and audio.exists() and out.samefile(audio):
        raise JaxtalkError(f"{out}: this is the speech itself; give the video another name")
    if image is not None and out.exists() and Path(image).exists() and out.samefile(image):
        raise JaxtalkError(f"{out}: this is what --image names; give the video another name")


def _run_record(run: Run) -> dict[str, Any]:
    return {
        "name": run.workdir.resolve().name,
        "method": run.config.method,
        "config_sha256": config_sha256(run.config),
        "state_sha256": state_sha256(run.workdir),
    }
