"""From a trained run and seconds of a person to an avatar: the first step that an unseen identity costs."""

from __future__ import annotations

import hashlib
import re
import shutil
from pathlib import Path

import numpy as np

from jaxtalk.clip import ClipView
from jaxtalk.few_shot.avatar import FewShotAvatar, avatar_of
from jaxtalk.few_shot.config import FewShotConfig
from jaxtalk.few_shot.stages import adapt_stage
from jaxtalk.methods.api import Run


def adapt(
    config: FewShotConfig, run: Run, clip: ClipView, steps: int, *, from_scratch: bool, folder: Path | None
) -> FewShotAvatar:
    """The avatar of a clip's person after `steps` of training on the clip; 0: the base model with its references.

    Trains in FOLDER/STEPS (WORKDIR/adapted/CLIP-HASH/STEPS), resumes there, and goes on from the most steps that were
    done before: the learning rate of `adapt` must not depend on its length, so 200 and then 800 steps are 1,000.
    Several processes: call it on the first alone.
    """
    if steps == 0 and not from_scratch:
        return avatar_of(config, run.networks("field"), clip)
    if folder is None:
        folder = run.workdir / "adapted" / f"{clip.name}-{_digest(clip)}{'-scratch' * from_scratch}"
    target = folder / str(steps)
    _begin(folder, target, steps)
    networks = run.train(adapt_stage(config, steps, from_scratch), [clip], target)
    return avatar_of(config, networks, clip)


def _begin(folder: Path, target: Path, steps: int) -> None:
    """Copies the checkpoints of the longest shorter adaptation, if there is one and this one has not begun."""
    if target.exists():
        return
    done = [int(path.name) for path in folder.glob("*") if re.fullmatch(r"\d+", path.name)]
    earlier = max((count for count in done if count < steps), default=None)
    if earlier is None:
        return
    partial = folder / f"{steps}.partial"
    shutil.rmtree(partial, ignore_errors=True)
    shutil.copytree(folder / str(earlier) / "stages", partial / "stages")
    partial.rename(target)


def _digest(clip: ClipView) -> str:
    """Of which frames the adaptation saw: their times, poses and size."""
    digest = hashlib.sha256(repr(clip.meta.size).encode())
    for array in (clip.track.time, clip.track.rotation, clip.track.translation):
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()[:12]
