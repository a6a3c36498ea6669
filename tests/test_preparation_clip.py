"""From a video file to a clip: the whole path on real footage, resumed after a failure, and what is refused."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import numpy as np
import pytest

from jaxtalk.clip import MASK_HEAD, MASK_TORSO, Clip
from jaxtalk.errors import JaxtalkError
from jaxtalk.preparation import decode, landmarks, pipeline
from jaxtalk.preparation.prepare import PrepareOptions, prepare_clip
from tests.test_preparation_decode import RATE, write_video


def _options(data: Path, **changes: object) -> PrepareOptions:
    settings: dict[str, object] = {
        "size": 256,
        "landmarker": data / "models" / "face_landmarker.task",
        "face_model_file": data / "morphable" / "ict_facekit_light.npz",
    }
    return PrepareOptions(**(settings | changes))  # type: ignore[arg-type]


def _fail_once(name: str) -> pytest.MonkeyPatch:
    patch = pytest.MonkeyPatch()

    def full(path: Path, *_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    patch.setattr(pipeline, name, full)
    return patch


@pytest.fixture(scope="module")
def prepared(real_data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Clip, Path, PrepareOptions]:
    """A GRID sentence, prepared with a disk that was full at the first attempt."""
    pytest.importorskip("mediapipe")
    video = real_data / "clips" / "grid" / "bbaf2n.mpg"
    out = tmp_path_factory.mktemp("prepared") / "speaker"
    options = _options(real_data)
    patch = _fail_once("write_image")
    with pytest.raises(JaxtalkError, match=r"preview\.png: no space left"):
        prepare_clip(video, out, options)
    patch.undo()
    assert not out.exists()

    def forbidden(*_: object) -> None:
        raise AssertionError("a finished stage was made again")

    patch.setattr(landmarks, "Landmarker", forbidden)
    patch.setattr("jaxtalk.preparation.fit.fit_face", forbidden)
    clip = prepare_clip(video, out, options)
    patch.undo()
    return clip, video, options


def test_the_clip_is_whole(prepared: tuple[Clip, Path, PrepareOptions]) -> None:
    clip, _, _ = prepared
    clip.validate(decode=True)
    assert clip.meta.identity == "speaker" and clip.meta.num_frames == 75 and clip.meta.size == (256, 256)
    assert sorted(path.name for path in clip.path.iterdir()) == sorted(
        ["audio.wav", "background.png", "clip.json", "frames", "masks", "preflight.json", "preview.png", "track.npz"]
    )
    np.testing.assert_allclose(clip.track.time, np.arange(75) / 25, atol=1e-3)
    assert abs(len(clip.audio()) / RATE - 3.0) < 0.02
    distance = -clip.track.translation[:, 2]
    assert clip.meta.near < distance.min() - 0.1 and clip.meta.far > distance.max() + 0.05


def test_the_figures_are_reached(prepared: tuple[Clip, Path, PrepareOptions]) -> None:
    report = json.loads((prepared[0].path / "preflight.json").read_text())
    fit = report["fit"]
    assert fit["inner_error_mean_px"] <= 3.5 and fit["inner_error_p95_px"] <= 7
    assert fit["lip_gap_correlation"] >= 0.97
    assert fit["rotation_jitter_deg"] <= fit["detector_jitter_deg"]
    assert report["verdict"] == "usable" and "3 s" in report["advice"][0]


def test_the_track_projects_onto_the_masks(prepared: tuple[Clip, Path, PrepareOptions]) -> None:
    clip = prepared[0]
    track, camera = clip.track, clip.meta.camera
    for i in (0, 40, 74):
        labels = clip.mask(i)
        points = track.proxy_points @ track.rotation[i].T + track.translation[i]
        u = camera.cx - camera.focal * points[:, 0] / points[:, 2]
        v = camera.cy + camera.focal * points[:, 1] / points[:, 2]
        inside = (u > 0) & (u < 255) & (v > 0) & (v < 255)
        seen = labels[v[inside].astype(int), u[inside].astype(int)]
        assert np.mean((seen == MASK_HEAD) | (seen == MASK_TORSO)) > 0.95
        x, y = track.landmarks[i, 27:].mean(axis=0).astype(int)
        assert labels[y, x] == MASK_HEAD and labels[-2, 128] == MASK_TORSO and not labels[:8, :40].any()
        assert 0.1 < np.mean(labels == MASK_HEAD) < 0.4


def test_the_plate_has_no_person(prepared: tuple[Clip, Path, PrepareOptions]) -> None:
    """The wall behind this speaker is cyan: nowhere does the plate have more red than blue."""
    plate = prepared[0].background().astype(int)
    assert np.mean(plate[..., 0] < plate[..., 2]) > 0.99


def test_an_identical_clip_is_returned_and_another_refused(
    prepared: tuple[Clip, Path, PrepareOptions], real_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clip, video, options = prepared
    before = (clip.path / "clip.json").stat().st_mtime_ns
    assert prepare_clip(video, clip.path, options).path == clip.path
    assert (clip.path / "clip.json").stat().st_mtime_ns == before
    for changes, message in [
        ({"size": 128}, r"frames\.size is 256 there, 128 asked for"),
        ({"identity": "bob"}, "identity is 'speaker' there, 'bob' asked for"),
        ({"end": 2.0}, r"source\.end is None there, 2\.0 asked for"),
        ({"audio_offset": 0.1}, r"source\.audio_offset is None there, 0\.1 asked for"),
    ]:
        with pytest.raises(JaxtalkError, match=message):
            prepare_clip(video, clip.path, _options(real_data, **changes))
    Clip.open(clip.path).validate()


def _speech(seconds: float, level: float = 0.1) -> np.ndarray:
    return level * np.random.default_rng(0).normal(size=int(seconds * RATE))


@pytest.mark.parametrize(
    ("seconds", "level", "message"),
    [(2.0, 0.0, "silence"), (0.6, 0.1, "at least 1 s"), (2.0, 0.1, "no face")],
)
def test_unsuitable_footage_is_refused_and_leaves_nothing(
    real_data: Path, tmp_path: Path, seconds: float, level: float, message: str
) -> None:
    pytest.importorskip("mediapipe")
    times = np.arange(int(seconds * 25)) / 25
    video = write_video(tmp_path / "a.mp4", times, np.full(len(times), 90), sound=_speech(seconds, level))
    with pytest.raises(JaxtalkError, match=message) as caught:
        prepare_clip(video, tmp_path / "out", _options(real_data))
    assert "\n" not in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["a.mp4"]


def test_a_face_that_is_too_small_is_refused(real_data: Path, tmp_path: Path) -> None:
    pytest.importorskip("mediapipe")
    import av
    from PIL import Image

    source = next(iter(av.open(str(real_data / "clips" / "en_real3d_May.mp4")).decode(video=0))).to_image()
    small = np.full((240, 240, 3), 120, np.uint8)
    small[80:160, 80:160] = np.asarray(source.resize((80, 80), Image.Resampling.BOX))
    with landmarks.Landmarker(real_data / "models" / "face_landmarker.task") as landmarker:
        if not landmarker.faces(small):
            pytest.skip("the detector does not see so small a face at all")
    from jaxtalk.preparation import crop

    info = decode.VideoInfo(240, 240, 0.0, 1.0, 25.0, True)
    picture = type("P", (), {"time": 0.0, "rgb": lambda self: small})()
    patch = pytest.MonkeyPatch()
    patch.setattr(crop, "pictures", lambda _: iter([picture]))
    model = real_data / "models" / "face_landmarker.task"
    with landmarks.Landmarker(model) as landmarker, pytest.raises(JaxtalkError, match="face is too small"):
        crop.find_crop(Path("a.mp4"), info, landmarker, 0.0, 1.0)
    patch.undo()


def test_an_offset_of_the_sound_is_taken_away(tmp_path: Path) -> None:
    """A flash at 1 s and a beep at 1.2 s of the file come together; what the sound then lacks at the end is cut."""
    flash, beep = np.full(75, 20), np.zeros(3 * RATE)
    flash[25:], beep[round(1.2 * RATE) :] = 220, 0.5
    video = write_video(tmp_path / "a.mp4", np.arange(75) / 25, flash, sound=beep)
    (tmp_path / "lm.task").write_bytes(b"x")

    def run(**settings: float) -> pipeline.Run:
        options = PrepareOptions(landmarker=tmp_path / "lm.task", face_model="procedural", **settings)  # type: ignore[arg-type]
        return pipeline.Run(pipeline.Job.of(video, tmp_path / "out", options))

    for settings, when in (({}, 1.2), ({"audio_offset": 0.2}, 1.0), ({"audio_offset": -0.1}, 1.3)):
        made = run(**settings)
        start, end = made.interval
        samples = decode.cut_sound(made.sound, start, end)
        heard = start + np.argmax(np.abs(samples) > 0.25) / made.sound.rate
        assert heard == pytest.approx(when, abs=0.01)
        assert end == pytest.approx(min(3.0, 3.0 - settings.get("audio_offset", 0.0)), abs=0.05)
    with pytest.raises(JaxtalkError, match=r"audio offset 11 s: choose between -10 and 10 s"):
        prepare_clip(video, tmp_path / "out", PrepareOptions(audio_offset=11))


def test_missing_models_are_told_before_any_work(tmp_path: Path) -> None:
    video = write_video(tmp_path / "a.mp4", np.arange(50) / 25, np.full(50, 90), sound=_speech(2.0))
    with pytest.raises(JaxtalkError, match=r"absent\.task.*face_landmarker"):
        prepare_clip(video, tmp_path / "out", PrepareOptions(landmarker=tmp_path / "absent.task"))
    (tmp_path / "lm.task").write_bytes(b"x")
    with pytest.raises(JaxtalkError, match=r"absent\.npz.*ict_facekit"):
        options = PrepareOptions(landmarker=tmp_path / "lm.task", face_model_file=tmp_path / "absent.npz")
        prepare_clip(video, tmp_path / "out", options)
    assert not (tmp_path / "out").exists() and not (tmp_path / "out.partial").exists()


def test_a_file_that_is_no_landmarker_is_named(tmp_path: Path) -> None:
    pytest.importorskip("mediapipe")
    (tmp_path / "lm.task").write_bytes(b"x")
    with pytest.raises(JaxtalkError, match=r"lm\.task: not a FaceLandmarker"):
        landmarks.Landmarker(tmp_path / "lm.task")


def test_a_missing_library_names_the_package(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import builtins

    true_import = builtins.__import__
    (tmp_path / "lm.task").write_bytes(b"x")

    def fail(error: Exception) -> None:
        def fake(name: str, *rest: object, **kwargs: object) -> object:
            if name.startswith("mediapipe"):
                raise error
            return true_import(name, *rest, **kwargs)  # type: ignore[arg-type]

        monkeypatch.setattr(builtins, "__import__", fake)

    fail(ModuleNotFoundError("No module named 'mediapipe'", name="mediapipe"))
    with pytest.raises(JaxtalkError, match=r"jaxtalk\[prepare\]"):
        landmarks.Landmarker(tmp_path / "lm.task")
    fail(ImportError("libEGL.so.1: cannot open shared object file"))
    with pytest.raises(JaxtalkError, match="libegl1 libgles2"):
        landmarks.Landmarker(tmp_path / "lm.task")


def test_a_folder_that_is_no_clip_is_not_touched(tmp_path: Path) -> None:
    video = write_video(tmp_path / "a.mp4", np.arange(50) / 25, np.full(50, 90), sound=_speech(2.0))
    (tmp_path / "lm.task").write_bytes(b"x")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "diary.txt").write_text("mine")
    options = PrepareOptions(landmarker=tmp_path / "lm.task", face_model="procedural")
    with pytest.raises(JaxtalkError, match="is not a clip"):
        prepare_clip(video, tmp_path / "out", options)
    assert (tmp_path / "out" / "diary.txt").read_text() == "mine"
