"""Sampling of maps: against loops over cells, finite differences, and what zero and whole flows must give."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxtalk.ops.grid_sample import bilinear, nearest, resize, warp


def _maps(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def _slow(picture: np.ndarray, x: float, y: float) -> np.ndarray:
    """A tent of two cells' width around every cell: the definition of bilinear interpolation."""
    height, width, _ = picture.shape
    x, y = np.clip(x, 0.5, width - 0.5), np.clip(y, 0.5, height - 0.5)
    total = np.zeros(picture.shape[-1])
    for row in range(height):
        for column in range(width):
            weight = max(0, 1 - abs(x - column - 0.5)) * max(0, 1 - abs(y - row - 0.5))
            total += weight * picture[row, column]
    return total


@pytest.mark.parametrize("size", [(5, 7), (1, 4), (4, 1), (1, 1), (2, 2)])
def test_bilinear_is_its_definition_inside_and_outside(size: tuple[int, int]) -> None:
    maps = _maps(2, 3, *size, 4)
    xy = np.random.default_rng(1).uniform(-2, 9, (2, 3, 20, 2)).astype(np.float32)
    xy[..., :4, :] = [[0.5, 0.5], [size[1] - 0.5, size[0] - 0.5], [1.5, 0.5], [1.0, 1.0]]
    result = bilinear(jnp.asarray(maps), jnp.asarray(xy))
    assert result.shape == (2, 3, 20, 4)
    for i in np.ndindex(2, 3):
        expected = [_slow(maps[i], x, y) for x, y in xy[i]]
        np.testing.assert_allclose(result[i], expected, atol=1e-5)


def test_centres_give_the_cells_themselves() -> None:
    maps = _maps(6, 9, 2)
    centres = np.stack(np.meshgrid(np.arange(9) + 0.5, np.arange(6) + 0.5), -1).reshape(-1, 2)
    for sample in (bilinear, nearest):
        np.testing.assert_array_equal(sample(jnp.asarray(maps), jnp.asarray(centres, jnp.float32)), maps.reshape(-1, 2))


def test_gradients_against_finite_differences() -> None:
    maps, seed = _maps(2, 5, 6, 3), np.random.default_rng(2)
    xy = seed.uniform(0.6, 4.4, (2, 30, 2)).astype(np.float32)
    xy = np.where(np.abs((xy - 0.5) % 1 - 0.5) > 0.48, xy + 0.1, xy)  # away from the kinks
    xy[:, :10] = xy[:, :1]  # many places in one cell: their gradients add up
    share = seed.normal(size=(2, 30, 3)).astype(np.float32)

    def value(maps: jax.Array, xy: jax.Array) -> jax.Array:
        return (bilinear(maps, xy) * share).sum()

    to_maps, to_places = jax.grad(value, argnums=(0, 1))(jnp.asarray(maps), jnp.asarray(xy))
    direction = _maps(2, 5, 6, 3, seed=3)
    # Linear in the maps: the derivative along any direction is the value there.
    np.testing.assert_allclose((to_maps * direction).sum(), value(direction, xy), rtol=1e-4)
    step = 1e-3
    for axis in range(2):
        shift = step * np.eye(2, dtype=np.float32)[axis]
        above, below = (np.asarray(bilinear(maps, xy + s)) for s in (shift, -shift))
        expected = ((above - below) * share).sum(-1) / (2 * step)
        np.testing.assert_allclose(to_places[..., axis], expected, atol=5e-3)


def test_gradient_of_every_cell_one_by_one() -> None:
    maps, xy = _maps(4, 3, 1), np.random.default_rng(4).uniform(-1, 5, (12, 2)).astype(np.float32)
    gradient = jax.grad(lambda m: bilinear(m, xy).sum())(jnp.asarray(maps))
    for cell in np.ndindex(4, 3):
        one = np.zeros((4, 3, 1), np.float32)
        one[cell] = 1
        np.testing.assert_allclose(gradient[cell][0], sum(_slow(one, x, y)[0] for x, y in xy), atol=1e-5)


def test_no_gradient_to_places_outside_nor_through_nearest() -> None:
    maps = jnp.asarray(_maps(4, 4, 2))
    outside = jnp.array([[-3.0, 2.2], [9.0, 2.2], [2.2, -1.0], [2.2, 7.0]])
    gradient = np.asarray(jax.grad(lambda xy: bilinear(maps, xy).sum())(outside))
    np.testing.assert_array_equal(gradient[[0, 1], 0], 0)
    np.testing.assert_array_equal(gradient[[2, 3], 1], 0)
    assert np.all(gradient[[0, 1], 1] != 0) and np.all(gradient[[2, 3], 0] != 0)
    np.testing.assert_array_equal(jax.grad(lambda xy: nearest(maps, xy).sum())(outside), 0)


def test_nearest_reads_the_cell_that_holds_the_place() -> None:
    maps = _maps(3, 5, 8, 2)
    xy = np.random.default_rng(5).uniform(-3, 11, (3, 40, 2)).astype(np.float32)
    result = nearest(jnp.asarray(maps), jnp.asarray(xy))
    for i in range(3):
        for place, value in zip(xy[i], np.asarray(result[i]), strict=True):
            column, row = (int(np.clip(np.floor(c), 0, size - 1)) for c, size in zip(place, (8, 5), strict=True))
            np.testing.assert_array_equal(value, maps[i, row, column])
    gradient = jax.grad(lambda m: nearest(m, xy).sum())(jnp.asarray(maps))
    assert float(gradient.sum()) == 3 * 40 * 2


def test_low_precision_gradients_are_summed_in_full() -> None:
    """4,096 shares of one cell: summed in bfloat16 they would stop growing at 256."""
    maps = jnp.zeros((1, 1, 1), jnp.bfloat16)
    gradient = jax.grad(lambda m: bilinear(m, jnp.full((4096, 2), 0.5)).sum().astype(jnp.float32))(maps)
    assert gradient.dtype == jnp.bfloat16 and float(gradient[0, 0, 0]) == 4096


def test_zero_flow_is_the_identity() -> None:
    """Card gdrf 5.5, for flows of the maps' size and coarser, even ones that do not divide it."""
    maps = _maps(2, 9, 12, 3)
    for size in ((9, 12), (3, 4), (2, 5), (1, 1)):
        np.testing.assert_allclose(warp(jnp.asarray(maps), jnp.zeros((2, *size, 2))), maps, atol=1e-6)


def test_whole_flow_shows_the_next_cell() -> None:
    maps = _maps(2, 6, 7, 3)
    right = warp(jnp.asarray(maps), jnp.broadcast_to(jnp.array([1.0, 0.0]), (2, 6, 7, 2)))
    np.testing.assert_allclose(right, maps[:, :, [1, 2, 3, 4, 5, 6, 6]], atol=1e-5)
    down = warp(jnp.asarray(maps), jnp.broadcast_to(jnp.array([0.0, 1.0]), (2, 6, 7, 2)))
    np.testing.assert_allclose(down, maps[:, [1, 2, 3, 4, 5, 5]], atol=1e-5)


def test_coarse_flow_counts_in_its_own_cells() -> None:
    """One cell of a 3 x 5 flow spans (13 - 1) / (5 - 1) = 3 columns and (9 - 1) / (3 - 1) = 4 rows of 9 x 13 maps."""
    maps = _maps(1, 9, 13, 2)
    flow = jnp.broadcast_to(jnp.array([1.0, 1.0]), (1, 3, 5, 2))
    np.testing.assert_allclose(warp(jnp.asarray(maps), flow)[:, :5, :10], maps[:, 4:, 3:], atol=1e-5)
    # Normalised as in the card: identity + 2 flow / (size - 1), upsampled, then read with corners at -1 and 1.
    flow = 0.3 * _maps(1, 3, 5, 2, seed=6)
    grid = np.stack(np.meshgrid(np.linspace(-1, 1, 5), np.linspace(-1, 1, 3)), -1) + 2 * flow[0] / [4, 2]
    fine = np.stack(
        [
            [[_slow(grid, 0.5 + x / 3, 0.5 + y / 4) for x in range(13)] for y in range(9)],
        ]
    )
    expected = [_slow(maps[0], 0.5 + (u + 1) / 2 * 12, 0.5 + (v + 1) / 2 * 8) for u, v in fine.reshape(-1, 2)]
    np.testing.assert_allclose(warp(jnp.asarray(maps), jnp.asarray(flow)).reshape(-1, 2), expected, atol=1e-4)


def test_resize_keeps_corners_and_straight_lines() -> None:
    rows, columns = np.meshgrid(np.arange(4.0), np.arange(3.0), indexing="ij")
    ramp = np.stack([rows, columns], -1)[None].astype(np.float32)
    large = np.asarray(resize(jnp.asarray(ramp), (7, 9)))[0]
    rows, columns = np.meshgrid(np.linspace(0, 3, 7), np.linspace(0, 2, 9), indexing="ij")
    np.testing.assert_allclose(large, np.stack([rows, columns], -1), atol=1e-6)


def test_flow_learns_where_the_picture_went() -> None:
    """A gradient descends to the shift: the sign and the scale of the flow's gradient are right."""
    y, x = np.mgrid[:16, :16]
    picture = np.exp(-((x - 6) ** 2 + (y - 8) ** 2) / 18)[..., None].astype(np.float32)
    target = np.exp(-((x - 4.5) ** 2 + (y - 9) ** 2) / 18)[..., None]  # moved by (-1.5, 1)

    def loss(flow: jax.Array) -> jax.Array:
        shown = warp(jnp.asarray(picture), jnp.broadcast_to(flow, (16, 16, 2)))
        return jnp.square(shown - target).sum()

    flow, descend = jnp.zeros(2), jax.jit(jax.grad(loss))
    for _ in range(60):
        flow = flow - 0.08 * descend(flow)
    np.testing.assert_allclose(flow, [1.5, -1.0], atol=0.1)
