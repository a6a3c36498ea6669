"""From a base model to avatars of somebody new: what adaptation continues, keeps, and refuses; and that they speak."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import jax
import ml_collections
import numpy as np
import pytest

from configs.gdrf import get_config
from jaxtalk.clip import Clip, FaceModelInfo
from jaxtalk.errors import JaxtalkError
from jaxtalk.few_shot.avatar import FewShotAvatar
from jaxtalk.few_shot.coefficients import coefficient_statistics
from jaxtalk.input.clips import select_frames
from jaxtalk.media.video import probe, read_frames
from jaxtalk.methods import gdrf
from jaxtalk.rays.parameters import parameters_of
from jaxtalk.synthesis import synthesize
from jaxtalk.synthesis.avatars import keep_avatar
from jaxtalk.training import run as training_run
from jaxtalk.training.run import TrainedRun, open_run, train_stages
from tests.fake_clip import write_fake_clip
from tests.few_shot_case import SIZE, compile_quickly, small_config

__all__ = ["compile_quickly"]
STEPS = 12  # half of them first, then all


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> list[Clip]:
    """Two people for the base model, and somebody new."""
    folder = tmp_path_factory.mktemp("balls")
    names = enumerate(("ann", "bob", "cyd"))
    return [write_fake_clip(folder / n, seconds=1, size=SIZE, seed=seed, identity=n) for seed, n in names]


def _config() -> ml_collections.ConfigDict:
    config = small_config("tiny,warp=none,stages.field.ema_decay=0.5,stages.adapt.ema_decay=0.9")
    config.train.update(log_every=5, checkpoint_every=100, preview_every=100)
    everything = {"speech_factor": 1.0, "speech_weight": 1.0, "tracked_share": 0.0, "own_references": False}
    config.stages.adapt.update(steps=3, learning_rate=1e-2, **everything)
    return config


@pytest.fixture(scope="module")
def run(clips: list[Clip], tmp_path_factory: pytest.TempPathFactory, compile_quickly: None) -> TrainedRun:
    workdir, config = tmp_path_factory.mktemp("run"), _config()
    train_stages(config, workdir, clips[:2], gdrf.stages(config))
    return open_run(workdir)


@pytest.fixture(scope="module")
def adapted(run: TrainedRun, clips: list[Clip], tmp_path_factory: pytest.TempPathFactory) -> FewShotAvatar:
    return gdrf.adapt(run, clips[2], STEPS, folder=tmp_path_factory.mktemp("at_once"))


def _equal(first: dict[str, Any], second: dict[str, Any]) -> bool:
    return all(jax.tree.leaves(jax.tree.map(np.array_equal, first, second)))


def test_statistics_are_the_base_set_s_in_every_stage(run: TrainedRun, clips: list[Clip]) -> None:
    """Card gdrf 2.1: standardised by the base set, stored in the checkpoint."""
    mean, std = coefficient_statistics(clips[:2], centred=True)
    for stage in ("audio", "field"):
        kept = parameters_of(run.networks(stage))["normaliser"]
        np.testing.assert_array_equal(kept["mean"], mean)
        np.testing.assert_array_equal(kept["std"], std)


def test_the_field_goes_on_with_what_the_ears_learnt(run: TrainedRun) -> None:
    """`field` moves the speech network by two steps from where `audio` left it: not from a new one."""
    heard, after = (parameters_of(run.networks(stage))["speech"] for stage in ("audio", "field"))
    moves = [float(np.abs(a - b).max()) for a, b in zip(*map(jax.tree.leaves, (heard, after)), strict=True)]
    assert 0 < max(moves) < 0.01


def test_no_step_is_the_base_model_with_the_new_person(run: TrainedRun, clips: list[Clip]) -> None:
    avatar = gdrf.adapt(run, clips[2], 0)
    assert _equal(avatar.parameters, parameters_of(run.networks("field")))
    assert avatar.name == "cyd" and not (run.workdir / "adaptation").exists()
    np.testing.assert_array_equal(avatar.person.plate, clips[2].background())
    np.testing.assert_array_equal(avatar.person.reference_images[0], clips[2].frame(6))


def test_half_the_steps_and_then_the_rest_are_all_at_once(
    run: TrainedRun, clips: list[Clip], adapted: FewShotAvatar, tmp_path: Path
) -> None:
    half = gdrf.adapt(run, clips[2], STEPS // 2, folder=tmp_path)
    whole = gdrf.adapt(run, clips[2], STEPS, folder=tmp_path)
    assert _equal(whole.parameters, adapted.parameters)  # bit for bit
    assert not _equal(half.parameters, whole.parameters)
    assert not _equal(adapted.parameters, parameters_of(run.networks("field")))
    assert _equal(adapted.parameters["normaliser"], parameters_of(run.networks("field"))["normaliser"])
    with pytest.raises(JaxtalkError, match=f"stands at step {STEPS}, beyond the {STEPS // 2}"):
        gdrf.adapt(run, clips[2], STEPS // 2, folder=tmp_path)


def test_every_network_adapts_but_the_statistics(run: TrainedRun, adapted: FewShotAvatar) -> None:
    """Card gdrf 1: everything is updated end to end, the LSTM too."""
    base = parameters_of(run.networks("field"))
    same = {name for name in base if _equal(base[name], adapted.parameters[name])}
    assert same == {"normaliser"}


def test_the_small_variants_adapt_everything_but_the_ear(run: TrainedRun, clips: list[Clip], tmp_path: Path) -> None:
    told = get_config("tiny").stages.adapt
    assert told.own_references and told.tracked_share == 1
    config = run.config.copy_and_resolve_references()
    config.stages.adapt.update({name: told[name] for name in ("speech_factor", "speech_weight", "tracked_share")})
    avatar = gdrf.adapt(dataclasses.replace(run, config=config), clips[2], STEPS, folder=tmp_path)
    base = parameters_of(run.networks("field"))
    jax.tree.map(  # up to the rounding of its average
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7), base["speech"], avatar.parameters["speech"]
    )
    assert {name for name in base if _equal(base[name], avatar.parameters[name])} <= {"normaliser", "speech"}


def test_a_second_call_trains_nothing(
    run: TrainedRun, clips: list[Clip], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`fit` adapts for the config's steps, in the run's folder, and finds what it did there."""
    first = gdrf.fit(run, clips[2])
    (folder,) = (run.workdir / "adaptation").iterdir()
    assert folder.name.startswith("cyd-") and folder.name.endswith("-3")

    def fail(*_: object) -> None:
        raise AssertionError("trained again")

    monkeypatch.setattr(training_run, "run_stage", fail)
    assert _equal(gdrf.fit(run, clips[2]).parameters, first.parameters)
    with pytest.raises(AssertionError, match="trained again"):  # other frames are another adaptation
        gdrf.fit(run, select_frames(clips[2], np.arange(20)))


def test_from_scratch_begins_with_nothing(
    run: TrainedRun, clips: list[Clip], adapted: FewShotAvatar, tmp_path: Path
) -> None:
    scratch = gdrf.adapt(run, clips[2], STEPS, from_scratch=True, folder=tmp_path)
    assert not any(_equal(scratch.parameters[name], adapted.parameters[name]) for name in adapted.parameters)
    mean, std = coefficient_statistics([clips[2]], centred=True)
    np.testing.assert_array_equal(scratch.parameters["normaliser"]["mean"], mean)
    np.testing.assert_array_equal(scratch.parameters["normaliser"]["std"], std)


def test_clips_that_do_not_fit_are_refused_in_one_line(run: TrainedRun, clips: list[Clip], tmp_path: Path) -> None:
    other = Clip(clips[2].path, dataclasses.replace(clips[2].meta, face_model=FaceModelInfo("ict", 100, 57)),
                 clips[2].track)  # fmt: skip
    large = write_fake_clip(tmp_path / "large", seconds=1, size=2 * SIZE)
    one = select_frames(clips[2], np.arange(1))
    refused = {"face_model=ict:100:57": other, "squares of 16": large, "frames": one}
    for index, (part, clip) in enumerate(refused.items()):
        for steps in (0, 2):
            with pytest.raises(JaxtalkError, match=part) as caught:
                gdrf.adapt(run, clip, steps, folder=tmp_path / f"{index}")
            assert "\n" not in str(caught.value) and clip.name in str(caught.value)
    with pytest.raises(JaxtalkError, match="no 16 consecutive frames"):
        gdrf.adapt(run, select_frames(clips[2], np.arange(12)), 2, folder=tmp_path / "few")


def test_an_adapted_avatar_speaks_with_poses_that_it_hears(
    run: TrainedRun, clips: list[Clip], adapted: FewShotAvatar, tmp_path: Path
) -> None:
    keep_avatar(run, adapted, "cyd-1s", clips[2])
    speech = clips[0].path / "audio.wav"
    pictures = {}
    for pose in ("predicted", "hold"):
        out = tmp_path / f"{pose}.mp4"
        result = synthesize(run.workdir, speech, out, avatar="cyd-1s", pose=pose)
        assert result.frames == 25 and json.loads(result.sidecar.read_text())["provenance"]["settings"]["pose"] == pose
        assert (probe(out).size, probe(out).frames) == ((SIZE, SIZE), 25)
        pictures[pose] = np.stack([frame for _, frame in read_frames(out)]).astype(float)
    assert np.abs(pictures["predicted"] - pictures["hold"]).max() > 2
