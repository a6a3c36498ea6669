"""A cheap clip for tests that need the contract and not a face: a ball with a mouth that follows the loudness."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from jaxtalk.clip import Camera, Clip, ClipMeta, ClipWriter, FaceModelInfo, Track


def write_fake_clip(path: Path, *, seconds: float = 2.0, size: int = 32, seed: int = 0, identity: str = "ball") -> Clip:
    """Writes a clip at 25 fps. The head turns and nods, the mouth's height is the loudness of the sound."""
    rng = np.random.default_rng(seed)
    fps, rate = 25.0, 16000
    count = round(seconds * fps)
    time = np.arange(count) / fps
    samples_time = np.arange(round(seconds * rate)) / rate
    loudness = 0.5 + 0.5 * np.sin(2 * np.pi * (1.3 + 0.2 * seed) * samples_time)
    audio = (0.5 * loudness * np.sin(2 * np.pi * 220 * samples_time)).astype(np.float32)
    opening = 0.5 + 0.5 * np.sin(2 * np.pi * (1.3 + 0.2 * seed) * time)

    yaw, pitch = 0.3 * np.sin(time), 0.15 * np.cos(1.7 * time)
    zero, one = np.zeros_like(yaw), np.ones_like(yaw)
    turn = np.stack([np.cos(yaw), zero, np.sin(yaw), zero, one, zero, -np.sin(yaw), zero, np.cos(yaw)], -1)
    nod = np.stack([one, zero, zero, zero, np.cos(pitch), -np.sin(pitch), zero, np.sin(pitch), np.cos(pitch)], -1)
    rotation = (turn.reshape(-1, 3, 3) @ nod.reshape(-1, 3, 3)).astype(np.float32)
    translation = np.stack([0.01 * np.sin(0.7 * time), 0.01 * np.cos(time), -0.8 + 0 * time], -1).astype(np.float32)
    camera = Camera(focal=2.2 * size, cx=size / 2, cy=size / 2)

    radius = 0.1
    columns, rows = np.meshgrid(np.arange(size) + 0.5, np.arange(size) + 0.5)
    skin = np.array([0.8, 0.6, 0.5]) + 0.1 * rng.uniform(-1, 1, 3)
    plate = np.stack([0.3 + 0.4 * rows / size, 0.4 + 0 * rows, 0.2 + 0.5 * columns / size], -1)

    def project(point: np.ndarray) -> np.ndarray:
        camera_point = rotation @ point + translation
        x, y, z = camera_point[..., 0], camera_point[..., 1], camera_point[..., 2]
        return np.stack([camera.cx - camera.focal * x / z, camera.cy + camera.focal * y / z], -1)

    centre, mouth = project(np.zeros(3)), project(np.array([0.0, -0.045, 0.088]))
    pixels = camera.focal / 0.8
    writer = ClipWriter(path)
    for i in range(count):
        image, labels = plate.copy(), np.zeros((size, size), np.uint8)
        torso = (rows > centre[i, 1] + 1.1 * radius * pixels) & (abs(columns - size / 2) < 0.4 * size)
        head = (columns - centre[i, 0]) ** 2 + (rows - centre[i, 1]) ** 2 < (radius * pixels) ** 2
        lips = ((columns - mouth[i, 0]) / (0.035 * pixels)) ** 2 + (
            (rows - mouth[i, 1]) / ((0.005 + 0.025 * opening[i]) * pixels)
        ) ** 2 < 1
        image[torso], image[head], image[lips & head] = (0.2, 0.3, 0.5), skin, (0.3, 0.05, 0.05)
        labels[torso], labels[head] = 2, 1
        writer.frame(i, np.round(255 * image).astype(np.uint8))
        writer.mask(i, labels)
    writer.background(np.round(255 * plate).astype(np.uint8))
    writer.audio(audio, rate)

    def box(point: np.ndarray, half_width: float, half_height: float) -> np.ndarray:
        half = np.array([half_width, half_height]) * pixels
        return np.clip(np.concatenate([point - half, point + half], -1), 0, size).astype(np.float32)

    sphere = rng.normal(size=(400, 3))
    track = Track(
        time=time,
        rotation=rotation,
        translation=translation,
        expression=opening[:, None].astype(np.float32),
        blendshapes=np.zeros((count, 52), np.float32),
        landmarks=np.repeat(mouth[:, None], 68, 1).astype(np.float32),
        face_box=box(centre, radius, radius),
        mouth_box=box(mouth, 0.045, 0.04),
        gaze=np.zeros((count, 2), np.float32),
        eye_openness=np.ones((count, 2), np.float32),
        valid=np.ones(count, bool),
        identity=skin.astype(np.float32),
        proxy_points=(radius * sphere / np.linalg.norm(sphere, axis=-1, keepdims=True)).astype(np.float32),
    )
    meta = ClipMeta(
        identity=identity,
        fps=fps,
        num_frames=count,
        size=(size, size),
        camera=camera,
        near=0.65,
        far=0.95,
        face_model=FaceModelInfo("ball", 3, 1),
        synthetic=True,
    )
    return writer.finish(meta, track)
