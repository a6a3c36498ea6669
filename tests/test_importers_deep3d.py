"""Deep3D's coefficient files: reading, poses in our axes, their place in the video, and their way into a clip."""

from __future__ import annotations

import types
from pathlib import Path

import numpy as np
import pytest
from scipy.io import savemat
from scipy.spatial.transform import Rotation

from jaxtalk.clip import Clip, FaceModelInfo
from jaxtalk.errors import JaxtalkError
from jaxtalk.preparation import decode, job, pipeline
from jaxtalk.preparation.importers import deep3d, placement
from jaxtalk.preparation.prepare import PrepareOptions, prepare_clip
from jaxtalk.preparation.stages import Stage, StageStore
from tests.test_preparation_decode import write_video


def _rows(count: int = 20, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, 257)).astype(np.float32)


# --- reading


@pytest.mark.parametrize("suffix", [".mat", ".npy"])
def test_the_vector_is_split_where_the_card_says(tmp_path: Path, suffix: str) -> None:
    file = tmp_path / f"a{suffix}"
    rows = _rows()
    if suffix == ".mat":
        savemat(file, {"coeff": rows, "transform_params": np.ones((20, 5))})
    else:
        np.save(file, rows)
    read = deep3d.read(file)
    assert len(read) == 20 and FaceModelInfo("deep3d", 80, 64) == deep3d.INFO
    np.testing.assert_allclose(read.identity, rows[:, :80].mean(axis=0), rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(read.expression, rows[:, 80:144])
    rotation, translation = deep3d.head_pose(rows[:, 224:227], rows[:, 254:257])
    np.testing.assert_array_equal(read.rotation, rotation)
    np.testing.assert_array_equal(read.translation, translation)


def test_unusable_files_are_told_in_one_line(tmp_path: Path) -> None:
    good = tmp_path / "good.mat"
    savemat(good, {"coeff": _rows()}, do_compression=True)
    for share in (0.01, 0.3, 0.9):
        (tmp_path / f"cut{share}.mat").write_bytes(good.read_bytes()[: int(share * good.stat().st_size)])
    (tmp_path / "empty.mat").touch()
    (tmp_path / "text.mat").write_text("coefficients, " * 100)
    (tmp_path / "new.mat").write_bytes(b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM" + bytes(400))
    (tmp_path / "a.pt").write_bytes(b"x")
    (tmp_path / "text.npy").write_text("coefficients")
    np.save(tmp_path / "pickled.npy", {"coeff": 1})  # type: ignore[arg-type]
    savemat(tmp_path / "parts.mat", {"exp": _rows()[:, :64], "angle": _rows()[:, :3]})
    np.save(tmp_path / "short.npy", _rows()[:, :144])
    np.save(tmp_path / "flat.npy", _rows()[0])
    np.save(tmp_path / "whole.npy", np.ones((20, 257), int))
    np.save(tmp_path / "one.npy", _rows(1))
    broken = _rows()
    broken[7, 200] = np.nan
    np.save(tmp_path / "nan.npy", broken)
    for name, message in {
        "absent.mat": "no such file",
        "cut0.01.mat": "not a readable MATLAB file",
        "cut0.3.mat": "not a readable MATLAB file",
        "cut0.9.mat": "not a readable MATLAB file",
        "empty.mat": "not a readable MATLAB file",
        "text.mat": "not a readable MATLAB file",
        "new.mat": "version 7.3",
        "a.pt": r"read from \.mat and \.npy",
        "text.npy": r"not a plain \.npy",
        "pickled.npy": r"not a plain \.npy",
        "parts.mat": r'no array "coeff" \(it holds exp, angle\)',
        "short.npy": r"shape \(20, 144\), expected a row of 257",
        "flat.npy": r"shape \(257,\)",
        "whole.npy": "int64",
        "one.npy": "1 rows",
        "nan.npy": "row 7 is not finite",
    }.items():
        with pytest.raises(JaxtalkError, match=message) as caught:
            deep3d.read(tmp_path / name)
        assert str(tmp_path / name) in str(caught.value) and "\n" not in str(caught.value)


# --- pose


def _pixel(point: tuple[float, float, float], angles: tuple[float, ...], translation: tuple[float, ...]) -> np.ndarray:
    """Where a point of the head (metres) is in the crop, by clip.py's convention."""
    rotation, moved = deep3d.head_pose(np.array([angles]), np.array([translation]))
    x, y, z = rotation[0] @ np.array(point) + moved[0]
    camera = deep3d.CROP_CAMERA
    return np.array([camera.cx - camera.focal * x / z, camera.cy + camera.focal * y / z])


def test_axes_of_the_pose() -> None:
    nose, still = (0.0, 0.0, 0.1), (0.0, 0.0, 0.0)
    np.testing.assert_allclose(_pixel((0, 0, 0), still, still), [112, 112])
    np.testing.assert_allclose(_pixel((0, 0, 0), still, (1.0, 0.5, 0)), [112 + 101.5, 112 - 50.75])
    np.testing.assert_allclose(_pixel((0.1, 0, 0), still, (0, 0, 5.0)), [112 + 203, 112])  # half as far away
    assert _pixel(nose, (0.2, 0, 0), still)[1] > 112 + 15  # pitch: the nose goes down
    assert _pixel(nose, (0, 0.2, 0), still)[0] > 112 + 15  # yaw: to the image's right
    assert _pixel((0.1, 0, 0), (0, 0, 0.2), still)[1] < 112 - 15  # roll: the image's right side goes up


def test_the_order_of_the_turns() -> None:
    """A hand-made product: about x first, about z last."""
    a, b, c = 0.3, -0.5, 0.7
    about_x = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
    about_y = np.array([[np.cos(b), 0, np.sin(b)], [0, 1, 0], [-np.sin(b), 0, np.cos(b)]])
    about_z = np.array([[np.cos(c), -np.sin(c), 0], [np.sin(c), np.cos(c), 0], [0, 0, 1]])
    rotation, _ = deep3d.head_pose(np.array([[a, b, c]]), np.zeros((1, 3)))
    np.testing.assert_allclose(rotation[0], about_z @ about_y @ about_x, atol=1e-12)


# --- place in the video


def _turning(times: np.ndarray, seed: int = 0, degrees: float = 6.0) -> np.ndarray:
    """[F, 3, 3] a head that nods and looks around, as a function of time."""
    rng = np.random.default_rng(seed)
    rate, phase = rng.uniform(0.3, 1.2, (3, 4)), rng.uniform(0, 2 * np.pi, (3, 4))
    waves = np.sin(2 * np.pi * rate * times[:, None, None] + phase).sum(axis=-1) / 2
    return Rotation.from_euler("xyz", degrees * waves, degrees=True).as_matrix()


@pytest.mark.parametrize(
    ("spare", "lead"), [(0, 0), (2, 0), (2, 1), (2, 2), (3, 3), (-2, 0), (-2, -1), (-2, -2), (-3, -1)]
)
def test_rows_are_placed_where_the_head_turns_alike(spare: int, lead: int) -> None:
    """30 rows a second, another "straight ahead", noise of half a degree; the clip has 25 frames a second."""
    rng = np.random.default_rng(1)
    moments, time = (np.arange(180) + lead) / 30, np.arange(10, 140) / 25
    noise = Rotation.from_rotvec(np.radians(0.3) * rng.normal(size=(180, 3))).as_matrix()
    tilt = Rotation.from_euler("xyz", [4, -3, 2], degrees=True).as_matrix()
    found = placement.place(_turning(moments) @ noise @ tilt, 30.0, spare, _turning(time), time)
    assert found.lead == lead and found.degrees < 0.6 and found.explained > 0.95 and found.motion > 3
    placement.check(found, Path("a.mat"), Path("a.mp4"))


def test_the_file_of_another_video_is_refused_and_a_still_head_is_not() -> None:
    time = np.arange(100) / 25
    rows = _turning(np.arange(120) / 30, seed=5)
    other = placement.place(rows, 30.0, 0, _turning(time), time)
    with pytest.raises(JaxtalkError, match=r"b\.mat: its head turns otherwise than the one in a\.mp4") as caught:
        placement.check(other, Path("b.mat"), Path("a.mp4"))
    assert "\n" not in str(caught.value)
    still = placement.place(rows, 30.0, 0, _turning(time, degrees=0.3), time)
    assert still.explained < 0.3
    placement.check(still, Path("b.mat"), Path("a.mp4"))


def test_rows_are_linear_in_time_and_held_at_the_ends() -> None:
    rows = _rows(9)[:, :5]
    time = np.sort(np.random.default_rng(0).uniform(-0.2, 0.6, 50))
    for lead in (-2, 0, 1):
        slow = np.array([[np.interp(t, (np.arange(9) + lead) / 30, column) for column in rows.T] for t in time])
        np.testing.assert_allclose(placement.at_times(rows, 30.0, lead, time), slow, atol=1e-5)
    exact = placement.at_times(rows, 30.0, 2, (np.arange(9) + 2) / 30)
    np.testing.assert_allclose(exact, rows, atol=1e-5)


def test_a_length_unlike_the_videos_is_refused() -> None:
    file, video = Path("a.mat"), Path("a.mp4")
    assert placement.spare_rows(600, 30.0, 602 / 30, file, video) == 2
    assert placement.spare_rows(603, 30.0, 20.0, file, video) == -3
    for count, fps, seconds in ((596, 30.0, 20.0), (604, 30.0, 20.0), (600, 25.0, 20.0)):
        with pytest.raises(
            JaxtalkError, match=r"a\.mat: \d+ rows.*a\.mp4 lasts 20\.00 s.*--coefficients-fps"
        ) as caught:
            placement.spare_rows(count, fps, seconds, file, video)
        assert "\n" not in str(caught.value)
    with pytest.raises(JaxtalkError, match="its length is not known"):
        placement.spare_rows(600, 30.0, 0.0, file, video)


# --- into the clip


def _options(tmp_path: Path, **changes: object) -> PrepareOptions:
    (tmp_path / "lm.task").write_bytes(b"x")
    settings = {"landmarker": tmp_path / "lm.task", "face_model": "procedural", **changes}
    return PrepareOptions(**settings)  # type: ignore[arg-type]


def test_the_job_reads_the_file_before_any_work(tmp_path: Path) -> None:
    sound = 0.1 * np.random.default_rng(0).normal(size=32000)
    video = write_video(tmp_path / "a.mp4", np.arange(50) / 25, np.full(50, 90), sound=sound)
    np.save(tmp_path / "a.npy", _rows(50))
    np.save(tmp_path / "b.npy", _rows(60, seed=1))

    def make(**changes: object) -> job.Job:
        return job.Job.of(video, tmp_path / "out", _options(tmp_path, **changes))

    plain = make()
    taken = make(coefficients=tmp_path / "a.npy")
    assert plain.imported is None and "coefficients" not in plain.records()
    assert plain.coefficients_info.name == "procedural"
    assert taken.imported is not None and taken.imported.fps == 25 and taken.coefficients_info == deep3d.INFO
    record = taken.records()["coefficients"]
    assert record["fps"] == 25 and len(record["file"]) == 64 and record["face_model"] == "deep3d"
    assert taken.stages["masks"].key == plain.stages["masks"].key  # a file that comes later spoils nothing
    faster = make(coefficients=tmp_path / "b.npy", coefficients_fps=30.0)
    assert faster.stages["coefficients"].key != taken.stages["coefficients"].key
    with pytest.raises(JaxtalkError, match=r"b\.npy: 60 rows are 2\.40 s at 25"):
        make(coefficients=tmp_path / "b.npy")
    for changes, message in (
        ({"coefficients_fps": 30.0}, "--coefficients"),
        ({"coefficients": tmp_path / "a.npy", "coefficients_fps": 0.0}, "between 1 and 1000"),
    ):
        with pytest.raises(JaxtalkError, match=message):
            prepare_clip(video, tmp_path / "out", _options(tmp_path, **changes))


def test_the_stage_is_kept_and_counts_from_the_videos_first_picture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A clip cut out of a video whose first picture comes at 0.5 s; the file lacks the first two rows."""
    start, first, time = 0.5, 1.1, np.arange(60) / 25
    rows = _rows(118)
    rotation = _turning((np.arange(118) + 2) / 30)
    rows[:, 224:227] = Rotation.from_matrix(rotation).as_euler("xyz")
    np.save(tmp_path / "a.npy", rows)
    imported = job.Imported(tmp_path / "a.npy", 30.0, deep3d.read(tmp_path / "a.npy"), spare=2)

    def run() -> pipeline.Run:
        made = pipeline.Run.__new__(pipeline.Run)
        stages = {"coefficients": Stage("coefficients", 1, {"fps": 30.0})}
        info = decode.VideoInfo(64, 64, start, 4.0, 30.0, True)
        made.job = types.SimpleNamespace(  # type: ignore[assignment]
            imported=imported, stages=stages, info=info, video=Path("a.mp4")
        )
        made.store = StageStore(tmp_path / "stages")
        made.__dict__ |= {
            "time": time,
            "frames": {"origin": np.array([first])},
            "fit": {"rotation": _turning(time + first - start)},
        }
        return made

    coefficients = run().coefficients
    assert int(coefficients["lead"]) == 2 and float(coefficients["degrees"]) < 0.2
    np.testing.assert_allclose(coefficients["identity"], rows[:, :80].mean(axis=0), atol=1e-5)
    seconds = time + first - start
    slow = np.stack([np.interp(seconds, (np.arange(118) + 2) / 30, column) for column in rows[:, 80:144].T], axis=-1)
    np.testing.assert_allclose(coefficients["expression"], slow, atol=1e-5)

    monkeypatch.setattr(placement, "place", lambda *_: pytest.fail("a finished stage was made again"))
    again = run().coefficients
    np.testing.assert_array_equal(again["expression"], coefficients["expression"])


@pytest.fixture(scope="module")
def prepared(real_data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Clip, Path, PrepareOptions]:
    """Three seconds of a StyleTalk sample, of which the file lacks the video's first two frames (all alike)."""
    pytest.importorskip("mediapipe")
    folder = real_data / "clips" / "styletalk"
    options = PrepareOptions(
        size=128,
        end=3.0,
        audio=folder / "Obama_clip1.wav",
        coefficients=folder / "Obama_clip1.mat",
        coefficients_fps=30.0,
        landmarker=real_data / "models" / "face_landmarker.task",
        face_model_file=real_data / "morphable" / "ict_facekit_light.npz",
    )
    video = folder / "Obama_clip1.mp4"
    return prepare_clip(video, tmp_path_factory.mktemp("deep3d") / "obama", options), video, options


def test_a_real_clip_takes_the_coefficients_and_keeps_our_pose(prepared: tuple[Clip, Path, PrepareOptions]) -> None:
    clip, _, options = prepared
    clip.validate()
    meta, track = clip.meta, clip.track
    assert meta.face_model == deep3d.INFO and track.identity.shape == (80,) and track.expression.shape == (75, 64)
    assert meta.source["coefficients"]["file"] == "Obama_clip1.mat" and meta.source["coefficients"]["lead"] == 2
    rows = deep3d.read(options.coefficients or "")
    np.testing.assert_allclose(track.expression[0], rows.expression[0], atol=1e-6)  # held: its row is missing
    np.testing.assert_allclose(track.expression[45], rows.expression[52], atol=2e-5)  # 1.8 s is row 54 - 2
    assert 0.4 < -track.translation[:, 2].mean() < 1.0  # our camera's distance, not the crop's


def test_poses_agree_on_a_real_clip_but_for_a_constant(prepared: tuple[Clip, Path, PrepareOptions]) -> None:
    """Other axes are clearly worse: transposed, mirrored, and the rows where the file's own order would put them."""
    clip, _, options = prepared
    rows = deep3d.read(options.coefficients or "")
    time, rotation = clip.track.time, clip.track.rotation

    def degrees(turns: np.ndarray) -> float:
        return placement.place(turns, 30.0, 2, rotation, time).degrees

    ours = degrees(rows.rotation)
    mirrored = Rotation.from_matrix(rows.rotation).as_euler("xyz") * [1, -1, -1]
    assert ours == pytest.approx(clip.meta.source["coefficients"]["rotation_degrees"], abs=1e-3)
    assert ours < 1.5
    assert degrees(rows.rotation.transpose(0, 2, 1)) > 2 * ours
    assert degrees(Rotation.from_euler("xyz", mirrored).as_matrix()) > 2 * ours
    assert placement.place(rows.rotation, 30.0, 0, rotation, time).degrees > ours


def test_another_file_or_rate_is_another_clip(
    prepared: tuple[Clip, Path, PrepareOptions], monkeypatch: pytest.MonkeyPatch
) -> None:
    import dataclasses

    clip, video, options = prepared
    monkeypatch.setattr(pipeline, "Run", lambda *_: pytest.fail("prepared again"))
    assert prepare_clip(video, clip.path, options).path == clip.path
    assert options.coefficients is not None
    with pytest.raises(JaxtalkError, match=r"coefficients is \{.*\} there, None asked for"):
        prepare_clip(video, clip.path, dataclasses.replace(options, coefficients=None, coefficients_fps=None))
    with pytest.raises(JaxtalkError, match=r"coefficients\.fps is 30\.0 there, 29\.97 asked for"):
        prepare_clip(video, clip.path, dataclasses.replace(options, coefficients_fps=29.97))
