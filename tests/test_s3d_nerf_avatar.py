"""The avatar of one picture: what training compares is what it renders, and nothing else of a clip is used."""

from __future__ import annotations

import dataclasses
import functools
import itertools
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxtalk.audio import clip_windows
from jaxtalk.clip import ClipView
from jaxtalk.errors import JaxtalkError
from jaxtalk.input.inner_face import inner_face
from jaxtalk.input.views import DerivedView
from jaxtalk.methods import s3d_nerf
from jaxtalk.methods.api import Drive
from jaxtalk.methods.s3d_nerf.avatar import S3DAvatar, avatar_of
from jaxtalk.methods.s3d_nerf.examples import FieldExamples
from jaxtalk.methods.s3d_nerf.field_stage import FieldStage, _previewed
from jaxtalk.methods.s3d_nerf.frames import encode_person, render_frames
from jaxtalk.methods.s3d_nerf.networks import critics, generator
from jaxtalk.rays.parameters import networks_of
from jaxtalk.synthesis import pipeline, poses
from jaxtalk.training.flops import matmul_flops
from tests.few_shot_case import compile_quickly, made
from tests.s3d_case import SIZE, ball, settings, small_config

__all__ = ["compile_quickly"]
FRAMES = [40, 55, 63]


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> ClipView:
    return ball(tmp_path_factory.mktemp("clips") / "ball")


@pytest.fixture(scope="module")
def avatar(clip: ClipView) -> S3DAvatar:
    """Of networks that nobody trained; their deformation does not start at zero."""
    config = settings("tiny,stages.field.augment=False,model.frames_at_once=2")
    return avatar_of(config, made(functools.partial(generator, config)), clip)


def _drive(avatar: S3DAvatar, clip: ClipView, index: list[int]) -> Drive:
    track = clip.track
    windows = clip_windows(avatar.config.feature, clip)
    return Drive(windows, track.rotation, track.translation, track.eye_openness).take(np.array(index))


@pytest.fixture(scope="module")
def frames(avatar: S3DAvatar, clip: ClipView) -> np.ndarray:
    return avatar.render(_drive(avatar, clip, FRAMES))


def test_it_renders_what_training_compares(avatar: S3DAvatar, clip: ClipView, frames: np.ndarray) -> None:
    """The losses' own path, from an example whose source is the avatar's picture, is one picture with `render`."""
    assert frames.shape == (3, SIZE, SIZE, 3) and frames.dtype == np.float32
    assert frames.min() >= 0 and frames.max() <= 1
    stage, track = FieldStage(avatar.config), clip.track
    example = FieldExamples(avatar.config, [clip])(0, np.random.default_rng(0))
    last = int(np.argmin(np.abs(track.rotation - example["rotation"][-1]).max((1, 2))))
    example |= {
        "source": clip.frame(0),
        "source_face": inner_face(track.landmarks[0], (SIZE, SIZE)),
        "source_rotation": track.rotation[0],
        "source_translation": track.translation[0],
    }
    arrays = {name: jnp.asarray(array)[None] for name, array in example.items()}

    @jax.jit
    def trained(parameters: Any) -> jax.Array:
        return _previewed(stage, networks_of(parameters, generator, avatar.config), arrays).fine[0]

    rendered = avatar.render(_drive(avatar, clip, [FRAMES[0], FRAMES[1], last]))
    np.testing.assert_allclose(rendered[2], trained(avatar.parameters), atol=1e-5)
    assert np.abs(rendered[2] - rendered[0]).max() > 0.02
    np.testing.assert_array_equal(rendered[:2], frames[:2])


def test_frames_side_by_side_or_in_parts_are_the_same(avatar: S3DAvatar, clip: ClipView, frames: np.ndarray) -> None:
    """The avatar renders two at once, and three were asked for."""
    model = dataclasses.replace(avatar.config.model, frames_at_once=16)
    whole = dataclasses.replace(avatar, config=dataclasses.replace(avatar.config, model=model))
    np.testing.assert_allclose(whole.render(_drive(avatar, clip, FRAMES)), frames, atol=1e-5)


def test_chunks_that_are_left_over_compile_nothing(avatar: S3DAvatar, clip: ClipView, frames: np.ndarray) -> None:
    drive = _drive(avatar, clip, [*FRAMES, *FRAMES[:2]])
    motion = poses.Motion(drive.rotation, drive.translation, drive.eye_openness)
    before = render_frames._cache_size()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pipeline, "chunk_frames", lambda size: 3)
        found = list(pipeline.render(avatar, avatar.listen(iter([drive.audio])), motion))
    assert [len(part) for part in found] == [3, 2] and render_frames._cache_size() == before
    np.testing.assert_allclose(np.concatenate(found), np.concatenate([frames, frames[:2]]), atol=1e-6)


def test_a_person_is_encoded_once(avatar: S3DAvatar, clip: ClipView, monkeypatch: pytest.MonkeyPatch) -> None:
    fresh = dataclasses.replace(avatar)
    seen: list[int] = []
    monkeypatch.setattr(
        "jaxtalk.methods.s3d_nerf.avatar.encode_person", lambda *given: (seen.append(1), encode_person(*given))[1]
    )
    for _ in range(2):
        fresh.render(_drive(avatar, clip, FRAMES))
    assert seen == [1]


def test_the_traced_program_is_all_that_a_frame_costs(avatar: S3DAvatar, clip: ClipView) -> None:
    """Products are counted by frame, parts of frames and all; the decoder at each sample is among them."""
    drive, model = _drive(avatar, clip, FRAMES), avatar.config.model
    one = matmul_flops(avatar.trace(drive.take(slice(1))).jaxpr)
    assert matmul_flops(avatar.trace(drive).jaxpr) == pytest.approx(len(FRAMES) * one, rel=1e-2)  # queries once a part
    samples = 64 * sum(model.sampling.passes)
    assert one > samples * 2 * sum(a * b for a, b in itertools.pairwise((4, *model.decoder.hidden, 4)))


def test_another_camera_moves_the_face(avatar: S3DAvatar, clip: ClipView, frames: np.ndarray) -> None:
    """Two pixels of the frame are one of the coarse picture."""
    drive = _drive(avatar, clip, FRAMES)
    names = ("coarse", "heard", "opacity")
    coarse, heard, opacity = avatar.parts(drive, names)
    assert coarse.shape == (3, 8, 8, 3) and heard.shape == (3, 4, 4, 8) and opacity.shape == (3, 8, 8)
    assert heard.std((1, 2)).max() > 0  # card 5.2: places hear different things
    assert np.abs(heard[0] - heard[1]).max() > 1e-4
    camera = dataclasses.replace(avatar.camera, cx=avatar.camera.cx + 2, cy=avatar.camera.cy - 2)
    moved, same = avatar.parts(dataclasses.replace(drive, camera=camera), names)[:2]
    np.testing.assert_allclose(moved[:, 1:-2, 2:-1], coarse[:, 2:-1, 1:-2], atol=1e-2)
    assert np.abs(moved - coarse).max() > 0.02
    np.testing.assert_array_equal(same, heard)
    assert np.abs(avatar.render(dataclasses.replace(drive, camera=camera)) - frames).max() > 0.02
    np.testing.assert_array_equal(avatar.render(dataclasses.replace(drive, camera=avatar.camera)), frames)


class _Painted(DerivedView):
    """A clip whose first frames were not measured, and of whose others all but one show nothing."""

    def __init__(self, clip: ClipView, first: int, blank: bool) -> None:
        super().__init__(clip)
        valid = np.arange(clip.track.num_frames) >= first
        self.track = dataclasses.replace(clip.track, valid=valid)
        if blank:
            turned = np.where((np.arange(len(valid)) == first)[:, None, None], clip.track.rotation, np.eye(3))
            self.track = dataclasses.replace(self.track, rotation=turned.astype(np.float32))
        self._clip, self._first, self._blank = clip, first, blank

    def frame(self, index: int) -> np.ndarray:
        shown = self._clip.frame(index)
        return shown if not self._blank or index == self._first else np.zeros_like(shown)

    def mask(self, index: int) -> np.ndarray:
        return self._clip.mask(index)


def test_only_the_first_measured_frame_of_a_clip_is_used(avatar: S3DAvatar, clip: ClipView, frames: np.ndarray) -> None:
    drive = _drive(avatar, clip, FRAMES)
    networks = networks_of(avatar.parameters, generator, avatar.config)
    plain, blank = (avatar_of(avatar.config, networks, _Painted(clip, 7, blank)) for blank in (False, True))
    np.testing.assert_array_equal(plain.person.picture, clip.frame(7))
    np.testing.assert_array_equal(plain.person.rotation, clip.track.rotation[7])
    np.testing.assert_array_equal(plain.render(drive), blank.render(drive))
    assert np.abs(plain.render(drive) - frames).max() > 0.02


def test_a_saved_avatar_renders_the_same_bit_for_bit(
    avatar: S3DAvatar, clip: ClipView, frames: np.ndarray, tmp_path: Path
) -> None:
    avatar.save(tmp_path / "ball")
    loaded = s3d_nerf.load_avatar(tmp_path / "ball")
    assert loaded.config == avatar.config
    assert (loaded.name, loaded.fps, loaded.size, loaded.camera) == ("ball", 25.0, (SIZE, SIZE), clip.meta.camera)
    np.testing.assert_array_equal(loaded.render(_drive(avatar, clip, FRAMES)), frames)
    (tmp_path / "ball" / "person.npz").unlink()
    with pytest.raises(JaxtalkError, match=r"person\.npz: missing"):
        s3d_nerf.load_avatar(tmp_path / "ball")


def test_mistakes_are_told_in_one_line(avatar: S3DAvatar, clip: ClipView, tmp_path: Path) -> None:
    drive = _drive(avatar, clip, FRAMES)
    networks = networks_of(avatar.parameters, generator, avatar.config)
    large = ball(tmp_path / "large", seconds=0.4, size=24)
    mistakes = {
        r"avatar ball: what it hears is \(3, 80\) a frame, it was trained on \(4, 80\)": lambda: avatar.render(
            dataclasses.replace(drive, audio=drive.audio[:, :3])
        ),
        r"clip large: \(24, 24\) pixels, and sources are squares of 16": lambda: avatar_of(
            avatar.config, networks, large
        ),
    }
    for words, mistake in mistakes.items():
        with pytest.raises(JaxtalkError, match=words) as caught:
            mistake()
        assert "\n" not in str(caught.value)


def test_fit_is_one_encoder_pass_with_the_networks_of_the_run(clip: ClipView, frames: np.ndarray) -> None:
    """Nothing is trained, and of what the stage trained only the generator is kept."""
    config = small_config("tiny,stages.field.augment=False,model.frames_at_once=2")
    record = settings("tiny,stages.field.augment=False,model.frames_at_once=2")
    networks = made(functools.partial(generator, record)) | made(functools.partial(critics, record))
    asked: list[str] = []
    run = SimpleNamespace(config=config, networks=lambda stage: (asked.append(stage), networks)[1])
    avatar = s3d_nerf.fit(run, clip)  # type: ignore[arg-type]
    assert asked == ["field"] and set(avatar.parameters) == {n for n in networks if not n.endswith("critic")}
    np.testing.assert_array_equal(avatar.render(_drive(avatar, clip, FRAMES)), frames)
    assert s3d_nerf.generalises
