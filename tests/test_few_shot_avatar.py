"""The avatar: what training compares is what it renders, it survives saving, and mistakes are told in one line."""

from __future__ import annotations

import dataclasses
import functools
import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from jaxtalk.clip import Clip
from jaxtalk.errors import JaxtalkError
from jaxtalk.few_shot import coefficients as few_shot_coefficients
from jaxtalk.few_shot.avatar import FewShotAvatar, avatar_of
from jaxtalk.few_shot.config import read
from jaxtalk.few_shot.examples import TargetExamples
from jaxtalk.few_shot.frames import all_networks, reference_conditions
from jaxtalk.few_shot.listening import predict
from jaxtalk.few_shot.networks import condition, described
from jaxtalk.few_shot.picture import see, slot_noise
from jaxtalk.few_shot.references import encode, warped
from jaxtalk.methods import dfrf, gdrf
from jaxtalk.methods.api import Drive
from jaxtalk.rays.parameters import networks_of
from jaxtalk.rays.rendering import rays_through
from tests.fake_clip import write_fake_clip
from tests.few_shot_case import SIZE, compile_quickly, made, small_config

__all__ = ["compile_quickly"]
FULL = "motion=lstm_id,num_refs=3,flow_cond=source_target,model.references.slot_init=shared,sampling=hierarchical"


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Clip:
    return write_fake_clip(tmp_path_factory.mktemp("clips") / "ball", seconds=1.2, size=SIZE)


def _avatar(clip: Clip, arguments: str, method: str = "gdrf") -> FewShotAvatar:
    """An avatar of networks that nobody trained, whose heads are seen and whose references move."""
    config = read(small_config(f"tiny,{arguments}" if arguments else "tiny", method))
    networks = made(functools.partial(all_networks, config.model))
    if "normaliser" in networks:
        size = config.model.num_coefficients
        networks["normaliser"].fit_to(np.linspace(-0.1, 0.1, size), np.linspace(0.1, 0.5, size))  # type: ignore[attr-defined]
    return avatar_of(config, networks, clip)


@pytest.fixture(scope="module")
def avatar(clip: Clip) -> FewShotAvatar:
    return _avatar(clip, FULL)


def _drive(avatar: FewShotAvatar, clip: Clip, index: list[int]) -> Drive:
    track = clip.track
    heard = few_shot_coefficients.coefficients(clip, avatar.config.model.speech.centred)
    return Drive(heard, track.rotation, track.translation, track.eye_openness).take(np.array(index))


def test_it_renders_the_colours_that_training_compares(avatar: FewShotAvatar, clip: Clip) -> None:
    """Whole frames in parts, and the losses' own path over all pixels of an example, are one picture."""
    model, person = avatar.config.model, avatar.person
    frames = avatar.render(_drive(avatar, clip, [4, 20]))
    assert frames.shape == (2, SIZE, SIZE, 3) and frames.dtype == np.float32
    assert frames.min() >= 0 and frames.max() <= 1
    pixels = np.stack(np.meshgrid(np.arange(SIZE), np.arange(SIZE)), -1).reshape(-1, 2)
    (source,) = TargetExamples(avatar.config, avatar.config.stages.field, [clip]).sources
    example = {name: jnp.asarray(array)[None] for name, array in source.rays(20, pixels).items()}

    @jax.jit
    def picture(parameters: Any, example: dict[str, jax.Array]) -> jax.Array:
        networks = networks_of(parameters, all_networks, model)
        identity, raw = jnp.asarray(person.identity)[None], jnp.asarray(source.coefficients[20:21])
        z = condition(networks, model, described(networks, model, raw, identity), example["eye_openness"])
        poses = (jnp.asarray(a)[None] for a in (person.reference_rotation, person.reference_translation))
        images = jnp.asarray(person.reference_images, jnp.float32)[None] / 255
        views = encode(networks, model, images, *poses, example["camera"])
        own = jnp.asarray(person.reference_coefficients)[None]
        views = warped(networks, model, views, z, reference_conditions(networks, model, own, identity))
        rays = rays_through(*(example[n] for n in ("pixels", "rotation", "translation", "camera", "bounds")))
        seen, _ = see(networks, model, views, z, rays, jnp.zeros((1, SIZE**2, 3)), slot_noise(model, None), None,
                      (SIZE, SIZE))  # fmt: skip
        return jnp.concatenate([seen[-1].color, seen[-1].background_weight[..., None]], -1)[0]

    expected, behind = jnp.split(picture(avatar.parameters, example), [3], -1)
    black = dataclasses.replace(
        avatar, person=person._replace(torso_images=0 * person.torso_images, plate=0 * person.plate)
    )
    before_black = black.render(_drive(avatar, clip, [4, 20]))[1].reshape(-1, 3)
    np.testing.assert_allclose(before_black, expected, atol=1e-4)
    # And the rest is the torso's, as much as is seen of it.
    behind = np.asarray(behind)
    assert 0.01 < behind.mean() < 0.99
    rest = (frames[1].reshape(-1, 3) - before_black) / np.maximum(behind, 1e-3)
    outside = (clip.mask(20) == 0).ravel() & (behind[:, 0] > 0.05)
    outside[10 * SIZE :] = False  # necks of other poses stand there
    np.testing.assert_allclose(rest[outside], clip.background().reshape(-1, 3)[outside] / 255, atol=0.02)


def test_frames_do_not_depend_on_their_company(avatar: FewShotAvatar, clip: Clip) -> None:
    first, second = avatar.render(_drive(avatar, clip, [4, 20])), avatar.render(_drive(avatar, clip, [20, 9]))
    np.testing.assert_allclose(first[1], second[0], atol=1e-6)
    assert np.abs(first[0] - first[1]).max() > 0.02


def test_what_is_heard_moves_the_picture(avatar: FewShotAvatar, clip: Clip) -> None:
    drive = _drive(avatar, clip, [4, 20])
    heard = drive.audio.copy()
    heard[0, 0] += 1  # the mouth
    moved, still = avatar.render(dataclasses.replace(drive, audio=heard)), avatar.render(drive)
    assert np.abs(moved[0] - still[0]).max() > 1e-3
    np.testing.assert_array_equal(moved[1], still[1])


def test_another_camera_moves_the_head_alone(avatar: FewShotAvatar, clip: Clip) -> None:
    """References are looked up with the camera that took them, or the head would be another's."""
    drive = _drive(avatar, clip, [4, 20])
    person = avatar.person
    black = dataclasses.replace(
        avatar, person=person._replace(torso_images=0 * person.torso_images, plate=0 * person.plate)
    )
    camera = dataclasses.replace(avatar.camera, cx=avatar.camera.cx + 3, cy=avatar.camera.cy - 2)
    still = black.render(drive)
    moved = black.render(dataclasses.replace(drive, camera=camera))
    np.testing.assert_allclose(moved[:, :-2, 3:], still[:, 2:, :-3], atol=2e-3)
    assert np.abs(moved - still).max() > 0.05
    np.testing.assert_array_equal(black.render(dataclasses.replace(drive, camera=avatar.camera)), still)


def test_a_saved_avatar_renders_the_same_bit_for_bit(avatar: FewShotAvatar, clip: Clip, tmp_path: Path) -> None:
    avatar.save(tmp_path / "ball")
    loaded = gdrf.load_avatar(tmp_path / "ball")
    drive = _drive(avatar, clip, [4, 20])
    np.testing.assert_array_equal(loaded.render(drive), avatar.render(drive))
    windows = np.random.default_rng(0).normal(size=(20, 28, 12)).astype(np.float32)
    heard, again = (np.concatenate(list(head.listen(iter([windows])))) for head in (avatar, loaded))
    np.testing.assert_array_equal(heard, again)
    assert loaded.config == avatar.config
    assert (loaded.name, loaded.fps, loaded.size, loaded.camera) == ("ball", 25.0, (SIZE, SIZE), clip.meta.camera)
    np.testing.assert_array_equal(loaded.track.translation, clip.track.translation)


def test_damage_is_told_in_one_line(avatar: FewShotAvatar, tmp_path: Path) -> None:
    folder = tmp_path / "ball"

    def refusal(load: Any = gdrf.load_avatar) -> str:
        with pytest.raises(JaxtalkError) as caught:
            load(folder)
        assert "\n" not in str(caught.value) and str(folder) in str(caught.value)
        return str(caught.value)

    assert "avatar.json: missing" in refusal()
    for name in ("parameters.npz", "person.npz", "track.npz"):
        avatar.save(folder)
        (folder / name).unlink()
        assert f"{name}: missing" in refusal()
    avatar.save(folder)
    assert "an avatar of gdrf, not of dfrf" in refusal(dfrf.load_avatar)
    person = avatar.person._asdict()
    del person["mean_coefficients"]  # as an earlier version wrote it
    np.savez(folder / "person.npz", **person)
    assert "person.npz: mean_coefficients is missing" in refusal()
    avatar.save(folder)
    record = json.loads((folder / "avatar.json").read_text())
    record["config"]["model"]["mapping"] += 1
    (folder / "avatar.json").write_text(json.dumps(record))
    assert "parameters.npz: " in refusal() and "another shape" in refusal()
    record["config"]["model"]["lips"] = 1
    (folder / "avatar.json").write_text(json.dumps(record))
    assert "lips: no such setting" in refusal()


def test_what_it_hears_must_have_the_shape_of_its_ears(avatar: FewShotAvatar, clip: Clip) -> None:
    drive = _drive(avatar, clip, [4, 20])
    with pytest.raises(JaxtalkError, match=r"what it hears is \(6,\) a frame, it was trained on \(7,\)"):
        avatar.render(dataclasses.replace(drive, audio=drive.audio[:, :6]))
    with pytest.raises(JaxtalkError, match="through `listen`"):  # windows as they are
        avatar.render(dataclasses.replace(drive, audio=np.zeros((2, 28, 12))))


@pytest.mark.parametrize("stateful", [False, True])
def test_it_listens_as_its_config_says_in_parts_of_any_length(avatar: FewShotAvatar, stateful: bool) -> None:
    model = dataclasses.replace(avatar.config.model, lstm_stateful=stateful)
    head = dataclasses.replace(avatar, config=dataclasses.replace(avatar.config, model=model))
    windows = np.random.default_rng(0).normal(size=(40, 28, 12)).astype(np.float32)
    heard = list(head.listen(iter([windows[:7], windows[7:]])))
    assert [part.shape for part in heard] == [(7, 7), (33, 7)]
    networks = networks_of(head.parameters, all_networks, model)
    np.testing.assert_allclose(np.concatenate(heard), predict(networks, windows, stateful=stateful), atol=1e-5)
    other = predict(networks, windows, stateful=not stateful)
    assert np.abs(np.concatenate(heard) - other).max() > 1e-4


def test_predicted_poses_are_what_was_heard_around_the_person_s_mean(avatar: FewShotAvatar, clip: Clip) -> None:
    heard = np.array([[9, 0, 0.2, 0, 0.01, 0, 0.02], [9, 0, 0, 0, 0, 0, 0]], np.float32)
    rotation, translation = avatar.predicted_pose(heard)
    mean = few_shot_coefficients.coefficients(clip).mean(0)
    np.testing.assert_allclose(translation[1], clip.track.translation.mean(0), atol=1e-5)
    np.testing.assert_allclose(translation[0] - translation[1], [0.01, 0, 0.02], atol=1e-5)
    np.testing.assert_allclose(Rotation.from_matrix(rotation[0]).as_rotvec() - mean[1:4], [0, 0.2, 0], atol=1e-5)
    plain = dataclasses.replace(avatar, person=avatar.person._replace(mean_coefficients=np.zeros(7, np.float32)))
    np.testing.assert_allclose(plain.predicted_pose(heard)[1], heard[:, 4:])


def test_a_semantic_window_is_of_frames_around_each_and_its_middle_is_the_pose(clip: Clip) -> None:
    avatar = _avatar(clip, "model.semantic_window=27")
    windows = np.random.default_rng(0).normal(size=(30, 28, 12)).astype(np.float32)
    (heard,) = avatar.listen(iter([windows[:10], windows[10:]]))
    alone = predict(networks_of(avatar.parameters, all_networks, avatar.config.model), windows, stateful=False)
    assert heard.shape == (30, 27, 7)
    np.testing.assert_allclose(heard[:, 13], alone, atol=1e-6)
    np.testing.assert_allclose(heard[20, :13], alone[7:20], atol=1e-6)
    np.testing.assert_allclose(heard[0, :13], np.repeat(alone[:1], 13, 0), atol=1e-6)
    translation = avatar.predicted_pose(heard)[1]
    np.testing.assert_allclose(translation, alone[:, 4:] + avatar.person.mean_coefficients[4:], atol=1e-5)


def test_audio64_predicts_no_pose_and_hears_windows_as_they_are(clip: Clip) -> None:
    avatar = _avatar(clip, "", "dfrf")
    windows = np.zeros((3, 16, 29), np.float32)
    (heard,) = avatar.listen(iter([windows]))
    assert heard is windows
    with pytest.raises(JaxtalkError, match="motion=audio64 predicts no pose; use hold or mirror") as caught:
        avatar.predicted_pose(windows)
    assert "\n" not in str(caught.value)


def test_a_folder_of_another_size_is_refused(clip: Clip, avatar: FewShotAvatar, tmp_path: Path) -> None:
    large = write_fake_clip(tmp_path / "large", seconds=0.4, size=24)
    with pytest.raises(JaxtalkError, match=r"clip large: \(24, 24\) pixels, and references are squares of 16"):
        avatar_of(avatar.config, networks_of(avatar.parameters, all_networks, avatar.config.model), large)
