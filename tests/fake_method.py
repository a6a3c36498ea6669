"""A system without networks for tests of what surrounds systems: its picture shows its speech and its pose."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import ml_collections
import numpy as np

from jaxtalk.audio.features import FeatureSpec
from jaxtalk.clip import Camera, ClipView, Track
from jaxtalk.config import base
from jaxtalk.methods.api import Drive, Networks, Run

SPEC = FeatureSpec("mel", num_channels=20)


@dataclasses.dataclass
class FakeAvatar:
    """Red is the loudness at the frame's time, green the head's shift to the right, blue the openness of the eyes."""

    name: str
    size: tuple[int, int]
    fps: float
    camera: Camera
    track: Track
    calls: list[int] = dataclasses.field(default_factory=list)

    def listen(self, windows: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
        return windows

    def render(self, drive: Drive) -> np.ndarray:
        self.calls.append(len(drive.audio))
        loudness = drive.audio[:, 7:9].max(axis=-1).mean(axis=-1) / 2 + 0.5
        colours = np.stack([loudness, 0.5 + 10 * drive.translation[:, 0], drive.eye_openness.mean(axis=-1)], -1)
        return np.broadcast_to(colours[:, None, None], (len(colours), *self.size, 3)).astype(np.float32)

    def save(self, folder: Path) -> None:
        folder.mkdir()
        camera = dataclasses.asdict(self.camera)
        (folder / "avatar.json").write_text(json.dumps([self.name, self.size, self.fps, camera]))
        self.track.save(folder / "track.npz")


def load_avatar(folder: Path) -> FakeAvatar:
    name, size, fps, camera = json.loads((folder / "avatar.json").read_text())
    return FakeAvatar(name, tuple(size), fps, Camera(**camera), Track.load(folder / "track.npz"))


@dataclasses.dataclass(frozen=True)
class FakeRun:
    """`jaxtalk.methods.api.Run` without networks."""

    workdir: Path
    config: ml_collections.ConfigDict

    def networks(self, stage: str) -> Networks:
        return {}


def fake_run(workdir: Path, state_sha256: str = "5" * 64) -> FakeRun:
    workdir.mkdir(parents=True, exist_ok=True)
    config = base()
    config.method = "fake"
    config.data.test_seconds = config.data.guard_seconds = 0.0
    (workdir / "metrics.jsonl").write_text(json.dumps({"stage": "field", "step": 1, "state_sha256": state_sha256}))
    return FakeRun(workdir, config)


def fake_method(fits: list[str], spec: FeatureSpec = SPEC) -> SimpleNamespace:
    """What `load_method` returns; `fits` collects the names of the clips that were fitted."""

    def fit(run: Run, clip: ClipView) -> FakeAvatar:
        fits.append(clip.name)
        return FakeAvatar(clip.name, clip.meta.size, clip.meta.fps, clip.meta.camera, clip.track)

    return SimpleNamespace(fit=fit, load_avatar=load_avatar, audio_feature=lambda config: spec)
