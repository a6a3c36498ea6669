"""A system for tests of evaluation: its avatar shows the true frame, spoilt where the speech is not the true one."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from jaxtalk.audio.features import FeatureSpec, audio_windows
from jaxtalk.clip import Camera, ClipView, Track
from jaxtalk.config import as_plain, base
from jaxtalk.methods.api import Drive

SPEC = FeatureSpec("mfcc", num_channels=13, window=4)


@dataclasses.dataclass
class FakeAvatar:
    """Knows a whole clip. It finds the frame by its pose; `listening` is the error that wrong speech brings."""

    view: ClipView
    listening: float
    noise: float = 0.02
    rendered: list[Drive] = dataclasses.field(default_factory=list)
    heard: list[np.ndarray] = dataclasses.field(default_factory=list)  # utterances that it listened to

    def __post_init__(self) -> None:
        self.name, self.size, self.fps = self.view.name, self.view.meta.size, self.view.meta.fps
        self.camera: Camera = self.view.meta.camera
        self.track: Track = self.view.track

    def listen(self, windows: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
        """Hears an utterance to its end before it answers, in parts of another length."""
        self.heard.append(np.concatenate(list(windows)))
        for start in range(0, len(self.heard[-1]), 7):
            yield self.heard[-1][start : start + 7]

    def render(self, drive: Drive) -> np.ndarray:
        self.rendered.append(drive)
        return np.stack([self._frame(drive.take(slice(i, i + 1))) for i in range(len(drive.rotation))])

    def _frame(self, drive: Drive) -> np.ndarray:
        index = int(np.argmin(np.abs(self.track.rotation - drive.rotation[0]).sum((1, 2))))
        true = audio_windows(SPEC, self.view.audio(), self.view.meta.sample_rate, self.track.time[index : index + 1])
        wrong = float(np.tanh(np.abs(true - drive.audio).mean()))
        rng = np.random.default_rng(index)
        frame = self.view.frame(index) / 255 + self.noise * rng.normal(size=(*self.size, 3))
        x0, y0, x1, y1 = np.round(self.track.mouth_box[index]).astype(int)
        frame[y0:y1, x0:x1] += self.listening * wrong
        return np.clip(frame, 0, 1).astype(np.float32)


def install(
    monkeypatch: pytest.MonkeyPatch, workdir: Path, clips: Sequence[ClipView], *, listening: float = 0.3
) -> list[FakeAvatar]:
    """Writes a finished run of a system `fake` on these clips; gives the list that its avatars will be put in."""
    config = base()
    config.method, config.data.test_seconds, config.data.guard_seconds = "fake", 1.5, 1.0
    config.data.size, config.evaluation.max_frames = clips[0].meta.size[0], 12
    workdir.mkdir(parents=True, exist_ok=True)
    (workdir / "config.json").write_text(json.dumps(as_plain(config)))
    (workdir / "versions.json").write_text(json.dumps({"packages": {"jax": "0.1", "flax": "0.2"}, "device": "test"}))
    lines = [{"stage": "field", "step": step, "time": 0.0, "field/loss": 1 / step} for step in range(10, 101, 10)]
    lines.append({"stage": "field", "step": 100, "time": 0.0, "state_sha256": "ab" * 32})
    (workdir / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    avatars: list[FakeAvatar] = []

    def fit(run: object, view: ClipView) -> FakeAvatar:
        whole = next((clip for clip in clips if clip.name == view.name), clips[0])
        avatars.append(FakeAvatar(whole, listening))
        return avatars[-1]

    stages = (SimpleNamespace(name="field"),)
    method = SimpleNamespace(fit=fit, audio_feature=lambda config: SPEC, stages=lambda config: stages)
    monkeypatch.setattr("jaxtalk.evaluation.runner.load_method", lambda name: method)
    monkeypatch.setattr("jaxtalk.input.clips.reopen_clips", lambda config, workdir: list(clips))
    monkeypatch.setattr(
        "jaxtalk.training.run.open_run", lambda path: SimpleNamespace(workdir=Path(path), config=config)
    )
    return avatars
