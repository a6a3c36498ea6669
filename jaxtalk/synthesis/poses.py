"""How the head moves while it speaks: poses borrowed from a track, for any number of frames.

F frames to render, N frames of the track. A pose takes head points to the camera, x_cam = R x_head + t (jaxtalk.clip).
"""

from __future__ import annotations

import dataclasses

import numpy as np
from scipy.spatial.transform import Rotation, Slerp

from jaxtalk.clip import Track
from jaxtalk.errors import JaxtalkError

POLICIES = ("hold", "loop", "mirror")
ORBIT_SECONDS = 4.0  # of one turn to both sides
_SEAM_SECONDS = 0.5  # over which a loop returns to its first pose
_GAP = 1.5  # frames; a longer step in time is a gap in the track


@dataclasses.dataclass(frozen=True)
class Motion:
    """Poses and eyes for a run of frames at an even rate."""

    rotation: np.ndarray  # [F, 3, 3] head to camera
    translation: np.ndarray  # [F, 3] metres
    eye_openness: np.ndarray  # [F, 2] left, right

    def __len__(self) -> int:
        return len(self.rotation)

    def take(self, index: np.ndarray | slice) -> Motion:
        return Motion(self.rotation[index], self.translation[index], self.eye_openness[index])


def motion_of(track: Track, fps: float) -> Motion:
    """The longest part of a track without a gap, resampled to `fps`: rotations by slerp, the rest linearly.

    Raises `JaxtalkError` for a track without frames.
    """
    if not track.num_frames:
        raise JaxtalkError("the track holds no frame; prepare the clip again")
    track = track.take(_longest_run(track.time))
    if track.num_frames == 1:
        return Motion(
            *(np.asarray(part, np.float32) for part in (track.rotation, track.translation, track.eye_openness))
        )
    start, end = track.time[0], track.time[-1]
    times = start + np.arange(1 + int((end - start) * fps + 1e-6)) / fps
    times = np.minimum(times, end)
    rotation = Slerp(track.time, Rotation.from_matrix(track.rotation))(times).as_matrix()
    return Motion(
        rotation.astype(np.float32),
        _interpolate(times, track.time, track.translation),
        _interpolate(times, track.time, track.eye_openness),
    )


def play(motion: Motion, policy: str, count: int, fps: float) -> Motion:
    """`count` frames of a motion of N frames.

    hold: the pose nearest to the mean one in all frames, with the eyes of the motion there and back, so that it
    blinks. loop: again and again; the end of each round glides into the first pose over half a second. mirror: there
    and back, without showing an end twice. Raises `JaxtalkError` for another policy.
    """
    index = np.arange(count)
    if policy == "loop":
        return _glide_into_start(motion, round(_SEAM_SECONDS * fps)).take(index % len(motion))
    there_and_back = motion.take(mirror_index(index, len(motion)))
    if policy == "mirror":
        return there_and_back
    if policy == "hold":
        still = motion.take(np.full(count, representative(motion)))
        return dataclasses.replace(still, eye_openness=there_and_back.eye_openness)
    raise JaxtalkError(f"pose {policy!r}: neither a clip's folder nor one of {', '.join(POLICIES)}")


def orbit(motion: Motion, degrees: float, count: int, fps: float, period: float = ORBIT_SECONDS) -> Motion:
    """`count` frames in which the held pose of a motion (`play`) turns about the head's own vertical axis and back.

    R'_i = R R_y(a_i), a_i = `degrees` sin(2 pi i / (fps period)): the first frame has the held pose, a positive angle
    turns the face to the picture's right first. The head's centre, the origin of head space, stays where it is. Eyes
    are those of `hold`.
    """
    held = play(motion, "hold", count, fps)
    angle = np.radians(degrees) * np.sin(2 * np.pi * np.arange(count) / (fps * period))
    turn = Rotation.from_rotvec(angle[:, None] * np.array([0.0, 1.0, 0.0]))
    rotation = (Rotation.from_matrix(held.rotation) * turn).as_matrix()
    return dataclasses.replace(held, rotation=rotation.astype(np.float32))


def mirror_index(index: np.ndarray, length: int) -> np.ndarray:
    """0, 1, ..., N-1, N-2, ..., 1, 0, 1, ...: neighbours differ by one, and no frame comes twice in a row."""
    if length == 1:
        return np.zeros_like(index)
    index = index % (2 * length - 2)
    return np.where(index < length, index, 2 * length - 2 - index)


def representative(motion: Motion) -> int:
    """The frame whose pose is nearest to the mean pose: a view that training has seen from all sides.

    Angle and shift are compared in units of their own spread.
    """
    angle = (Rotation.from_matrix(motion.rotation) * _mean_rotation(motion).inv()).magnitude()
    shift = np.linalg.norm(motion.translation - motion.translation.mean(axis=0), axis=-1)
    distance = sum((part / max(np.sqrt(np.mean(part**2)), 1e-6)) ** 2 for part in (angle, shift))
    return int(np.argmin(distance))


def rebase(motion: Motion, onto: Motion) -> Motion:
    """A motion's departures from its own mean pose, applied to the mean pose of `onto` in camera space.

    R'_i = R_i mean(R)^T mean(R_onto), t'_i = t_i - mean(t) + mean(t_onto). Another clip's camera distance and way of
    sitting are left behind; only its movement comes along.
    """
    turn = Rotation.from_matrix(motion.rotation) * _mean_rotation(motion).inv() * _mean_rotation(onto)
    translation = motion.translation - motion.translation.mean(axis=0) + onto.translation.mean(axis=0)
    return Motion(turn.as_matrix().astype(np.float32), translation.astype(np.float32), motion.eye_openness)


def _mean_rotation(motion: Motion) -> Rotation:
    return Rotation.from_matrix(motion.rotation).mean()


def _glide_into_start(motion: Motion, frames: int) -> Motion:
    """The motion with its last `frames` frames drawn towards the first pose, smoothly and nearly all the way."""
    frames = min(frames, len(motion) - 1)
    if frames < 1:
        return motion
    step = np.arange(1, frames + 1) / (frames + 1)
    weight = (step**2 * (3 - 2 * step)).astype(np.float32)  # smoothstep: no kink at either end
    last = motion.take(slice(-frames, None))
    start = Rotation.from_matrix(motion.rotation[:1])
    turn = (start * Rotation.from_matrix(last.rotation).inv()).as_rotvec()
    rotation = (Rotation.from_rotvec(weight[:, None] * turn) * Rotation.from_matrix(last.rotation)).as_matrix()
    translation = last.translation + weight[:, None] * (motion.translation[:1] - last.translation)
    return dataclasses.replace(
        motion,
        rotation=np.concatenate([motion.rotation[:-frames], rotation.astype(np.float32)]),
        translation=np.concatenate([motion.translation[:-frames], translation]),
    )


def _longest_run(time: np.ndarray) -> slice:
    if len(time) < 2:
        return slice(None)
    steps = np.diff(time)
    starts = np.concatenate([[0], 1 + np.flatnonzero(steps > _GAP * np.median(steps)), [len(time)]])
    longest = int(np.argmax(np.diff(starts)))
    return slice(int(starts[longest]), int(starts[longest + 1]))


def _interpolate(times: np.ndarray, known: np.ndarray, values: np.ndarray) -> np.ndarray:
    return np.stack([np.interp(times, known, column) for column in values.T], axis=-1).astype(np.float32)
