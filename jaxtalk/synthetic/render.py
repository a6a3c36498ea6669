"""Draws a synthetic person: pose, expression and gaze in, picture and labels out.

Pictures are drawn with twice the rows and columns and averaged down. A pixel that no part of the person touches is the
background plate's pixel exactly; labels are the majority of a pixel's four samples.
"""

from __future__ import annotations

import dataclasses

import numba
import numpy as np

from jaxtalk.clip import MASK_HEAD, MASK_TORSO, Camera
from jaxtalk.faces import procedural_head as head
from jaxtalk.faces import procedural_parts as parts
from jaxtalk.faces.procedural import procedural_body, procedural_face_model
from jaxtalk.faces.procedural_head import smoothstep
from jaxtalk.faces.rasterizer import rasterize, vertex_normals
from jaxtalk.synthetic.background import paint_background
from jaxtalk.synthetic.garments import Mesh, grow_hair, hair_cover, torso
from jaxtalk.synthetic.look import Look
from jaxtalk.synthetic.paint import HAIR, TORSO, paint

SUPERSAMPLING = 2


@dataclasses.dataclass(frozen=True)
class Pose:
    """Rigid motion to camera space, x_cam = rotation x + translation."""

    rotation: np.ndarray  # [3, 3]
    translation: np.ndarray  # [3]

    def apply(self, points: np.ndarray) -> np.ndarray:
        return points @ self.rotation.T + self.translation


class Renderer:
    """One identity in front of one background, at one size."""

    def __init__(self, look: Look, camera: Camera, size: int) -> None:
        self.look, self.size = look, size
        self.camera = camera
        self._fine_camera = camera.scaled(SUPERSAMPLING)
        self._fine_background = paint_background(look.background_seed, size * SUPERSAMPLING)
        self._model, body = procedural_face_model(), procedural_body()
        self._neutral = self._model.vertices(look.shape, np.zeros(self._model.num_expression, np.float32))
        skin_count = len(body.grid.vertices)
        skin = self._neutral[:skin_count]
        neck = float(np.abs(skin[body.grid.row < -0.13][:, 0]).max())
        self._hair, self._torso = grow_hair(look, body.grid, skin), torso(look, neck)
        self._neck_share = np.zeros(len(self._neutral), np.float32)
        self._neck_share[:skin_count] = smoothstep(body.grid.row, -0.108, -0.165)
        self._eyes = [self._model.regions[name] for name in ("left_eye", "right_eye")]
        self._assemble(body)

    def _assemble(self, body: parts.Body) -> None:
        """Triangles, labels and everything about vertices that no frame changes."""
        meshes: list[tuple[int | str, Mesh]] = [] if self._hair is None else [(HAIR, self._hair)]
        meshes.append((TORSO, self._torso))
        covered = np.zeros(len(body.vertices), bool)
        covered[: len(body.grid.row)] = hair_cover(self.look, body.grid) > 0.03
        triangles = [body.triangles[~covered[body.triangles].all(axis=1)]]
        in_neck = np.zeros(len(body.vertices), bool)
        in_neck[self._model.regions["neck"]] = True
        labels = [np.where(in_neck[triangles[0]].all(axis=1), MASK_TORSO, MASK_HEAD)]
        atlas = paint(self.look, body.grid)
        texel = np.zeros((len(body.vertices), 2))
        for part in np.unique(body.part):
            inside = body.part == part
            texel[inside] = atlas.place(int(part), body.uv[inside])
        texels, surface = [texel], [_surface(body)]
        start = len(body.vertices)
        for name, mesh in meshes:
            triangles.append(mesh.triangles + start)
            labels.append(np.full(len(mesh.triangles), MASK_HEAD if name == HAIR else MASK_TORSO))
            texels.append(atlas.place(name, mesh.uv))
            gloss = 0.20 if name == HAIR else 0.02
            surface.append(np.tile(np.array([1.0, gloss, 14.0]), (len(mesh.vertices), 1)))
            start += len(mesh.vertices)
        self._triangles = np.concatenate(triangles).astype(np.int32)
        self._labels = np.concatenate(labels).astype(np.uint8)
        self._atlas = np.ascontiguousarray(atlas.texels)
        self._static = np.concatenate([np.concatenate(texels), np.concatenate(surface)], 1).astype(np.float32)

    @property
    def neutral(self) -> np.ndarray:
        """[V, 3] this identity's face without expression, head space."""
        return self._neutral

    def head_surface(self) -> np.ndarray:
        """Points [N, 3] in head space on the neutral head, its ears and its hair; no neck."""
        points = [self._neutral[self._model.regions["head"]]]
        if self._hair is not None:
            points.append(self._hair.vertices[np.unique(self._hair.triangles)])
        return np.concatenate(points)

    def background(self) -> np.ndarray:
        """[size, size, 3] uint8: the scene without the person."""
        fine = self.size * SUPERSAMPLING
        return self._resolved(self._fine_background, np.full((fine, fine), -1, np.int32))[0]

    def face(self, expression: np.ndarray, gaze: np.ndarray | None = None) -> np.ndarray:
        """Vertices [V, 3] of the face model in head space; `gaze` (yaw, pitch) turns the eyeballs, which are round."""
        vertices = self._neutral.copy()
        for i in np.flatnonzero(expression):  # most are 0; summing in this order gives the same bits everywhere
            vertices += np.float32(expression[i]) * self._model.expression_basis[i]
        if gaze is not None:
            rotation = _gaze_rotation(*gaze)
            for eye in self._eyes:
                centre = (vertices[eye].min(axis=0) + vertices[eye].max(axis=0)) / 2
                centre[2] = vertices[eye, 2].max() - (vertices[eye, 1].max() - vertices[eye, 1].min()) / 2
                vertices[eye] = (vertices[eye] - centre) @ rotation.T + centre
        return vertices

    def render(
        self, expression: np.ndarray, gaze: np.ndarray, head_pose: Pose, torso_pose: Pose
    ) -> tuple[np.ndarray, np.ndarray]:
        """Picture [size, size, 3] uint8 and labels [size, size] uint8 (see `jaxtalk.clip`)."""
        face = self.face(expression, gaze)
        share = self._neck_share[:, None]
        posed = [(1 - share) * head_pose.apply(face) + share * torso_pose.apply(face)]
        if self._hair is not None:
            posed.append(head_pose.apply(self._hair.vertices))
        posed.append(torso_pose.apply(self._torso.vertices))
        vertices = np.concatenate(posed)
        attributes = np.concatenate([self._static, vertex_normals(vertices, self._triangles)], 1)
        fine = self.size * SUPERSAMPLING
        raster = rasterize(vertices, self._triangles, self._fine_camera, (fine, fine))
        image = self._fine_background.copy()
        light = np.asarray(self.look.light, np.float32)
        _shade(raster.triangle, raster.barycentric, self._triangles, attributes, self._atlas, light,
               np.float32(self.look.ambient), np.float32(self._fine_camera.focal), image)  # fmt: skip
        return self._resolved(image, raster.triangle)

    def _resolved(self, image: np.ndarray, triangle: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        picture = np.zeros((self.size, self.size, 3), np.uint8)
        mask = np.zeros((self.size, self.size), np.uint8)
        _resolve(image, self._labels, triangle, picture, mask)
        return picture, mask


def _surface(body: parts.Body) -> np.ndarray:
    """Per vertex [V, 3]: how much ambient light reaches it, strength and sharpness of its highlight."""
    light = np.ones(len(body.vertices))
    skin, row = body.part == parts.SKIN, np.zeros(len(body.vertices))
    row[: len(body.grid.row)] = body.grid.row
    light[skin] = 1 - 0.40 * smoothstep(row[skin], -0.104, -0.122) * smoothstep(row[skin], -0.19, -0.13)
    socket = np.exp(-((np.abs(body.vertices[:, 0]) - head.EYE_X) ** 2 / 0.017**2
                      + (body.vertices[:, 1] - 0.019) ** 2 / 0.008**2))  # fmt: skip
    light[skin] -= 0.18 * (socket * (body.vertices[:, 2] > 0))[skin]
    light[body.part == parts.CAVITY] = 0.55
    light[np.isin(body.part, (parts.UPPER_TEETH, parts.LOWER_TEETH))] = 0.80
    light[body.part == parts.TONGUE] = 0.62
    light[body.part == parts.EYE] = 0.92
    gloss, sharpness = np.full(len(light), 0.10), np.full(len(light), 12.0)
    gloss[body.part == parts.EYE], sharpness[body.part == parts.EYE] = 0.75, 90.0
    gloss[body.part == parts.TONGUE] = 0.15
    gloss[body.part == parts.CAVITY] = 0.0
    return np.stack([light, gloss, sharpness], -1)


def _gaze_rotation(yaw: float, pitch: float) -> np.ndarray:
    """Turns +z to the image's right by `yaw` and up by `pitch`."""
    cy, sy, cp, sp = np.cos(yaw), np.sin(yaw), np.cos(pitch), np.sin(pitch)
    turn = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    return turn @ np.array([[1, 0, 0], [0, cp, sp], [0, -sp, cp]])


@numba.njit(cache=True, nogil=True)
def _resolve(image, labels, triangle, picture, mask):  # type: ignore[no-untyped-def]
    """Means of the samples as bytes, and the label of most of them; ties go to the person, and to the head."""
    rows, columns = mask.shape
    for row in range(rows):
        for column in range(columns):
            heads, torsos = 0, 0
            red, green, blue = 0.0, 0.0, 0.0
            for r in range(row * SUPERSAMPLING, (row + 1) * SUPERSAMPLING):
                for c in range(column * SUPERSAMPLING, (column + 1) * SUPERSAMPLING):
                    red += min(max(image[r, c, 0], 0.0), 1.0)
                    green += min(max(image[r, c, 1], 0.0), 1.0)
                    blue += min(max(image[r, c, 2], 0.0), 1.0)
                    if triangle[r, c] >= 0:
                        heads += labels[triangle[r, c]] == MASK_HEAD
                        torsos += labels[triangle[r, c]] == MASK_TORSO
            scale = 255.0 / SUPERSAMPLING**2
            picture[row, column, 0] = np.uint8(red * scale + 0.5)
            picture[row, column, 1] = np.uint8(green * scale + 0.5)
            picture[row, column, 2] = np.uint8(blue * scale + 0.5)
            if 2 * (heads + torsos) >= SUPERSAMPLING**2:
                mask[row, column] = MASK_HEAD if heads >= torsos else MASK_TORSO


@numba.njit(cache=True, nogil=True)
def _shade(triangle, barycentric, triangles, attributes, atlas, light, ambient, focal, image):  # type: ignore[no-untyped-def]
    """Texture, soft ambient light from above, one key light, one highlight. Surfaces are lit on the side we see."""
    rows, columns = triangle.shape
    values = np.zeros(attributes.shape[1], np.float32)
    for row in range(rows):
        for column in range(columns):
            t = triangle[row, column]
            if t < 0:
                continue
            for k in range(len(values)):
                values[k] = 0.0
            for corner in range(3):
                weight = barycentric[row, column, corner]
                vertex = triangles[t, corner]
                for k in range(len(values)):
                    values[k] += weight * attributes[vertex, k]
            x, y, z = values[5], values[6], values[7]
            vx, vy = -(column + 0.5 - columns / 2) / focal, (row + 0.5 - rows / 2) / focal
            length = np.sqrt(vx * vx + vy * vy + 1.0)
            vx, vy, vz = vx / length, vy / length, 1.0 / length
            scale = 1.0 / max(np.sqrt(x * x + y * y + z * z), 1e-6)
            if x * vx + y * vy + z * vz < 0:
                scale = -scale
            x, y, z = x * scale, y * scale, z * scale
            toward = x * light[0] + y * light[1] + z * light[2]
            wrapped = max(0.0, (toward + 0.25) / 1.25)
            intensity = values[2] * (ambient * (0.82 + 0.25 * y) + 0.72 * wrapped)
            hx, hy, hz = vx + light[0], vy + light[1], vz + light[2]
            facing = max(0.0, (x * hx + y * hy + z * hz) / np.sqrt(hx * hx + hy * hy + hz * hz))
            highlight = values[3] * facing ** values[4]
            c0, r0 = int(values[0]), int(values[1])
            c1, r1 = min(c0 + 1, atlas.shape[1] - 1), min(r0 + 1, atlas.shape[0] - 1)
            fc, fr = values[0] - c0, values[1] - r0
            for k in range(3):
                upper = atlas[r0, c0, k] * (1 - fc) + atlas[r0, c1, k] * fc
                lower = atlas[r1, c0, k] * (1 - fc) + atlas[r1, c1, k] * fc
                image[row, column, k] = intensity * (upper * (1 - fr) + lower * fr) + highlight
