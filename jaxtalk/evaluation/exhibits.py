"""What an evaluation shows of a clip: frames side by side, close-ups of the mouth, a video beside the truth."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jaxtalk import __version__
from jaxtalk.clip import ClipView
from jaxtalk.evaluation import controls
from jaxtalk.evaluation.pictures import error_map, shown_frames, write_comparison, write_mouth_strip, write_pictures
from jaxtalk.evaluation.records import Subject
from jaxtalk.evaluation.rendering import drive_of, render
from jaxtalk.methods.api import Avatar
from jaxtalk.metrics import quantised
from jaxtalk.progress import Bar
from jaxtalk.synthesis import provenance

_CLOSE_UPS = 8


def evenly_spaced(index: np.ndarray, count: int) -> np.ndarray:
    """`count` of the indices, evenly spaced with both ends; all of them when count is 0 or there are fewer."""
    if count <= 0 or count >= len(index):
        return index
    return index[np.linspace(0, len(index) - 1, count).round().astype(int)]


def frames_of(view: ClipView, index: np.ndarray) -> np.ndarray:
    """Frames `index` of a clip, [F, H, W, 3] uint8."""
    return np.stack([view.frame(int(i)) for i in index])


def repeated(image: np.ndarray, count: int) -> np.ndarray:
    """A picture [H, W, 3], float in [0, 1] or uint8, as `count` frames of 8 bits."""
    return np.broadcast_to(quantised(image[None]), (count, *image.shape))


def film_frames(times: np.ndarray, test: np.ndarray, seconds: float) -> np.ndarray:
    """The first test frames that follow each other without a gap, for at most `seconds`."""
    if seconds <= 0:
        return test[:0]
    step = np.median(np.diff(times))
    gaps = np.flatnonzero(np.diff(times[test]) > 1.5 * step)
    test = test[: gaps[0] + 1] if len(gaps) else test
    return test[times[test] < times[test[0]] + seconds - 0.5 * step]


def film(
    subject: Subject,
    view: ClipView,
    avatar: Avatar,
    index: np.ndarray,
    protocol: str,
    progress: Bar,
    *,
    speech: controls.Speech | None = None,
    note: str = "",
) -> list[dict[str, str]]:
    """Writes the video ground truth | ours of frames `index`, with what ours hears: the clip's own sound, or `speech`.

    `note` goes into its caption.
    """
    speech, pose = speech or controls.true_speech(view, subject.audio_feature), subject.settings.pose
    ours = render(avatar, drive_of(avatar, view, index, speech, subject.audio_feature, pose), progress)
    sound = speech.heard(view.track.time[index], view.meta.fps)
    name = f"{view.name}.mp4"
    panels = [("ground truth", frames_of(view, index)), ("jaxtalk (synthetic)", ours)]
    comment = _provenance(subject, view, protocol)
    write_comparison(subject.folder / name, panels, view.meta.fps, sound, comment)
    poses = "the frames' own poses" if pose == "gt" else "the pose that it predicts of it"
    return [{"path": name, "caption": f"Ground truth (left) and ours (right): speech: {speech.label}; {poses}.{note}"}]


def _provenance(subject: Subject, view: ClipView, protocol: str) -> str:
    """The comment by which `jaxtalk verify` knows the right half of the video for synthetic."""
    head = {"name": view.name, "identity": view.meta.identity, "consent": dict(view.meta.consent)}
    run = {name: subject.run[name] for name in ("name", "method", "config_sha256", "state_sha256")}
    sound = {"file": f"{view.name}/audio.wav", "sha256": hashlib.sha256(view.audio().tobytes()).hexdigest()}
    return provenance.comment(
        {
            "synthetic": True,
            "digital_source_type": provenance.DIGITAL_SOURCE_TYPE,
            "generator": f"jaxtalk {__version__}",
            "run": run,
            "avatar": head,
            "audio": sound,
            "settings": {"protocol": protocol, "layout": "ground truth on the left, synthetic on the right"},
        }
    )


def mouths(subject: Subject, view: ClipView, tested: np.ndarray, images: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Writes close-ups of the mouth, a row for each of `images` {name: [F, H, W, 3]} of the tested frames [F]."""
    position = evenly_spaced(np.arange(len(tested)), _CLOSE_UPS)
    path = f"pictures/{view.name}/mouths.png"
    rows = [frames[position] for frames in images.values()]
    write_mouth_strip(subject.folder / path, rows, view.track.mouth_box[tested[position]])
    return {"path": path, "rows": list(images)}


def shown(
    subject: Subject,
    view: ClipView,
    tested: np.ndarray,
    images: Mapping[str, np.ndarray],
    ours: str,
    mouth: np.ndarray,
    order: Sequence[str],
) -> list[dict[str, Any]]:
    """Writes the pictures that the report shows, in this order; `error` is the error map of `images[ours]`.

    `mouth` [F]: how good our mouth is; the worst frame is shown.
    """
    found = []
    for position, note in shown_frames(mouth):
        frame = int(tested[position])
        pictures = {name: frames[position] for name, frames in images.items()}
        if "error" in order:
            pictures["error"] = error_map(pictures["truth"], pictures[ours])
        files = write_pictures(subject.folder, view.name, frame, {name: pictures[name] for name in order})
        time = float(view.track.time[frame])
        found.append({"frame": frame, "position": position, "time": time, "note": note, "files": files})
    return found
