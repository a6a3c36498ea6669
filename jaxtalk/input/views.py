"""What the views of a clip share: everything that they do not change comes from the clip below."""

from __future__ import annotations

import numpy as np

from jaxtalk.clip import ClipView


class DerivedView:
    """A clip made from another. Subclasses give `frame` and `mask`, and change `meta` and `track` where they differ."""

    def __init__(self, view: ClipView) -> None:
        self._view = view
        self.name, self.meta, self.track = view.name, view.meta, view.track

    def background(self) -> np.ndarray:
        return self._view.background()

    def audio(self) -> np.ndarray:
        return self._view.audio()

    def feature(self, name: str) -> np.ndarray | None:
        return self._view.feature(name)
