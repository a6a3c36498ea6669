"""What a video says of itself: written twice, read back, changes noticed."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image

from jaxtalk import __version__
from jaxtalk.errors import JaxtalkError
from jaxtalk.media.video import VideoWriter
from jaxtalk.synthesis import provenance
from jaxtalk.synthesis.frames import FrameFolder


@pytest.fixture
def entry(tmp_path: Path) -> dict[str, Any]:
    (tmp_path / "speech.wav").write_bytes(b"sound")
    run = {"name": "anna", "method": "ad_nerf", "config_sha256": "c" * 64, "state_sha256": "5" * 64}
    avatar = {"name": "clip7", "identity": "Änna", "consent": {"subject": "Änna", "scope": "research"}}
    return provenance.record(tmp_path / "speech.wav", run, avatar, pose="hold")


@pytest.fixture
def video(tmp_path: Path, entry: dict[str, Any]) -> Path:
    write_video(tmp_path / "out.mp4", entry)
    return tmp_path / "out.mp4"


def write_video(path: Path, entry: dict[str, Any]) -> None:
    """A small mp4 with its record inside and beside it."""
    _write(path, provenance.comment(entry))
    provenance.write_sidecar(path, entry)


def _write(path: Path, comment: str) -> None:
    with VideoWriter(path, (32, 32), 25, comment=comment) as writer:
        for i in range(5):
            writer.write(np.full((32, 32, 3), 40 * i, np.uint8))


def test_round_trip(video: Path, entry: dict[str, Any]) -> None:
    report = provenance.verify(video)
    assert report.intact and report.record == entry
    assert entry["synthetic"] is True and entry["generator"] == f"jaxtalk {__version__}"
    for part in ("SYNTHETIC", "unchanged", "anna", "ad_nerf", "5" * 64, "Änna", "research", "speech.wav"):
        assert part in report.text
    assert entry["audio"]["sha256"] == hashlib.sha256(b"sound").hexdigest()


def test_one_changed_byte_is_noticed(video: Path) -> None:
    data = bytearray(video.read_bytes())
    data[-1] ^= 1  # of the pictures; the comment stays whole
    video.write_bytes(data)
    report = provenance.verify(video)
    assert not report.intact and "CHANGED: the file is not the one that was made" in report.text


def test_another_video_behind_the_same_sidecar_is_noticed(video: Path) -> None:
    _write(video, "")
    assert "CHANGED" in provenance.verify(video).text


def test_records_that_contradict_each_other_are_noticed(video: Path) -> None:
    sidecar = provenance.sidecar_path(video)
    content = json.loads(sidecar.read_text())
    content["provenance"]["avatar"]["identity"] = "somebody else"
    sidecar.write_text(json.dumps(content))
    report = provenance.verify(video)
    assert not report.intact and "different stories" in report.text


def test_the_comment_alone_speaks_and_survives_a_remux(video: Path, entry: dict[str, Any], tmp_path: Path) -> None:
    copy = tmp_path / "copy.mp4"
    shutil.copy(video, copy)
    report = provenance.verify(copy)
    assert report.intact and report.record == entry and "missing" in report.text
    with av.open(str(video)) as source, av.open(str(tmp_path / "remux.mp4"), "w") as target:
        target.metadata.update(source.metadata)
        stream = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(source.streams.video[0]):
            if packet.dts is not None:
                packet.stream = stream
                target.mux(packet)
    assert provenance.verify(tmp_path / "remux.mp4").record == entry


def test_frames_carry_the_record(tmp_path: Path, entry: dict[str, Any]) -> None:
    with FrameFolder(tmp_path / "frames", provenance.comment(entry)) as folder:
        folder.write(np.zeros((8, 8, 3), np.uint8))
    assert provenance.verify(tmp_path / "frames" / "000000.png").record == entry
    Image.new("RGB", (8, 8)).save(tmp_path / "other.png")
    (tmp_path / "broken.png").write_bytes(b"no picture")
    for name in ("other.png", "broken.png"):
        assert provenance.verify(tmp_path / name).record is None


def test_a_stripped_comment_is_noticed(video: Path, entry: dict[str, Any]) -> None:
    _write(video, "")
    provenance.write_sidecar(video, entry)
    report = provenance.verify(video)
    assert not report.intact and "comment inside is gone" in report.text


@pytest.mark.parametrize("content", ["", "not json", "[]", '{"provenance": 3}', '{"provenance": {}}'])
def test_foreign_files_have_no_provenance(tmp_path: Path, content: str) -> None:
    _write(tmp_path / "film.mp4", "a holiday film")
    (tmp_path / "notes.txt").write_text("hello")
    for name in ("film.mp4", "notes.txt"):
        if content:
            provenance.sidecar_path(tmp_path / name).write_text(content)
        report = provenance.verify(tmp_path / name)
        assert not report.intact and report.record is None and "no provenance found" in report.text


def test_broken_comments_are_foreign(tmp_path: Path) -> None:
    for text in (provenance.PREFIX, provenance.PREFIX + "{", provenance.PREFIX + "3"):
        _write(tmp_path / "film.mp4", text)
        assert provenance.verify(tmp_path / "film.mp4").record is None


def test_a_missing_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(JaxtalkError, match="no such file"):
        provenance.verify(tmp_path / "missing.mp4")
