"""The avatar: renders what training saw, survives saving, and learns to hear on the fake clip."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from configs.ad_nerf import get_config
from jaxtalk.audio import clip_windows
from jaxtalk.clip import Clip
from jaxtalk.errors import JaxtalkError
from jaxtalk.methods import ad_nerf
from jaxtalk.methods.ad_nerf.avatar import FieldAvatar
from jaxtalk.methods.ad_nerf.config import read
from jaxtalk.methods.ad_nerf.examples import RayExamples
from jaxtalk.methods.ad_nerf.fields import head_condition
from jaxtalk.methods.ad_nerf.frames import all_networks
from jaxtalk.methods.ad_nerf.rendering import render
from jaxtalk.methods.api import Drive
from jaxtalk.rays.parameters import networks_of
from jaxtalk.rays.rendering import rays_through
from jaxtalk.rays.speech_code import speech_code

SMALL = (
    "model.audio.attention_windows=8,model.head.width=32,model.head.depth=3,model.torso.width=16,model.torso.depth=2,"
    "model.sampling.chunk_rays=1000"
)


def _train(config, clip: Clip, steps: int) -> dict:
    """Parameters after `steps` steps of the one stage: the least that trains."""
    (stage,) = ad_nerf.stages(config)
    abstract = nnx.eval_shape(lambda: stage.networks(jax.random.key(0)))
    graphs = {name: nnx.split(module)[0] for name, module in abstract.items()}
    make = jax.jit(lambda key: {n: nnx.to_pure_dict(nnx.state(m)) for n, m in stage.networks(key).items()})
    parameters, transform = make(jax.random.key(0)), stage.phases()[0].optimizer

    @jax.jit
    def step(parameters: dict, state: optax.OptState, batch: dict, number: jax.Array) -> tuple:
        def loss(p: dict) -> jax.Array:
            networks = {name: nnx.merge(graph, p[name]) for name, graph in graphs.items()}
            terms, _ = stage.losses(networks, batch, jax.random.fold_in(jax.random.key(0), number), number)
            return sum(term.values.mean() for term in terms.values())

        updates, state = transform.update(jax.grad(loss)(parameters), state, parameters)
        return optax.apply_updates(parameters, updates), state

    state, source = jax.jit(transform.init)(parameters), stage.examples([clip], 0)
    for number in range(steps):
        examples = [source[number * stage.batch_size + i] for i in range(stage.batch_size)]
        batch = {name: np.stack([e[name] for e in examples]) for name in examples[0]}
        parameters, state = step(parameters, state, batch, jnp.int32(number))
    return {name: nnx.merge(graph, parameters[name]) for name, graph in graphs.items()}


def _avatar(config, clip: Clip, steps: int) -> FieldAvatar:
    networks = _train(config, clip, steps)
    return ad_nerf.fit(SimpleNamespace(workdir=Path(), config=config, networks=lambda stage: networks), clip)


def _drive(config, clip: Clip, index: list[int]) -> Drive:
    track = clip.track
    audio = clip_windows(ad_nerf.audio_feature(config), clip)
    whole = Drive(audio, track.rotation, track.translation, track.eye_openness)
    return whole.take(np.array(index))


@pytest.fixture(scope="module")
def config():
    return get_config(f"tiny,{SMALL},size=32,stages.portrait.decay_steps=300,stages.portrait.rays_per_frame=48")


@pytest.fixture(scope="module")
def avatar(config, fake_clip: Clip) -> FieldAvatar:
    return _avatar(config, fake_clip, 300)


def test_it_learns_the_clip_and_hears(config, avatar: FieldAvatar, fake_clip: Clip) -> None:
    """Short overfit: close to the frames, and without its speech clearly worse at the mouth."""
    index = [3, 12, 21, 30, 39, 48]
    drive = _drive(config, fake_clip, index)
    truth = np.stack([fake_clip.frame(i) for i in index]) / 255
    frames, deaf = avatar.render(drive), avatar.render(dataclasses.replace(drive, audio=0 * drive.audio))
    assert frames.shape == (6, 32, 32, 3) and frames.dtype == np.float32
    assert frames.min() >= 0 and frames.max() <= 1

    def mouth_error(pictures: np.ndarray) -> float:
        boxes = fake_clip.track.mouth_box[index].round().astype(int)
        cuts = [(slice(y0, y1), slice(x0, x1)) for x0, y0, x1, y1 in boxes]
        return float(np.mean([np.mean((p[c] - t[c]) ** 2) for p, t, c in zip(pictures, truth, cuts, strict=True)]))

    plate_error = np.mean((fake_clip.background() / 255 - truth) ** 2)
    assert np.mean((frames - truth) ** 2) < 0.25 * plate_error
    assert mouth_error(deaf) > 1.5 * mouth_error(frames)


def test_it_renders_the_colours_that_training_compares(config, avatar: FieldAvatar, fake_clip: Clip) -> None:
    """Whole frames in chunks and the loss's own path over all pixels of a frame are one picture."""
    settings = read(config)
    (stage,) = ad_nerf.stages(config)
    source = RayExamples(settings, stage.settings, fake_clip, 0)
    pixels = np.stack(np.meshgrid(np.arange(32), np.arange(32)), -1).reshape(-1, 2)
    batch = {name: jnp.asarray(array)[None] for name, array in source.example(17, pixels).items()}
    model = settings.model
    networks = networks_of(avatar.parameters, all_networks, model, True)
    code = speech_code(networks, model.audio, batch["audio"], True)
    rays = rays_through(*(batch[n] for n in ("pixels", "rotation", "translation", "camera", "bounds")))
    head = render(networks, "head", model.sampling, rays, head_condition(model, code, batch["eye_openness"]),
                  batch["background"], None)[-1].color  # fmt: skip
    alone = dataclasses.replace(avatar, parameters={n: p for n, p in avatar.parameters.items() if n != "torso"})
    frames = alone.render(_drive(config, fake_clip, [16, 17]))
    np.testing.assert_allclose(frames[1].reshape(-1, 3), head[0], atol=2e-3)
    assert np.abs(frames[0] - frames[1]).max() > 0.05


def test_frames_do_not_depend_on_their_company(config, avatar: FieldAvatar, fake_clip: Clip) -> None:
    """The last chunk is a leftover, and each frame brings its own neighbours' speech."""
    together, alone = avatar.render(_drive(config, fake_clip, [5, 30])), avatar.render(_drive(config, fake_clip, [30]))
    np.testing.assert_allclose(together[1], alone[0], atol=1e-5)


def test_a_saved_avatar_renders_the_same(config, avatar: FieldAvatar, fake_clip: Clip, tmp_path: Path) -> None:
    avatar.save(tmp_path / "ball")
    loaded = ad_nerf.load_avatar(tmp_path / "ball")
    drive = _drive(config, fake_clip, [5, 30])
    np.testing.assert_array_equal(loaded.render(drive), avatar.render(drive))
    assert (loaded.name, loaded.fps, loaded.size, loaded.camera) == ("ball", 25.0, (32, 32), fake_clip.meta.camera)
    np.testing.assert_array_equal(loaded.track.translation, fake_clip.track.translation)


def test_another_camera_moves_the_head(config, avatar: FieldAvatar, fake_clip: Clip) -> None:
    drive = _drive(config, fake_clip, [5])
    camera = dataclasses.replace(avatar.camera, cx=avatar.camera.cx + 4)
    moved = avatar.render(dataclasses.replace(drive, camera=camera))
    head = fake_clip.mask(5) == 1
    inner = head & np.roll(head, -4, 1)
    still, back = avatar.render(drive)[0], np.roll(moved[0], -4, 1)
    assert np.abs(back[inner] - still[inner]).mean() < 0.5 * np.abs(moved[0][inner] - still[inner]).mean()


def test_damage_is_named(avatar: FieldAvatar, tmp_path: Path) -> None:
    folder = tmp_path / "ball"
    with pytest.raises(JaxtalkError, match=r"avatar\.json: missing"):
        ad_nerf.load_avatar(folder)
    avatar.save(folder)
    (folder / "parameters.npz").unlink()
    with pytest.raises(JaxtalkError, match=r"parameters\.npz: missing"):
        ad_nerf.load_avatar(folder)


def test_speech_of_another_feature_is_refused(config, avatar: FieldAvatar, fake_clip: Clip) -> None:
    drive = _drive(config, fake_clip, [5])
    with pytest.raises(JaxtalkError, match="audio windows"):
        avatar.render(dataclasses.replace(drive, audio=drive.audio[:, :12]))
