"""GDRF: generalizable dynamic radiance fields for few-shot talking heads (card gdrf). See README.md."""

from __future__ import annotations

from functools import partial

from jaxtalk.few_shot.system import adapt, audio_feature, fit, stages
from jaxtalk.few_shot.system import load_avatar as _load_avatar

__all__ = ["adapt", "audio_feature", "fit", "generalises", "load_avatar", "stages"]

generalises = True  # it meets people that it was not trained on

load_avatar = partial(_load_avatar, method="gdrf")
