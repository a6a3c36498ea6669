"""Who is trained on and who is not: splits in time within a clip, and by identity over a collection."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxtalk.errors import JaxtalkError

TRAIN, TEST = "train", "test"
_VERSION = 1


def time_split(times: np.ndarray, test_seconds: float, guard_seconds: float) -> tuple[np.ndarray, np.ndarray]:
    """Indices of training frames and of test frames: the last part of a clip, after a gap.

    Test frames are those of the last `test_seconds`, where the last frame lasts one median interval; training frames
    end `guard_seconds` before the first of them, so that no audio window holds sound of both.

    Args:
        times: [F] increasing, seconds.
        test_seconds: 0 gives no test frames, and no gap.
        guard_seconds: length of the gap.

    Raises:
        JaxtalkError: a side would be empty.
    """
    times = np.asarray(times, np.float64)
    if test_seconds <= 0:
        return np.arange(len(times)), np.arange(0)
    interval = float(np.median(np.diff(times))) if len(times) > 1 else 0.0
    # Half an interval of tolerance: timestamps are rounded to the container's clock.
    start = times[-1] + interval - test_seconds - 0.5 * interval
    test = np.flatnonzero(times >= start)
    train = np.flatnonzero(times < start - guard_seconds)
    if not train.size or not test.size:
        raise JaxtalkError(
            f"a clip of {times[-1] - times[0] + interval:.1f} s leaves no frames to train on; "
            f"lower data.test_seconds ({test_seconds:g}) or data.guard_seconds ({guard_seconds:g})"
        )
    return train, test


@dataclasses.dataclass(frozen=True)
class ClipEntry:
    """One clip of a collection."""

    identity: str
    split: str  # 'train' or 'test'
    sha256: str  # of the clip's content, see `talking_clips.clip_digest`


@dataclasses.dataclass(frozen=True)
class Manifest:
    """Which clip belongs to whom, and on which side each person stands. Identities of one `person` are one person."""

    clips: Mapping[str, ClipEntry]
    same_person: tuple[tuple[str, str], ...] = ()

    @property
    def sha256(self) -> str:
        """Hash of everything in the manifest: two results with the same hash had the same split."""
        return hashlib.sha256(json.dumps(self._content(), sort_keys=True).encode()).hexdigest()

    def _content(self) -> dict[str, Any]:
        return {
            "version": _VERSION,
            "clips": {name: dataclasses.asdict(entry) for name, entry in sorted(self.clips.items())},
            "same_person": sorted(sorted(pair) for pair in self.same_person),
        }

    def to_json(self) -> dict[str, Any]:
        return {**self._content(), "sha256": self.sha256}

    def save(self, path: Path) -> None:
        path.write_text(json.dumps(self.to_json(), indent=1) + "\n")

    @classmethod
    def from_json(cls, data: Mapping[str, Any], where: str) -> Manifest:
        """Raises `JaxtalkError` where the content does not have the hash it claims; `where` names the file."""
        try:
            clips = {name: ClipEntry(**entry) for name, entry in data["clips"].items()}
            pairs = tuple((first, second) for first, second in data["same_person"])
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise JaxtalkError(f"{where}: not a manifest of clips ({error}); make it again") from error
        manifest = cls(clips, pairs)
        if manifest.sha256 != data.get("sha256"):
            raise JaxtalkError(f"{where}: changed since it was made (its hash differs); make it again")
        manifest.check(where)
        return manifest

    @classmethod
    def load(cls, path: Path) -> Manifest:
        try:
            return cls.from_json(json.loads(path.read_text()), str(path))
        except (OSError, ValueError) as error:
            raise JaxtalkError(f"{path}: not a manifest of clips ({error}); make it again") from error

    def check(self, where: str) -> None:
        """Raises `JaxtalkError` where one person stands on both sides."""
        sides: dict[str, str] = {}
        group = _persons({entry.identity for entry in self.clips.values()}, self.same_person)
        for name, entry in self.clips.items():
            if entry.split not in (TRAIN, TEST):
                raise JaxtalkError(f"{where}: clip {name}: split {entry.split!r} is neither {TRAIN!r} nor {TEST!r}")
            if sides.setdefault(group[entry.identity], entry.split) != entry.split:
                raise JaxtalkError(f"{where}: {entry.identity} is on both sides of the split; move all clips to one")


def make_manifest(
    clips: Mapping[str, tuple[str, str]],
    held_out: Sequence[str] | int = (),
    *,
    same_person: Iterable[tuple[str, str]] = (),
    seed: int = 0,
) -> Manifest:
    """Splits a collection by person.

    Args:
        clips: clip name -> (identity, sha256 of its content).
        held_out: identities to test on, or how many persons to draw with `seed`.
        same_person: pairs of identities that are one person under two names; both stand on one side.
        seed: of the draw; the draw depends on the set of identities, not on the order of the clips.

    Raises:
        JaxtalkError: an identity that no clip has, or more persons held out than there are.
    """
    pairs = tuple(same_person)
    identities = {identity for identity, _ in clips.values()}
    group = _persons(identities, pairs)
    persons = sorted({group[identity] for identity in identities})
    if isinstance(held_out, int):
        if held_out > len(persons):
            raise JaxtalkError(f"cannot hold out {held_out} of {len(persons)} persons; lower held_out")
        chosen = {persons[i] for i in np.random.default_rng(seed).permutation(len(persons))[:held_out]}
    else:
        unknown = sorted(set(held_out) - identities)
        if unknown:
            raise JaxtalkError(
                f"held out identity {unknown[0]!r} has no clip; known are {', '.join(sorted(identities))}"
            )
        chosen = {group[identity] for identity in held_out}
    entries = {
        name: ClipEntry(identity, TEST if group[identity] in chosen else TRAIN, digest)
        for name, (identity, digest) in clips.items()
    }
    return Manifest(entries, pairs)


def _persons(identities: Iterable[str], pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Identity -> the name of its person: the alphabetically first of all identities that pairs connect to it."""
    person = {identity: identity for identity in identities}

    def find(identity: str) -> str:
        while person.setdefault(identity, identity) != identity:
            identity = person[identity]
        return identity

    for pair in pairs:
        first, second = sorted(find(identity) for identity in pair)
        person[second] = first
    return {identity: find(identity) for identity in list(person)}
