"""What most protocols have in common: one avatar of each clip, its rows on the same test frames, what is shown of it.

A protocol is a `Plan`, as data: which frames make the avatar and which test it, and how each row is rendered.
"""

from __future__ import annotations

import dataclasses
import functools
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from jaxtalk.clip import ClipView
from jaxtalk.errors import JaxtalkError
from jaxtalk.evaluation import baselines, controls
from jaxtalk.evaluation.exhibits import evenly_spaced, film, film_frames, frames_of, mouths, repeated, shown
from jaxtalk.evaluation.measuring import ClipMeasurements
from jaxtalk.evaluation.records import ClipResult, Comparison, Layout, Row, Settings, Subject
from jaxtalk.evaluation.rendering import check_size, drive_of, render
from jaxtalk.input.clips import select_frames
from jaxtalk.methods.api import Avatar, Drive
from jaxtalk.progress import bar


@dataclasses.dataclass(frozen=True)
class Case:
    """One clip under test."""

    subject: Subject
    view: ClipView
    avatar: Avatar
    train: np.ndarray  # frames that the avatar was made of
    tested: np.ndarray  # [F] frames
    fit_seconds: float
    _speeches: dict[MakeSpeech, controls.Speech] = dataclasses.field(default_factory=dict)

    def drive(self, speech: controls.Speech) -> Drive:
        """The tested frames' poses and eyes, with this speech."""
        pose = self.subject.settings.pose
        return drive_of(self.avatar, self.view, self.tested, speech, self.subject.audio_feature, pose)

    def speech(self, make: MakeSpeech) -> controls.Speech:
        """What `make` gives of this case; made once, since it may read or synthesise sound."""
        if make not in self._speeches:
            self._speeches[make] = make(self)
        return self._speeches[make]

    @functools.cached_property
    def truth(self) -> np.ndarray:
        """The tested frames as they were filmed, [F, H, W, 3] uint8."""
        return frames_of(self.view, self.tested)

    @functools.cached_property
    def nearest(self) -> np.ndarray:
        """Which frame that the avatar was made of has the pose nearest to each tested frame's, [F]."""
        track = self.view.track
        return self.train[baselines.nearest_frames(track.take(self.train), track.take(self.tested))]

    @property
    def seconds(self) -> float:
        """From the first tested frame to the last."""
        times = self.view.track.time[self.tested]
        return float(times[-1] - times[0])


MakeSpeech = Callable[[Case], controls.Speech]


def own_speech(case: Case) -> controls.Speech:
    """What the person says in the clip."""
    return controls.true_speech(case.view, case.subject.audio_feature)


def late_speech(case: Case) -> controls.Speech:
    """The same, a second late."""
    return controls.shifted_speech(case.view, case.subject.audio_feature)


def others_speech(case: Case) -> controls.Speech:
    """What somebody else says. Raises `JaxtalkError` where the system cannot hear anybody else."""
    found = controls.other_speech(case.view, case.subject.clips, case.subject.audio_feature, case.seconds)
    if found is None:
        raise JaxtalkError("the audio feature is a file of the user's and no other clip of the run has one")
    return found


@dataclasses.dataclass(frozen=True)
class RowPlan:
    """A row and how its frames are made.

    The avatar renders what it `hears` at the tested poses, unless `make` gives it another drive, or pictures
    [F, H, W, 3] uint8 that need no avatar. `says`: what is heard in the row's video. `has_truth`: whether its frames
    should equal the tested ones.
    """

    row: Row
    hears: MakeSpeech = own_speech
    make: Callable[[Case], Drive | np.ndarray] | None = None
    says: MakeSpeech = own_speech
    has_truth: bool = True


@dataclasses.dataclass(frozen=True)
class Plan:
    """A protocol as data. The first row is the one that the page speaks of."""

    name: str
    rows: tuple[RowPlan, ...]
    split: Callable[[ClipView, Settings], tuple[np.ndarray, np.ndarray]]  # frames for the avatar, frames to test on
    pictures: tuple[str, ...]  # rows to show frames of; `error`: against the truth
    mouths: tuple[str, ...]  # rows to show mouths of
    film: MakeSpeech = own_speech  # what our half of the comparison video hears

    def layout(self, settings: Settings, clips: Sequence[ClipResult]) -> Layout:
        """The rows that some clip has, each baseline and control against the first."""
        rows = tuple(plan.row for plan in self.rows if any(plan.row.name in clip.values for clip in clips))
        first = self.rows[0].row.name
        against = tuple(Comparison(row.name, first, row.name) for row in rows if row.kind in ("baseline", "control"))
        return Layout(rows, against, first)

    def evaluate_clip(self, subject: Subject, view: ClipView) -> ClipResult:
        """Makes the avatar of a clip and measures every row on the test frames."""
        case, test = self._case(subject, view)
        measured = ClipMeasurements(subject.suite, view, case.tested, case.train, case.truth)
        images, heard, absent, rate = self._rows(case, measured)
        ours = self.rows[0].row.name
        worst_by = measured.values[ours].get("psnr/rgb", {}).get("mouth", np.full(len(case.tested), np.nan))
        order = [name for name in self.pictures if name in images or name == "error"]
        return ClipResult(
            clip=view.name,
            identity=view.meta.identity,
            frames=case.tested,
            times=view.track.time[case.tested],
            values=measured.values,
            facts=_facts(case, test, heard),
            pictures=shown(subject, view, case.tested, images, ours, worst_by, order),
            mouths=mouths(subject, view, case.tested, {row: images[row] for row in self.mouths if row in images}),
            videos=self._videos(case, test),
            absent=absent,
            unmeasured=measured.unmeasured,
            missing_faces=measured.missing_faces,
            lips=measured.lips,
            speed={"fit_seconds": case.fit_seconds, "frames_per_second": rate},
        )

    def _case(self, subject: Subject, view: ClipView) -> tuple[Case, np.ndarray]:
        train, test = self.split(view, subject.settings)
        begun = time.perf_counter()
        avatar = subject.method.fit(subject.trained, select_frames(view, train))
        taken = time.perf_counter() - begun
        check_size(avatar, view)
        return Case(subject, view, avatar, train, evenly_spaced(test, subject.settings.max_frames), taken), test

    def _rows(
        self, case: Case, measured: ClipMeasurements
    ) -> tuple[dict[str, np.ndarray], dict[str, str], dict[str, str], float]:
        """Measures all rows; gives the frames of those to show, what the avatar hears, why a row is missing, and the
        frames a second of the fastest rendering (the first one compiles).

        A method's own row that fails is the clip's failure.
        """
        fastest = np.inf
        kept: dict[str, np.ndarray] = {}
        heard: dict[str, str] = {}
        absent: dict[str, str] = {}
        with bar(f"render {case.view.name}", len(self.rows) * len(case.tested)) as progress:
            for plan in self.rows:
                name = plan.row.name
                try:
                    if plan.make is None:
                        heard[name] = case.speech(plan.hears).label
                    made = plan.make(case) if plan.make else case.drive(case.speech(plan.hears))
                    says = case.speech(plan.says)
                    begun = time.perf_counter()
                    frames = render(case.avatar, made) if isinstance(made, Drive) else made
                    if isinstance(made, Drive):
                        fastest = min(fastest, time.perf_counter() - begun)
                except JaxtalkError as error:
                    if plan.row.kind == "method":
                        raise
                    absent[name] = str(error)
                    continue
                measured.add(name, frames, says, plan.has_truth)
                if name in {*self.pictures, *self.mouths}:
                    kept[name] = frames
                progress.advance(len(case.tested))
        return kept, heard, absent, len(case.tested) / fastest

    def _videos(self, case: Case, test: np.ndarray) -> list[dict[str, str]]:
        index = film_frames(case.view.track.time, test, case.subject.settings.video_seconds)
        if not len(index):
            return []
        with bar(f"film {case.view.name}", len(index)) as progress:
            speech = case.speech(self.film)
            return film(case.subject, case.view, case.avatar, index, self.name, progress, speech=speech)


def _facts(case: Case, test: np.ndarray, heard: dict[str, str]) -> dict[str, Any]:
    times = case.view.track.time
    return {
        "train_frames": len(case.train),
        "test_frames": len(test),
        "train_seconds": [float(times[case.train[0]]), float(times[case.train[-1]])],
        "test_seconds": [float(times[test[0]]), float(times[test[-1]])],
        "nearest_frame": case.nearest.tolist(),
        "speech": heard,
    }


TRUTH = RowPlan(
    Row("truth", "Ground truth", "truth", "The test frames themselves: what the metrics say of the real video."),
    make=lambda case: case.truth,
)
NEAREST = RowPlan(
    Row("nearest", "Nearest frame", "baseline", "The frame that the avatar was made of whose head pose is nearest "
        "(rotation angle plus shift over 0.1 m)."),
    make=lambda case: frames_of(case.view, case.nearest),
)  # fmt: skip
MEAN = RowPlan(
    Row("mean", "Mean frame", "baseline", "The mean of all frames that the avatar was made of."),
    make=lambda case: repeated(baselines.mean_frame(select_frames(case.view, case.train)), len(case.tested)),
)
PLATE = RowPlan(
    Row("plate", "Background plate", "baseline", "The scene without the person."),
    make=lambda case: repeated(case.view.background(), len(case.tested)),
)
LATE = RowPlan(
    Row("audio_shifted", "Speech 1 s late", "control", "Ours, hearing what was said one second before each frame."),
    late_speech,
)
OTHER = RowPlan(
    Row("audio_other", "Another speaker", "control", "Ours, hearing somebody else's speech."), others_speech
)
REGIONS = {"frame": "Frame", "face": "Face", "mouth": "Mouth"}
