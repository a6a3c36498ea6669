"""A folder that a NeRF talking-head system made of one video: its cameras, pictures and sound, found and checked.

What else such a folder may hold is read by `nerf_files`.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from jaxtalk.clip import Camera
from jaxtalk.errors import JaxtalkError
from jaxtalk.preparation.importers.transforms import TRAIN, VAL, Transforms, read_transforms

SUFFIXES = (".jpg", ".png")
_SOUNDS = ("aud.wav", "audio.wav")
_VIDEOS = (".mp4", ".wav", ".mov")
_CENTRE_ERROR = 1.0  # pixels by which twice the centre may miss the pictures' size: odd sizes, half pixels


@dataclasses.dataclass(frozen=True)
class Layout:
    """What one family of systems does its own way."""

    name: str
    pictures: tuple[str, ...]  # folders of pictures: the first that is there is taken
    first_centre: float  # where, in the files' pixels, the first pixel has its centre: 0, or 0.5 as with us
    depth_files: tuple[str, ...]  # configurations that hold near and far


@dataclasses.dataclass(frozen=True)
class NerfFolder:
    """The folder of one person, with a camera, a picture and a moment of the sound for each of F frames."""

    path: Path
    layout: Layout
    transforms: Transforms
    size: tuple[int, int]  # height, width of the pictures
    pictures: tuple[Path, ...]  # [F]
    sound: Path

    @classmethod
    def open(cls, path: Path, layout: Layout, audio: str | Path | None = None) -> NerfFolder:
        """Finds everything that no clip can be made without. `audio`: the speech, where it is not in the folder.

        Raises:
          JaxtalkError: transforms, pictures or sound are missing, or pictures are not of the size that the cameras are
            for. The message names the frame.
        """
        path = _locate(path)
        transforms = read_transforms(path)
        pictures = _pictures(path, layout, transforms)
        size = picture_size(pictures[0])
        if max(abs(side - middle) for side, middle in zip(size, transforms.size, strict=True)) > _CENTRE_ERROR:
            raise JaxtalkError(f"{pictures[0]}: {size[1]} x {size[0]} pixels, but cx, cy of {TRAIN} are the middle of "
                               f"{transforms.size[1]} x {transforms.size[0]}; make both from one video")  # fmt: skip
        for picture in pictures:
            check_size(picture, size)
        return cls(path, layout, transforms, size, pictures, _sound(path, audio))

    @property
    def camera(self) -> Camera:
        """In our pixels: centres at +0.5."""
        shift = 0.5 - self.layout.first_centre
        return Camera(self.transforms.focal, self.transforms.cx + shift, self.transforms.cy + shift)

    def picture(self, index: int) -> np.ndarray:
        """Frame `index` as [H, W, 3] uint8."""
        return read_picture(self.pictures[index])

    @property
    def fingerprint(self) -> str:
        """Hash over the transforms, and over names and sizes of all files: another one means another folder."""
        digest = hashlib.sha256()
        for name in (TRAIN, VAL):
            digest.update((self.path / name).read_bytes() if (self.path / name).is_file() else b"none")
        files = sorted(file for file in self.path.rglob("*") if file.is_file() and "logs" not in file.parts)
        for file in (*files, self.sound):
            digest.update(f"{file.name} {file.stat().st_size}\n".encode())
        return digest.hexdigest()


def read_picture(path: Path, mode: str = "RGB") -> np.ndarray:
    """A picture as uint8 array. Raises `JaxtalkError` where it cannot be read."""
    try:
        with Image.open(path) as image:
            return np.asarray(image.convert(mode))
    except FileNotFoundError as error:
        raise JaxtalkError(f"{path}: missing; restore it") from error
    except (OSError, SyntaxError, ValueError) as error:
        raise JaxtalkError(f"{path}: not a readable picture ({error}); restore it") from error


def picture_size(path: Path) -> tuple[int, int]:
    """Height and width, from the header alone. Raises `JaxtalkError` where it cannot be read."""
    try:
        with Image.open(path) as image:
            width, height = image.size
    except (OSError, SyntaxError, ValueError) as error:
        raise JaxtalkError(f"{path}: not a readable picture ({error}); restore it") from error
    return height, width


def check_size(path: Path, size: tuple[int, int]) -> None:
    """Raises `JaxtalkError` unless the picture has the `size` (height, width) of the others."""
    height, width = picture_size(path)
    if (height, width) != size:
        raise JaxtalkError(f"{path}: {width} x {height} pixels, the other pictures have {size[1]} x {size[0]}; "
                           "make all from one video")  # fmt: skip


def numbered(folder: Path, number: int, suffixes: Sequence[str]) -> Path | None:
    """FOLDER/NUMBER.SUFFIX, whichever is there."""
    return next((path for suffix in suffixes if (path := folder / f"{number}{suffix}").is_file()), None)


def _locate(path: Path) -> Path:
    """The folder itself, or the one folder in it that has transforms (DFRF keeps a person in ID/0)."""
    if not path.is_dir():
        raise JaxtalkError(f"{path}: no such folder; give the one that holds {TRAIN}")
    if (path / TRAIN).is_file():
        return path
    inside = sorted(child for child in path.iterdir() if (child / TRAIN).is_file())
    if len(inside) > 1:
        names = ", ".join(child.name for child in inside[:6])
        raise JaxtalkError(f"{path}: several people ({names}{', ...' if len(inside) > 6 else ''}); give one's folder")
    return inside[0] if inside else path


def _pictures(path: Path, layout: Layout, transforms: Transforms) -> tuple[Path, ...]:
    folder = next((path / name for name in layout.pictures if (path / name).is_dir()), None)
    if folder is None:
        raise JaxtalkError(f"{path}: no pictures ({' or '.join(layout.pictures)}); restore them, or choose --from for "
                           "the system that made the folder")  # fmt: skip
    found = [numbered(folder, int(number), SUFFIXES) for number in transforms.img_id]
    missing = [i for i, picture in enumerate(found) if picture is None]
    if missing:
        there = sorted(int(file.stem) for file in folder.iterdir() if file.stem.isdecimal())
        held = f"it holds {there[0]} to {there[-1]}" if there else "it is empty"
        name = TRAIN if transforms.train[missing[0]] else VAL
        raise JaxtalkError(
            f"{folder}: no picture {transforms.img_id[missing[0]]}, which {name} names ({len(missing)} are missing; "
            f"{held}); restore the pictures, or make the transforms again"
        )
    pictures = tuple(picture for picture in found if picture is not None)
    odd = [picture for picture in pictures if picture.suffix != pictures[0].suffix]
    if odd:
        raise JaxtalkError(f"{odd[0]}: {odd[0].suffix} among {pictures[0].suffix}; save all pictures in one format")
    return pictures


def _sound(path: Path, audio: str | Path | None) -> Path:
    if audio is not None:
        if not Path(audio).is_file():
            raise JaxtalkError(f"{audio}: no such file; check --audio")
        return Path(audio)
    names = (*_SOUNDS, *(f"{path.name}{suffix}" for suffix in _VIDEOS))
    found = next((path / name for name in names if (path / name).is_file()), None)
    if found is None:
        raise JaxtalkError(f"{path}: no sound ({', '.join(names)}); give the speech of the video with --audio")
    return found
