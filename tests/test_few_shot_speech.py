"""GDRF's stage `audio`: what it learns from, what it reports, and what is read off it for an utterance."""

from __future__ import annotations

import dataclasses
import functools
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxtalk.audio import FeatureSpec, audio_windows, clip_windows
from jaxtalk.clip import Clip, ClipView, FaceModelInfo, Track
from jaxtalk.config import base
from jaxtalk.errors import JaxtalkError
from jaxtalk.few_shot import listening
from jaxtalk.few_shot.speech import (
    SpeechConfig,
    SpeechNetConfig,
    SpeechStage,
    coefficient_statistics,
    coefficients,
    consecutive_starts,
    listen,
    pose_of,
    predict,
    speech_terms,
)
from jaxtalk.input.views import DerivedView
from jaxtalk.methods.api import Networks
from jaxtalk.ops.cameras import camera_to_world
from jaxtalk.training import sharding
from jaxtalk.training.run import open_run, train_stages
from jaxtalk.training.state import Modules, abstract_state, init_state
from jaxtalk.training.step import make_plan, make_step, reduce_term

RATE = 16000
NET = SpeechNetConfig(widths=(4, 8), embedding=(16,), hidden=16, layers=1, norm="none")
STAGE = SpeechStage(NET, SpeechConfig(steps=10, batch_size=8, learning_rate=5e-3), num_expression=1)


class View(DerivedView):
    """The ball with another track, face model or sound."""

    def __init__(
        self, clip: ClipView, name: str = "ball", sound: np.ndarray | None = None, **track: np.ndarray
    ) -> None:
        super().__init__(clip)
        self.name, self._sound = name, sound
        count = len(track["time"]) if "time" in track else clip.track.num_frames
        kept = clip.track.take(np.arange(count) % clip.track.num_frames)
        self.track: Track = dataclasses.replace(kept, **track)
        self.meta = dataclasses.replace(clip.meta, num_frames=count)

    def audio(self) -> np.ndarray:
        return self._view.audio() if self._sound is None else self._sound


def _take(clip: ClipView, index: np.ndarray) -> View:
    names = [field.name for field in dataclasses.fields(Track) if field.name not in Track.PER_CLIP]
    return View(clip, **{name: getattr(clip.track, name)[index] for name in names})


def _singing(clip: ClipView, seconds: float, seed: int) -> View:
    """Somebody whose mouth follows the pitch of their voice."""
    rng = np.random.default_rng(seed)
    knots = np.cumsum(rng.normal(size=round(6 * seconds) + 8))
    knots = np.clip((knots - knots.mean()) / knots.std(), -2, 2)
    time = np.arange(round(seconds * RATE)) / RATE
    height = np.interp(time, np.arange(len(knots)) / 6, knots)
    phase = 2 * np.pi * np.cumsum(400 * 2**height) / RATE
    frames = np.arange(round(25 * seconds)) / 25
    expression = 0.5 + 0.2 * np.interp(frames, time, height)[:, None]
    sound = (0.3 * np.sin(phase) + 0.001 * rng.normal(size=len(time))).astype(np.float32)
    return View(clip, f"singer{seed}", sound, time=frames, expression=expression.astype(np.float32))


@functools.cache
def _networks(stage: SpeechStage = STAGE) -> Networks:
    networks = stage.networks(jax.random.key(0))
    size = stage.num_expression + 6
    networks["normaliser"].fit_to(np.linspace(-1, 1, size), np.linspace(0.1, 2, size))  # type: ignore[attr-defined]
    return networks


def _windows(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, 28, 12)).astype(np.float32)


def test_coefficients_are_expression_and_inverse_camera_pose(fake_clip: Clip) -> None:
    values = coefficients(fake_clip)
    track = fake_clip.track
    assert values.shape == (50, 7) and values.dtype == np.float32
    np.testing.assert_array_equal(values[:, :1], track.expression)
    for given in (values, values[:, 1:]):
        rotation, translation = pose_of(given)
        np.testing.assert_allclose(rotation, track.rotation, atol=1e-6)
        np.testing.assert_allclose(translation, track.translation, atol=1e-6)
    pose = np.zeros((50, 4, 4))
    pose[:, :3, :3], pose[:, :3, 3], pose[:, 3, 3] = rotation, translation, 1
    np.testing.assert_allclose(
        pose @ camera_to_world(track.rotation, track.translation), np.tile(np.eye(4), (50, 1, 1)), atol=1e-5
    )


def test_rotation_is_axis_times_angle(fake_clip: Clip) -> None:
    yaw = 0.4
    turn = np.array([[np.cos(yaw), 0, np.sin(yaw)], [0, 1, 0], [-np.sin(yaw), 0, np.cos(yaw)]])
    view = View(fake_clip, rotation=np.repeat(turn[None], 50, 0))
    np.testing.assert_allclose(coefficients(view)[:, 1:4], np.tile([0, yaw, 0], (50, 1)), atol=1e-6)


def test_statistics_count_measured_frames_and_no_coefficient_is_blown_up(fake_clip: Clip) -> None:
    rng = np.random.default_rng(0)
    expression = np.stack([rng.normal(2, 3, 50), np.full(50, 7.0), rng.normal(0, 1e-5, 50)], 1)
    valid = np.arange(50) < 40
    expression[~valid] = 1e6
    view = View(fake_clip, expression=expression, valid=valid)
    mean, std = coefficient_statistics([view, view])
    measured = coefficients(view)[:40].astype(np.float64)
    np.testing.assert_allclose(mean, measured.mean(0), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(std[0], measured[:, 0].std(), rtol=1e-5)
    np.testing.assert_allclose(std[1:3], 0.1 * measured[:, 0].std() / np.sqrt(3), rtol=1e-4)
    still = View(fake_clip, expression=np.zeros((50, 2)), translation=np.zeros((50, 3)))
    _, std = coefficient_statistics([still])
    assert std[:2].tolist() == [1, 1] and std[-3:].tolist() == [1, 1, 1] and np.all(std > 0)


def test_windows_never_cross_a_gap(fake_clip: Clip) -> None:
    assert consecutive_starts(fake_clip).tolist() == list(range(35))
    index = np.delete(np.arange(50), 20)  # one frame is missing between 19 and 20
    assert consecutive_starts(_take(fake_clip, index)).tolist() == [*range(5), *range(20, 34)]
    assert consecutive_starts(_take(fake_clip, np.arange(24, 40))).tolist() == [0]
    for some in (np.arange(15), np.delete(np.arange(30), [5, 14])):
        with pytest.raises(JaxtalkError, match=r"clip ball: no 16 consecutive frames.*\n?") as error:
            consecutive_starts(_take(fake_clip, some))
        assert "\n" not in str(error.value)


def test_nearest_pictures_of_footage_at_30_fps_have_no_gap(fake_clip: Clip) -> None:
    time = np.rint(np.arange(50) / 25 * 30) / 30
    assert np.diff(time).max() > 1.6 / 25
    view = View(fake_clip, time=time)
    assert len(consecutive_starts(view)) == 35
    for missing in range(18, 25):
        starts = consecutive_starts(_take(view, np.delete(np.arange(50), missing)))
        assert not set(starts) & set(range(missing - 15, missing)), "a window with the gap inside"
        assert len(starts) >= 13


def test_an_example_is_a_stretch_of_one_clip(fake_clip: Clip) -> None:
    other = View(fake_clip, "other", expression=1 + fake_clip.track.expression, valid=np.arange(50) % 7 > 0)
    clips = [fake_clip, other]
    source = STAGE.examples(clips, 3)
    spec = STAGE.example_spec()
    seen = set()
    for item in range(70):  # one epoch
        example = source[item]
        assert {n: (a.shape, a.dtype) for n, a in example.items()} == {n: (s.shape, s.dtype) for n, s in spec.items()}
        clip = next(c for c in clips if example["coefficients"][0, 0] in coefficients(c)[:, 0])
        start = int(np.flatnonzero(coefficients(clip)[:, 0] == example["coefficients"][0, 0])[0])
        frames = slice(start, start + 16)
        np.testing.assert_array_equal(example["coefficients"], coefficients(clip)[frames])
        np.testing.assert_array_equal(example["windows"], clip_windows(FeatureSpec("atc"), clip)[frames])
        np.testing.assert_array_equal(example["valid"], clip.track.valid[frames])
        seen.add((clip.name, start))
    assert len(seen) == 70
    again = STAGE.examples(clips, 3)[1234567]
    assert all(np.array_equal(again[name], source[1234567][name]) for name in again)


def test_clips_of_another_face_model_are_refused(fake_clip: Clip) -> None:
    other = View(fake_clip, "other")
    other.meta = dataclasses.replace(other.meta, face_model=FaceModelInfo("ict", 100, 57))
    with pytest.raises(
        JaxtalkError, match=r"clip other: face model ict with 57 expressions, clip ball has ball with 1"
    ):
        STAGE.examples([fake_clip, other], 0)
    with pytest.raises(JaxtalkError, match=r"clip other: 57 expression coefficients \(ict\), and this model has 1"):
        STAGE.examples([other], 0)


def test_terms_are_equation_5() -> None:
    rng = np.random.default_rng(0)
    predicted, target = rng.normal(size=(2, 3, 16, 9)).astype(np.float32)
    terms = speech_terms(NET, jnp.asarray(predicted), jnp.asarray(target), jnp.ones((3, 16)))
    total = sum(term.weight * reduce_term(term) for term in terms.values())
    errors, steps = (predicted - target) ** 2, np.diff(predicted, axis=1) ** 2
    expected = errors[..., :3].mean() + 0.2 * errors[..., 3:].mean()
    expected += 0.01 * steps[..., :3].sum((1, 2)).mean() + 0.001 * steps[..., 3:].sum((1, 2)).mean()
    np.testing.assert_allclose(total, expected, rtol=1e-5)


def test_frames_that_were_not_measured_teach_nothing() -> None:
    predicted, valid = jnp.zeros((1, 16, 8)), jnp.arange(16)[None] < 10
    target = jnp.where(valid[..., None], jnp.ones((1, 16, 8)), 1e6)
    terms = speech_terms(NET, predicted, target, valid.astype(jnp.float32))
    assert reduce_term(terms["expression"]) == 1 and reduce_term(terms["pose"]) == 1


def _slow(networks: Networks, windows: np.ndarray) -> np.ndarray:
    """Every sequence by itself, from the first frame on; a frame is the mean over those that hold it."""
    speech, normaliser = networks["speech"], networks["normaliser"]
    hear = jax.jit(lambda x: normaliser.restore(speech(x)[0]))  # type: ignore[attr-defined, operator]
    padded = np.pad(windows, ((0, 16), (0, 0), (0, 0)))
    found: list[list[np.ndarray]] = [[] for _ in padded]
    for start in range(0, len(windows), 8):
        for offset, value in enumerate(np.asarray(hear(padded[start : start + 16]))):
            found[start + offset].append(value)
    return np.array([np.mean(values, 0) for values in found[: len(windows)]])


@pytest.mark.parametrize("count", [1, 7, 8, 16, 21, 135, 136, 137, 300])
def test_sequences_of_16_frames_every_8_are_averaged(count: int) -> None:
    windows = _windows(count)
    values = predict(_networks(), windows, stateful=False)
    assert values.shape == (count, 7) and values.dtype == np.float32
    np.testing.assert_allclose(values, _slow(_networks(), windows), atol=1e-5)


def test_stateful_is_one_pass() -> None:
    networks, windows = _networks(), _windows(300)
    values, _ = jax.jit(lambda x: networks["speech"](x))(windows)  # type: ignore[operator]
    expected = networks["normaliser"].restore(values)  # type: ignore[attr-defined]
    np.testing.assert_allclose(predict(networks, windows, stateful=True), expected, atol=1e-5)
    assert not np.allclose(predict(networks, windows, stateful=False), expected, atol=1e-4)


@pytest.mark.parametrize("stateful", [False, True])
def test_chunks_of_any_lengths_give_the_same_and_compile_once(stateful: bool) -> None:
    windows = _windows(420)
    whole = predict(_networks(), windows, stateful=stateful)
    compiled = listening._overlapping._cache_size() + listening._continued._cache_size()  # type: ignore[attr-defined]
    for lengths in ([420], [1] * 20 + [400], [3, 0, 5, 8, 1, 15, 130, 129, 0, 129], [136, 128, 156]):
        ends = np.cumsum(lengths)
        chunks = [windows[end - n : end] for end, n in zip(ends, lengths, strict=True)]
        heard = list(listen(_networks(), iter(chunks), stateful=stateful))
        assert [len(part) for part in heard] == lengths
        np.testing.assert_allclose(np.concatenate(heard), whole, atol=1e-5)
    # A frame does not depend on what is said after it.
    np.testing.assert_allclose(predict(_networks(), windows[:77], stateful=stateful), whole[:77], atol=1e-5)
    assert compiled == listening._overlapping._cache_size() + listening._continued._cache_size()  # type: ignore[attr-defined]


def _train(stage: SpeechStage, clips: list[ClipView], steps: int) -> Networks:
    plan = make_plan(stage, Modules({}, {}, {}))
    nothing: dict[str, dict] = {"params": {}, "stats": {}}
    abstract = abstract_state(stage, plan.phases, len(plan.names), sharding.make_mesh(1), nothing)
    state = init_state(stage, plan.phases, jax.random.key(0), abstract, nothing)
    step = jax.jit(make_step(plan, 50), donate_argnums=0)
    source = stage.examples(clips, 0)
    for i in range(steps):
        examples = [source[i * stage.batch_size + k] for k in range(stage.batch_size)]
        batch = {name: np.stack([example[name] for example in examples]) for name in examples[0]}
        state, _ = step(state, nothing, jax.random.key(0), batch)
    return plan.own.merge(state["params"], state["stats"])


def test_a_finished_run_gives_back_networks_and_units(fake_clip: Clip, tmp_path: Path) -> None:
    config = base()
    config.train.preview_every, config.train.log_every = 1000, 2
    stage = dataclasses.replace(STAGE, settings=SpeechConfig(steps=2, batch_size=2, ema_decay=0.9))
    train_stages(config, tmp_path, [fake_clip], [stage])
    networks = open_run(tmp_path, [stage]).networks("audio")
    mean, std = coefficient_statistics([fake_clip])
    np.testing.assert_allclose(networks["normaliser"].mean[...], mean)  # type: ignore[attr-defined]
    np.testing.assert_allclose(networks["normaliser"].std[...], std)  # type: ignore[attr-defined]
    assert np.isfinite(predict(networks, clip_windows(FeatureSpec("atc"), fake_clip), stateful=True)).all()
    assert list((tmp_path / "stages" / "audio" / "previews").glob("*.png"))


def test_it_learns_what_the_voice_says_and_hears_when(fake_clip: Clip) -> None:
    """On a voice never heard the mouth is found from the pitch; heard half a second late it is not."""
    clips: list[ClipView] = [_singing(fake_clip, 6, seed) for seed in range(6)]
    stage = dataclasses.replace(STAGE, net=dataclasses.replace(NET, norm="batch"))
    networks = _train(stage, clips, 100)
    mean, std = coefficient_statistics(clips)
    normaliser = networks["normaliser"]
    np.testing.assert_allclose(normaliser.mean[...], mean)  # type: ignore[attr-defined]
    np.testing.assert_allclose(normaliser.std[...], std)  # type: ignore[attr-defined]
    (picture,) = stage.preview(networks, stage.preview_batch(clips)).values()
    assert picture.ndim == 3 and picture.shape[2] == 3 and picture.min() >= 0 and picture.max() <= 1
    assert 0.002 < np.all(np.abs(picture - (0.835, 0.369, 0)) < 0.1, -1).mean() < 0.1, "an orange line"
    voice = _singing(fake_clip, 6, 100)
    spec, time, truth = FeatureSpec("atc"), voice.track.time, voice.track.expression[:, 0]

    def error(shift: float) -> float:
        heard = audio_windows(spec, voice.audio(), RATE, time - shift)
        return float(np.mean((predict(networks, heard, stateful=False)[:, 0] - truth) ** 2))

    unheard = float(np.mean((mean[0] - truth) ** 2))
    assert error(0.0) < 0.5 * unheard
    assert error(0.5) > 2 * error(0.0)
