"""Self-driven: the last part of each clip, with its own poses, eyes and speech (metrics card, section 7).

Beside the system stand baselines that need no learning, and the system itself hearing the wrong speech: one that does
not lose by that does not listen.
"""

from __future__ import annotations

import hashlib

import numpy as np

from jaxtalk import __version__
from jaxtalk.clip import ClipView
from jaxtalk.datasets.splits import time_split
from jaxtalk.errors import JaxtalkError
from jaxtalk.evaluation import baselines, controls
from jaxtalk.evaluation.pictures import (
    error_map,
    shown_frames,
    write_comparison,
    write_mouth_strip,
    write_pictures,
)
from jaxtalk.evaluation.records import ClipResult, Protocol, Row, Settings, Subject
from jaxtalk.evaluation.rendering import check_size, drive_of, render
from jaxtalk.input.clips import select_frames
from jaxtalk.methods.api import Avatar
from jaxtalk.metrics import measure, quantised
from jaxtalk.progress import Bar, bar
from jaxtalk.synthesis import provenance

_CLOSE_UPS = 8
_MOUTH_ROWS = ("truth", "ours", "audio_shifted")
_PICTURES = ("truth", "ours", "error", "audio_shifted", "nearest", "mean")


def evaluate_clip(subject: Subject, view: ClipView) -> ClipResult:
    """Fits an avatar on the training frames of a clip and measures it on the test frames."""
    settings, track = subject.settings, view.track
    train, test = _split(view, settings)
    chosen = evenly_spaced(test, settings.max_frames)
    avatar = subject.fit(select_frames(view, train))
    check_size(avatar, view)
    nearest = train[baselines.nearest_frames(track.take(train), track.take(chosen))]

    images = {
        "truth": _frames(view, chosen),
        "nearest": _frames(view, nearest),
        "mean": _repeated(baselines.mean_frame(select_frames(view, train)), len(chosen)),
        "plate": _repeated(view.background(), len(chosen)),
    }
    speeches = _speeches(subject, view, chosen)
    film = _film_frames(track.time, test, settings.video_seconds)
    with bar(f"render {view.name}", len(speeches) * len(chosen) + len(film)) as progress:
        for row, speech in speeches.items():
            windows = speech.windows(subject.audio_feature, track.time[chosen])
            images[row] = render(avatar, drive_of(view, chosen, windows), progress)
        videos = _film(subject, view, avatar, film, progress) if len(film) else []

    boxes = {"frame": None, "face": track.face_box[chosen], "mouth": track.mouth_box[chosen]}
    values = {row.name: measure(images["truth"], images[row.name], boxes) for row in ROWS if row.name in images}
    facts = {
        "train_frames": len(train),
        "test_frames": len(test),
        "train_seconds": [float(track.time[train[0]]), float(track.time[train[-1]])],
        "test_seconds": [float(track.time[test[0]]), float(track.time[test[-1]])],
        "nearest_frame": nearest.tolist(),
        "speech": {row: speech.label for row, speech in speeches.items()},
    }
    absent = {}
    if "audio_other" not in speeches:
        absent["audio_other"] = "the audio feature is a file of the user's and no other clip of the run has one"
    return ClipResult(
        clip=view.name,
        identity=view.meta.identity,
        frames=chosen,
        times=track.time[chosen],
        values=values,
        facts=facts,
        pictures=_shown(subject, view, chosen, images, values["ours"]["psnr/rgb"]["mouth"]),
        mouths=_mouths(subject, view, chosen, images),
        videos=videos,
        absent=absent,
    )


def _split(view: ClipView, settings: Settings) -> tuple[np.ndarray, np.ndarray]:
    try:
        train, test = time_split(view.track.time, settings.test_seconds, settings.guard_seconds)
    except JaxtalkError as error:
        raise JaxtalkError(f"clip {view.name}: {error}") from error
    if not len(test):
        raise JaxtalkError(
            f"clip {view.name}: no frame was left out of training (data.test_seconds is {settings.test_seconds:g}); "
            "train a run with data.test_seconds above 0 to evaluate it"
        )
    return train, test


def evenly_spaced(index: np.ndarray, count: int) -> np.ndarray:
    """`count` of the indices, evenly spaced with both ends; all of them when count is 0 or there are fewer."""
    if count <= 0 or count >= len(index):
        return index
    return index[np.linspace(0, len(index) - 1, count).round().astype(int)]


def _frames(view: ClipView, index: np.ndarray) -> np.ndarray:
    return np.stack([view.frame(int(i)) for i in index])


def _repeated(image: np.ndarray, count: int) -> np.ndarray:
    return np.broadcast_to(quantised(image[None]), (count, *image.shape))


def _speeches(subject: Subject, view: ClipView, chosen: np.ndarray) -> dict[str, controls.Speech]:
    spec, times = subject.audio_feature, view.track.time[chosen]
    speeches = {
        "ours": controls.true_speech(view, spec),
        "audio_shifted": controls.shifted_speech(view, spec),
    }
    other = controls.other_speech(view, subject.clips, spec, float(times[-1] - times[0]))
    return speeches if other is None else {**speeches, "audio_other": other}


def _film_frames(times: np.ndarray, test: np.ndarray, seconds: float) -> np.ndarray:
    """The first test frames that follow each other without a gap, for at most `seconds`."""
    if seconds <= 0:
        return test[:0]
    step = np.median(np.diff(times))
    gaps = np.flatnonzero(np.diff(times[test]) > 1.5 * step)
    test = test[: gaps[0] + 1] if len(gaps) else test
    return test[times[test] < times[test[0]] + seconds - 0.5 * step]


def _film(subject: Subject, view: ClipView, avatar: Avatar, film: np.ndarray, progress: Bar) -> list[dict[str, str]]:
    """The video ground truth | ours, with the clip's sound."""
    times, rate = view.track.time[film], view.meta.sample_rate
    windows = controls.true_speech(view, subject.audio_feature).windows(subject.audio_feature, times)
    ours = render(avatar, drive_of(view, film, windows), progress)
    first = max(0, round(times[0] * rate))
    sound = view.audio()[first : first + round(len(film) / view.meta.fps * rate)]
    name = f"{view.name}.mp4"
    panels = [("ground truth", _frames(view, film)), ("jaxtalk (synthetic)", ours)]
    comment = _provenance(subject, view)
    write_comparison(subject.folder / name, panels, view.meta.fps, (sound, rate), comment)
    return [{"path": name, "caption": "Ground truth (left) and ours (right): test frames, own speech and poses."}]


def _provenance(subject: Subject, view: ClipView) -> str:
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
            "settings": {"protocol": PROTOCOL.name, "layout": "ground truth on the left, synthetic on the right"},
        }
    )


def _mouths(subject: Subject, view: ClipView, chosen: np.ndarray, images: dict[str, np.ndarray]) -> dict[str, object]:
    """Writes close-ups of the mouth for frames evenly spaced over the tested ones."""
    position = evenly_spaced(np.arange(len(chosen)), _CLOSE_UPS)
    path = f"pictures/{view.name}/mouths.png"
    rows = [images[row][position] for row in _MOUTH_ROWS]
    write_mouth_strip(subject.folder / path, rows, view.track.mouth_box[chosen[position]])
    return {"path": path, "rows": list(_MOUTH_ROWS)}


def _shown(
    subject: Subject, view: ClipView, chosen: np.ndarray, images: dict[str, np.ndarray], mouth: np.ndarray
) -> list[dict[str, object]]:
    """Writes the pictures that the report shows."""
    shown = []
    for position, note in shown_frames(mouth):
        frame = int(chosen[position])
        pictures = {row: images[row][position] for row in _PICTURES if row in images}
        pictures["error"] = error_map(pictures["truth"], pictures["ours"])
        files = write_pictures(subject.folder, view.name, frame, {row: pictures[row] for row in _PICTURES})
        time = float(view.track.time[frame])
        shown.append({"frame": frame, "position": position, "time": time, "note": note, "files": files})
    return shown


ROWS = (
    Row("ours", "Ours", "method", "The trained system with the test frames' own pose, eyes and speech."),
    Row("nearest", "Nearest frame", "baseline", "The training frame whose head pose is nearest (rotation angle plus "
        "shift over 0.1 m)."),
    Row("mean", "Mean frame", "baseline", "The mean of all training frames."),
    Row("plate", "Background plate", "baseline", "The scene without the person."),
    Row("audio_shifted", "Speech 1 s late", "control", "Ours, hearing what was said one second before each frame."),
    Row("audio_other", "Another speaker", "control", "Ours, hearing somebody else's speech."),
    Row("truth", "Ground truth", "truth", "The test frames against themselves: the best possible value."),
)  # fmt: skip

PROTOCOL = Protocol(
    name="self",
    title="Self-driven",
    description="The last part of each clip, never trained on, rendered with its own tracked poses, eyes and speech.",
    rows=ROWS,
    regions={"frame": "Frame", "face": "Face", "mouth": "Mouth"},
    evaluate_clip=evaluate_clip,
)
