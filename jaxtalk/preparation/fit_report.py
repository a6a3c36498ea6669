"""How good a face fit is, in figures that do not depend on the clip's size."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from jaxtalk.clip import Camera
from jaxtalk.faces import landmarks as marks
from jaxtalk.preparation import poses

REPORT_FOCAL = 1200.0  # pixels; errors are told as pixels of a 512 x 512 picture, whose focal length this is


@dataclasses.dataclass(frozen=True)
class FitReport:
    """How good a fit is, over valid frames. Errors are distances of landmarks, pixels of a 512 x 512 picture."""

    inner_mean: float  # points 17-67
    inner_p95: float
    mouth_mean: float
    contour_mean: float
    lip_gap_correlation: float  # of fitted and observed opening; 1 where the mouth never opens
    lip_gap_rmse: float  # over the distance of the outer eye corners
    rotation_jitter: float  # mean second difference, degrees
    identity_largest: float  # in standard deviations: beyond 4 the face is implausible
    steps: int
    seconds: float

    def to_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self)


def fit_report(
    projected: np.ndarray,
    landmarks: np.ndarray,
    valid: np.ndarray,
    rotation: np.ndarray,
    identity: np.ndarray,
    camera: Camera,
    steps: int = 0,
    seconds: float = 0.0,
) -> FitReport:
    """Compares projected landmarks [F, 68, 2] with observed ones, over valid frames."""
    to_report = REPORT_FOCAL / camera.focal
    error = to_report * np.linalg.norm(projected[valid] - landmarks[valid], axis=-1)
    fitted, observed = marks.lip_gap(projected[valid]), marks.lip_gap(landmarks[valid])
    moving = min(fitted.std(), observed.std()) > 1e-6
    return FitReport(
        inner_mean=float(error[:, marks.INNER].mean()),
        inner_p95=float(np.percentile(error[:, marks.INNER], 95)),
        mouth_mean=float(error[:, marks.MOUTH].mean()),
        contour_mean=float(error[:, marks.JAW].mean()),
        lip_gap_correlation=float(np.corrcoef(fitted, observed)[0, 1]) if moving else 1.0,
        lip_gap_rmse=float(np.sqrt(np.mean((fitted - observed) ** 2))),
        rotation_jitter=poses.rotation_jitter(rotation),
        identity_largest=float(np.abs(identity).max(initial=0.0)),
        steps=steps,
        seconds=seconds,
    )
