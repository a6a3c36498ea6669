"""The clip contract: written whole, read back, and every kind of damage named."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from jaxtalk.clip import Clip, ClipError
from tests.fake_clip import write_fake_clip


def test_round_trip(fake_clip: Clip) -> None:
    clip = Clip.open(fake_clip.path)
    clip.validate(decode=True)
    assert clip.meta.num_frames == clip.track.num_frames == 50
    assert clip.frame(0).shape == (32, 32, 3) and clip.frame(0).dtype == np.uint8
    assert set(np.unique(clip.mask(3))) == {0, 1, 2}
    assert clip.audio().shape == (2 * 16000,)


def test_an_interrupted_writer_leaves_no_clip(tmp_path: Path) -> None:
    from jaxtalk.clip import ClipWriter

    writer = ClipWriter(tmp_path / "a")
    writer.frame(0, np.zeros((4, 4, 3), np.uint8))
    with pytest.raises(ClipError, match="no clip here"):
        Clip.open(tmp_path / "a")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda p: (p / "frames/000007.png").unlink(), "frame 7 is missing"),
        (lambda p: (p / "frames/000007.png").write_bytes(b"x"), "not a readable picture"),
        (lambda p: (p / "track.npz").write_bytes(b""), "unreadable"),
        (lambda p: (p / "audio.wav").unlink(), "audio.wav: unreadable"),
        (lambda p: (p / "clip.json").write_text("{"), "not JSON"),
        (lambda p: _edit(p, schema=0), "schema 0"),
        (lambda p: _edit(p, colour=1), "unknown key 'colour'"),
        (lambda p: _edit(p, num_frames=49), "expected"),
    ],
)
def test_damage_is_named(fake_clip: Clip, tmp_path: Path, damage, message: str) -> None:
    path = shutil.copytree(fake_clip.path, tmp_path / "clip")
    damage(path)
    with pytest.raises(ClipError, match=message):
        Clip.open(path).validate(decode=True)


def _edit(path: Path, **values: object) -> None:
    file = path / "clip.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | values))


def test_the_ball_is_where_its_pose_says(tmp_path: Path) -> None:
    """The fake clip obeys the conventions: the projected origin is the centre of the drawn head."""
    clip = write_fake_clip(tmp_path / "c", size=64)
    for i in (0, 20, 49):
        rows, columns = np.nonzero(clip.mask(i) == 1)
        x, y, z = clip.track.translation[i]
        camera = clip.meta.camera
        assert abs(columns.mean() + 0.5 - (camera.cx - camera.focal * x / z)) < 0.5
        assert abs(rows.mean() + 0.5 - (camera.cy + camera.focal * y / z)) < 0.5
