"""What a user should know of a clip before training on it: measurements, a verdict, advice."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy.spatial.transform import Rotation

from jaxtalk.faces.landmarks import INNER, lip_gap

REFERENCE_SIZE = 512  # landmark errors are stated in pixels of a picture this large
CUT_CHANGE = 0.12  # mean change of a thumbnail's values in [0, 1]; a jump inside a shot gives less
SMALL_FACE = 100  # pixels high: less is told
WIDE_YAW = 40  # degrees: more is told
LOOSE_FIT, NO_FIT = 3.5, 6.0  # mean landmark errors that are told
SILENCE_DB = -60.0  # dB full scale; sound whose loudest 20 ms stay below this is silence


def loudness(samples: np.ndarray, rate: int, times: np.ndarray, window: float = 0.04) -> np.ndarray:
    """Log energy [F] in dB full scale of `window` seconds around each of `times` [F]; at least -100."""
    half = round(window * rate / 2)
    power = np.concatenate([[0.0], np.cumsum(np.square(samples, dtype=np.float64))])
    centre = np.round(times * rate).astype(int)
    first, last = (np.clip(centre + shift, 0, len(samples)) for shift in (-half, half))
    mean = (power[last] - power[first]) / np.maximum(last - first, 1)
    return 10 * np.log10(np.maximum(mean, 1e-10))


def speech_report(samples: np.ndarray, rate: int) -> dict[str, float]:
    """Level of the sound and the share of it that is well above its own floor."""
    times = np.arange(0.01, max(len(samples) / rate, 0.02), 0.02)
    level = loudness(samples, rate, times, 0.02)
    peak = float(level.max())
    return {
        "peak_db": round(peak, 1),
        "median_db": round(float(np.median(level)), 1),
        "active_fraction": round(float(np.mean(level > max(peak - 30, SILENCE_DB))), 3),
    }


def audio_offset(
    gap: np.ndarray, time: np.ndarray, samples: np.ndarray, rate: int, reach: float = 0.4
) -> dict[str, float]:
    """How much later (seconds) the sound comes than the mouth's opening, by correlating lip gap with log energy.

    Only a hint: the two correlate weakly (about 0.2 over a news clip). `correlation` is that at the best offset,
    `at_zero` that with the streams as they are.
    """
    shifts = np.arange(-round(reach / 0.01), round(reach / 0.01) + 1) * 0.01
    detrended = gap - np.convolve(np.pad(gap, 12, mode="edge"), np.ones(25) / 25, mode="valid")

    def correlation(shift: float) -> float:
        level = np.maximum(loudness(samples, rate, time + shift), -60)
        denominator = detrended.std() * level.std()
        return (
            float(np.mean((detrended - detrended.mean()) * (level - level.mean())) / denominator)
            if denominator
            else 0.0
        )

    values = np.array([correlation(shift) for shift in shifts])
    best = int(np.argmax(values))
    return {
        "offset_seconds": round(float(shifts[best]), 3),
        "correlation": round(float(values[best]), 3),
        "at_zero": round(float(values[len(values) // 2]), 3),
    }


def find_cuts(thumbnails: np.ndarray) -> list[int]:
    """Frames at which another shot begins, from small pictures [F, h, w, 3] uint8.

    A cut changes the picture by much more than motion does, and than the frames around it do. A jump inside one shot
    (footage taken out) changes it less and is not counted: the same person goes on before the same background.
    """
    if len(thumbnails) < 3:
        return []
    change = np.abs(np.diff(thumbnails.astype(np.float32) / 255, axis=0)).mean(axis=(1, 2, 3))
    padded = np.pad(change, 5, mode="reflect")
    around = np.median(np.lib.stride_tricks.sliding_window_view(padded, 11), axis=1)
    return (np.flatnonzero((change > CUT_CHANGE) & (change > 6 * around)) + 1).tolist()


def jitter_degrees(rotation: np.ndarray) -> float:
    """Mean angle of the second difference of a rotation track [F, 3, 3], degrees a frame squared."""
    step = rotation[1:] @ np.swapaxes(rotation[:-1], -1, -2)
    if len(step) < 2:
        return 0.0
    change = Rotation.from_matrix(step[1:] @ np.swapaxes(step[:-1], -1, -2))
    return float(np.degrees(change.magnitude()).mean())


def fit_report(
    observed: np.ndarray,
    projected: np.ndarray,
    rotation: np.ndarray,
    detector_rotation: np.ndarray,
    measured: np.ndarray,
    size: int,
) -> dict[str, float]:
    """How well the fitted face follows the landmarks.

    Args: `observed`, `projected` [F, 68, 2] pixels of a clip of `size`; rotations [F, 3, 3]; `measured` [F] bool.
    """
    error = np.linalg.norm(projected - observed, axis=-1)[measured] * REFERENCE_SIZE / size
    fitted, seen = lip_gap(projected[measured]), lip_gap(observed[measured])
    correlation = float(np.corrcoef(fitted, seen)[0, 1]) if seen.std() > 0 and fitted.std() > 0 else 0.0
    return {
        "inner_error_mean_px": round(float(error[:, INNER].mean()), 3),
        "inner_error_p95_px": round(float(np.percentile(error[:, INNER], 95)), 3),
        "all_error_mean_px": round(float(error.mean()), 3),
        "lip_gap_correlation": round(correlation, 4),
        "lip_gap_rmse": round(float(np.sqrt(np.mean((fitted - seen) ** 2))), 4),
        "rotation_jitter_deg": round(jitter_degrees(rotation), 4),
        "detector_jitter_deg": round(jitter_degrees(detector_rotation), 4),
    }


def pose_report(rotation: np.ndarray, translation: np.ndarray) -> dict[str, list[float]]:
    """Ranges (5th to 95th percentile) of the head's angles (degrees) and distance (metres)."""
    yaw, pitch, roll = np.moveaxis(Rotation.from_matrix(rotation).as_euler("YXZ", degrees=True), -1, 0)
    values = {"yaw_deg": yaw, "pitch_deg": pitch, "roll_deg": roll, "distance_m": -translation[:, 2]}
    return {name: [round(float(v), 3) for v in np.percentile(value, [5, 95])] for name, value in values.items()}


@dataclasses.dataclass(frozen=True)
class Measurements:
    """Everything the verdict looks at."""

    fps: float
    seconds: float
    face_pixels: float  # height of the face in the source video
    clip_face_pixels: float  # and in the clip
    num_faces: int
    interpolated: Sequence[int]  # numbers of decoded frames: i is i / fps seconds after the first
    dropped: Sequence[int]
    repeated: int  # frames that show the same picture as the one before, as the source's rate was lower
    cuts: Sequence[int]
    speech: Mapping[str, float]
    offset: Mapping[str, float]
    pose: Mapping[str, Sequence[float]]
    lip_gap: Sequence[float]  # 5th, 50th, 95th percentile
    fit: Mapping[str, float]


def verdict(m: Measurements) -> tuple[str, list[str]]:
    """'good', 'usable' or 'poor', and one line of advice for everything that is not good."""
    poor: list[str] = []
    usable: list[str] = []
    if m.cuts:
        poor.append(
            f"{len(m.cuts)} cut(s), the first at {m.cuts[0] / m.fps:.2f} s: prepare one shot with --start, --end"
        )
    if m.face_pixels < SMALL_FACE:
        usable.append(f"the face is only {m.face_pixels:.0f} pixels high: train at a small size, or film closer")
    if m.seconds < 3:
        usable.append(
            f"only {m.seconds:.1f} s: enough to adapt to, not to train a person's own model (a minute or more)"
        )
    elif m.seconds < 30:
        usable.append(f"only {m.seconds:.0f} s: a person's own model wants a minute or more")
    if m.num_faces > 1:
        usable.append(f"{m.num_faces} faces were seen at once: the largest of the first frames is followed; "
                      "look at preview.png")  # fmt: skip
    lost = len(m.dropped)
    if lost > 0.1 * m.seconds * m.fps:
        poor.append(f"{lost} frames dropped without a face: use a part where the face is always seen (--start, --end)")
    elif lost:
        usable.append(f"{lost} frames dropped without a face (listed in preflight.json)")
    if m.repeated > 0.1 * m.seconds * m.fps:
        usable.append(
            f"{m.repeated} frames repeat the one before: the video's rate is lower than {m.fps:g} fps (--fps)"
        )
    if len(m.interpolated) > 0.05 * m.seconds * m.fps:
        usable.append(f"{len(m.interpolated)} frames interpolated: the face is often hidden or blurred")
    if m.speech["active_fraction"] < 0.2:
        usable.append("little of the sound is speech: cut long pauses away")
    sure = m.seconds > 10 and m.offset["correlation"] > max(0.15, m.offset["at_zero"] + 0.1)
    if sure and abs(m.offset["offset_seconds"]) > 0.1:
        seconds = m.offset["offset_seconds"]
        usable.append(f"the sound seems to come {seconds:+.2f} s after the mouth: look and listen, and if it does, "
                      f"take that away with --audio-offset {seconds:.2f}")  # fmt: skip
    yaw = max(abs(float(v)) for v in m.pose["yaw_deg"])
    if yaw > WIDE_YAW:
        usable.append(f"the head turns by {yaw:.0f} degrees: landmarks of the far side are guesses")
    if m.lip_gap[2] - m.lip_gap[0] < 0.02:
        usable.append("the mouth hardly moves: is this somebody speaking?")
    if m.fit["inner_error_mean_px"] > NO_FIT or m.fit["lip_gap_correlation"] < 0.8:
        poor.append("the face model does not follow the landmarks: look at preview.png")
    elif m.fit["inner_error_mean_px"] > LOOSE_FIT or m.fit["lip_gap_correlation"] < 0.95:
        usable.append("the face model follows the landmarks loosely: look at preview.png")
    return ("poor" if poor else "usable" if usable else "good"), poor + usable


def report(m: Measurements) -> dict[str, Any]:
    """What preflight.json holds."""
    result, advice = verdict(m)
    return {"verdict": result, "advice": advice, **dataclasses.asdict(m)}


def print_table(data: Mapping[str, Any]) -> None:
    """Shows a report on the terminal."""
    from rich.table import Table

    from jaxtalk.progress import console

    fit, pose = data["fit"], data["pose"]
    rows = [
        ("length", f"{data['seconds']:.2f} s at {data['fps']:g} fps"),
        ("face height", f"{data['face_pixels']:.0f} px in the video, {data['clip_face_pixels']:.0f} px in the clip"),
        ("faces at once", str(data["num_faces"])),
        ("frames interpolated, dropped", f"{len(data['interpolated'])}, {len(data['dropped'])}"),
        ("frames repeated", str(data["repeated"])),
        ("cuts", ", ".join(f"{cut / data['fps']:.2f} s" for cut in data["cuts"]) or "none"),
        ("sound", f"peak {data['speech']['peak_db']:.0f} dB, speech {100 * data['speech']['active_fraction']:.0f} %"),
        (
            "sound after mouth",
            f"{1000 * data['offset']['offset_seconds']:+.0f} ms (r = {data['offset']['correlation']:.2f})",
        ),
        (
            "yaw, pitch, roll",
            "  ".join(f"{pose[k][0]:.0f}..{pose[k][1]:.0f}°" for k in ("yaw_deg", "pitch_deg", "roll_deg")),
        ),
        ("mouth opening / eye distance", f"{data['lip_gap'][0]:.3f} .. {data['lip_gap'][2]:.3f}"),
        ("landmark error at 512", f"mean {fit['inner_error_mean_px']:.2f}, 95 % {fit['inner_error_p95_px']:.2f} px"),
        ("lip gap correlation", f"{fit['lip_gap_correlation']:.3f}"),
        ("rotation jitter", f"{fit['rotation_jitter_deg']:.3f}° (detector {fit['detector_jitter_deg']:.3f}°)"),
    ]
    table = Table(title=f"preflight: {data['verdict']}", show_header=False)
    for name, value in rows:
        table.add_row(name, value)
    console.print(table)
    for line in data["advice"]:
        console.print(f"  · {line}", highlight=False)
