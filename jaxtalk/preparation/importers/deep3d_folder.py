"""A video with Deep3D's coefficients and perhaps its sound in files of the same name, as StyleTalk's samples are.

anna.mp4  anna.mat  anna.wav                   side by side
video/anna.mp4  3DMM/anna.mat  wav/anna.wav    in folders of their own
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

from jaxtalk.clip import Clip
from jaxtalk.errors import JaxtalkError
from jaxtalk.preparation import decode
from jaxtalk.preparation.job import PrepareOptions
from jaxtalk.preparation.prepare import prepare_clip

_VIDEOS = (".mp4", ".mov", ".avi", ".mkv", ".webm", ".mpg")
_COEFFICIENTS, _SOUNDS = (".mat", ".npy"), (".wav", ".mp3", ".flac", ".m4a")
_SHOWN = 6  # names in a message


def import_video(path: str | Path, out: str | Path, options: PrepareOptions) -> Clip:
    """`prepare_clip` of the video at `path` (or the only one in that folder) with the coefficients beside it.

    Sound beside it is taken where the video has none. What `options` name goes before what is found.

    Raises:
      JaxtalkError: no video with coefficients, or several; otherwise as `prepare_clip`.
    """
    video, coefficients = find(Path(path)) if options.coefficients is None else (Path(path), Path(options.coefficients))
    audio = options.audio
    if audio is None and not decode.probe(video).has_audio:
        audio = beside(video, _SOUNDS, "wav")
    return prepare_clip(video, out, dataclasses.replace(options, coefficients=coefficients, audio=audio))


def find(path: Path) -> tuple[Path, Path]:
    """The video and its coefficients. `path` is the video, or a folder that holds one of which there are any."""
    if path.is_file():
        coefficients = beside(path, _COEFFICIENTS, "3DMM")
        if coefficients is None:
            raise JaxtalkError(f"{path}: no coefficients {path.stem}.mat beside it or in ../3DMM; give them with "
                               "--coefficients")  # fmt: skip
        return path, coefficients
    if not path.is_dir():
        raise JaxtalkError(f"{path}: no such file or folder; give a video, or a folder with one")
    videos = sorted(file for folder in (path, path / "video") for file in folder.glob("*") if file.suffix in _VIDEOS)
    pairs = [(video, found) for video in videos if (found := beside(video, _COEFFICIENTS, "3DMM")) is not None]
    if len(pairs) == 1:
        return pairs[0]
    if not pairs:
        raise JaxtalkError(f"{path}: {len(videos)} videos, none with coefficients of its name (.mat, .npy) beside it "
                           "or in 3DMM; give the video and --coefficients")  # fmt: skip
    names = ", ".join(video.name for video, _ in pairs[:_SHOWN]) + (", ..." if len(pairs) > _SHOWN else "")
    raise JaxtalkError(f"{path}: {len(pairs)} videos with coefficients ({names}); give one of them, not the folder")


def beside(video: Path, suffixes: tuple[str, ...], folder: str) -> Path | None:
    """The file of the video's name with one of the suffixes, next to it or in ../FOLDER."""
    places = (video.parent, video.parent.parent / folder)
    files = (place / f"{video.stem}{suffix}" for place in places for suffix in suffixes)
    return next((file for file in files if file.is_file()), None)
