"""Where a synthetic video comes from, written into it and beside it, and read back.

Every mp4 carries its record twice: as a comment tag inside, and as `OUT.mp4.json` beside it with the file's own hash.
Frames that are written as PNG carry it inside.
This helps honest people to keep track; it is no protection against somebody who removes it.
"""

from __future__ import annotations

import dataclasses
import datetime
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from PIL import Image

from jaxtalk import __version__
from jaxtalk.datasets.files import file_sha256
from jaxtalk.errors import JaxtalkError
from jaxtalk.media.container import MediaError
from jaxtalk.media.video import probe

PREFIX = "Synthetic video made by jaxtalk. Provenance: "  # of the comment; the record follows as JSON
DIGITAL_SOURCE_TYPE = "trainedAlgorithmicMedia"  # IPTC's word, the one that C2PA uses


def record(audio: Path, run: Mapping[str, Any], avatar: Mapping[str, Any], **settings: Any) -> dict[str, Any]:
    """What a video's record says, as JSON can hold it.

    `run`: workdir's name, method, config hash, state hash. `avatar`: name, identity, consent, of a picture its file's
    name and hash. `settings`: how it was rendered.
    """
    return {
        "synthetic": True,
        "digital_source_type": DIGITAL_SOURCE_TYPE,
        "generator": f"jaxtalk {__version__}",
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "run": dict(run),
        "avatar": dict(avatar),
        "audio": {"file": audio.name, "sha256": file_sha256(audio)},
        "settings": settings,
    }


def comment(entry: Mapping[str, Any]) -> str:
    """The record as an mp4 comment that a person can read, too."""
    return PREFIX + json.dumps(entry, sort_keys=True, separators=(",", ":"))


def sidecar_path(video: Path) -> Path:
    return video.with_name(video.name + ".json")


def write_sidecar(video: Path, entry: Mapping[str, Any]) -> Path:
    """Writes the record and the finished video's hash beside it."""
    path = sidecar_path(video)
    content = {"file": video.name, "sha256": file_sha256(video), "provenance": dict(entry)}
    temporary = path.with_name(path.name + ".partial")
    temporary.write_text(json.dumps(content, indent=1, sort_keys=True) + "\n")
    os.replace(temporary, path)
    return path


@dataclasses.dataclass(frozen=True)
class Report:
    """What `verify` found. `intact`: there is a record, and nothing contradicts it."""

    intact: bool
    text: str
    record: Mapping[str, Any] | None


def verify(video: str | os.PathLike[str]) -> Report:
    """Reads both records of a file back and compares them with each other and with the file.

    A PNG frame of ours speaks for itself, too. Raises `JaxtalkError` when there is no such file.
    """
    video = Path(video)
    if not video.is_file():
        raise JaxtalkError(f"{video}: no such file")
    inside, beside = _read_comment(video), _read_sidecar(video)
    if inside is None and beside is None:
        return Report(
            False, f"{video}: no provenance found; this file was not made by jaxtalk, or lost its record", None
        )
    entry = inside if inside is not None else beside["provenance"]  # type: ignore[index]
    if beside is None:
        finding = f"{sidecar_path(video).name} is missing, so only the comment inside speaks for this file"
        return Report(True, _describe(video, finding, entry), entry)
    if beside.get("sha256") != file_sha256(video):
        finding = "CHANGED: the file is not the one that was made (its sha256 differs from the sidecar's)"
    elif inside is None:
        finding = "CHANGED: the comment inside is gone"
    elif inside != beside["provenance"]:
        finding = "CHANGED: the comment inside and the sidecar tell different stories"
    else:
        return Report(True, _describe(video, "unchanged since it was made", entry), entry)
    return Report(False, _describe(video, finding, entry), entry)


def _read_comment(video: Path) -> dict[str, Any] | None:
    try:
        text = _png_comment(video) if video.suffix.lower() == ".png" else probe(video).comment
    except (MediaError, OSError):
        return None
    if not text.startswith(PREFIX):
        return None
    try:
        entry = json.loads(text[len(PREFIX) :])
    except ValueError:
        return None
    return entry if isinstance(entry, dict) else None


def _png_comment(picture: Path) -> str:
    """The text that `synthesis.frames` puts into every frame."""
    with Image.open(picture) as image:
        return str(image.info.get("Comment", ""))


def _read_sidecar(video: Path) -> dict[str, Any] | None:
    path = sidecar_path(video)
    if not path.is_file():
        return None
    try:
        content = json.loads(path.read_text())
    except ValueError:
        return None
    ours = isinstance(content, dict) and isinstance(content.get("provenance"), dict)
    return content if ours and content["provenance"].get("synthetic") else None


def _describe(video: Path, finding: str, entry: Mapping[str, Any]) -> str:
    lines = [f"{video}: SYNTHETIC, {finding}"]
    run, avatar, audio = (entry.get(name, {}) for name in ("run", "avatar", "audio"))
    lines.append(f"  made by   {entry.get('generator')} on {entry.get('created')}")
    lines.append(
        f"  run       {run.get('name')} ({run.get('method')}), state {run.get('state_sha256') or 'not recorded'}"
    )
    lines.append(f"  identity  {avatar.get('identity')} (avatar {avatar.get('name')})")
    if picture := avatar.get("picture"):
        lines.append(f"  picture   {picture.get('file')}, sha256 {picture.get('sha256')}")
    consent = avatar.get("consent")
    lines.append(f"  consent   {json.dumps(consent, sort_keys=True) if consent else 'not recorded'}")
    lines.append(f"  speech    {audio.get('file')}, sha256 {audio.get('sha256')}")
    return "\n".join(lines)
