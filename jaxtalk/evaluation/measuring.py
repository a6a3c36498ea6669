"""Measures the rows of one clip: every metric of the suite, on the same frames of the same clip."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from jaxtalk.clip import ClipView
from jaxtalk.evaluation.controls import Speech
from jaxtalk.evaluation.exhibits import frames_of
from jaxtalk.metrics import Material, Pictures, Suite
from jaxtalk.metrics.landmarks import lip_opening

_SOURCES = 8  # pictures of what the avatar was made of, evenly spaced, that identity is compared with


class ClipMeasurements:
    """Values of every row that is added, by row, metric and region (see `records.ClipResult`)."""

    def __init__(
        self, suite: Suite, view: ClipView, tested: np.ndarray, made_of: np.ndarray, truth: np.ndarray
    ) -> None:
        """`tested` [F] and `made_of` are frames of the clip: those to test on, and those that the avatar has seen.

        `truth`: the pictures of the tested ones. A row that is this very array shares all that is derived of it.
        """
        track = view.track
        self._suite, self._view, self._times = suite, view, track.time[tested]
        self._boxes = {"frame": None, "face": track.face_box[tested], "mouth": track.mouth_box[tested]}
        self.truth = truth
        self._truth = Pictures(self.truth, suite.find_faces)
        few = made_of[np.unique(np.linspace(0, len(made_of) - 1, _SOURCES).round().astype(int))]
        self._source = Pictures(frames_of(view, few), suite.find_faces)
        self.values: dict[str, Mapping[str, Mapping[str, np.ndarray]]] = {}
        self.unmeasured: dict[str, dict[str, str]] = {}
        self.missing_faces: dict[str, int] = {}
        self.lips: dict[str, np.ndarray] = {}

    def add(self, row: str, frames: np.ndarray, speech: Speech, has_truth: bool = True) -> None:
        """Measures the frames [F, H, W, 3] uint8 of a row, in whose video this speech is heard."""
        image = self._truth if frames is self.truth else Pictures(frames, self._suite.find_faces)
        material = Material(
            image=image,
            truth=self._truth if has_truth else None,
            boxes=self._boxes,
            times=self._times,
            fps=self._view.meta.fps,
            sound=speech.heard(self._times, self._view.meta.fps),
            source=self._source,
        )
        self.values[row], skipped = self._suite.measure(material)
        for metric, reason in skipped.items():
            self.unmeasured.setdefault(metric, {})[row] = reason
        if image.missing_faces is not None:
            self.missing_faces[row] = image.missing_faces
            self.lips[row] = lip_opening(image.faces.points)
