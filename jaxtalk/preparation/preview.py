"""The contact sheet: frames with the fitted mesh, landmarks, masks and boxes, for the user's eyes."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
from PIL import Image, ImageDraw

from jaxtalk.clip import MASK_HEAD, MASK_TORSO, Camera, Track
from jaxtalk.faces.rasterizer import rasterize, vertex_normals
from jaxtalk.preparation.silhouette import PosedHead

TILE = 320


def contact_sheet(
    frame: Callable[[int], np.ndarray],
    mask: Callable[[int], np.ndarray],
    background: np.ndarray,
    head: PosedHead,
    track: Track,
    indices: Iterable[int],
) -> np.ndarray:
    """Rows of [frame with boxes and landmarks | mesh | masks | head alone | background plate].

    Args: `frame`, `mask`: index -> picture of the clip's size.
    """
    rows = []
    for i in indices:
        image, labels = frame(i), mask(i)
        scale = TILE / image.shape[0]
        small = _resized(image)
        tiles = [
            _with_boxes(small, track, i, scale),
            _with_mesh(small, head.vertices(i), head.model.triangles, head.camera.scaled(scale)),
            _with_masks(small, _resized(labels, nearest=True)),
            _resized(np.where((labels == MASK_HEAD)[..., None], image, np.array([0, 255, 0], np.uint8))),
            _resized(background),
        ]
        rows.append(np.concatenate(tiles, axis=1))
    return np.concatenate(rows, axis=0)


def _resized(image: np.ndarray, nearest: bool = False) -> np.ndarray:
    method = Image.Resampling.NEAREST if nearest else Image.Resampling.BOX
    return np.asarray(Image.fromarray(image).resize((TILE, TILE), method))


def _with_boxes(image: np.ndarray, track: Track, index: int, scale: float) -> np.ndarray:
    picture = Image.fromarray(image)
    draw = ImageDraw.Draw(picture)
    for box, colour in ((track.face_box[index], "lime"), (track.mouth_box[index], "yellow")):
        draw.rectangle([float(v * scale) for v in box], outline=colour)
    for x, y in track.landmarks[index] * scale:
        draw.ellipse([x - 1, y - 1, x + 1, y + 1], fill="red")
    left, right = track.eye_openness[index]
    note = f"{index}  {track.time[index]:.2f} s  eyes {left:.1f} {right:.1f}" + (
        "" if track.valid[index] else "  guess"
    )
    draw.text((4, 4), note, fill="white", stroke_fill="black", stroke_width=1)
    return np.asarray(picture)


def _with_mesh(image: np.ndarray, vertices: np.ndarray, triangles: np.ndarray, camera: Camera) -> np.ndarray:
    raster = rasterize(vertices, triangles, camera, (TILE, TILE))
    covered = raster.covered
    normals = vertex_normals(vertices, triangles)[triangles[raster.triangle]].mean(axis=2)
    shade = (0.25 + 0.75 * np.clip(normals[..., 2:], 0, 1)) * np.array([90, 200, 255])
    blend = np.where(covered[..., None], 0.45 * image + 0.55 * shade, image)
    return np.clip(blend, 0, 255).astype(np.uint8)


def _with_masks(image: np.ndarray, labels: np.ndarray) -> np.ndarray:
    tint = image.astype(np.float32)
    for label, colour in ((MASK_HEAD, (255, 60, 60)), (MASK_TORSO, (60, 90, 255))):
        tint = np.where((labels == label)[..., None], 0.55 * tint + 0.45 * np.array(colour), tint)
    return tint.astype(np.uint8)
