"""Examples of a target with N references: whose they are, what they hold, and which clips are refused."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from jaxtalk.audio import clip_windows
from jaxtalk.clip import Clip, ClipView, FaceModelInfo
from jaxtalk.errors import JaxtalkError
from jaxtalk.few_shot.coefficients import coefficient_statistics, coefficients
from jaxtalk.few_shot.person import evenly_spaced, person_of
from jaxtalk.few_shot.speech import FEATURE
from jaxtalk.few_shot.torso import behind_head
from jaxtalk.input.clips import select_frames
from jaxtalk.input.views import DerivedView
from jaxtalk.methods.api import Stage
from jaxtalk.ops.bounds import look_up
from jaxtalk.rays.bounds import frame_bounds, geometry_of
from tests.fake_clip import write_fake_clip
from tests.few_shot_case import SIZE, field_stage, frame_of, small_config

FRAMES = 30
MANY = ",".join([f"stages.field.{name}" for name in ("rays_per_frame=60", "mouth_share=0.2", "face_share=0.5")])


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> list[Clip]:
    """Two people."""
    folder = tmp_path_factory.mktemp("balls")
    return [
        write_fake_clip(folder / name, seconds=FRAMES / 25, size=SIZE, seed=seed, identity=name)
        for seed, name in enumerate(("ann", "bob"))
    ]


class Edited(DerivedView):
    """A clip whose record says something else."""

    def __init__(self, clip: ClipView, **meta: object) -> None:
        super().__init__(clip)
        self._clip = clip
        self.meta = dataclasses.replace(clip.meta, **meta)  # type: ignore[arg-type]

    def frame(self, index: int) -> np.ndarray:
        return self._clip.frame(index)

    def mask(self, index: int) -> np.ndarray:
        return self._clip.mask(index)


def _stage(arguments: str = "", method: str = "gdrf", **fields: int) -> Stage:
    config = small_config(f"tiny,{arguments}" if arguments else "tiny", method)
    config.stages.field.update(fields)
    return field_stage(config)


def _whose(clips: list[Clip], example: dict[str, np.ndarray]) -> tuple[Clip, int]:
    """The clip and frame of an example's target: people differ in their plate's light and poses are the frame's."""
    frame = frame_of(clips[0], example["rotation"])
    column, row = np.floor(example["pixels"]).astype(int).T
    clip = next(c for c in clips if np.array_equal(c.frame(frame)[row, column] / np.float32(255), example["frame"]))
    return clip, frame


@pytest.mark.parametrize(
    ("arguments", "method"),
    [("", "gdrf"), ("num_refs=5,motion=lstm_id", "gdrf"), ("model.semantic_window=27", "gdrf"), ("", "dfrf")],
)
def test_examples_are_as_announced_and_depend_on_seed_and_index_alone(
    clips: list[Clip], arguments: str, method: str
) -> None:
    stage = _stage(arguments, method)
    source = stage.examples(clips, 7)
    spec, example = stage.example_spec(), source[123456789]
    assert {n: (a.shape, a.dtype) for n, a in example.items()} == {n: (s.shape, s.dtype) for n, s in spec.items()}
    source[5]
    again = stage.examples(clips, 7)[123456789]
    assert all(np.array_equal(example[name], again[name]) for name in example)
    assert not np.array_equal(example["pixels"], stage.examples(clips, 8)[123456789]["pixels"])
    assert not np.array_equal(example["pixels"], source[123456790]["pixels"])


@pytest.mark.parametrize("gap", [0, 3])
def test_references_are_other_frames_of_the_same_person_each_once(clips: list[Clip], gap: int) -> None:
    """Card gdrf 5.11: the target is never among its references."""
    source = _stage(f"num_refs=6,model.references.gap={gap}", rays_per_frame=20).examples(clips, 0)
    values = {clip.name: coefficients(clip, centred=True) for clip in clips}
    distances, targets = set(), set()
    for index in range(6 * FRAMES):
        example = source[index]
        clip, target = _whose(clips, example)
        frames = [frame_of(clip, rotation) for rotation in example["reference_rotation"]]
        assert len(set(frames)) == 6 and min(abs(frame - target) for frame in frames) > gap
        for place, frame in enumerate(frames):
            np.testing.assert_array_equal(example["reference_images"][place], clip.frame(frame))
            np.testing.assert_array_equal(example["reference_translation"][place], clip.track.translation[frame])
            np.testing.assert_allclose(example["reference_coefficients"][place], values[clip.name][frame], atol=1e-6)
        distances |= {abs(frame - target) for frame in frames}
        targets.add((clip.name, target))
    assert len(targets) > 1.8 * FRAMES  # of the two: nearly every frame
    assert min(distances) == gap + 1 and max(distances) > FRAMES - 5  # no nearer ones, and any other


def test_own_references_are_the_avatar_s_but_never_the_target(clips: list[Clip]) -> None:
    """With `own_references` a target sees what the avatar will see, and others where it is one of them."""
    stage = _stage("stages.field.own_references=True,model.references.gap=2")
    own = evenly_spaced(FRAMES, 2)
    kept = np.stack([clips[0].frame(int(i)) for i in own])
    examples = stage.examples(clips[:1], 0)
    seen = {True: 0, False: 0}
    for index in range(60):
        example = examples[index]
        _, frame = _whose(clips, example)
        same = np.array_equal(example["reference_images"], kept)
        assert same == (np.abs(own - frame) > 2).all()
        seen[same] += 1
    assert min(seen.values()) > 3


def test_colours_are_the_frame_s_at_its_pixels(clips: list[Clip]) -> None:
    stage = _stage(MANY)
    source = stage.examples(clips, 3)
    for index in range(4):
        example = source[index]
        clip, frame = _whose(clips, example)
        assert np.all(example["pixels"] % 1 == 0.5)
        column, row = np.floor(example["pixels"]).astype(int).T
        head = clip.mask(frame)[row, column] == 1
        np.testing.assert_array_equal(example["is_head"][:, 0], head)
        behind, _ = behind_head(clip.frame(frame), clip.mask(frame), clip.background(), 0.1)
        np.testing.assert_allclose(example["background"], behind[row, column] / 255, atol=1e-7)
        np.testing.assert_array_equal(example["background"][~head], example["frame"][~head])
        assert 0 < head.mean() < 1 and np.any(example["background"][head] != example["frame"][head])
        np.testing.assert_array_equal(example["translation"], clip.track.translation[frame])
        camera = clip.meta.camera
        np.testing.assert_allclose(example["camera"], [camera.focal, camera.cx, camera.cy])
        pose = clip.track.rotation[frame : frame + 1], clip.track.translation[frame : frame + 1]
        (bounds,) = np.asarray(frame_bounds(geometry_of(clip), stage.config.model.sampling, clip.meta.size, *pose))
        expected = look_up(bounds, example["pixels"], clip.meta.size)
        np.testing.assert_allclose(example["bounds"], expected, atol=1e-6)


def test_pixels_are_drawn_from_mouth_face_and_elsewhere(clips: list[Clip]) -> None:
    """The shares of the stage, and with `legacy` the reference code's swapped axes (card gdrf 5.1)."""
    for order in ("xy_fixed", "legacy"):
        source = _stage(f"{MANY},rect_order={order}").examples(clips, 0)
        for index in range(3):
            example = source[index]
            clip, frame = _whose(clips, example)
            face = clip.track.face_box[frame].round(4)
            x, y = example["pixels"][12:42].T
            x, y = (y, x) if order == "legacy" else (x, y)
            assert np.all((x > face[0]) & (x < face[2]) & (y > face[1]) & (y < face[3]))
            u, v = example["pixels"][42:].T
            u, v = (v, u) if order == "legacy" else (u, v)
            assert not np.any((u > face[0]) & (u < face[2]) & (v > face[1]) & (v < face[3]))


@pytest.mark.parametrize("centred", [False, True])
def test_the_target_s_place_in_its_speech_is_its_own_window(clips: list[Clip], centred: bool) -> None:
    source = _stage(f"model.speech.centred={centred}", rays_per_frame=20).examples(clips, 5)
    windows = {clip.name: clip_windows(FEATURE, clip) for clip in clips}
    mean, std = coefficient_statistics(clips, centred)
    places = set()
    for index in range(4 * FRAMES):
        example = source[index]
        clip, frame = _whose(clips, example)
        assert example["position"].sum() == 1 and example["windows"].shape == (16, 28, 12)
        place = int(np.argmax(example["position"]))
        np.testing.assert_array_equal(example["windows"], windows[clip.name][frame - place :][:16])
        np.testing.assert_allclose(example["coefficients"], coefficients(clip, centred)[frame - place :][:16])
        np.testing.assert_array_equal(example["identity"], clip.track.identity)
        np.testing.assert_array_equal(example["mean"], mean)
        np.testing.assert_array_equal(example["std"], std)
        places.add(place)
    assert len(places) == 16  # a random offset (card gdrf 2.1)


def test_a_semantic_window_has_its_target_in_the_middle_where_the_clip_allows(clips: list[Clip]) -> None:
    source = _stage("model.semantic_window=25", rays_per_frame=20).examples(clips[:1], 0)
    seen = set()
    for index in range(3 * FRAMES):
        example = source[index]
        frame = frame_of(clips[0], example["rotation"])
        assert example["windows"].shape[0] == 25
        assert int(np.argmax(example["position"])) == frame - np.clip(frame - 12, 0, FRAMES - 25)
        seen.add(frame)
    assert len(seen) > 0.8 * FRAMES


def test_no_sequence_spans_a_gap_in_time(clips: list[Clip]) -> None:
    clip = clips[0]
    part = select_frames(clip, np.delete(np.arange(FRAMES), [3, 4]))  # frames 0 .. 2, then 5 .. 29
    source = _stage("model.speech.centred=False", rays_per_frame=20).examples([part], 0)
    for number in range(60):
        example = source[number]
        assert frame_of(clip, example["rotation"]) >= 5
        start = frame_of(clip, example["rotation"]) - int(np.argmax(example["position"]))
        np.testing.assert_allclose(example["coefficients"], coefficients(clip)[start : start + 16], atol=1e-6)


def test_audio64_hears_the_target_s_own_window(clips: list[Clip]) -> None:
    stage = _stage("", "dfrf", rays_per_frame=20)
    source, feature = stage.examples(clips, 0), stage.config.model.audio.feature("mfcc")
    example = source[3]
    clip, frame = _whose(clips, example)
    np.testing.assert_array_equal(example["audio"], clip_windows(feature, clip)[frame])


def test_clips_that_do_not_fit_are_refused_in_one_line(clips: list[Clip], tmp_path: Path) -> None:
    stage = _stage("num_refs=4,model.references.gap=2")

    def refusal(clip: ClipView, stage: Stage = stage) -> str:
        with pytest.raises(JaxtalkError) as caught:
            stage.examples([clips[0], clip], 0)
        assert "\n" not in str(caught.value) and clip.name in str(caught.value)
        return str(caught.value)

    other_face = Edited(clips[1], face_model=FaceModelInfo("ball", 4, 1))
    assert "face_model=ball:4:1" in refusal(other_face)
    assert "squares of 16" in refusal(write_fake_clip(tmp_path / "large", seconds=1.2, size=32))
    few = select_frames(clips[1], np.arange(8))
    assert "8 frames, 9 are needed for 4 references" in refusal(few)
    enough = select_frames(clips[1], np.arange(9))  # for references, not for the LSTM
    assert "no 16 consecutive frames" in refusal(enough)
    _stage("num_refs=4,model.references.gap=2", "dfrf").examples(
        [Edited(enough, face_model=FaceModelInfo("x", 1, 1))], 0
    )


def test_a_person_s_references_are_evenly_spaced_and_inside(clips: list[Clip]) -> None:
    """Card gdrf 5.11: they fit in a clip of any length."""
    assert evenly_spaced(75, 4).tolist() == [9, 28, 46, 65]
    assert evenly_spaced(3, 3).tolist() == [0, 1, 2]
    model = _stage("num_refs=3").config.model
    person = person_of(clips[1], model)
    chosen = [5, 15, 25]
    np.testing.assert_array_equal(person.reference_images, np.stack([clips[1].frame(i) for i in chosen]))
    np.testing.assert_array_equal(person.reference_rotation, clips[1].track.rotation[chosen])
    centred = coefficients(clips[1], centred=True)
    np.testing.assert_allclose(person.reference_coefficients, centred[chosen])
    np.testing.assert_allclose(centred + person.mean_coefficients, coefficients(clips[1]), atol=1e-6)
    plain = person_of(clips[1], dataclasses.replace(model, speech=dataclasses.replace(model.speech, centred=False)))
    np.testing.assert_allclose(plain.reference_coefficients, coefficients(clips[1])[chosen])
    assert not plain.mean_coefficients.any()
    assert person.size == (SIZE, SIZE) and len(person.torso_images) == 6
    two = select_frames(clips[1], np.arange(2))
    with pytest.raises(JaxtalkError, match="2 frames are too few for 3 references"):
        person_of(two, model)


def test_people_take_turns_however_long_their_clips_are(clips: list[Clip]) -> None:
    short = select_frames(clips[1], np.arange(17))
    source = _stage(rays_per_frame=20).examples([clips[0], short], 0)
    for turn in range(20):
        names = {_whose(clips, source[2 * turn + i])[0].name for i in range(2)}
        assert names == {"ann", "bob"}
