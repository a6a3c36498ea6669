"""`--from`: which importer a folder goes to, which files of Deep3D belong together, and what is refused."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from jaxtalk import cli
from jaxtalk.errors import JaxtalkError
from jaxtalk.preparation.importers import ad_nerf, deep3d_folder, nerf_clip, rad_nerf
from jaxtalk.preparation.importers.sources import SOURCES, import_clip
from jaxtalk.preparation.job import PrepareOptions
from tests.test_preparation_decode import RATE, write_video


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """What the importers were called with."""
    found: list[tuple[Any, ...]] = []
    monkeypatch.setattr(nerf_clip, "import_folder", lambda *given: found.append(given))
    monkeypatch.setattr(deep3d_folder, "prepare_clip", lambda *given: found.append(given))
    return found


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A silent video and one with sound."""
    folder = tmp_path_factory.mktemp("videos")
    times, shades = np.arange(4) / 25, np.full(4, 90)
    silent = write_video(folder / "silent.mp4", times, shades)
    return silent, write_video(folder / "loud.mp4", times, shades, sound=0.1 * np.ones(RATE // 5))


@pytest.mark.parametrize(("source", "layout"), [("ad_nerf", ad_nerf.LAYOUT), ("rad_nerf", rad_nerf.LAYOUT)])
def test_folders_go_to_their_layout(source: str, layout: object, calls: list[tuple[Any, ...]]) -> None:
    options = PrepareOptions(identity="anna", fps=30.0, audio="a.wav")
    import_clip(source, "folder", "out", options)
    assert calls == [("folder", "out", layout, options)] and source in SOURCES


@pytest.mark.parametrize("changes", [{"size": 256}, {"start": 1.0}, {"end": 0.0}, {"coefficients": "a.mat"}])
def test_options_of_videos_are_refused_for_folders(changes: dict[str, Any], calls: list[tuple[Any, ...]]) -> None:
    with pytest.raises(JaxtalkError, match=f"--{next(iter(changes))}: a folder of rad_nerf"):
        import_clip("rad_nerf", "folder", "out", PrepareOptions(**changes))
    assert not calls
    with pytest.raises(JaxtalkError, match="--from heygem: not one of ad_nerf, rad_nerf, deep3d"):
        import_clip("heygem", "folder", "out", PrepareOptions())


def _lay_out(root: Path, videos: tuple[Path, Path], apart: bool) -> tuple[Path, Path, Path]:
    """StyleTalk's sample: video, coefficients and sound of one name, side by side or in three folders."""
    folders = [root / name for name in ("video", "3DMM", "wav")] if apart else [root] * 3
    for folder in folders:
        folder.mkdir(parents=True, exist_ok=True)
    files = folders[0] / "anna.mp4", folders[1] / "anna.mat", folders[2] / "anna.wav"
    files[0].write_bytes(videos[0].read_bytes())
    for file in files[1:]:
        file.write_bytes(b"x")
    return files


@pytest.mark.parametrize("apart", [False, True])
@pytest.mark.parametrize("by_folder", [False, True])
def test_deep3d_files_of_one_name_belong_together(
    apart: bool, by_folder: bool, tmp_path: Path, videos: tuple[Path, Path], calls: list[tuple[Any, ...]]
) -> None:
    video, coefficients, sound = _lay_out(tmp_path / "a", videos, apart)
    (video.parent / "other.mp4").write_bytes(b"x")  # has no coefficients
    options = PrepareOptions(coefficients_fps=30.0, size=128)
    import_clip("deep3d", tmp_path / "a" if by_folder else video, "out", options)
    assert calls == [(video, "out", dataclasses.replace(options, coefficients=coefficients, audio=sound))]


def test_what_is_named_goes_before_what_is_found(
    tmp_path: Path, videos: tuple[Path, Path], calls: list[tuple[Any, ...]]
) -> None:
    """And sound of the video's own before a file beside it."""
    video, _, _ = _lay_out(tmp_path / "a", videos, False)
    video.write_bytes(videos[1].read_bytes())
    import_clip("deep3d", video, "out", PrepareOptions(coefficients="b.npy"))
    assert calls[0][2].coefficients == Path("b.npy") and calls[0][2].audio is None
    import_clip("deep3d", video, "out", PrepareOptions(audio="c.wav"))
    assert calls[1][2].audio == "c.wav" and calls[1][2].coefficients == video.with_suffix(".mat")


def test_deep3d_without_or_with_too_many_coefficients(tmp_path: Path, videos: tuple[Path, Path]) -> None:
    video, coefficients, _ = _lay_out(tmp_path / "a", videos, False)
    for name in ("bob.mp4", "bob.npy"):
        (video.parent / name).write_bytes(b"x")
    with pytest.raises(JaxtalkError, match=r"2 videos with coefficients \(anna\.mp4, bob\.mp4\); give one"):
        import_clip("deep3d", video.parent, "out", PrepareOptions())
    coefficients.unlink()
    with pytest.raises(JaxtalkError, match=r"anna\.mp4: no coefficients anna\.mat"):
        import_clip("deep3d", video, "out", PrepareOptions())
    (video.parent / "bob.npy").unlink()
    with pytest.raises(JaxtalkError, match="2 videos, none with coefficients"):
        import_clip("deep3d", video.parent, "out", PrepareOptions())
    with pytest.raises(JaxtalkError, match="no such file or folder"):
        import_clip("deep3d", tmp_path / "b", "out", PrepareOptions())


@pytest.mark.slow
@pytest.mark.real
def test_a_sample_of_styletalk(real_data: Path, tmp_path: Path) -> None:
    """A silent video with its .wav and .mat: the path that `--coefficients` and `--audio` take."""
    pytest.importorskip("mediapipe")
    options = PrepareOptions(
        size=128,
        end=3.0,
        landmarker=real_data / "models" / "face_landmarker.task",
        face_model_file=real_data / "morphable" / "ict_facekit_light.npz",
    )
    clip = import_clip("deep3d", real_data / "clips" / "styletalk" / "Obama_clip2.mp4", tmp_path / "clip", options)
    assert clip.meta.face_model.name == "deep3d" and np.abs(clip.audio()).max() > 0.05


def test_the_verb_hands_over_and_says_what_was_not_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    seen: list[tuple[Any, ...]] = []
    meta = SimpleNamespace(num_frames=3, identity="anna", fps=25.0, source={"not_found": ["au.csv: measured"]})

    def stand_in(*given: Any) -> Any:
        seen.append(given)
        return SimpleNamespace(path=Path("out"), meta=meta)

    monkeypatch.setattr("jaxtalk.preparation.importers.sources.import_clip", stand_in)
    words = ("prepare", "--from", "rad_nerf", "data/Anna", "--out", str(tmp_path / "out"), "--identity", "anna")
    result = CliRunner().invoke(cli.main, words)
    assert result.exit_code == 0 and "not found: au.csv: measured" in result.stderr
    assert result.stdout == "out: 3 frames of anna at 25 fps\n"
    assert seen[0][:2] == ("rad_nerf", Path("data/Anna")) and seen[0][3].identity == "anna"
    assert CliRunner().invoke(cli.main, ("prepare", "--from", "wav2lip", "a", "--out", "b")).exit_code == 2
    monkeypatch.undo()
    missing = CliRunner().invoke(cli.main, ("prepare", "--from", "ad_nerf", str(tmp_path / "none"), "--out", "b"))
    assert missing.exit_code == 2 and "no such folder" in missing.output
