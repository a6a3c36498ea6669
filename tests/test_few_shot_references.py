"""What references show at a point: where it is looked up, how maps are warped, and that references are a set."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxtalk.few_shot.config import ModelConfig, ReferenceConfig, read
from jaxtalk.few_shot.networks import picture_networks
from jaxtalk.few_shot.picture import see, slot_noise
from jaxtalk.few_shot.references import Seen, Views, encode, look, warped
from jaxtalk.methods.api import Networks
from jaxtalk.nn.slot_attention import ReferenceAttention
from jaxtalk.ops.cameras import project, tracker_rotation
from jaxtalk.rays.rendering import rays_through
from tests.few_shot_case import compile_quickly, made, small_config

__all__ = ["compile_quickly"]
HEIGHT, WIDTH = 12, 16
CAMERA = np.array([30.0, 7.3, 6.2], np.float32)


def _model(**references: Any) -> ModelConfig:
    return ModelConfig(references=ReferenceConfig(**{"warp": "none", **references}))


def _poses(count: int, seed: int = 0) -> tuple[jax.Array, jax.Array]:
    rng = np.random.default_rng(seed)
    rotation = tracker_rotation(jnp.asarray(rng.uniform(-0.3, 0.3, (count, 3)), jnp.float32))
    translation = rng.uniform(-0.02, 0.02, (count, 3)) - np.array([0, 0, 0.8])
    return rotation, jnp.asarray(translation, jnp.float32)


def _places_map(scale: int = 1) -> jax.Array:
    """A map whose cells hold the pixel (x, y) of the picture that their centre lies at."""
    rows, columns = HEIGHT // scale, WIDTH // scale
    x, y = jnp.meshgrid(jnp.arange(columns) + 0.5, jnp.arange(rows) + 0.5)
    return scale * jnp.stack([x, y], -1)


def _views(maps: jax.Array, rotation: jax.Array, translation: jax.Array) -> Views:
    maps = jnp.broadcast_to(maps, (len(rotation), *maps.shape[-3:]))
    return Views(maps, maps, rotation, translation, jnp.asarray(CAMERA))


class Read:
    """In place of the slots: keeps what was read, and where."""

    def __call__(self, sampled: jax.Array, places: jax.Array, encoded: jax.Array, noise: Any) -> jax.Array:
        self.places = places
        return sampled  # [*batch, points, references, channels]


def _look(views: Views, points: jax.Array, model: ModelConfig | None = None, **networks: Any) -> tuple[Seen, Read]:
    read = Read()
    encoded, z = jnp.zeros((*points.shape[:-1], 3)), jnp.zeros(4)
    given = {"references": read, **networks}
    return look(given, model or _model(), views, points, encoded, z, None, (HEIGHT, WIDTH)), read


@pytest.mark.parametrize("scale", [1, 2])
def test_a_point_on_the_ray_of_a_pixel_is_read_at_that_pixel(scale: int) -> None:
    """Same pose: the place does not depend on the depth (card gdrf 5.3), in maps of the picture's size or half."""
    rotation, translation = _poses(1)
    column, row = np.meshgrid(np.arange(1, WIDTH - 1), np.arange(1, HEIGHT - 1))
    pixels = jnp.asarray(np.stack([column, row], -1).reshape(-1, 2) + 0.5, jnp.float32)
    bounds = jnp.ones((len(pixels), 2))
    rays = rays_through(pixels, rotation[0], translation[0], jnp.asarray(CAMERA), bounds)
    for depth in (0.5, 0.8, 2.0):
        points = rays.origins + depth * rays.directions
        seen, read = _look(_views(_places_map(scale), rotation, translation), points)
        np.testing.assert_allclose(seen.features[:, 0], pixels, atol=1e-3)
        # Exactly on an edge between pixels nothing is rounded: these are centres.
        expected = (pixels[:, ::-1] - 0.5) / jnp.array([HEIGHT, WIDTH])
        np.testing.assert_allclose(read.places[:, 0], expected, atol=1e-5)


def test_with_another_pose_it_is_read_where_the_camera_sees_it() -> None:
    """Card gdrf 2.6, written out: u = cx - f x / z, v = cy + f y / z, clamped to the picture."""
    rotation, translation = _poses(3)
    points = jnp.asarray(np.random.default_rng(1).uniform(-0.25, 0.25, (200, 3)), jnp.float32)
    seen, read = _look(_views(_places_map(), rotation, translation), points)
    outside = 0
    for view in range(3):
        local = np.asarray(points) @ np.asarray(rotation[view]).T + np.asarray(translation[view])
        focal, cx, cy = CAMERA
        expected = np.stack([cx - focal * local[:, 0] / local[:, 2], cy + focal * local[:, 1] / local[:, 2]], -1)
        np.testing.assert_allclose(
            project(points, rotation[view], translation[view], jnp.asarray(CAMERA))[0], expected, atol=1e-3
        )
        limit = np.array([WIDTH, HEIGHT])
        inside = np.clip(expected, 0.5, limit - 0.5)
        outside += int(np.any(inside != expected, -1).sum())
        np.testing.assert_allclose(seen.features[:, view], inside, atol=1e-3)
        assert np.all((read.places[:, view] >= 0) & (read.places[:, view] < 1))
    assert 0 < outside < 600


def test_a_batch_looks_each_into_its_own_references() -> None:
    rotation, translation = _poses(6)
    points = jnp.asarray(np.random.default_rng(2).uniform(-0.1, 0.1, (2, 5, 3)), jnp.float32)
    maps = jnp.broadcast_to(_places_map(), (2, 3, HEIGHT, WIDTH, 2))
    rotation, translation = rotation.reshape(2, 3, 3, 3), translation.reshape(2, 3, 3)
    cameras = jnp.stack([jnp.asarray(CAMERA), jnp.asarray(CAMERA) + 1])
    model, read = _model(), Read()
    seen = look({"references": read}, model, Views(maps, maps, rotation, translation, cameras), points,
                jnp.zeros((2, 5, 3)), jnp.zeros((2, 4)), None, (HEIGHT, WIDTH))  # fmt: skip
    for item in range(2):
        views = Views(maps[item], maps[item], rotation[item], translation[item], cameras[item])
        alone, _ = _look(views, points[item])
        np.testing.assert_allclose(seen.features[item], alone.features, atol=1e-5)


def test_point_offsets_move_the_rounded_place() -> None:
    """Card gdrf A.2: offsets in pixels are added to the rounded (row, column), and the warped place is told on."""
    rotation, translation = _poses(2)
    points = jnp.asarray(np.random.default_rng(3).uniform(-0.05, 0.05, (40, 3)), jnp.float32)
    offset = jnp.array([2.25, -1.5])
    seen, read = _look(
        _views(_places_map(), rotation, translation),
        points,
        _model(warp="dfrf_point"),
        warp=lambda x: jnp.broadcast_to(offset, (*x.shape[:-1], 2)),
    )
    for view in range(2):
        pixels = project(points, rotation[view], translation[view], jnp.asarray(CAMERA))[0]
        expected = jnp.floor(pixels) + 0.5 + offset
        np.testing.assert_allclose(seen.features[:, view], expected, atol=1e-4)
        row_column = jnp.floor(expected)[:, ::-1] / jnp.array([HEIGHT, WIDTH])
        np.testing.assert_allclose(read.places[:, view], row_column, atol=1e-6)
    np.testing.assert_allclose(seen.offset, jnp.broadcast_to(offset, (2, 40, 2)))


def test_point_offsets_read_point_code_and_nearest_feature_without_a_gradient_to_the_latter_two() -> None:
    rotation, translation = _poses(1)
    points = jnp.asarray(np.random.default_rng(4).uniform(-0.05, 0.05, (6, 3)), jnp.float32)
    encoded, code = jnp.arange(18.0).reshape(6, 3), jnp.array([5.0, 7.0])
    given: list[jax.Array] = []

    def offset(x: jax.Array) -> jax.Array:
        given.append(x)
        return 0.1 * x[..., -2:] + 0.1 * x[..., 3:5] + 0.1 * x[..., :2]

    def offsets(maps: jax.Array, code: jax.Array, encoded: jax.Array) -> jax.Array:
        networks = {"references": Read(), "warp": offset}
        seen = look(networks, _model(warp="dfrf_point"), _views(maps, rotation, translation), points, encoded, code,
                    None, (HEIGHT, WIDTH))  # fmt: skip
        assert seen.offset is not None
        return seen.offset.sum()

    to_maps, to_code, to_encoded = jax.grad(offsets, (0, 1, 2))(_places_map(), code, encoded)
    assert not to_maps.any() and not to_code.any() and to_encoded.any()
    offsets(_places_map(), code, encoded)
    (x,) = given[-1]
    np.testing.assert_array_equal(x[:, :3], encoded)
    np.testing.assert_array_equal(x[:, 3:5], jnp.broadcast_to(code, (6, 2)))
    pixels = project(points, rotation[0], translation[0], jnp.asarray(CAMERA))[0]
    np.testing.assert_allclose(x[:, 5:], jnp.floor(pixels) + 0.5)


@pytest.mark.parametrize("stride", [1, 2])
def test_an_integer_flow_shows_the_cells_beside(stride: int) -> None:
    """Equation 9: flow (1, 0) shows what stands one cell to the right, flow (0, 1) one below; each view its own."""
    maps = jax.random.normal(jax.random.key(0), (2, 8, 8, 3))
    asked: list[tuple[jax.Array, jax.Array]] = []

    def hourglass(features: jax.Array, steer: jax.Array) -> jax.Array:
        asked.append((features, steer))
        flow = jnp.stack([jnp.array([1.0, 0.0]), jnp.array([0.0, 1.0])])
        return jnp.broadcast_to(flow[:, None, None], (2, 8, 8, 2))

    views = Views(2 * maps, maps, *_poses(2), jnp.asarray(CAMERA))
    z = jnp.arange(4.0)
    moved = warped({"warp": hourglass}, _model(warp="feature", warp_stride=stride), views, z, None)
    np.testing.assert_allclose(moved.maps[0, :, :-1], maps[0, :, 1:], atol=1e-6)
    np.testing.assert_allclose(moved.maps[1, :-1], maps[1, 1:], atol=1e-6)
    np.testing.assert_array_equal(moved.features, views.features)
    ((features, steer),) = asked
    np.testing.assert_array_equal(steer, jnp.stack([z, z]))
    means = np.asarray(2 * maps).reshape(2, 8 // stride, stride, 8 // stride, stride, 3).mean((2, 4))
    np.testing.assert_allclose(features, means, atol=1e-6)


def test_source_and_target_steer_the_flow_of_each_reference() -> None:
    maps = jnp.zeros((3, 2, 8, 8, 3))
    views = Views(maps, maps, jnp.zeros((3, 2, 3, 3)), jnp.zeros((3, 2, 3)), jnp.zeros((3, 3)))
    z, source_z = jnp.arange(12.0).reshape(3, 4), jnp.arange(24.0).reshape(3, 2, 4) + 100
    asked: list[jax.Array] = []

    def hourglass(features: jax.Array, steer: jax.Array) -> jax.Array:
        asked.append(steer)
        return jnp.zeros((*features.shape[:-1], 2))

    model = _model(warp="feature", flow_cond="source_target")
    warped({"warp": hourglass}, model, views, z, source_z)
    np.testing.assert_array_equal(asked[0][..., :4], source_z)
    np.testing.assert_array_equal(asked[0][..., 4:], jnp.repeat(z[:, None], 2, 1))
    assert warped({}, _model(warp="none"), views, z, None) is views


def test_encoding_smaller_pictures_keeps_places_and_names_the_camera_s_place() -> None:
    """`feature_scale`: the maps are smaller, and a point is still read where the camera sees it."""
    rotation, translation = _poses(2)
    images = jnp.concatenate([_places_map(), jnp.zeros((HEIGHT, WIDTH, 1))], -1)
    images = jnp.broadcast_to(images, (2, *images.shape))
    centres: list[jax.Array] = []

    def encoder(images: jax.Array, centre: jax.Array) -> jax.Array:
        centres.append(centre)
        return images

    gather = ReferenceAttention(3, 3, width=3, hidden=2, project=False, rngs=nnx.Rngs(0))
    networks = {"encoder": encoder, "references": gather}
    views = encode(networks, _model(feature_scale=0.5), images, rotation, translation, jnp.asarray(CAMERA))
    assert views.maps.shape == (2, HEIGHT // 2, WIDTH // 2, 3)
    points = jnp.asarray(np.random.default_rng(5).uniform(-0.06, 0.06, (30, 3)), jnp.float32)
    seen, _ = _look(views, points)
    for view in range(2):
        pixels = project(points, rotation[view], translation[view], jnp.asarray(CAMERA))[0]
        np.testing.assert_allclose(seen.features[:, view, :2], pixels, atol=1e-3)
        # The camera's place is what the pose takes to the origin.
        np.testing.assert_allclose(rotation[view] @ centres[0][view] + translation[view], 0, atol=1e-6)


@functools.cache
def _real(arguments: str) -> tuple[ModelConfig, Networks]:
    """Networks whose every parameter is moved, so that what starts at zero counts."""
    config = small_config(f"tiny,{arguments}")
    config.model.references.iterations = 2
    model = read(config).model
    networks = made(functools.partial(picture_networks, model))
    random = np.random.default_rng(0)
    for module in networks.values():
        state = nnx.state(module, nnx.Param)
        nnx.update(module, jax.tree.map(lambda p: p + 0.2 * random.normal(size=p.shape).astype(np.float32), state))
    return model, networks


@functools.cache
def _picture_program(arguments: str) -> Any:
    model, networks = _real(arguments)
    split = {name: nnx.split(module) for name, module in networks.items()}
    states = {name: state for name, (_, state) in split.items()}

    @jax.jit
    def picture(states: Any, images: jax.Array, rotation: jax.Array, translation: jax.Array) -> jax.Array:
        modules = {name: nnx.merge(graph, states[name]) for name, (graph, _) in split.items()}
        z = jnp.linspace(-1, 1, model.condition_size)
        source = jnp.mean(images, (1, 2, 3))[:, None] * z if model.references.flow_cond == "source_target" else None
        camera = jnp.array([35.0, 8.0, 8.0])
        views = encode(modules, model, images, rotation, translation, camera)
        views = warped(modules, model, views, z, source)
        column, row = jnp.meshgrid(jnp.arange(3, 13, 2) + 0.5, jnp.arange(3, 13, 2) + 0.5)
        pixels = jnp.stack([column, row], -1).reshape(-1, 2)
        bounds = jnp.broadcast_to(jnp.array([0.7, 0.9]), pixels.shape)
        rays = rays_through(pixels, jnp.eye(3), jnp.array([0.0, 0.0, -0.8]), camera, bounds)
        noise = slot_noise(model, None)
        seen, _ = see(modules, model, views, z, rays, jnp.zeros((len(pixels), 3)), noise, None, (16, 16))
        return seen[-1].color

    return functools.partial(picture, states)


@pytest.mark.parametrize(
    "arguments", ["warp=feature,flow_cond=source_target", "warp=dfrf_point,model.references.slot_init=shared"]
)
def test_the_picture_does_not_depend_on_the_order_of_any_number_of_references(arguments: str) -> None:
    """Card gdrf 5.6: with one set of weights."""
    picture = _picture_program(arguments)
    images = jax.random.uniform(jax.random.key(0), (5, 16, 16, 3))
    rotation, translation = _poses(5)
    pictures = {}
    for count in (1, 2, 5):
        given = images[:count], rotation[:count], translation[:count]
        pictures[count] = picture(*given)
        order = np.roll(np.arange(count), 1)[::-1]
        np.testing.assert_allclose(picture(*(part[order] for part in given)), pictures[count], atol=2e-5)
    assert np.all(np.isfinite(pictures[1]))
    assert min(np.abs(pictures[a] - pictures[b]).max() for a, b in ((1, 2), (2, 5))) > 1e-3
    # It is no set of pictures beside a set of poses: another picture at a pose is another person.
    mixed = picture(images[np.array([1, 0])], rotation[:2], translation[:2])
    assert np.abs(mixed - pictures[2]).max() > 1e-3


def test_noise_of_rendering_is_one_draw_and_training_draws_anew() -> None:
    """Card gdrf 2.7: the same for all points and frames, or pictures flicker; never zero on a shared mean."""
    shared = _model(slot_init="shared", width=6, slots=3)
    first, again = slot_noise(shared, None), slot_noise(shared, None)
    assert first is not None and first.shape == (3, 6) and float(jnp.abs(first).min()) > 0
    np.testing.assert_array_equal(first, again)
    drawn = slot_noise(shared, jax.random.key(3), (4,))
    assert drawn is not None and drawn.shape == (4, 3, 6) and len(np.unique(np.asarray(drawn)[:, 0, 0])) == 4
    other = slot_noise(shared, jax.random.key(4), (4,))
    assert other is not None and float(jnp.abs(other - drawn).min()) > 0
    assert slot_noise(dataclasses.replace(shared, references=ReferenceConfig(slot_init="per_slot")), None) is None
