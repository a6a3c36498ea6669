"""Whom protocols test that serve any system: strangers where it meets them and some were held out, else its own people.

Each side keeps its rule of which frames make the avatar and which test it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxtalk.clip import ClipView
from jaxtalk.evaluation.protocols import self_driven, strangers
from jaxtalk.evaluation.records import Settings, Unreadable
from jaxtalk.methods.api import Run


def tested_clips(run: Run, method: Any, settings: Settings) -> Sequence[ClipView | Unreadable]:
    """Strangers of a system that meets them, else the clips that the run was trained on."""
    meets = getattr(method, "generalises", False)
    if settings.clips or (meets and run.config.data.held_out):
        return strangers.stranger_clips(run, method, settings)
    return self_driven.learnt_clips(run, method, settings)


def tested_part(view: ClipView, settings: Settings) -> tuple[np.ndarray, np.ndarray]:
    """Frames that make the avatar, and frames to test: training's split in time where it had one."""
    if settings.test_seconds > 0:
        return self_driven.last_part(view, settings)
    return strangers.first_part(view, settings)
