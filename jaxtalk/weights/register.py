"""The register of pretrained files, as data."""

from __future__ import annotations

import dataclasses
from types import MappingProxyType


@dataclasses.dataclass(frozen=True)
class Weights:
    """One entry. `sha256` is checked where the file is used as it was published; a converted file has none."""

    name: str
    purpose: str
    licence: str
    source: str  # URL of the file, or of the folder that `convert` reads
    file: str  # its name in the cache
    sha256: str | None = None


_ENTRIES = (
    Weights(
        name="face_landmarker",
        purpose="MediaPipe FaceLandmarker: 478 landmarks, 52 blendshapes and head pose of a picture (preparation)",
        licence="Apache-2.0 (Google)",
        source="https://storage.googleapis.com/mediapipe-models/face_landmarker/face_landmarker/float16/1/"
        "face_landmarker.task",
        file="face_landmarker.task",
        sha256="64184e229b263107bc2b804c6625db1341ff2bb731874b0bcc2fe6544e0bc9ff",
    ),
    Weights(
        name="ict_facekit",
        purpose="ICT-FaceKit Light: the parametric face fitted to real video (preparation), 158 OBJ files converted",
        licence="MIT (USC Institute for Creative Technologies)",
        source="https://raw.githubusercontent.com/ICT-VGL/ICT-FaceKit/master/FaceXModel",
        file="ict_facekit.npz",
    ),
)
REGISTER = MappingProxyType({entry.name: entry for entry in _ENTRIES})
