"""A system for tests of few-shot evaluation: what it renders gets better with seconds, steps and base training."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

import ml_collections
import numpy as np
import pytest

from jaxtalk.clip import Clip, ClipView
from jaxtalk.config import as_plain, base
from jaxtalk.input.clips import open_clips
from tests.listening_method import SPEC, FakeAvatar


@dataclasses.dataclass
class AdaptedAvatar(FakeAvatar):
    """A talking ball that knows the truth and shows it with noise."""

    def save(self, folder: Path) -> None:
        folder.mkdir(parents=True)
        (folder / "avatar.json").write_text(json.dumps([self.name, self.listening, self.noise]))


@dataclasses.dataclass
class Adapting:
    """The module of the system. `asked` records every call of `adapt`: (clip, frames, steps, from_scratch, folder)."""

    whole: dict[str, ClipView]
    asked: list[tuple[str, int, int, bool, Path | None]] = dataclasses.field(default_factory=list)

    generalises = True

    def stages(self, config: ml_collections.ConfigDict) -> tuple[SimpleNamespace, ...]:
        return (SimpleNamespace(name="field"),)

    def audio_feature(self, config: ml_collections.ConfigDict) -> object:
        return SPEC

    def adapt(
        self, run: object, clip: ClipView, steps: int, *, from_scratch: bool = False, folder: Path | None = None
    ) -> AdaptedAvatar:
        """Continues where FOLDER stands; each step that it takes anew is counted there."""
        assert folder is not None
        self.asked.append((clip.name, clip.meta.num_frames, steps, from_scratch, folder))
        count = folder / "steps.json"
        done = json.loads(count.read_text()) if count.is_file() else 0
        assert done <= steps, "asked for fewer steps than it has taken"
        count.write_text(json.dumps(steps))
        known = clip.meta.num_frames * (1 + steps) / (10 if from_scratch else 1)
        return AdaptedAvatar(self.whole[clip.name], 0.3 if steps else 0.0, noise=1 / (5 + np.sqrt(known)))

    def load_avatar(self, folder: Path) -> AdaptedAvatar:
        name, listening, noise = json.loads((folder / "avatar.json").read_text())
        return AdaptedAvatar(self.whole[name], listening, noise)


def install(
    monkeypatch: pytest.MonkeyPatch, workdir: Path, clips: Sequence[Clip], held_out: Sequence[str], **fewshot: object
) -> Adapting:
    """A finished run of the system `adapting` that packed these clips and held out these people."""
    config = base()
    config.method, config.data.guard_seconds = "adapting", 0.4
    config.data.clips, config.data.held_out = tuple(str(clip.path) for clip in clips), tuple(held_out)
    config.data.size, config.evaluation.max_frames = clips[0].meta.size[0], 12
    config.evaluation.fewshot.update(fewshot)
    open_clips(config, workdir)
    (workdir / "config.json").write_text(json.dumps(as_plain(config)))
    (workdir / "metrics.jsonl").write_text(json.dumps({"stage": "field", "step": 9, "state_sha256": "cd" * 32}) + "\n")
    method = Adapting({clip.name: clip for clip in clips})
    for module in ("evaluation.runner", "synthesis.avatars"):
        monkeypatch.setattr(f"jaxtalk.{module}.load_method", lambda name: method)
    monkeypatch.setattr(
        "jaxtalk.training.run.open_run", lambda path: SimpleNamespace(workdir=Path(path), config=config)
    )
    return method
