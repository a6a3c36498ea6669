"""From a collection of videos to a folder of clips with its manifest, in one call.

OUT/NAME/               one clip a video (`jaxtalk.preparation.corpora`)
OUT/manifest.json       who is in the clips, on which side of the split, and the hash of each (`Manifest`)
OUT/sentence_split.json where the collection sets sentences apart for tests (MEAD): clip names, train and test
OUT/failures.json       what failed in the last call, and why
"""

from __future__ import annotations

import concurrent.futures
import json
from collections.abc import Iterable, Sequence
from pathlib import Path

from jaxtalk import progress
from jaxtalk.clip import Clip
from jaxtalk.datasets.packing import clip_digest
from jaxtalk.datasets.published_splits import held_out, published_split
from jaxtalk.datasets.splits import TEST, Manifest, make_manifest
from jaxtalk.errors import JaxtalkError
from jaxtalk.preparation.corpora.corpus import Corpus
from jaxtalk.preparation.corpora.run import FAILURES_FILE, Report, prepare_corpus
from jaxtalk.preparation.job import PrepareOptions

MANIFEST_FILE = "manifest.json"
SENTENCES_FILE = "sentence_split.json"


def prepare_dataset(corpus: Corpus, out: Path, options: PrepareOptions, jobs: int, paper: str = "") -> Report:
    """Prepares a collection (see `prepare_corpus`), and writes what came of it.

    Args:
        corpus: what `jaxtalk.preparation.corpora` read.
        out: folder of the clips; it may hold others already, which the manifest keeps on their side.
        options: of every clip.
        jobs: clips at once.
        paper: whose split the manifest follows (`published_splits`); empty: nobody is held out.

    Raises:
        JaxtalkError: what concerns the whole collection, or not one clip could be prepared.
    """
    split = published_split(paper, corpus.name) if paper else None
    report = prepare_corpus(corpus, out, options, jobs)
    if not report.prepared:
        first = report.failures[0]
        raise JaxtalkError(f"{out}: none of the {len(corpus.items)} videos could be prepared; {out / FAILURES_FILE} "
                           f"says why, the first: {first.reason}")  # fmt: skip
    identities = {result.identity for result in report.prepared}
    tested = held_out(split, identities, corpus.same_person) if split else []
    if split:
        progress.console.print(
            f"{split.source}: {split.stated}. Here: {split.ours}; {len(tested)} of {len(identities)} identities.",
            highlight=False,
            soft_wrap=True,
        )
    write_manifest(out, tested, corpus.same_person)
    if corpus.test_clips:
        _write_sentences(out, corpus, [result.name for result in report.prepared])
    return report


def write_manifest(folder: Path, tested: Iterable[str] = (), same_person: Sequence[tuple[str, str]] = ()) -> Manifest:
    """Writes FOLDER/manifest.json of all clips in it, and returns it.

    Who stood on the test side of a manifest that is there already stays there.

    Args:
        folder: holds folders of clips.
        tested: identities of the test side.
        same_person: pairs of identities that are one person under two names.

    Raises:
        JaxtalkError: an older manifest was changed by hand, or a clip is unreadable.
    """
    path = folder / MANIFEST_FILE
    clips = [Clip.open(child) for child in sorted(folder.iterdir()) if (child / "clip.json").is_file()]
    digests = _digests(clips)
    known = {clip.name: (clip.meta.identity, digest) for clip, digest in zip(clips, digests, strict=True)}
    test, pairs = set(tested), dict.fromkeys(same_person)
    if path.is_file():
        before = Manifest.load(path)
        test |= {entry.identity for entry in before.clips.values() if entry.split == TEST}
        pairs |= dict.fromkeys(before.same_person)
    here = {identity for identity, _ in known.values()}
    manifest = make_manifest(known, sorted(test & here), same_person=pairs)
    manifest.save(path)
    return manifest


def _digests(clips: Sequence[Clip]) -> list[str]:
    with concurrent.futures.ThreadPoolExecutor() as pool:  # hashing lets other threads run
        return list(progress.track(pool.map(clip_digest, clips), "hashing clips", len(clips)))


def _write_sentences(out: Path, corpus: Corpus, prepared: Sequence[str]) -> None:
    """Which clips hold sentences for tests; those of earlier calls stay as they were."""
    path = out / SENTENCES_FILE
    before = json.loads(path.read_text()) if path.is_file() else {"train": [], "test": []}
    test = set(corpus.test_clips)
    sides = {
        "train": {*before["train"], *prepared} - test,
        "test": {*before["test"], *(name for name in prepared if name in test)},
    }
    content = {"dataset": corpus.name, **{side: sorted(names) for side, names in sides.items()}}
    path.write_text(json.dumps(content, indent=1) + "\n")
