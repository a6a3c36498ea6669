"""Reads a collection by the name of its layout."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from jaxtalk.errors import JaxtalkError
from jaxtalk.preparation.corpora import folder, hdtf, mead
from jaxtalk.preparation.corpora.corpus import Corpus

LAYOUTS = ("hdtf", "mead", "folder")


def read_corpus(
    layout: str, root: Path, out: Path | None = None, views: Sequence[str] = (), tables: Path | None = None
) -> Corpus:
    """The videos in `root`, a collection of one of `LAYOUTS`.

    Args:
        layout: 'hdtf', 'mead' or 'folder'.
        root: the collection's folder.
        out: where the clips go, left out where it lies inside `root`.
        views: of MEAD; empty for the front view.
        tables: the folder of HDTF's tables.

    Raises:
        JaxtalkError: an option of another layout, or no such collection in `root`.
    """
    if views and layout != "mead":
        raise JaxtalkError(f"--view belongs to --dataset mead; leave it out with {layout}")
    if tables is not None and layout != "hdtf":
        raise JaxtalkError(f"--tables belongs to --dataset hdtf; leave it out with {layout}")
    unknown = sorted(set(views) - set(mead.VIEWS))
    if unknown:
        raise JaxtalkError(f"--view {unknown[0]}: MEAD has {', '.join(mead.VIEWS)}")
    if layout == "hdtf":
        return hdtf.read(root, tables)
    if layout == "mead":
        return mead.read(root, views or ("front",))
    return folder.read(root, out)
