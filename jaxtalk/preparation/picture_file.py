"""A still picture out of any file that Pillow reads, as it is meant to be seen."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from jaxtalk.errors import JaxtalkError
from jaxtalk.preparation import decode

_FULL_SCALE = 65535.0  # of 16 bits
_SHORTEST_VIDEO = 0.2  # seconds; containers of video hold single pictures, too (HEIC)
_DEEP_GREY = ("I", "I;16", "I;16B", "I;16L", "I;16N", "F")


def read_picture(path: Path) -> np.ndarray:
    """The picture [H, W, 3] uint8: upright as its EXIF says, transparency over white, 16 bits brought to 8.

    Of an animation the first picture.

    Raises:
      JaxtalkError: no such file, a video, or nothing that can be read as a picture.
    """
    if path.is_dir():
        raise JaxtalkError(f"{path}: a folder; name a picture file")
    if not path.is_file():
        raise JaxtalkError(f"{path}: no such file; name a picture file")
    try:
        with Image.open(path) as image:
            image.load()
            return _as_seen(image)
    except UnidentifiedImageError as error:
        if _is_video(path):
            raise JaxtalkError(f"{path}: a video, and one picture is wanted: make a clip of it with `jaxtalk prepare "
                               f"{path} --out CLIP`, or take a frame out of it") from error  # fmt: skip
        raise JaxtalkError(f"{path}: not a picture that can be read; save it as PNG or JPEG") from error
    except Image.DecompressionBombError as error:
        raise JaxtalkError(f"{path}: far too large for a picture of a face; save a smaller one") from error
    except (OSError, SyntaxError, ValueError) as error:  # all of them are Pillow's words for damaged files
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise JaxtalkError(f"{path}: a damaged picture ({reason}); copy it again, or save it as PNG or JPEG") from error


def _as_seen(image: Image.Image) -> np.ndarray:
    upright = ImageOps.exif_transpose(image)
    if upright.mode in _DEEP_GREY:
        return np.repeat(_eight_bits(np.asarray(upright))[..., None], 3, axis=-1)
    if upright.has_transparency_data:
        layer = upright.convert("RGBA")
        upright = Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer)
    return np.ascontiguousarray(np.asarray(upright.convert("RGB")))


def _eight_bits(grey: np.ndarray) -> np.ndarray:
    """Grey values of 16 bits, of integers up to 255, or of floats up to 1 -> uint8."""
    values = np.nan_to_num(grey.astype(np.float64))
    most = 1.0 if np.issubdtype(grey.dtype, np.floating) else 255.0 if grey.dtype.itemsize > 2 else _FULL_SCALE
    most = next((limit for limit in (most, 255.0, _FULL_SCALE) if values.max(initial=0) <= limit), values.max())
    return np.clip(values / most * 255, 0, 255).round().astype(np.uint8)


def _is_video(path: Path) -> bool:
    try:
        return decode.probe(path).duration > _SHORTEST_VIDEO
    except JaxtalkError:
        return False
