"""A collection of talking videos as data: what to prepare, who speaks, and what the layout tells besides."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from jaxtalk.errors import JaxtalkError

VIDEOS = frozenset({".mp4", ".mpg", ".mpeg", ".mov", ".avi", ".mkv", ".webm", ".m4v", ".mts", ".wmv", ".flv"})
SOUNDS = (".wav", ".flac", ".m4a", ".mp3", ".aac", ".ogg")


@dataclasses.dataclass(frozen=True)
class Item:
    """One video and what its place tells of it."""

    name: str  # of the clip's folder
    video: Path
    identity: str
    emotion: str = ""
    language: str = ""
    speech_place: Path | None = None  # a sound file, without its suffix; None: beside the video, of the same name

    @property
    def speech(self) -> Path | None:
        """The sound file for a video that has no sound; None where there is no such file."""
        return next((path for path in map(self._speech_as, SOUNDS) if path.is_file()), None)

    @property
    def missing_speech(self) -> Path:
        """Where a sound file would be found."""
        return self._speech_as(SOUNDS[0])

    def _speech_as(self, suffix: str) -> Path:
        place = self.speech_place or self.video.with_suffix("")
        return place.with_name(place.name + suffix)


@dataclasses.dataclass(frozen=True)
class Corpus:
    """Videos of one collection, in the order in which they are prepared."""

    name: str
    items: tuple[Item, ...]
    same_person: tuple[tuple[str, str], ...] = ()  # identities that are one person under two names
    test_clips: tuple[str, ...] = ()  # names of clips that the collection itself sets apart, persons notwithstanding
    remarks: tuple[str, ...] = ()  # one line each: what of the collection is not here, or odd

    def check(self) -> None:
        """Raises `JaxtalkError` where two videos would become one clip."""
        seen: dict[str, Path] = {}
        for item in self.items:
            if item.name in seen:
                raise JaxtalkError(
                    f"{item.video} and {seen[item.name]}: both would become the clip {item.name}; rename one of them"
                )
            seen[item.name] = item.video


def folder_of(root: Path) -> Path:
    """`root`, if it is a folder. Raises `JaxtalkError` otherwise."""
    if not root.is_dir():
        raise JaxtalkError(f"{root}: no such folder; --root names the folder of the collection")
    return root


def is_video(path: Path) -> bool:
    """Whether a file is a video by its name; copies' leftovers such as `._a.mp4` are not."""
    return path.suffix.lower() in VIDEOS and not path.name.startswith(".") and path.is_file()
