"""Who is trained on and who is tested on in the papers, as data, and what we do where they do not say.

None of the papers lists its identities. Each entry tells what is stated and where, and how persons are chosen here, so
that a split can be repeated, and a report can say that it is not the paper's own. GDRF and DFA-NeRF split single clips
in time, not a collection by identity: see the protocols `fewshot` and `self`.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterable, Sequence

from jaxtalk.errors import JaxtalkError


@dataclasses.dataclass(frozen=True)
class PublishedSplit:
    """One paper's use of one collection."""

    paper: str
    dataset: str  # 'hdtf' or 'mead'
    source: str
    stated: str
    ours: str
    test_share: float  # of all persons: 0 nobody, 1 everybody is only tested on


SPLITS = (
    PublishedSplit(
        "s3d_nerf", "hdtf", "S3D-NeRF, data (card s3d_nerf, section 3)",
        "trained on the training split of HDTF, tested on its test split, persons unseen; no list of them",
        "a tenth of the persons is tested on, chosen by the hash of the name", 0.1,
    ),
    PublishedSplit(
        "s3d_nerf", "mead", "S3D-NeRF, data (card s3d_nerf, section 3)",
        "MEAD is tested on only; which of its videos is not said",
        "everybody is tested on", 1.0,
    ),
    PublishedSplit(
        "erlnet", "mead", "ERLNet, data and Table I (card erlnet, sections 3 and 6)",
        "60 subjects, 8 emotions, 3 levels; the radiance field is trained for each subject; no split is stated",
        "nobody is held out; MEAD's own test sentences are (sentence_split.json)", 0.0,
    ),
    PublishedSplit(
        "nerffacespeech", "hdtf", "NeRFFaceSpeech, evaluation (card nerffacespeech, section 9)",
        "400 clips of 8 s, the first frame as input; nothing is trained on HDTF; the clips are not listed",
        "everybody is tested on; 8 s are --end 8", 1.0,
    ),
)  # fmt: skip


def published_split(paper: str, dataset: str) -> PublishedSplit:
    """What a paper does with a collection. Raises `JaxtalkError`, naming those that do something with it, otherwise."""
    for split in SPLITS:
        if (split.paper, split.dataset) == (paper, dataset):
            return split
    known = sorted(split.paper for split in SPLITS if split.dataset == dataset)
    raise JaxtalkError(f"--split {paper}: no paper of this name has a split of {dataset}; "
                       f"known are {', '.join(known) or 'none'}")  # fmt: skip


def held_out(
    split: PublishedSplit, identities: Iterable[str], same_person: Sequence[tuple[str, str]] = ()
) -> list[str]:
    """Those of the identities that are tested on, in order.

    Whether a person is one of them depends on the person's name alone: collections of which some videos cannot be had
    any more are split alike.
    """
    first = {max(pair): min(pair) for pair in same_person}
    chosen = []
    for identity in sorted(set(identities)):
        name = f"{split.paper}/{split.dataset}/{first.get(identity, identity)}"
        draw = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8]) / 2**64
        if draw < split.test_share:
            chosen.append(identity)
    return chosen
