"""Settings of a radiance field and of sampling. The defaults are the reference's (card gdrf 2.8, 2.9)."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

from jaxtalk.errors import JaxtalkError


@dataclasses.dataclass(frozen=True)
class FieldConfig:
    """One radiance field (card gdrf 2.8)."""

    depth: int = 8
    width: int = 256
    skips: tuple[int, ...] = (4,)
    branch_depth: int = 3
    branch_width: int = 128
    position_frequencies: int = 10
    view_frequencies: int = 4
    view_dependent: bool = True
    position_scale: float = 1.0  # metres are multiplied by this before they are encoded
    double_angle: bool = False  # a faster encoding, see ops.encodings
    density: str = "relu"  # or softplus: no dead start
    density_scale: float = 1.0  # raw density times this is per metre
    init: str = "torch"  # or he
    dtype: str = "float32"  # of the products; bfloat16 on accelerators


@dataclasses.dataclass(frozen=True)
class SamplingConfig:
    """Where rays are sampled: the paper's 64 + 128 between near and far, or a few around the tracked mesh."""

    kind: str = "hierarchical"  # or mesh_bounded
    num_coarse: int = 64
    num_fine: int = 128
    num_samples: int = 6  # of mesh_bounded, the last one is the background's
    num_refined: int = 0  # of mesh_bounded: so many more, placed by a first pass; 0: one pass, one field
    grid: int = 64  # cells along the picture's longer side on which the mesh's depth is kept
    front: float = 0.015  # metres sampled before the mesh
    behind: float = 0.03  # and behind it
    reach: float = 0.08  # metres around the silhouette where hair may be: the interval widens there
    chunk_rays: int = 4096  # rendered at once

    @property
    def passes(self) -> tuple[int, ...]:
        """Samples of the first pass, and those added by the second where there is one."""
        first, second = (
            (self.num_coarse, self.num_fine) if self.kind == "hierarchical" else (self.num_samples, self.num_refined)
        )
        return (first, second) if second else (first,)

    @property
    def evaluations_per_ray(self) -> int:
        """How many times a ray asks the fields."""
        return evaluations(self.passes)


def evaluations(passes: Sequence[int]) -> int:
    """How many times a ray of these passes asks the fields: the second asks at the first one's depths too."""
    return passes[0] if len(passes) == 1 else 2 * passes[0] + passes[1]


FIELD_CHOICES = {"density": ("relu", "softplus"), "init": ("torch", "he"), "dtype": ("float32", "bfloat16")}
SAMPLING_CHOICES = {"kind": ("hierarchical", "mesh_bounded")}


def check_choices(record: object, where: str, choices: Mapping[str, tuple[str, ...]]) -> None:
    """Raises `JaxtalkError` for a setting of `record` that is none of its choices; `where` is the record's key."""
    for name, known in choices.items():
        if (value := getattr(record, name)) not in known:
            raise JaxtalkError(f"{where}.{name}: {value!r} is not one of {', '.join(known)}")
