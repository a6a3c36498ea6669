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


def write_comparison(
    path: Path, panels: Sequence[tuple[str, np.ndarray]], fps: float, sound: tuple[np.ndarray, int]
) -> None:
    """Writes labelled pictures side by side, [(label, [F, H, W, 3] uint8)], as a video with sound (samples, rate)."""
    height, width = panels[0][1].shape[1:3]
    factor = max(1, -(-_MIN_PANEL // min(height, width)))
    size = (height * factor, width * factor)
    band = _label_band([label for label, _ in panels], size[1])
    comment = "Comparison by jaxtalk: all panels but the ground truth are synthetic."
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
