"""What a metric is given: rendered frames, the truth, and all that is known of both. Metrics read, nothing writes."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from jaxtalk.errors import JaxtalkError


@dataclasses.dataclass(frozen=True)
class Faces:
    """One face in each of F pictures, found by one landmarker; NaN in frames without one."""

    points: np.ndarray  # [F, 68, 2] pixels, iBUG order
    rotation: np.ndarray  # [F, 3, 3] head to camera, the landmarker's own

    @property
    def found(self) -> np.ndarray:
        """[F] bool."""
        return np.isfinite(self.points).all(axis=(1, 2))


FindFaces = Callable[[np.ndarray], Faces]  # [F, H, W, 3] uint8 consecutive frames -> their faces


class Pictures:
    """Frames [F, H, W, 3] uint8, and what is derived of them: made once, and only when a metric asks."""

    def __init__(self, frames: np.ndarray, find_faces: FindFaces | None = None) -> None:
        if frames.dtype != np.uint8 or frames.ndim != 4:
            raise JaxtalkError(f"metrics: frames are {frames.dtype} {frames.shape}; they must be uint8 [F, H, W, 3]")
        self.frames, self._find_faces = frames, find_faces
        self._derived: dict[str, Any] = {}

    @property
    def faces(self) -> Faces:
        """The faces in the frames. Raises `JaxtalkError` where there is nothing to find them with."""
        if self._find_faces is None:
            raise JaxtalkError("metrics: no landmarker was given")
        find = self._find_faces
        return self.once("faces", lambda frames: find(frames))

    @property
    def missing_faces(self) -> int | None:
        """In how many frames no face was found; None as long as nobody looked."""
        return int((~self.faces.found).sum()) if "faces" in self._derived else None

    def once(self, name: str, derive: Callable[[np.ndarray], Any]) -> Any:
        """`derive(frames)`, kept under a name."""
        if name not in self._derived:
            self._derived[name] = derive(self.frames)
        return self._derived[name]


@dataclasses.dataclass(frozen=True)
class Material:
    """One row of one clip: F frames of an avatar or of a baseline, and what they are measured against."""

    image: Pictures
    truth: Pictures | None  # the same moments as they were filmed; None where nobody filmed them
    boxes: Mapping[str, np.ndarray | None]  # region -> [F, 4] (x0, y0, x1, y1) in pixels; None: the whole frame
    times: np.ndarray  # [F] seconds
    fps: float  # of the clip
    sound: tuple[np.ndarray, int] | None = None  # what is heard from the first frame on: samples [N], rate
    source: Pictures | None = None  # pictures of the person that the avatar was made of

    @property
    def consecutive(self) -> bool:
        """Whether the frames follow each other at the clip's rate, without a gap."""
        steps = np.diff(self.times) * self.fps
        return len(steps) > 0 and bool((np.abs(steps - 1) < 0.5).all())

    def lacks(self, need: str) -> str:
        """Why the material does not have what a metric needs; empty where it does."""
        reasons = {
            "truth": "" if self.truth is not None else "there is no truth to compare with",
            "sound": "" if self.sound is not None else "nothing is heard",
            "source": "" if self.source is not None else "there is no picture that the avatar was made of",
            "consecutive": "" if self.consecutive else "it needs several frames that follow each other; test all "
            "of them (--max_frames=0)",
        }  # fmt: skip
        return reasons[need]
