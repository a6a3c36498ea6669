"""Pinhole cameras and poses in the conventions of `jaxtalk.clip`.

A pose is head to camera: x_cam = R x_head + t, OpenGL axes, t_z < 0. An intrinsic is a vector (focal, cx, cy) in
pixels. The centre of pixel (column c, row r) is at (c + 0.5, r + 0.5).
"""

from __future__ import annotations

from functools import partial

import jax.numpy as jnp
from jaxtyping import Array, Float

# Accelerators multiply float32 in fewer bits unless told otherwise: a camera's place would be off by a millimetre.
_einsum = partial(jnp.einsum, precision="highest")


def camera_to_world(
    rotation: Float[Array, "*batch 3 3"], translation: Float[Array, "*batch 3"]
) -> Float[Array, "*batch 4 4"]:
    """The 4 x 4 camera-to-world matrix, inverse of the pose: [R^T, -R^T t]."""
    transposed = jnp.swapaxes(rotation, -1, -2)
    centre = -_einsum("...ij,...j->...i", transposed, translation)
    top = jnp.concatenate([transposed, centre[..., None]], -1)
    bottom = jnp.broadcast_to(jnp.array([0.0, 0.0, 0.0, 1.0], top.dtype), (*top.shape[:-2], 1, 4))
    return jnp.concatenate([top, bottom], -2)


def head_to_camera(
    matrix: Float[Array, "*batch 4 4"],
) -> tuple[Float[Array, "*batch 3 3"], Float[Array, "*batch 3"]]:
    """The pose (R, t) of a camera-to-world matrix: inverse of `camera_to_world`."""
    rotation = jnp.swapaxes(matrix[..., :3, :3], -1, -2)
    return rotation, -_einsum("...ij,...j->...i", rotation, matrix[..., :3, 3])


def tracker_rotation(euler: Float[Array, "*batch 3"]) -> Float[Array, "*batch 3 3"]:
    """R = Rx(theta) Ry(phi) Rz(-psi) of AD-NeRF's face tracker (card gdrf 3), angles in radians."""
    (sx, sy, sz), (cx, cy, cz) = (jnp.moveaxis(f(euler), -1, 0) for f in (jnp.sin, jnp.cos))
    rows = [
        [cy * cz, cy * sz, sy],
        [sx * sy * cz - cx * sz, sx * sy * sz + cx * cz, -sx * cy],
        [-cx * sy * cz - sx * sz, -cx * sy * sz + sx * cz, cx * cy],
    ]
    return jnp.stack([jnp.stack(row, -1) for row in rows], -2)


def deep3d_camera(angle: Float[Array, "*batch 3"], translation: Float[Array, "*batch 3"]) -> Float[Array, "*batch 4 4"]:
    """EG3D's label of a picture with Deep3D's pose: its 4 x 4 camera-to-world matrix (card s3d_nerf 3, 5.8).

    OpenCV axes (x right, y down, z forward) and EG3D's unit, in which cameras stand about 2.7 from the head's centre.

    Args:
        angle: radians about x, y, z: the head is turned by Rz Ry Rx.
        translation: decimetres, as Deep3D gives it: the 10 between head and camera are not in it.
    """
    (sx, sy, sz), (cx, cy, cz) = (jnp.moveaxis(f(angle), -1, 0) for f in (jnp.sin, jnp.cos))
    rows = [
        [cy * cz, sx * sy * cz - cx * sz, cx * sy * cz + sx * sz],
        [cy * sz, sx * sy * sz + cx * cz, cx * sy * sz - sx * cz],
        [-sy, sx * cy, cx * cy],
    ]
    rotation = jnp.stack([jnp.stack(row, -1) for row in rows], -2)
    matrix = camera_to_world(rotation, translation - jnp.array([0.0, 0.0, 10.0]))
    centre = 0.27 * matrix[..., :3, 3] + jnp.array([0.0, 0.006, 0.161])
    axes = matrix[..., :3, :3] * jnp.array([1.0, -1.0, -1.0])
    return matrix.at[..., :3, :].set(jnp.concatenate([axes, centre[..., None]], -1))


def torso_euler(matrix: Float[Array, "*batch 4 4"]) -> Float[Array, "*batch 3"]:
    """Angles of a camera-to-world matrix as AD-NeRF's torso field reads them (card gdrf A.1).

    (atan2(R22, R12), asin(-R02), atan2(R00, -R01)): off by pi/2 from the usual ones, kept so that weights carry over.
    """
    r = matrix
    return jnp.stack(
        [
            jnp.arctan2(r[..., 2, 2], r[..., 1, 2]),
            jnp.arcsin(jnp.clip(-r[..., 0, 2], -1.0, 1.0)),
            jnp.arctan2(r[..., 0, 0], -r[..., 0, 1]),
        ],
        -1,
    )


def project(
    points: Float[Array, "*batch points 3"],
    rotation: Float[Array, "*batch 3 3"],
    translation: Float[Array, "*batch 3"],
    camera: Float[Array, "*batch 3"],
) -> tuple[Float[Array, "*batch points 2"], Float[Array, "*batch points"]]:
    """Pixels (u, v) and depths (distance along the viewing axis, positive in front) of points in head space."""
    local = _einsum("...ij,...pj->...pi", rotation, points) + translation[..., None, :]
    depth = -local[..., 2]
    focal, centre = camera[..., None, :1], camera[..., None, 1:]
    return centre + focal * local[..., :2] * jnp.array([1.0, -1.0]) / depth[..., None], depth


def pixel_rays(
    pixels: Float[Array, "*batch rays 2"],
    rotation: Float[Array, "*batch 3 3"],
    translation: Float[Array, "*batch 3"],
    camera: Float[Array, "*batch 3"],
) -> tuple[Float[Array, "*batch 3"], Float[Array, "*batch rays 3"]]:
    """Origin and directions, in head space, of the rays through `pixels` (u, v).

    Directions are not normalised: their part along the viewing axis is 1, so that origin + depth * direction lies at
    that depth.
    """
    focal, centre = camera[..., None, :1], camera[..., None, 1:]
    plane = (pixels - centre) / focal * jnp.array([1.0, -1.0])
    local = jnp.concatenate([plane, -jnp.ones_like(plane[..., :1])], -1)
    directions = _einsum("...ji,...rj->...ri", rotation, local)
    return -_einsum("...ji,...j->...i", rotation, translation), directions
