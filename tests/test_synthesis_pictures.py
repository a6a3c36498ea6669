"""A picture in place of an avatar: who may ask, what is kept, and what the video's record says of it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image
from scipy.spatial.transform import Rotation

from jaxtalk.clip import Clip, ClipView
from jaxtalk.errors import JaxtalkError
from jaxtalk.media.video import probe, read_frames
from jaxtalk.preparation.job import PrepareOptions
from jaxtalk.preparation.picture import clip_name
from jaxtalk.synthesis import PictureModels, avatars, pictures, pipeline, synthesize
from jaxtalk.synthesis.provenance import verify
from tests.fake_clip import write_fake_clip
from tests.fake_method import FakeAvatar, FakeRun, fake_method, fake_run
from tests.test_synthesis import _beeps

SIZE = 48  # of the runs


@pytest.fixture
def views(monkeypatch: pytest.MonkeyPatch) -> list[ClipView]:
    """The fake system, which meets strangers; what it was asked to fit is collected."""
    fitted: list[ClipView] = []
    method = fake_method([])

    def fit(run: Any, clip: ClipView) -> FakeAvatar:
        fitted.append(clip)
        return FakeAvatar(clip.name, clip.meta.size, clip.meta.fps, clip.meta.camera, clip.track)

    system = SimpleNamespace(**vars(method) | {"fit": fit, "generalises": True})
    for module in (avatars, pipeline, pictures):
        monkeypatch.setattr(module, "load_method", lambda name: system)
    return fitted


@pytest.fixture
def run(tmp_path: Path) -> FakeRun:
    made = fake_run(tmp_path / "run")
    made.config.data.size = SIZE
    return made


@pytest.fixture
def prepared(monkeypatch: pytest.MonkeyPatch) -> list[PrepareOptions]:
    """A stand-in for preparation, which needs MediaPipe: a clip of one frame; with what options it was asked for."""
    asked: list[PrepareOptions] = []

    def clip_of_picture(picture: Path, folder: Path, options: PrepareOptions) -> Clip:
        asked.append(options)
        seed = int(np.asarray(Image.open(picture)).mean())
        return write_fake_clip(folder / clip_name(picture), seconds=1 / 25, size=options.size, seed=seed)

    monkeypatch.setattr("jaxtalk.preparation.picture.clip_of_picture", clip_of_picture)
    return asked


def _picture(path: Path, level: int = 10) -> Path:
    Image.new("RGB", (20, 20), (level,) * 3).save(path)
    return path


def test_a_picture_speaks(tmp_path: Path, run: FakeRun, views: list[ClipView], prepared: list[Any]) -> None:
    face, speech = _picture(tmp_path / "face.png"), _beeps(tmp_path / "speech.wav", 1.3, (0.3,))
    result = synthesize(run, speech, tmp_path / "out.mp4", image=face)
    info = probe(tmp_path / "out.mp4")
    assert result.frames == info.frames == 32 and info.size == (SIZE, SIZE)
    (view,) = views
    assert view.meta.num_frames == 1 and view.frame(0).shape == (SIZE, SIZE, 3)  # at the run's size, from 512
    assert prepared[0].size == 512 and view.meta.camera.focal == pytest.approx(2.2 * SIZE)
    (kept,) = [path for path in (run.workdir / "pictures").iterdir() if path.is_dir()]
    assert kept.name == clip_name(face) and kept.name.startswith("face-") and len(kept.name) == 5 + 12
    report = verify(tmp_path / "out.mp4")
    assert report.intact and report.record is not None
    sha256 = report.record["avatar"]["picture"]["sha256"]
    assert report.record["avatar"]["picture"]["file"] == "face.png" and sha256.startswith(kept.name[-12:])
    assert f"picture   face.png, sha256 {sha256}" in report.text


def test_a_picture_is_prepared_and_fitted_once(
    tmp_path: Path, run: FakeRun, views: list[ClipView], prepared: list[Any]
) -> None:
    face = _picture(tmp_path / "face.png")
    head, origin = pictures.avatar_of_picture(run, face)
    again, told = pictures.avatar_of_picture(run, face)
    assert len(prepared) == len(views) == 1 and told == origin
    np.testing.assert_array_equal(again.track.rotation, head.track.rotation)
    # New parameters of the run: fitted again, not prepared again.
    pictures.avatar_of_picture(dataclasses.replace(fake_run(run.workdir, "6" * 64), config=run.config), face)
    assert len(prepared) == 1 and len(views) == 2
    # Another content under the same name is another person.
    pictures.avatar_of_picture(run, _picture(face, level=200))
    assert len(prepared) == 2 and len(views) == 3 and len({view.name for view in views}) == 2
    # The head can be called by name afterwards, and asks for no picture.
    assert avatars.open_avatar(run, views[-1].name)[0].name == views[-1].name and len(views) == 3


def test_a_damaged_or_unfitting_clip_of_a_picture_is_made_again(
    tmp_path: Path, run: FakeRun, views: list[ClipView], prepared: list[Any]
) -> None:
    face = _picture(tmp_path / "face.png")
    pictures.avatar_of_picture(run, face)
    folder = run.workdir / "pictures" / clip_name(face)
    (folder / "frames" / "000000.png").write_bytes(b"no picture")
    pictures.avatar_of_picture(run, face)
    assert len(prepared) == 2 and len(views) == 1  # the same clip came of it
    run.config.data.size = 600
    head, _ = pictures.avatar_of_picture(run, face)
    assert prepared[-1].size == 600 and head.size == (600, 600)
    pictures.avatar_of_picture(run, face, PictureModels(face_model="procedural"))  # the fake clip's is "ball"
    assert len(prepared) == 4 and prepared[-1].face_model == "procedural" and prepared[0].face_model == "ict"


def test_face_model_and_rate_are_those_of_the_runs_clips(
    tmp_path: Path, run: FakeRun, views: list[ClipView], prepared: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    learnt = write_fake_clip(tmp_path / "learnt", seconds=0.2).meta
    model = dataclasses.replace(learnt.face_model, name="procedural")
    meta = dataclasses.replace(learnt, face_model=model, fps=30.0)
    monkeypatch.setattr("jaxtalk.datasets.open_packed", lambda *_, **__: [SimpleNamespace(meta=meta)])
    pictures.avatar_of_picture(run, _picture(tmp_path / "face.png"))
    assert (prepared[0].face_model, prepared[0].fps) == ("procedural", 30.0)


def test_one_mans_system_is_refused(tmp_path: Path, run: FakeRun, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pictures, "load_method", lambda name: fake_method([]))
    with pytest.raises(JaxtalkError, match=r"fake is trained for one person and a picture shows another.*gdrf"):
        synthesize(run, _beeps(tmp_path / "a.wav", 1.0, ()), tmp_path / "b.mp4", image=_picture(tmp_path / "face.png"))
    assert not (run.workdir / "pictures").exists() and not (tmp_path / "b.mp4").exists()


def test_a_system_that_wants_a_video_says_so(
    tmp_path: Path, run: FakeRun, prepared: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> None:
        raise JaxtalkError("clip face: 1 frames are too few")

    system = SimpleNamespace(fit=refuse, generalises=True, adapt=None)
    only = SimpleNamespace(generalises=True)
    monkeypatch.setattr(pictures, "method_names", lambda: ["fake", "only"])
    monkeypatch.setattr(pictures, "load_method", {"fake": system, "only": only}.__getitem__)
    with pytest.raises(JaxtalkError, match=r"too few\. fake learns a person from seconds.* need one picture: only$"):
        pictures.avatar_of_picture(run, _picture(tmp_path / "face.png"))
    assert not (run.workdir / "avatars").exists()
    del system.adapt
    with pytest.raises(JaxtalkError, match=r"too few$"):
        pictures.avatar_of_picture(run, _picture(tmp_path / "face.png"))


def test_wrong_requests_are_one_line(tmp_path: Path, run: FakeRun, views: list[ClipView], prepared: list[Any]) -> None:
    face, speech = _picture(tmp_path / "face.png"), _beeps(tmp_path / "speech.wav", 0.5, (0.1,))
    requests: list[tuple[dict[str, Any], str]] = [
        ({"image": face, "avatar": "anna"}, "two heads"),
        ({"image": tmp_path / "none.png"}, r"none\.png: no such file"),
        ({"image": tmp_path}, "a folder"),
        ({"image": face, "orbit": 15.0, "pose": "loop"}, "two ways"),
        ({"image": face, "orbit": 15.0, "pose_from": tmp_path}, "two ways"),
        ({"image": face, "pose_from": tmp_path / "clip"}, "no clip here"),
        ({"image": face, "orbit": 120.0}, "at most 90"),
        ({"image": face, "orbit": float("nan")}, "at most 90"),
    ]
    for request, reason in requests:
        with pytest.raises(JaxtalkError, match=reason) as caught:
            synthesize(run, speech, tmp_path / "out.mp4", **request)
        assert "\n" not in str(caught.value)
    assert not views and not (tmp_path / "out.mp4").exists()
    (tmp_path / "out.mp4").write_bytes(face.read_bytes())
    with pytest.raises(JaxtalkError, match="what --image names"):
        synthesize(run, speech, tmp_path / "out.mp4", image=tmp_path / "out.mp4")


def _motions(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    drives: list[Any] = []
    render: Callable[..., np.ndarray] = FakeAvatar.render

    def seen(self: FakeAvatar, drive: Any) -> np.ndarray:
        drives.append(drive)
        return render(self, drive)

    monkeypatch.setattr(FakeAvatar, "render", seen)
    return drives


def test_orbit_turns_the_picture(
    tmp_path: Path, run: FakeRun, views: list[ClipView], prepared: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    drives = _motions(monkeypatch)
    face, speech = _picture(tmp_path / "face.png"), _beeps(tmp_path / "speech.wav", 2.0, (0.1,))
    synthesize(run, speech, tmp_path / "out.mp4", image=face, orbit=15)
    rotation = np.concatenate([drive.rotation for drive in drives])[:50]
    start = Rotation.from_matrix(views[0].track.rotation[0])
    angles = np.degrees((start.inv() * Rotation.from_matrix(rotation)).as_rotvec())
    np.testing.assert_allclose(angles[:, 1], 15 * np.sin(2 * np.pi * np.arange(50) / 100), atol=1e-3)
    np.testing.assert_allclose(angles[:, ::2], 0, atol=1e-3)
    record = verify(tmp_path / "out.mp4").record
    assert record is not None and record["settings"]["orbit"] == 15 and record["settings"]["pose"] == "hold"


def test_a_clip_lends_a_picture_its_movement(
    tmp_path: Path, run: FakeRun, views: list[ClipView], prepared: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    drives = _motions(monkeypatch)
    lender = write_fake_clip(tmp_path / "lender", seconds=1.0, seed=3)
    face, speech = _picture(tmp_path / "face.png"), _beeps(tmp_path / "speech.wav", 0.8, (0.1,))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "lender").rename(tmp_path / "loop")  # a clip of this name is no policy
    synthesize(run, speech, tmp_path / "out.mp4", image=face, pose_from="loop")
    translation = np.concatenate([drive.translation for drive in drives])[:20]
    expected = lender.track.translation - lender.track.translation.mean(axis=0) + views[0].track.translation[0]
    np.testing.assert_allclose(translation, expected[:20], atol=1e-5)
    assert np.ptp(translation, axis=0).max() > 1e-3


def test_a_real_picture_speaks(
    tmp_path: Path, run: FakeRun, views: list[ClipView], real_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the file to the video; the second time without looking for the face."""
    pytest.importorskip("mediapipe")
    picture = real_data / "images" / "sadtalker_happy.png"
    if not picture.is_file():
        pytest.skip(f"{picture} is not here")
    models = PictureModels(
        real_data / "models" / "face_landmarker.task", None, real_data / "morphable" / "ict_facekit_light.npz"
    )
    speech = _beeps(tmp_path / "speech.wav", 1.0, (0.3,))
    synthesize(run, speech, tmp_path / "one.mp4", image=picture, models=models, orbit=10)
    monkeypatch.setattr("jaxtalk.preparation.picture.clip_of_picture", lambda *_: pytest.fail("prepared again"))
    synthesize(run, speech, tmp_path / "two.mp4", image=picture, orbit=10)
    assert len(views) == 1 and views[0].meta.face_model.name == "ict"
    first, second = ([frame for _, frame in read_frames(tmp_path / name)] for name in ("one.mp4", "two.mp4"))
    assert len(first) == 25
    np.testing.assert_array_equal(first, second)
