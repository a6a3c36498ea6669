"""Three feature planes in a source camera's frame, and what they hold at points in space (card s3d_nerf 2.2, eq. 2).

The planes are xy, yz and xz (in this order) of the frame of the picture that they were made from: x to the picture's
right, y down, z away from the camera. Coordinates are -1 .. 1 across a plane; those of x and y reach the picture's
borders, so that the plane xy lies on the picture, and those of z reach the front and the back of a box around the
head's centre.
"""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxtalk.ops.cameras import project
from jaxtalk.ops.grid_sample import bilinear

AXES = ((0, 1), (1, 2), (0, 2))  # columns and rows of the planes xy, yz, xz
PROJECTIONS = ("orthographic", "perspective")


class View(NamedTuple):
    """The camera of the picture that planes were made from. Batch axes lead."""

    rotation: Array  # [*batch, 3, 3] head to camera
    translation: Array  # [*batch, 3] metres
    camera: Array  # [*batch, 3] focal, cx, cy, pixels of a picture of `size`


def plane_coordinates(
    points: Float[Array, "*batch points 3"], view: View, size: tuple[int, int], box: float, projection: str
) -> Float[Array, "*batch points 3"]:
    """Where points in head space, metres, lie in the planes of a source picture.

    Args:
        size: height and width of the picture, pixels.
        box: how far the planes reach along the viewing axis, metres, around the depth of the head's centre.
        projection: "perspective" divides x and y by each point's own depth, which is exact: the ray of a pixel of the
            source reads that pixel. "orthographic" divides by the depth of the head's centre.
    """
    if projection not in PROJECTIONS:
        raise ValueError(f"projection must be one of {PROJECTIONS}, not {projection!r}")
    pixels, depth = project(points, *view)
    centre = -view.translation[..., None, 2]
    if projection == "orthographic":
        middle = view.camera[..., None, 1:]
        pixels = middle + (pixels - middle) * (depth / centre)[..., None]
    across = 2 * pixels / jnp.array([size[1], size[0]]) - 1
    along = (depth - centre) * (2 / box)
    return jnp.concatenate([across, along[..., None]], -1)


def sample_planes(
    planes: Float[Array, "*batch planes height width channels"], coordinates: Float[Array, "*batch points 3"]
) -> Float[Array, "*batch points channels"]:
    """The mean over the planes, of which there may be the first alone, of what they hold at a point: bilinear, borders
    at the edges of the outer cells, zero outside (grid_sample with align_corners=False and zero padding)."""
    places = jnp.stack([coordinates[..., jnp.array(axes)] for axes in AXES[: planes.shape[-4]]], -3)
    return sample_zero_padded(planes, places).mean(-3)


def sample_zero_padded(
    maps: Float[Array, "*batch height width channels"], places: Float[Array, "*batch points 2"]
) -> Float[Array, "*batch points channels"]:
    """Bilinear samples at places (x, y) in -1 .. 1 across the map, zero outside."""
    height, width = maps.shape[-3:-1]
    padded = jnp.pad(maps, [(0, 0)] * (maps.ndim - 3) + [(1, 1), (1, 1), (0, 0)])
    return bilinear(padded, (places + 1) * jnp.array([width / 2, height / 2]) + 1)
