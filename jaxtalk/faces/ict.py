"""ICT-FaceKit Light as a `FaceModel`: 100 identity components, 57 expressions named after ARKit's blendshapes.

Source: Li et al., Learning Formation of Physically-Based Face Attributes, CVPR 2020; mesh, vertex groups and landmarks
as the model's own documentation lists them. The published mesh has centimetres, y up, z out of the face and the
subject's left at +x: our axes. `_L` and `_R` are the subject's own sides.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from jaxtalk import weights
from jaxtalk.errors import JaxtalkError
from jaxtalk.faces.model import FaceModel

NUM_VERTICES = 26719
_NUM_KEPT = 24591  # past these: shells for eye shaders and lashes, no part of the head's surface
_GROUPS = {
    "skin": (0, 11248),
    "mouth_socket": (11248, 13294),
    "eye_sockets": (13294, 14062),
    "gums": (14062, 17039),  # and tongue
    "teeth": (17039, 21451),
    "eyes": (21451, 24591),
}
_NUM_FACE = 6706  # the first vertices: the face without ears, scalp and throat
# fmt: off
LANDMARK_VERTICES = np.array([
    1225, 1888, 1052, 367, 1719, 1722, 2199, 1447, 966, 3661, 4390, 3927, 3924, 2608, 3272, 4088, 3443,
    268, 493, 1914, 2044, 1401, 3615, 4240, 4114, 2734, 2509, 978, 4527, 4942, 4857, 1140, 2075, 1147, 4269, 3360,
    1507, 1542, 1537, 1528, 1518, 1511, 3742, 3751, 3756, 3721, 3725, 3732,
    5708, 5695, 2081, 0, 4275, 6200, 6213, 6346, 6461, 5518, 5957, 5841,
    5702, 5711, 5533, 6216, 6207, 6470, 5517, 5966,
])
# fmt: on


def load_ict(path: str | Path | None = None) -> FaceModel:
    """Reads the converted file at `path`, or the one in the cache.

    Raises:
      JaxtalkError: the file is missing (the message says how to get it), unreadable, or of another mesh.
    """
    file = weights.find("ict_facekit", path)
    try:
        with np.load(file) as data:
            neutral, quads = data["neutral"], data["faces_quad"]
            identity, expression = data["identity_deltas"], data["expression_deltas"]
            names = tuple(str(name) for name in data["expression_names"])
    except Exception as error:  # numpy, zip and zlib have no common error for a damaged file
        raise JaxtalkError(
            f"{file}: not a converted ICT-FaceKit file; make one with `jaxtalk weights get ict_facekit`"
        ) from error
    if neutral.shape != (NUM_VERTICES, 3):
        raise JaxtalkError(f"{file}: mesh of {len(neutral)} vertices, ICT-FaceKit Light has {NUM_VERTICES}")
    corners = neutral[LANDMARK_VERTICES[[36, 45]]]
    if not (np.abs(corners[0] * [-1, 1, 1] - corners[1]) < 0.01).all() or corners[1, 0] < 3:
        raise JaxtalkError(f"{file}: vertices in another order than ICT-FaceKit Light's of 2020; convert that version")
    template = 0.01 * neutral[:_NUM_KEPT]
    regions = _regions(template)
    low, high = template[regions["head"]].min(axis=0), template[regions["head"]].max(axis=0)
    triangles = triangulate(quads)
    return FaceModel(
        name="ict",
        template=(template - 0.5 * (low + high)).astype(np.float32),  # origin: the middle of the head
        identity_basis=(0.01 * identity[:, :_NUM_KEPT]).astype(np.float32),
        expression_basis=(0.01 * expression[:, :_NUM_KEPT]).astype(np.float32),
        triangles=triangles[np.all(triangles < _NUM_KEPT, axis=1)],
        landmark_vertices=LANDMARK_VERTICES,
        expression_names=names,
        regions=regions,
        expression_range=(0.0, 1.0),
    )


def triangulate(quads: np.ndarray) -> np.ndarray:
    """Faces [Q, 4], -1 in the last column of a triangle -> triangles [T, 3] int32 of the same orientation."""
    second = quads[quads[:, 3] >= 0][:, [0, 2, 3]]
    return np.concatenate([quads[:, :3], second]).astype(np.int32)


def _regions(template: np.ndarray) -> dict[str, np.ndarray]:
    """Vertex groups of the mesh, and skin cut into head and neck.

    The cut runs 1 cm under the line of the jaw (chin to the jaw's angles) and level behind it, at the height of the
    jaw's angles less 2 cm, which is the nape.
    """
    regions = {name: np.arange(*limits) for name, limits in _GROUPS.items()}
    chin, angle = template[LANDMARK_VERTICES[8]], template[LANDMARK_VERTICES[[4, 12]]].mean(axis=0)
    skin = template[regions["skin"]]
    slope = (angle[1] - chin[1]) / (angle[2] - chin[2])
    jaw = chin[1] + slope * (skin[:, 2] - chin[2]) - 0.01
    neck = skin[:, 1] < np.minimum(jaw, angle[1] - 0.02)
    return regions | {
        "head": regions["skin"][~neck],
        "neck": regions["skin"][neck],
        "face": np.flatnonzero(~neck[:_NUM_FACE]),
    }
