"""Frames without a face: short gaps are bridged, the frames of long ones dropped."""

from __future__ import annotations

import dataclasses

import numpy as np

from jaxtalk.preparation.landmarks import FaceTrack

MAX_GAP_SECONDS = 0.4


@dataclasses.dataclass(frozen=True)
class Selection:
    """Which decoded frames become frames of the clip."""

    kept: np.ndarray  # [F] indices of decoded frames
    measured: np.ndarray  # [F] bool: False where the face was interpolated
    interpolated: list[int]  # decoded frames bridged
    dropped: list[int]  # decoded frames left out


def select(found: np.ndarray, fps: float, max_gap: float = MAX_GAP_SECONDS) -> Selection:
    """Keeps frames with a face (`found` [F] bool) and gaps of at most `max_gap` seconds between two of them."""
    keep = found.copy()
    edges = np.flatnonzero(np.diff(np.concatenate([[True], found, [True]]).astype(np.int8)))
    for first, last in zip(edges[::2], edges[1::2], strict=True):
        inside = first > 0 and last < len(found)
        if inside and (last - first) / fps <= max_gap + 1e-9:
            keep[first:last] = True
    kept = np.flatnonzero(keep)
    return Selection(
        kept=kept,
        measured=found[kept],
        interpolated=np.flatnonzero(keep & ~found).tolist(),
        dropped=np.flatnonzero(~keep).tolist(),
    )


def bridge(track: FaceTrack, selection: Selection, time: np.ndarray) -> FaceTrack:
    """The track of the kept frames, points and blendshapes linear in time over the gaps; `time` [F] of kept frames."""
    measured = selection.measured

    def linear(values: np.ndarray) -> np.ndarray:
        values = values[selection.kept]
        if measured.all():
            return values
        flat = values.reshape(len(values), -1).copy()
        for column in flat.T:
            column[~measured] = np.interp(time[~measured], time[measured], column[measured])
        return flat.reshape(values.shape)

    left, _, right = np.linalg.svd(linear(track.rotation))
    return FaceTrack(
        points=linear(track.points),
        blendshapes=linear(track.blendshapes),
        rotation=(left @ right).astype(np.float32),
        found=measured,
        num_faces=track.num_faces[selection.kept],
    )
