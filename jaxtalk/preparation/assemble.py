"""Puts the results of the stages together: track, record and measurements of the clip."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from jaxtalk.clip import ClipMeta, Track
from jaxtalk.faces.landmarks import eye_openness, face_box, lip_gap, mouth_box
from jaxtalk.preparation import gaze, preflight
from jaxtalk.preparation.silhouette import spread_points

if TYPE_CHECKING:
    from jaxtalk.preparation.pipeline import Run

NEAR, FAR = 0.82, 1.09  # times the head's distance: enclose the visible head with its hair
NUM_PROXY_POINTS = 1000


def track(run: Run) -> Track:
    """The arrays of track.npz."""
    fit, size = run.fit, (run.options.size, run.options.size)
    points = run.landmarks68
    return Track(
        time=run.time.astype(np.float64),
        rotation=fit["rotation"].astype(np.float32),
        translation=fit["translation"].astype(np.float32),
        expression=run.coefficients["expression"].astype(np.float32),
        blendshapes=run.bridged.blendshapes,
        landmarks=points,
        face_box=face_box(points, size),
        mouth_box=mouth_box(points, size),
        gaze=gaze.gaze_angles(run.bridged.points, run.bridged.rotation),
        eye_openness=eye_openness(points),
        valid=run.selection.measured,
        identity=run.coefficients["identity"].astype(np.float32),
        proxy_points=spread_points(run.head.neutral, NUM_PROXY_POINTS).astype(np.float32),
    )


def meta(run: Run, track: Track) -> ClipMeta:
    """The record of clip.json."""
    distance = -track.translation[:, 2]
    size = run.options.size
    source = {"file": run.job.video.name, "sha256": run.job.stages["source"].parameters["video"],
              "crop": [run.crop.x, run.crop.y, run.crop.side],
              "seconds": [float(run.frames["time"][0]), float(run.frames["time"][-1])]}  # fmt: skip
    if run.job.imported is not None:
        source["coefficients"] = {"file": run.job.imported.file.name, "lead": int(run.coefficients["lead"]),
                                  "rotation_degrees": round(float(run.coefficients["degrees"]), 3)}  # fmt: skip
    return ClipMeta(
        identity=run.job.identity,
        fps=float(run.options.fps),
        num_frames=track.num_frames,
        size=(size, size),
        camera=run.job.camera,
        near=float(NEAR * distance.min()),
        far=float(FAR * distance.max()),
        face_model=run.job.coefficients_info,
        sample_rate=run.sound.rate,
        frame_format=run.frame_format,
        language=run.options.language,
        emotion=run.options.emotion,
        source=source,
        consent=dict(run.options.consent),
        stages=run.job.records(),
    )


def measurements(run: Run, track: Track, samples: np.ndarray) -> preflight.Measurements:
    """What the preflight report is made of; `samples` is the clip's sound."""
    measured, size = run.selection.measured, run.options.size
    gap = lip_gap(track.landmarks)
    points = run.landmarks68
    return preflight.Measurements(
        fps=float(run.options.fps),
        seconds=track.num_frames / run.options.fps,
        face_pixels=run.crop.face_pixels,
        clip_face_pixels=float(np.median(np.ptp(points[..., 1], axis=1))),
        num_faces=max(run.crop.num_faces, int(run.face.num_faces.max())),
        interpolated=run.selection.interpolated,
        dropped=run.selection.dropped,
        repeated=int(np.sum(np.diff(run.frames["number"]) == 0)),
        cuts=preflight.find_cuts(run.frames["thumbnails"][:, ::4, ::4]),
        speech=preflight.speech_report(samples, run.sound.rate),
        offset=preflight.audio_offset(gap, track.time, samples, run.sound.rate),
        pose=preflight.pose_report(track.rotation, track.translation),
        lip_gap=[round(float(v), 4) for v in np.percentile(gap, [5, 50, 95])],
        fit=preflight.fit_report(points, run.fit["projected"], track.rotation, run.bridged.rotation, measured, size),
    )
