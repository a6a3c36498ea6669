"""From a trained run and seconds of a person to an avatar: all that an unseen identity costs."""

from __future__ import annotations

import hashlib
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

    Trains in FOLDER (WORKDIR/adaptation/CLIP-HASH-STEPS when None) and goes on from where that stands: the rate of
    `adapt` does not depend on its length, so 200 steps and then 1,000 in one folder are 1,000. A folder that stands
    beyond `steps` is an error.
    """
    if steps == 0 and not from_scratch:
        return avatar_of(config, run.networks("field"), clip)
    if folder is None:
        folder = run.workdir / "adaptation" / f"{clip.name}-{_digest(clip)}-{steps}{'-scratch' * from_scratch}"
    networks = run.train(adapt_stage(config, steps, from_scratch), [clip], folder)
    return avatar_of(config, networks, clip)


def _digest(clip: ClipView) -> str:
    """Of which frames the adaptation saw: their times, poses and size."""
    digest = hashlib.sha256(repr(clip.meta.size).encode())
    for array in (clip.track.time, clip.track.rotation, clip.track.translation):
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()[:12]
