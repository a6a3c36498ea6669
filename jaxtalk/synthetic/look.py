"""What a synthetic person looks like: every choice that a seed makes for an identity, in one record."""

from __future__ import annotations

import colorsys
import dataclasses

import numpy as np

from jaxtalk.faces.procedural import procedural_face_model

HAIR_STYLES = ("bald", "buzz", "short", "fringe", "volume", "long")
_HAIR_WEIGHTS = (0.10, 0.12, 0.28, 0.16, 0.12, 0.22)
_SHIRTS = ("plain", "collar", "stripes", "suit")

Colour = tuple[float, float, float]


@dataclasses.dataclass(frozen=True)
class Look:
    """One identity. Colours are RGB in [0, 1]."""

    shape: np.ndarray  # [I] coefficients of the procedural face model
    skin: Colour
    lips: Colour
    iris: Colour
    hair: Colour
    brow_strength: float
    brow_thickness: float  # metres, half height
    stubble: float
    freckles: float
    hair_style: str
    hairline: float  # metres above the average one
    hair_thickness: float
    shirt_style: str
    shirt: Colour
    shirt_accent: Colour
    light: tuple[float, float, float]  # direction to the key light, camera space
    ambient: float
    texture_seed: int
    background_seed: int


def _hsv(h: float, s: float, v: float) -> Colour:
    return colorsys.hsv_to_rgb(h % 1.0, float(np.clip(s, 0, 1)), float(np.clip(v, 0, 1)))


def sample_look(identity: int) -> Look:
    """The look of identity number `identity`: a function of the number alone."""
    rng = np.random.default_rng([identity, 101])
    darkness = rng.uniform()
    skin = _hsv(rng.uniform(0.045, 0.075), 0.28 + 0.36 * darkness + rng.uniform(-0.04, 0.04), 0.93 - 0.48 * darkness)
    redness = rng.uniform(0.25, 0.6)
    lips = (skin[0] * 0.92, skin[1] * (0.80 - 0.32 * redness), skin[2] * (0.86 - 0.28 * redness))
    grey = rng.uniform() < 0.12
    tone = rng.uniform() * (1 - 0.8 * darkness)
    hair = _hsv(rng.uniform(0.03, 0.11), 0.08 if grey else 0.35 + 0.3 * tone, rng.uniform(0.5, 0.75) if grey
                else 0.08 + 0.55 * tone**1.3)  # fmt: skip
    brown_eyes = rng.uniform() < 0.35 + 0.6 * darkness
    iris = _hsv(rng.uniform(0.05, 0.09), 0.65, rng.uniform(0.22, 0.45)) if brown_eyes else _hsv(
        rng.uniform(0.25, 0.60), rng.uniform(0.25, 0.55), rng.uniform(0.45, 0.7))  # fmt: skip
    style = str(rng.choice(HAIR_STYLES, p=_HAIR_WEIGHTS))
    hue = rng.uniform()
    side, lift = rng.choice([-1.0, 1.0]) * rng.uniform(0.25, 0.8), rng.uniform(0.3, 0.8)
    light = np.array([side, lift, 1.0])
    return Look(
        shape=np.clip(rng.normal(size=procedural_face_model().num_identity), -1.8, 1.8).astype(np.float32),
        skin=skin,
        lips=lips,
        iris=iris,
        hair=hair,
        brow_strength=rng.uniform(0.45, 0.95),
        brow_thickness=rng.uniform(0.0022, 0.0042),
        stubble=float(rng.uniform(0.1, 0.4)) if style != "long" and rng.uniform() < 0.35 else 0.0,
        freckles=float(rng.uniform(0, 1) ** 4),
        hair_style=style,
        hairline=rng.uniform(-0.007, 0.010),
        hair_thickness={"bald": 0.0, "buzz": 0.003, "volume": 0.026}.get(style, 0.012) * rng.uniform(0.8, 1.25),
        shirt_style=str(rng.choice(_SHIRTS)),
        shirt=_hsv(hue, rng.uniform(0.1, 0.75), rng.uniform(0.18, 0.85)),
        shirt_accent=_hsv(hue + rng.uniform(0.3, 0.7), rng.uniform(0.2, 0.8), rng.uniform(0.25, 0.9)),
        light=tuple(light / np.linalg.norm(light)),
        ambient=rng.uniform(0.36, 0.5),
        texture_seed=int(rng.integers(1 << 31)),
        background_seed=int(rng.integers(1 << 31)),
    )
