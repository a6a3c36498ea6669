"""Speech features that are kept in clips: features/NAME.npy, made of the whole recording."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np

from jaxtalk import progress, weights
from jaxtalk.audio import wav2vec2
from jaxtalk.clip import Clip, ClipError
from jaxtalk.errors import JaxtalkError

# name -> (its network's name in the register, its array [T, C] of samples [N] at a rate)
_COMPUTED: dict[str, tuple[str, Callable[[np.ndarray, int], np.ndarray]]] = {
    "wav2vec2": (wav2vec2.NAME, lambda samples, rate: wav2vec2.tokens(samples, rate)),
}
NAMES = tuple(_COMPUTED)


def add_features(clips: Sequence[Clip], names: Iterable[str]) -> int:
    """Puts features into clips, each file whole or not at all, and gives how many were made.

    A file that is there and fits its clip stays, so that the same call continues an interrupted one.

    Raises:
      WeightsAbsent: a feature has to be made, and its network is not on this machine.
      JaxtalkError: an unknown feature, or a clip whose sound cannot be read.
    """
    names = _known(names)
    missing = [(clip, name) for name in names for clip in clips if not _is_there(clip, name)]
    _find_networks({name for _, name in missing})
    if not missing:
        return 0
    done = len(names) * len(clips) - len(missing)
    with progress.bar(f"features {', '.join(names)}", len(names) * len(clips), done) as bar:
        for clip, name in missing:
            _, made_of = _COMPUTED[name]
            _save(clip.path / "features" / f"{name}.npy", made_of(clip.audio(), clip.meta.sample_rate))
            bar.advance(note=clip.name)
    return len(missing)


def check_ready(folders: Iterable[Path], names: Iterable[str], overwrite: bool = False) -> None:
    """Tells what `add_features` would miss before the clips themselves are made.

    Args: `folders` of clips, there or not; `overwrite`: they will be made anew. Raises as `add_features`.
    """
    names = _known(names)
    wanted = {name for folder in folders for name in names if overwrite or not _is_in(folder, name)}
    _find_networks(wanted)


def _known(names: Iterable[str]) -> list[str]:
    names = list(dict.fromkeys(names))
    unknown = [name for name in names if name not in _COMPUTED]
    if unknown:
        raise JaxtalkError(f"feature {unknown[0]!r} is not one that can be stored; choose of {', '.join(NAMES)}")
    return names


def _find_networks(names: Iterable[str]) -> None:
    for name in names:
        weights.find(_COMPUTED[name][0])


def _is_in(folder: Path, name: str) -> bool:
    try:
        return _is_there(Clip.open(folder), name)
    except ClipError:
        return False


def _is_there(clip: Clip, name: str) -> bool:
    """Whether the clip has the feature, and it is whole. One that is not is told, and made again."""
    path = clip.path / "features" / f"{name}.npy"
    if not path.is_file():
        return False
    try:
        wav2vec2.stored_tokens(np.load(path, allow_pickle=False), clip.track.time, str(path))
    except (JaxtalkError, OSError, ValueError, EOFError) as error:
        progress.console.print(f"made again: {path} ({error})", highlight=False, markup=False, soft_wrap=True)
        return False
    return True


def _save(path: Path, array: np.ndarray) -> None:
    path.parent.mkdir(exist_ok=True)
    temporary = path.with_suffix(".partial")
    with open(temporary, "wb") as file:
        np.save(file, array)
    os.replace(temporary, path)
