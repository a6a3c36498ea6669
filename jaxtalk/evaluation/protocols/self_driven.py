"""Self-driven: the last part of each clip, with its own poses, eyes and speech (metrics card, section 7).

Beside the system stand baselines that need no learning, and the system itself hearing the wrong speech: one that does
not lose by that does not listen.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxtalk.clip import ClipView
from jaxtalk.datasets.splits import time_split
from jaxtalk.errors import JaxtalkError
from jaxtalk.evaluation import baselines, controls
from jaxtalk.evaluation.exhibits import evenly_spaced, film, film_frames, frames_of, mouths, repeated, shown
from jaxtalk.evaluation.records import ClipResult, Comparison, Layout, Protocol, Row, Settings, Subject
from jaxtalk.evaluation.rendering import check_size, drive_of, render
from jaxtalk.input.clips import select_frames
from jaxtalk.methods.api import Run
from jaxtalk.metrics import measure
from jaxtalk.progress import bar

_MOUTH_ROWS = ("truth", "ours", "audio_shifted")
_PICTURES = ("truth", "ours", "error", "audio_shifted", "nearest", "mean")


def learnt_clips(run: Run, method: Any, settings: Settings) -> Sequence[ClipView]:
    """The clips that the run was trained on, whole."""
    from jaxtalk.input.clips import reopen_clips

    return reopen_clips(run.config, run.workdir)


def evaluate_clip(subject: Subject, view: ClipView) -> ClipResult:
    """Fits an avatar on the training frames of a clip and measures it on the test frames."""
    settings, track, spec = subject.settings, view.track, subject.audio_feature
    train, test = _split(view, settings)
    chosen = evenly_spaced(test, settings.max_frames)
    avatar = subject.method.fit(subject.trained, select_frames(view, train))
    check_size(avatar, view)
    nearest = train[baselines.nearest_frames(track.take(train), track.take(chosen))]

    images = {
        "truth": frames_of(view, chosen),
        "nearest": frames_of(view, nearest),
        "mean": repeated(baselines.mean_frame(select_frames(view, train)), len(chosen)),
        "plate": repeated(view.background(), len(chosen)),
    }
    speeches = _speeches(subject, view, chosen)
    seconds = film_frames(track.time, test, settings.video_seconds)
    with bar(f"render {view.name}", len(speeches) * len(chosen) + len(seconds)) as progress:
        for row, speech in speeches.items():
            images[row] = render(avatar, drive_of(avatar, view, chosen, speech, spec, settings.pose), progress)
        videos = film(subject, view, avatar, seconds, PROTOCOL.name, progress) if len(seconds) else []

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
    pictures = {row: images[row] for row in (*speeches, "truth", "nearest", "mean")}
    return ClipResult(
        clip=view.name,
        identity=view.meta.identity,
        frames=chosen,
        times=track.time[chosen],
        values=values,
        facts=facts,
        pictures=shown(subject, view, chosen, pictures, "ours", values["ours"]["psnr/rgb"]["mouth"], _PICTURES),
        mouths=mouths(subject, view, chosen, {row: images[row] for row in _MOUTH_ROWS}),
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


def _speeches(subject: Subject, view: ClipView, chosen: np.ndarray) -> dict[str, controls.Speech]:
    spec, times = subject.audio_feature, view.track.time[chosen]
    speeches = {
        "ours": controls.true_speech(view, spec),
        "audio_shifted": controls.shifted_speech(view, spec),
    }
    other = controls.other_speech(view, subject.clips, spec, float(times[-1] - times[0]))
    return speeches if other is None else {**speeches, "audio_other": other}


def layout(settings: Settings, clips: Sequence[ClipResult]) -> Layout:
    """The rows that every clip has, each baseline and control against ours."""
    rows = tuple(row for row in ROWS if all(row.name in clip.values for clip in clips))
    against = tuple(Comparison(row.name, "ours", row.name) for row in rows if row.kind in ("baseline", "control"))
    return Layout(rows, against, "ours")


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
    description="The last part of each clip, never trained on, rendered with {poses}.",
    regions={"frame": "Frame", "face": "Face", "mouth": "Mouth"},
    clips=learnt_clips,
    evaluate_clip=evaluate_clip,
    layout=layout,
)
