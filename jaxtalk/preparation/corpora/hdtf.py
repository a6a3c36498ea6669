"""HDTF as its downloaders leave it: ROOT/{subset}_{NAME}_{i:03d}.mp4, e.g. WDA_KatieHill_000.mp4.

A NAME is a video of the collection's tables. WDA and WRA name their speaker, numbered where there are several videos
of one (AmyKlobuchar0, AmyKlobuchar1): without the number, it is the identity. RD does not say who speaks (Radio11), so
that each of its videos counts as a person. The tables are not needed; with them, what is missing is told.
"""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from jaxtalk.errors import JaxtalkError
from jaxtalk.preparation.corpora.corpus import Corpus, Item, folder_of, is_video

SUBSETS = ("RD", "WDA", "WRA")
# One video of the tables (gh3YqnvNdio) stands there under both names.
SAME_PERSON = (("JamesClyburn", "WhipJimClyburn"),)
_CLIP = re.compile(rf"({'|'.join(SUBSETS)})_(.+)_(\d{{1,3}})")
_WITH_PERSONS = ("WDA", "WRA")


def read(root: Path, tables: Path | None = None) -> Corpus:
    """The clips in `root`.

    Args:
        root: where the downloader put the clips.
        tables: the folder of HDTF's tables (`WDA_crop_wh.txt`, ...); None: `root` or `root`/HDTF_dataset, if there.

    Raises:
        JaxtalkError: no such folder, no clip in it, or tables that are asked for but not there.
    """
    items = [item for path in sorted(folder_of(root).iterdir()) if is_video(path) and (item := _item(path))]
    if not items:
        raise JaxtalkError(f"{root}: no clip of HDTF here (they are called like WDA_KatieHill_000.mp4); "
                           "for videos under other names use --dataset folder")  # fmt: skip
    return Corpus("hdtf", tuple(items), SAME_PERSON, remarks=tuple(_remarks(root, items, tables)))


def person(subset: str, name: str) -> str:
    """Who speaks in the video NAME of a subset."""
    return re.sub(r"\d+$", "", name) if subset in _WITH_PERSONS else name


def _item(path: Path) -> Item | None:
    match = _CLIP.fullmatch(path.stem)
    if match is None:
        return None
    return Item(path.stem, path, person(match[1], match[2]), language="en")


def expected_clips(tables: Path) -> list[str]:
    """Names of all clips that the tables describe: the i-th of a video's time spans that have a crop is clip i.

    Raises:
        JaxtalkError: no table of crops, or a line that is none.
    """
    counts: Counter[tuple[str, str]] = Counter()
    found = False
    for subset in SUBSETS:
        path = tables / f"{subset}_crop_wh.txt"
        for number, line in _lines(path):
            found = True
            match = re.fullmatch(r"(\S+)_\d+\.mp4( \d+){4}", line)
            if match is None:
                raise JaxtalkError(f"{path}: line {number} is no crop ('NAME_i.mp4 x w y h'): {line[:60]!r}")
            counts[subset, match[1]] += 1
    if not found:
        raise JaxtalkError(f"{tables}: no tables of HDTF here (WDA_crop_wh.txt); name the folder HDTF_dataset of its "
                           "repository")  # fmt: skip
    return [f"{subset}_{name}_{i:03d}" for (subset, name), count in counts.items() for i in range(count)]


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """(Number, text) of a table's lines that are not empty; none where the table is absent."""
    if path.is_file():
        for number, line in enumerate(path.read_text(encoding="utf-8-sig").splitlines(), start=1):
            if line.strip():
                yield number, " ".join(line.split())


def _remarks(root: Path, items: list[Item], tables: Path | None) -> Iterator[str]:
    if tables is None:
        places = (root, root / "HDTF_dataset")
        tables = next((place for place in places if (place / "WDA_crop_wh.txt").is_file()), None)
        if tables is None:
            return
    expected, here = expected_clips(tables), {item.name for item in items}
    missing = [name for name in expected if name not in here]
    if missing:
        shown = ", ".join(itertools.islice(missing, 3))
        yield f"{len(missing)} of the {len(expected)} clips in HDTF's tables are not in {root} ({shown}, ...)"
    unknown = sorted(here - set(expected))
    if unknown:
        yield f"{len(unknown)} clips in {root} are in no table of HDTF ({', '.join(unknown[:3])})"
