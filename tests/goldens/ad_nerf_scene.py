"""What ad_nerf.npz was rendered with, in the conventions of the published code; nothing here needs torch."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from tests.goldens.drawn import uniform, weights

SIZE, FOCAL = 12, 26.0  # pixels; the centre of the picture is (SIZE / 2, SIZE / 2), centres of pixels at whole numbers
FRAMES, PICTURES = 16, (5, 9)  # of the clip; the frames that are rendered
NEAR, FAR = 0.55, 1.15
COARSE, FINE = 64, 128
SKIPPED = 6  # one pixel in so many is rendered by DFRF, whose points cost much
WIDTH = 32  # of the fields, 256 as published


def camera_to_world(frame: int) -> np.ndarray:
    """[4, 4] of a frame: the camera is about 0.8 units before the head."""
    x, y, z = uniform(f"angles {frame}", (3,), -0.2, 0.2).astype(np.float64)
    turn_x = np.array([[1, 0, 0], [0, np.cos(x), -np.sin(x)], [0, np.sin(x), np.cos(x)]])
    turn_y = np.array([[np.cos(y), 0, np.sin(y)], [0, 1, 0], [-np.sin(y), 0, np.cos(y)]])
    turn_z = np.array([[np.cos(z), -np.sin(z), 0], [np.sin(z), np.cos(z), 0], [0, 0, 1]])
    turn = turn_x @ turn_y @ turn_z  # camera to world
    place = np.array([0, 0, 0.8]) + uniform(f"place {frame}", (3,), -0.03, 0.03)
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = turn, turn @ place
    return matrix


def speech() -> np.ndarray:
    """Windows [FRAMES, 16, 29], two rows apart, of one recording."""
    rows = uniform("speech", (2 * FRAMES + 14, 29), -1, 1)
    return np.stack([rows[2 * i : 2 * i + 16] for i in range(FRAMES)])


def background() -> np.ndarray:
    """[SIZE, SIZE, 3] in [0, 1], in steps of 1/255."""
    return (np.round(255 * uniform("background", (SIZE, SIZE, 3))) / 255).astype(np.float32)


def noise() -> np.ndarray:
    """[2, 128] from which the slots start."""
    return uniform("noise", (2, 128), -1.5, 1.5)


# Added to the densities, which drawn networks give one sign: so that rays see into, and not through, what is there.
DENSITY = {
    "head/network_fine_state_dict": -6.0,
    "dfrf/network_fine_state_dict/nerf_model": 31.0,
}
_GAINS = {"alpha_linear": 12.0, "slots_logsigma": 0.3, "fc1.0.weight": 0.3}


def state(entry: str, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    """The arrays of an entry of a checkpoint: densities that can be seen over half a metre, offsets of a few pixels,
    and places that do not drown features."""
    drawn = weights({f"{entry}/{name}": tuple(shape) for name, shape in shapes.items()})
    found = {name.removeprefix(f"{entry}/"): array for name, array in drawn.items()}
    for name in found:
        gain = 4.0 if "warp" in entry and "mlp.4" in name else 1.0
        gain *= float(np.prod([factor for part, factor in _GAINS.items() if part in name]))
        found[name] = np.float32(gain) * found[name]
    if entry in DENSITY:
        found["alpha_linear.bias"] = found["alpha_linear.bias"] + np.float32(DENSITY[entry])
    return found
