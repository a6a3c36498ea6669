"""From a source to pictures: what starts at zero, what is invariant, and what speech can reach (card 5)."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from scipy.spatial.transform import Rotation

from configs import s3d_nerf
from jaxtalk.methods.api import Networks
from jaxtalk.methods.s3d_nerf.config import S3DConfig, read
from jaxtalk.methods.s3d_nerf.encoder import AppearanceEncoder
from jaxtalk.methods.s3d_nerf.networks import generator
from jaxtalk.methods.s3d_nerf.picture import Encoded, Picture, Source, Target, encode, picture
from jaxtalk.ops.triplane import View
from tests.few_shot_case import compile_quickly, made
from tests.s3d_case import SIZE, settings

__all__ = ["compile_quickly"]
KINDS = ("full", "nd", "fcd", "none")


def _networks(config: S3DConfig, moving: bool = False) -> Networks:
    """Networks with kernels of the usual size; the last layer of the deformation zero unless `moving`."""
    networks = made(functools.partial(generator, config))
    if "deformation" in networks and not moving:
        out: Any = networks["deformation"].out  # type: ignore[attr-defined]
        out.kernel[...] = jnp.zeros_like(out.kernel[...])
    return networks


def _source(seed: int = 0) -> Source:
    random = np.random.default_rng(seed)
    view = View(*(jnp.asarray(a, jnp.float32)[None] for a in (np.eye(3), [0.0, 0.0, -0.7], [38.0, 8.0, 8.0])))
    shown = jnp.asarray(random.uniform(size=(1, SIZE, SIZE, 3)), jnp.float32)
    return Source(shown, jnp.ones((1, SIZE, SIZE)), view)


def _target(config: S3DConfig, seed: int = 1, turn: float = 10.0) -> Target:
    random, feature = np.random.default_rng(seed), config.feature
    windows = random.normal(size=(1, feature.window, feature.num_channels))
    rotation = Rotation.from_euler("y", turn, degrees=True).as_matrix()[None]
    side = config.model.coarse_size
    bounds = np.broadcast_to([0.6, 0.8], (1, side, side, 2))
    arrays = (windows, rotation, [[0.0, 0.01, -0.7]], [[38.0, 8.0, 8.0]], bounds)
    return Target(*(jnp.asarray(a, jnp.float32) for a in arrays))


def _picture(config: S3DConfig, networks: Networks, source: Source, target: Target) -> Picture:
    return picture(networks, config.model, encode(networks, config.model, source), target, None)


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_moves_at_first_and_all_kinds_render(kind: str) -> None:
    """Card 5.12: offsets are zero whatever is said, so that frames differ by nothing but the pose; not with `none`,
    whose decoder hears the speech."""
    config = settings(f"tiny,deform={kind}")
    networks, source = _networks(config), _source()
    one, other = (_picture(config, networks, source, _target(config, seed)) for seed in (1, 2))
    assert one.fine.shape == (1, SIZE, SIZE, 3) and one.coarse.shape == (1, 8, 8, 3)
    assert float(jnp.abs(one.offsets).max()) == 0
    assert (float(jnp.abs(one.coarse - other.coarse).max()) > 1e-5) == (kind == "none")


@pytest.mark.parametrize(("kind", "arch"), [("full", "maps"), ("full", "point_unet"), ("nd", "maps"), ("fcd", "maps")])
def test_speech_moves_points_by_each_kind_of_deformation(kind: str, arch: str) -> None:
    config = settings(f"tiny,deform={kind},deform_arch={arch}")
    networks, source = _networks(config, moving=True), _source()
    one, other = (_picture(config, networks, source, _target(config, seed)) for seed in (1, 2))
    assert float(one.offsets.min()) >= 0 and float(jnp.abs(one.offsets - other.offsets).max()) > 1e-6


def test_the_map_decides_where_speech_acts() -> None:
    """Where the deformation's planes say nothing, points move as without them; only `full` has such planes."""
    config = settings()
    deformation: Any = _networks(config, moving=True)["deformation"]
    random = np.random.default_rng(0)
    speech = jnp.asarray(random.normal(size=(1, 8)), jnp.float32)
    planes = np.zeros((1, 3, 4, 4, 4), np.float32)
    planes[0, 0, 3] = 1.0  # the lowest row of the plane xy
    low, high = jnp.array([[[0.0, 0.9, 0.0]]]), jnp.array([[[0.0, -0.9, 0.0]]])
    moved = [deformation(x, jnp.asarray(p), speech, None) for x in (low, high) for p in (planes, 0 * planes)]
    assert float(jnp.abs(moved[0] - moved[1]).max()) > 1e-3
    np.testing.assert_allclose(moved[2], moved[3], atol=1e-6)


def test_with_one_plane_a_point_hears_what_its_place_in_the_picture_heard() -> None:
    """Whatever its depth; planes of depth would bring it what other places heard. Two convolutions reach two cells far;
    a group normalisation between them would reach all."""
    config = settings("tiny,model.deform.planes=1,model.deform.norm=none,model.deform.hears_mean=False")
    deform = dataclasses.replace(config.model.deform, widths=(8,))
    config = dataclasses.replace(config, model=dataclasses.replace(config.model, deform=deform))
    deformation: Any = _networks(config, moving=True)["deformation"]
    random = np.random.default_rng(0)
    heard = random.normal(size=(1, 4, 4, 8)).astype(np.float32)
    changed = heard.copy()
    changed[0, 0, 0] += 1.0
    speech = jnp.zeros((1, 8))
    planes, others = (deformation.planes(jnp.asarray(x), speech) for x in (heard, changed))
    assert planes.shape == (1, 1, 4, 4, 4)
    far = np.abs(planes - others).max((0, 1, 4)) < 1e-7
    np.testing.assert_array_equal(far, np.maximum(*np.indices((4, 4))) > 2)
    points = jnp.array([[[0.9, 0.9, -0.9], [0.9, 0.9, 0.9], [-0.9, -0.9, 0.0]]])
    moved = np.abs(deformation(points, planes, speech, None) - deformation(points, others, speech, None)).max((0, 2))
    assert moved[:2].max() < 1e-7 < moved[2]


def test_speech_comes_by_f_cm_alone_where_the_mean_is_not_heard() -> None:
    """What each place hears then decides all; the other kinds, which have no F_cm, hear the mean all the same."""
    config = settings("tiny,model.deform.hears_mean=False")
    deformation: Any = _networks(config, moving=True)["deformation"]
    random = np.random.default_rng(0)
    draw = lambda *shape: jnp.asarray(random.normal(size=shape), jnp.float32)  # noqa: E731
    heard, points, speech, other = draw(1, 4, 4, 8), draw(1, 3, 3), draw(1, 8), draw(1, 8)
    planes, same = (deformation.planes(heard, s) for s in (speech, other))
    np.testing.assert_array_equal(planes, same)
    np.testing.assert_array_equal(*(deformation(points, planes, s, None) for s in (speech, other)))
    assert float(jnp.abs(deformation.planes(2 * heard[:, ::-1], speech) - planes).max()) > 1e-3
    naive: Any = _networks(settings("tiny,model.deform.hears_mean=False,deform=nd"), moving=True)["deformation"]
    assert float(jnp.abs(naive(points, None, speech, None) - naive(points, None, other, None)).max()) > 1e-4


def _turned(pose: jax.Array, turn: np.ndarray) -> jax.Array:
    return pose @ jnp.asarray(turn.T, jnp.float32)


@pytest.mark.parametrize("moving", [False, True])
def test_turning_both_poses_is_invisible_while_nothing_is_moved(moving: bool) -> None:
    """Card 5.9 and 5.18: offsets are added along the axes of head space, so with them it is no invariance."""
    config = settings()
    networks, source, target = _networks(config, moving), _source(), _target(config)
    turn = Rotation.from_euler("zyx", [30, 20, 40], degrees=True).as_matrix()
    view = source.view._replace(rotation=_turned(source.view.rotation, turn))
    turned = target._replace(rotation=_turned(target.rotation, turn))
    pictures = [
        _picture(config, networks, source, target),
        _picture(config, networks, source._replace(view=view), turned),
    ]
    difference = float(jnp.abs(pictures[0].coarse - pictures[1].coarse).max())
    assert difference > 1e-3 if moving else difference < 1e-4


def test_rendering_is_deterministic_and_training_is_jittered() -> None:
    """Card 5.6."""
    config = settings("tiny,sampling=hierarchical")
    networks, source, target = _networks(config), _source(), _target(config)
    encoded = encode(networks, config.model, source)
    one, two, three, four = (
        picture(networks, config.model, encoded, target, key).coarse
        for key in (None, None, jax.random.key(0), jax.random.key(1))
    )
    np.testing.assert_array_equal(one, two)
    assert float(jnp.abs(three - four).max()) > 1e-5


def test_in_the_source_s_pose_its_own_colours_appear() -> None:
    """Card 5.7, end to end: an opaque field that shows the source's colours gives the masked source, made smaller."""
    config = settings()
    networks = _networks(config)
    out: Any = networks["decoder"].out  # type: ignore[attr-defined]
    out.kernel[...], out.bias[...] = jnp.zeros_like(out.kernel[...]), jnp.array([50.0, 0.0, 0.0, 0.0])
    ramp = jnp.linspace(0.1, 0.9, SIZE)
    shown = jnp.stack(jnp.broadcast_arrays(ramp[:, None], ramp[None, :], jnp.float32(0.5)), -1)
    source = _source()._replace(picture=shown[None])
    target = _target(config, turn=0.0)._replace(translation=source.view.translation)
    made_of = _picture(config, networks, source, target)
    expected = shown.reshape(8, 2, 8, 2, 3).mean((1, 3))
    np.testing.assert_allclose(made_of.coarse[0], expected, atol=3e-3)
    np.testing.assert_allclose(made_of.opacity, 1, atol=1e-3)


def test_rays_beside_the_face_are_black_and_need_no_evaluation() -> None:
    config = settings()
    config = dataclasses.replace(config, model=dataclasses.replace(config.model, face_rays=20))
    networks, source, target = _networks(config), _source(), _target(config, turn=0.0)
    all_rays = settings()
    some, whole = (_picture(c, networks, source, target) for c in (config, all_rays))
    black = np.asarray(some.opacity[0]) == 0
    assert black.sum() == 64 - 20
    np.testing.assert_allclose(some.coarse[0][~black], whole.coarse[0][~black], atol=1e-5)
    assert black[0].all() and black[:, 0].all()  # the face is in the middle


def test_planes_are_half_as_wide_from_level_to_level() -> None:
    """Equation 1 at the card's sizes: F0 at 128 pixels for 256, 32 channels a plane."""
    paper = read(s3d_nerf.get_config("paper")).model.encoder
    encoder = nnx.eval_shape(lambda: AppearanceEncoder(paper, nnx.Rngs(0)))
    found = nnx.eval_shape(lambda network: network(jnp.zeros((1, 256, 256, 3))), encoder)
    assert [x.shape for x in found] == [(1, 3, side, side, 32) for side in (128, 64, 32, 16)]


def test_encoded_once_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    """Card 5.20: pictures need nothing of the source but what `encode` made."""
    config = settings()
    networks, source = _networks(config), _source()
    encoded: Encoded = encode(networks, config.model, source)
    without = {name: module for name, module in networks.items() if name not in ("encoder", "slots")}
    expected = picture(networks, config.model, encoded, _target(config), None).fine
    np.testing.assert_array_equal(picture(without, config.model, encoded, _target(config), None).fine, expected)
