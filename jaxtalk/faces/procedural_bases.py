"""How the procedural head varies between people and moves: displacement fields over its neutral shape.

Identity fields are per unit of a coefficient with unit variance, expression fields per unit of a coefficient in [0, 1].
Expressions bear ARKit's names; `tongueUp` (for l, n, th) has no counterpart there. Lengths are metres.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from jaxtalk.faces import procedural_head as shape
from jaxtalk.faces import procedural_parts as parts
from jaxtalk.faces.procedural_head import gauss, smoothstep

Field = Callable[[np.ndarray], np.ndarray]  # points [V, 3] -> displacement [V, 3]
JAW_ANGLE = np.deg2rad(15.0)
JAW_HINGE = np.array([0.0, -0.010, 0.0])


def _vector(x: np.ndarray | float, y: np.ndarray | float, z: np.ndarray | float, like: np.ndarray) -> np.ndarray:
    return np.stack([np.broadcast_to(np.asarray(c, np.float64), like.shape) for c in (x, y, z)], -1)


def _front(p: np.ndarray) -> np.ndarray:
    return smoothstep(p[:, 2], 0.0, 0.05)


def _eye_window(p: np.ndarray) -> np.ndarray:
    """1 over an eye's whole opening and ball, so that both move as one."""
    x, y = np.abs(p[:, 0]) - shape.EYE_X, p[:, 1] - shape.EYE_HEIGHT
    return np.exp(-(((x / 0.021) ** 2 + (y / 0.018) ** 2) ** 3)) * _front(p)


def _eye_scale(p: np.ndarray) -> np.ndarray:
    offset = p - shape.EYE_CENTRE * np.stack([np.sign(p[:, 0]), np.ones(len(p)), np.ones(len(p))], -1)
    return 0.07 * _eye_window(p)[:, None] * offset * [1, 1, 0.4]


def _lip_fullness(p: np.ndarray) -> np.ndarray:
    y = p[:, 1] - shape.MOUTH_HEIGHT
    near = np.exp(-((y / 0.014) ** 4)) * np.clip(1 - (p[:, 0] / 0.034) ** 2, 0, 1) * smoothstep(p[:, 2], 0.055, 0.075)
    return _vector(0, 0.0022 * np.tanh(y / 0.004) * near, 0.0016 * np.tanh((y / 0.005) ** 2) * near, y)


def _identity_fields() -> dict[str, Field]:
    def window(p: np.ndarray, x: float, y: float, wx: float, wy: float) -> np.ndarray:
        return gauss(np.abs(p[:, 0]), x, wx) * gauss(p[:, 1], y, wy) * _front(p)

    def along(axis: int, amount: Callable[[np.ndarray], np.ndarray]) -> Field:
        return lambda p: np.eye(3)[axis] * amount(p)[:, None]

    return {
        "headWidth": along(0, lambda p: 0.035 * p[:, 0]),
        "headLength": along(1, lambda p: 0.035 * p[:, 1]),
        "headDepth": along(2, lambda p: 0.035 * p[:, 2]),
        "jawWidth": along(0, lambda p: 0.075 * p[:, 0] * smoothstep(p[:, 1], -0.02, -0.075)
                          * smoothstep(p[:, 1], -0.15, -0.11)),
        "jawLength": along(1, lambda p: -0.0050 * smoothstep(p[:, 1], -0.064, -0.100) * smoothstep(p[:, 2], 0.0, 0.06)),
        "chinForward": along(2, lambda p: 0.0030 * window(p, 0, -0.096, 0.03, 0.02)),
        "chinWidth": along(0, lambda p: 0.12 * p[:, 0] * window(p, 0, -0.100, 0.05, 0.020)),
        "cheekbones": along(0, lambda p: 0.045 * p[:, 0] * gauss(p[:, 1], -0.010, 0.025) * _front(p)),
        "foreheadSlope": along(2, lambda p: 0.0040 * smoothstep(p[:, 1], 0.03, 0.09) * _front(p)),
        "noseLength": along(1, lambda p: -0.0028 * window(p, 0, -0.024, 0.020, 0.014)),
        "noseWidth": along(0, lambda p: 0.13 * p[:, 0] * window(p, 0, -0.025, 0.025, 0.016)),
        "noseHeight": along(2, lambda p: 0.0032 * window(p, 0, -0.018, 0.014, 0.018)),
        "noseBridge": along(2, lambda p: 0.0018 * window(p, 0, 0.008, 0.009, 0.016)),
        "eyeSpacing": along(0, lambda p: 0.0016 * np.sign(p[:, 0]) * _eye_window(p)),
        "eyeSize": _eye_scale,
        "eyeTilt": along(1, lambda p: 0.07 * (np.abs(p[:, 0]) - shape.EYE_X) * _eye_window(p)),
        "mouthWidth": along(0, lambda p: 0.065 * p[:, 0] * window(p, 0, shape.MOUTH_HEIGHT, 0.04, 0.020)),
        "mouthHeight": along(1, lambda p: 0.0018 * window(p, 0, shape.MOUTH_HEIGHT, 0.045, 0.018)),
        "lipFullness": _lip_fullness,
        "browHeight": along(1, lambda p: 0.0020 * window(p, 0.028, 0.034, 0.028, 0.010)),
        "browRidge": along(2, lambda p: 0.0018 * window(p, 0.02, 0.034, 0.028, 0.008)),
        "neckWidth": along(0, lambda p: 0.06 * p[:, 0] * smoothstep(p[:, 1], -0.10, -0.14)),
    }  # fmt: skip


def identity_basis(body: parts.Body) -> tuple[tuple[str, ...], np.ndarray]:
    """Names and [I, V, 3]. An eyeball moves as a whole: its fields are those at its centre, and its size."""
    fields = _identity_fields()
    at = body.vertices.copy()
    eyes = body.part == parts.EYE
    at[eyes] = shape.EYE_CENTRE * np.stack([np.sign(at[eyes, 0]), np.ones(eyes.sum()), np.ones(eyes.sum())], -1)
    basis = np.stack([field(at) for field in fields.values()])
    basis[list(fields).index("eyeSize"), eyes] = 0.03 * (body.vertices - at)[eyes]
    on_lips = body.host >= 0
    basis[:, on_lips] = basis[:, body.host[on_lips]]
    return tuple(fields), basis


def _inside_mouth(x: np.ndarray) -> np.ndarray:
    """1 at the middle of the lips, 0 at their corners and outside: what the slit lets move apart."""
    return np.sqrt(np.clip(1 - (x / shape.MOUTH_HALF_WIDTH) ** 2, 0, 1))


def jaw_share(body: parts.Body) -> np.ndarray:
    """How much [V] each vertex goes with the jaw: all of the lower lip's middle, half at the corners, none above."""
    p, skin = body.vertices, len(body.grid.vertices)
    share = np.zeros(len(p))
    row, side = body.grid.row, body.grid.lip_side
    soft = smoothstep(row, -0.030, -0.085)
    middle = _inside_mouth(p[:skin, 0]) * (np.cos(body.grid.azimuth) > 0)
    hard = np.where(side > 0, 0.0, 1.0)
    blend = middle * hard + (1 - middle) * soft
    share[:skin] = blend * smoothstep(p[:skin, 2], -0.020, 0.040) * smoothstep(row, -0.165, -0.112)
    share[body.part == parts.LOWER_TEETH] = 1.0
    share[body.part == parts.TONGUE] = 0.95
    return share


def _jaw_open(body: parts.Body) -> np.ndarray:
    offset = body.vertices - JAW_HINGE
    cosine, sine = np.cos(JAW_ANGLE), np.sin(JAW_ANGLE)
    rotated = np.stack([offset[:, 0], cosine * offset[:, 1] - sine * offset[:, 2],
                        sine * offset[:, 1] + cosine * offset[:, 2]], -1)  # fmt: skip
    move = (rotated - offset) * jaw_share(body)[:, None]
    move[:, 0] -= 0.05 * body.vertices[:, 0] * _mouth_ring(body)  # corners come in as the mouth opens
    return move


def _mouth_ring(body: parts.Body) -> np.ndarray:
    p = body.vertices
    y = p[:, 1] - shape.MOUTH_HEIGHT
    ring = np.exp(-(((p[:, 0] / 0.036) ** 2 + (y / 0.021) ** 2) ** 1.5)) * smoothstep(p[:, 2], 0.03, 0.06)
    return ring * (body.part == parts.SKIN)


def _lips(body: parts.Body, side: int, reach: float) -> np.ndarray:
    """1 at the upper (+1) or lower (-1) lip's edge, fading over `reach` away from it and towards the corners."""
    skin, grid = len(body.grid.vertices), body.grid
    out = np.zeros(len(body.vertices))
    distance = np.abs(grid.row - shape.MOUTH_HEIGHT)
    out[:skin] = (grid.lip_side == side) * np.exp(-((distance / reach) ** 2)) * _inside_mouth(body.vertices[:skin, 0])
    return out * (body.vertices[:, 2] > 0.03)


def _half(p: np.ndarray, left: bool) -> np.ndarray:
    """Smooth weight of the subject's left (+x) or right half."""
    return smoothstep(p[:, 0] if left else -p[:, 0], -0.010, 0.010)


def _sided(body: parts.Body, left: bool) -> dict[str, np.ndarray]:
    p = body.vertices
    sign = 1.0 if left else -1.0
    half, x, y = _half(p, left), sign * p[:, 0], p[:, 1]
    skin, front = body.part == parts.SKIN, _front(p) * (body.part == parts.SKIN)
    corner = gauss(x, shape.MOUTH_HALF_WIDTH + 0.001, 0.017) * gauss(y, shape.MOUTH_HEIGHT, 0.017) * front
    cheek = gauss(x, 0.044, 0.020) * gauss(y, -0.026, 0.018) * front
    upper, lower = _lips(body, 1, 0.011), _lips(body, -1, 0.011)
    roll_u, roll_l = _lips(body, 1, 0.0055), _lips(body, -1, 0.0055)
    grid = body.grid
    shut = np.zeros_like(p)
    shut[: len(grid.vertices)] = grid.closed - grid.vertices
    shut *= (x > 0)[:, None] * skin[:, None]
    lower_lid = np.zeros(len(p))
    lower_lid[: len(grid.vertices)] = shut[: len(grid.vertices), 1] > 0
    out = {
        "mouthSmile": _vector(sign * 0.0065 * corner, 0.0085 * corner, -0.0045 * corner, x)
        + _vector(sign * 0.001 * cheek, 0.003 * cheek, 0.0035 * cheek, x),
        "mouthFrown": _vector(0, -0.0065 * corner, -0.001 * corner, x),
        "mouthStretch": _vector(sign * 0.0075 * corner, -0.0010 * corner, -0.0040 * corner, x),
        "mouthPress": half[:, None] * _vector(0, 0.0018 * (lower - roll_l) - 0.0018 * (upper - roll_u),
                                              -0.0030 * (roll_u + roll_l), x),
        "mouthUpperUp": half[:, None] * _vector(0, 0.0060 * upper, 0.0008 * upper, x),
        "mouthLowerDown": half[:, None] * _vector(0, -0.0070 * lower, 0.0005 * lower, x),
        "eyeBlink": shut,
        "eyeSquint": 0.45 * shut * lower_lid[:, None] + _vector(0, 0.0015 * cheek, 0, x),
        "browDown": _vector(-sign * 0.0015, -0.0045, 0.0, x)
        * (gauss(x, 0.022, 0.022) * gauss(y, 0.034, 0.009) * front)[:, None],
        "browOuterUp": _vector(0, 0.0060 * gauss(x, 0.040, 0.016) * gauss(y, 0.036, 0.011) * front, 0, x),
    }  # fmt: skip
    return {f"{name}{'Left' if left else 'Right'}": move for name, move in out.items()}


def _central(body: parts.Body) -> dict[str, np.ndarray]:
    p = body.vertices
    x, y = p[:, 0], p[:, 1]
    front = _front(p) * (body.part == parts.SKIN)
    ring = _mouth_ring(body)
    upper, lower, roll = _lips(body, 1, 0.010), _lips(body, -1, 0.010), _lips(body, -1, 0.008)
    puff = gauss(np.abs(x), 0.040, 0.018) * gauss(y, -0.050, 0.022) * front
    is_tongue = body.part == parts.TONGUE
    tip = is_tongue * smoothstep(body.uv[:, 1], 0.2, 0.8)
    return {
        "jawOpen": _jaw_open(body),
        "mouthFunnel": _vector(-0.25 * x * ring, 0.0032 * upper - 0.0040 * lower, 0.0065 * ring, x),
        "mouthPucker": _vector(-0.42 * x * ring, 0.0006 * upper - 0.0006 * lower, 0.0085 * ring, x),
        "mouthRollLower": _vector(0, 0.0028 * roll, -0.0062 * roll, x),
        "browInnerUp": _vector(0, 0.0065 * gauss(np.abs(x), 0.012, 0.018) * gauss(y, 0.035, 0.011) * front, 0, x),
        "cheekPuff": _vector(0.07 * np.sign(x) * 0.06 * puff, 0, 0.005 * puff, x),
        "tongueUp": _vector(0, 0.0085 * tip + 0.002 * is_tongue, 0.004 * tip, x),
    }


def expression_basis(body: parts.Body) -> tuple[tuple[str, ...], np.ndarray]:
    """Names and [E, V, 3]; the mouth's inside follows the lips it hangs on."""
    fields = {**_central(body), **_sided(body, True), **_sided(body, False)}
    basis = np.stack(list(fields.values()))
    on_lips = body.host >= 0
    share = np.repeat(body.host_share[None, on_lips] ** 5, len(basis), 0)  # lip shapes stay near the lips,
    share[list(fields).index("jawOpen")] = body.host_share[on_lips]  # the jaw takes the whole floor with it
    basis[:, on_lips] = basis[:, body.host[on_lips]] * share[..., None]
    return tuple(fields), basis
