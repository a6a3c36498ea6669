"""Pictures and videos of an evaluation: which frames to show, error maps, the comparison video."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from jaxtalk.clip import write_image
from jaxtalk.media.video import VideoWriter

ERROR_SCALE = 0.25  # mean absolute RGB error that gets the last colour of the map
_SHOWN = 5  # frames evenly spaced over the tested ones
_MIN_PANEL = 256  # pixels: smaller pictures are enlarged in videos
_BAND = 22  # pixels under a video's pictures for the labels
_CELL, _GAP = 96, 2  # pixels of a mouth close-up, and between them


def shown_frames(worst_by: np.ndarray) -> list[tuple[int, str]]:
    """Which of the tested frames to show, with a note: evenly spaced ones, so that none is picked, and the worst."""
    count = len(worst_by)
    even = np.unique(np.linspace(0, count - 1, min(_SHOWN, count)).round().astype(int))
    chosen = [(int(index), "") for index in even]
    if np.isfinite(worst_by).any():
        chosen.append((int(np.nanargmin(worst_by)), "worst mouth"))
    return chosen


def error_map(truth: np.ndarray, image: np.ndarray) -> np.ndarray:
    """Mean absolute RGB error of two uint8 pictures as colours, [H, W, 3] uint8: black 0, pale yellow from 0.25 on."""
    from matplotlib import colormaps

    error = np.abs(truth.astype(np.float32) - image.astype(np.float32)).mean(-1) / 255
    return (255 * colormaps["inferno"](np.clip(error / ERROR_SCALE, 0, 1))[..., :3]).round().astype(np.uint8)


def write_pictures(folder: Path, clip: str, frame: int, images: Mapping[str, np.ndarray]) -> dict[str, str]:
    """Writes {name: [H, W, 3] uint8} as PNG files of one frame; gives {name: path within the folder}."""
    where = Path("pictures") / clip
    (folder / where).mkdir(parents=True, exist_ok=True)
    files = {}
    for name, image in images.items():
        files[name] = (where / f"{frame:06d}_{name}.png").as_posix()
        write_image(folder / files[name], image)
    return files


def write_mouth_strip(path: Path, rows: Sequence[np.ndarray], boxes: np.ndarray) -> None:
    """Writes close-ups of the mouth: a row for each of `rows` [F, H, W, 3] uint8, a column for each of its F frames.

    Crops are squares of one size for all frames, half as large again as the largest box [F, 4], around its centre.
    """
    height, width = rows[0].shape[1:3]
    side = min(height, width, max(8, round(1.5 * float((boxes[:, 2:] - boxes[:, :2]).max()))))
    corner = np.round((boxes[:, :2] + boxes[:, 2:]) / 2 - side / 2).astype(int)
    x, y = (np.clip(corner[:, i], 0, limit - side) for i, limit in enumerate((width, height)))
    cells = [[frames[i, y[i] : y[i] + side, x[i] : x[i] + side] for i in range(len(boxes))] for frames in rows]
    gap = ((0, _GAP), (0, _GAP), (0, 0))
    grid = [[np.pad(_enlarged(cell, (_CELL, _CELL)), gap) for cell in line] for line in cells]
    path.parent.mkdir(parents=True, exist_ok=True)
    write_image(path, np.concatenate([np.concatenate(line, axis=1) for line in grid], axis=0))


def write_comparison(
    path: Path,
    panels: Sequence[tuple[str, np.ndarray]],
    fps: float,
    sound: tuple[np.ndarray, int],
    comment: str,
) -> None:
    """Writes labelled pictures side by side, [(label, [F, H, W, 3] uint8)], as a video with sound (samples, rate).

    `comment` says in the file where it comes from.
    """
    height, width = panels[0][1].shape[1:3]
    factor = max(1, -(-_MIN_PANEL // min(height, width)))
    size = (height * factor, width * factor)
    band = _label_band([label for label, _ in panels], size[1])
    with VideoWriter(path, (size[0] + _BAND, size[1] * len(panels)), fps, audio=sound, comment=comment) as video:
        for frames in zip(*(frames for _, frames in panels), strict=True):
            row = np.concatenate([_enlarged(frame, size) for frame in frames], axis=1)
            video.write(np.concatenate([row, band], axis=0))


def _enlarged(frame: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    if frame.shape[:2] == size:
        return frame
    return np.asarray(Image.fromarray(frame).resize((size[1], size[0]), Image.Resampling.BICUBIC))


def _label_band(labels: Sequence[str], width: int) -> np.ndarray:
    band = Image.new("RGB", (width * len(labels), _BAND), (18, 18, 20))
    draw = ImageDraw.Draw(band)
    for column, label in enumerate(labels):
        draw.text(((column + 0.5) * width, _BAND / 2), label, (235, 235, 235), ImageFont.load_default(13), anchor="mm")
    return np.asarray(band)
