"""The metrics of an evaluation: loaded once, measured for every row of every clip."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from jaxtalk.errors import JaxtalkError
from jaxtalk.metrics.material import FindFaces, Material
from jaxtalk.metrics.register import METRICS, Measure, Metric


class Suite:
    """Metrics that can be measured on this machine; `absent` says of the others how to get what they need."""

    def __init__(
        self, names: Sequence[str] = (), find_faces: FindFaces | None = None, no_faces: str = "no landmarker was given"
    ) -> None:
        """Loads networks and files.

        Args:
            names: ids of metrics; empty for all that there are.
            find_faces: finds the faces of consecutive frames; None where there is no landmarker.
            no_faces: why there is none, and how to get it.

        Raises:
            JaxtalkError: an id that no metric has.
        """
        unknown = sorted(set(names) - set(METRICS))
        if unknown:
            raise JaxtalkError(f"--metrics: there is no metric {unknown[0]!r}; known are {', '.join(METRICS)}")
        self.find_faces = find_faces
        self.absent: dict[str, str] = {}
        self._measures: dict[str, Measure] = {}
        for name, metric in METRICS.items():
            if names and name not in names:
                continue
            if "faces" in metric.needs and find_faces is None:
                self.absent[name] = no_faces
                continue
            try:
                self._measures[name] = metric.load()
            except JaxtalkError as error:
                self.absent[name] = str(error)

    @property
    def metrics(self) -> dict[str, Metric]:
        """The metrics that are measured, by id."""
        return {name: METRICS[name] for name in self._measures}

    def measure(self, material: Material) -> tuple[dict[str, Mapping[str, np.ndarray]], dict[str, str]]:
        """Values {metric: {region: array}}, and of those that this material has no value of, why.

        An array has one value a frame [F], NaN where a frame has none; one value [1] for a metric of the whole clip;
        the features [F, D] of a metric of a set of clips.
        """
        values: dict[str, Mapping[str, np.ndarray]] = {}
        skipped: dict[str, str] = {}
        for name, measure in self._measures.items():
            needs = [need for need in METRICS[name].needs if need != "faces"]
            reason = next((reason for need in needs if (reason := material.lacks(need))), "")
            if not reason:
                try:
                    values[name] = measure(material)
                    continue
                except JaxtalkError as error:
                    reason = str(error)
            skipped[name] = reason
        return values, skipped
