"""Any tree of videos: one identity per folder under the root, or one per file where they lie in the root itself.

ROOT/anna/monday.mp4, ROOT/anna/more/tuesday.mov -> anna
ROOT/ben.mp4                                     -> ben

A sound of the same name beside a video (ben.wav) is the speech of a video that has none.
"""

from __future__ import annotations

from pathlib import Path

from jaxtalk.errors import JaxtalkError
from jaxtalk.preparation.corpora.corpus import VIDEOS, Corpus, Item, folder_of, is_video


def read(root: Path, out: Path | None = None) -> Corpus:
    """The videos under `root`; hidden folders are left out, and `out` where it lies inside.

    Raises:
        JaxtalkError: no such folder, or no video in it.
    """
    out = None if out is None else out.resolve()
    items = []
    for path in sorted(folder_of(root).rglob("*")):
        parts = path.relative_to(root).parts
        hidden = any(part.startswith(".") for part in parts)
        if hidden or not is_video(path) or (out is not None and out in path.resolve().parents):
            continue
        identity = parts[0] if len(parts) > 1 else path.stem
        items.append(Item("_".join((*parts[:-1], path.stem)), path, identity))
    if not items:
        raise JaxtalkError(f"{root}: no video in it ({', '.join(sorted(VIDEOS))}); --root names the folder of the "
                           "collection")  # fmt: skip
    return Corpus("folder", tuple(items))
