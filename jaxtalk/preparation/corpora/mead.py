"""MEAD as it is unpacked: ROOT/{M|W}NNN/video/{view}/{emotion}/level_{k}/NNN.mp4, and speech without the view,
ROOT/{M|W}NNN/audio/{emotion}/level_{k}/NNN.m4a.

Its README sets sentences apart for tests, of everybody: the last 10 of neutral, and the last 6 of every other emotion
and level.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

from jaxtalk.errors import JaxtalkError
from jaxtalk.preparation.corpora.corpus import Corpus, Item, folder_of, is_video

VIEWS = ("front", "down", "top", "left_30", "left_60", "right_30", "right_60")
TEST_SENTENCES = {"neutral": 10}  # and 6 of any other emotion
_OTHER_TEST_SENTENCES = 6
_ACTOR = re.compile(r"[MW]\d{3}")
_LEVEL = re.compile(r"level_(\d+)")


def read(root: Path, views: Sequence[str] = ("front",)) -> Corpus:
    """The videos of the actors in `root`, of some of the views.

    Raises:
        JaxtalkError: no such folder, no actor in it, or no video of these views.
    """
    actors = [path for path in sorted(folder_of(root).iterdir()) if _ACTOR.fullmatch(path.name) and path.is_dir()]
    if not actors:
        raise JaxtalkError(f"{root}: no actor of MEAD here (folders M003, W009, ... with video/{views[0]}/...)")
    items, tests, remarks = [], [], []
    for actor in actors:
        if not (actor / "video").is_dir():
            packed = (actor / "video.tar").is_file()
            remarks.append(f"{actor}: {'video.tar is not unpacked' if packed else 'no folder video'}: left out")
            continue
        for view in views:
            group = list(_videos(actor, view))
            if not group:
                remarks.append(f"{actor}: no videos of the view {view}")
            items += [item for item, _ in group]
            tests += _set_apart(group)
    if not items:
        reason = f" ({remarks[0]})" if remarks else ""
        raise JaxtalkError(f"{root}: no video of the views {', '.join(views)}{reason}; expected e.g. "
                           f"M003/video/{views[0]}/angry/level_1/001.mp4")  # fmt: skip
    return Corpus("mead", tuple(items), test_clips=tuple(tests), remarks=tuple(remarks))


def _videos(actor: Path, view: str) -> Iterator[tuple[Item, tuple[str, int]]]:
    """(Item, (emotion, level)) of one actor's view, sentences in order."""
    for path in sorted((actor / "video" / view).glob("*/level_*/*")):
        level = _LEVEL.fullmatch(path.parent.name)
        if level is None or not is_video(path):
            continue
        emotion, speech = path.parent.parent.name, actor / "audio" / path.parent.parent.name / path.parent.name
        yield (
            Item(
                name=f"{actor.name}_{view}_{emotion}_{level[1]}_{path.stem}",
                video=path,
                identity=actor.name,
                emotion=emotion,
                language="en",
                speech_place=speech / path.stem,
            ),
            (emotion, int(level[1])),
        )


def _set_apart(group: Sequence[tuple[Item, tuple[str, int]]]) -> list[str]:
    """Names of the clips that MEAD's README tests on, among the videos of one actor and view."""
    parts: dict[tuple[str, int], list[str]] = defaultdict(list)
    for item, part in group:
        parts[part].append(item.name)
    return [
        name
        for (emotion, _), names in parts.items()
        for name in names[-TEST_SENTENCES.get(emotion, _OTHER_TEST_SENTENCES) :]
    ]
