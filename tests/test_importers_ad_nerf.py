"""Folders of AD-NeRF and DFRF become clips: the same rays, pictures and sound; what is missing is said or refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
from PIL import Image
from scipy.spatial.transform import Rotation

from jaxtalk.audio import FeatureSpec, clip_windows
from jaxtalk.clip import MASK_BACKGROUND, MASK_HEAD, MASK_TORSO, Clip
from jaxtalk.errors import JaxtalkError
from jaxtalk.preparation.importers.ad_nerf import LAYOUT
from jaxtalk.preparation.importers.nerf_clip import import_folder
from jaxtalk.preparation.importers.similarity import similarity
from jaxtalk.preparation.importers.transforms import read_transforms, runs
from jaxtalk.preparation.job import PrepareOptions
from jaxtalk.synthetic.speaker import write_speaker
from tests.nerf_folder_case import (
    StandInLandmarker,
    save_like_torch,
    stand_in_stages,
    write_nerf_folder,
    write_track_params,
)

AD = {"first_centre": 0.0, "pictures": "com_imgs"}


@pytest.fixture(scope="module")
def speaker(tmp_path_factory: pytest.TempPathFactory) -> Clip:
    """One second of a synthetic speaker."""
    path = tmp_path_factory.mktemp("clips") / "speaker"
    return write_speaker(path, identity=3, utterance=3000, seconds=1.2, size=90)


@pytest.fixture
def options(tmp_path: Path) -> PrepareOptions:
    landmarker = tmp_path / "face_landmarker.task"
    landmarker.write_bytes(b"stand-in")
    return PrepareOptions(landmarker=landmarker, face_model="procedural", language="en")


def _project(points: np.ndarray, folder: Path, frame: int) -> np.ndarray:
    """Where AD-NeRF's rays meet points of the folder's world: pixel numbers (column, row)."""
    data = json.loads((folder / "transforms_train.json").read_text())
    matrix = np.array(data["frames"][frame]["transform_matrix"])
    local = (points - matrix[:3, 3]) @ matrix[:3, :3]
    x, y = -local[:, 0] / local[:, 2], -local[:, 1] / local[:, 2]  # (column - cx) / f = x, -(row - cy) / f = y, z = -1
    return np.stack([data["cx"] + data["focal_len"] * x, data["cy"] - data["focal_len"] * y], -1)


def _project_ours(points: np.ndarray, clip: Clip, frame: int) -> np.ndarray:
    track, camera = clip.track, clip.meta.camera
    local = points @ track.rotation[frame].astype(np.float64).T + track.translation[frame]
    return np.stack(
        [camera.cx - camera.focal * local[:, 0] / local[:, 2], camera.cy + camera.focal * local[:, 1] / local[:, 2]], -1
    )


def test_round_trip(speaker: Clip, tmp_path: Path, options: PrepareOptions, monkeypatch: pytest.MonkeyPatch) -> None:
    """A clip as a folder of AD-NeRF and back: rays to a thousandth of a pixel, pictures and sound to the bit."""
    folder = write_nerf_folder(speaker, tmp_path / "anna", **AD)
    tracked = write_track_params(folder, speaker)
    (folder / "HeadNeRF_config.txt").write_text("expname = anna\nnear = 0.61\nfar = 1.2e0\ntestskip = 3\n")
    stand_in_stages(monkeypatch, speaker)
    clip = import_folder(folder, tmp_path / "clip", LAYOUT, options)
    clip.validate(decode=True)
    assert clip.meta.size == speaker.meta.size and clip.meta.num_frames == speaker.meta.num_frames
    assert clip.meta.identity == "clip" and clip.meta.language == "en" and clip.meta.fps == 25

    points = np.random.default_rng(0).uniform(-0.1, 0.1, (50, 3))
    for frame in (0, 11, 25):
        pixels = _project(points, folder, frame)
        np.testing.assert_allclose(_project_ours(points, clip, frame), pixels + 0.5, atol=1e-3)
        np.testing.assert_allclose(pixels + 0.5, _project_ours(points, speaker, frame), atol=1e-3)
        picture = np.asarray(Image.open(folder / "com_imgs" / f"{frame}.jpg").convert("RGB"))
        np.testing.assert_array_equal(clip.frame(frame), picture)
        labels = speaker.mask(frame).copy()
        labels[:11, :11] = MASK_BACKGROUND
        np.testing.assert_array_equal(clip.mask(frame), labels)
    assert (clip.meta.near, clip.meta.far) == (0.61, 1.2)
    np.testing.assert_array_equal(clip.audio(), speaker.audio())
    np.testing.assert_array_equal(clip.background(), np.asarray(Image.open(folder / "bc.jpg")))
    np.testing.assert_allclose(clip.track.time, speaker.track.time, atol=1e-9)
    np.testing.assert_allclose(clip.track.landmarks, speaker.track.landmarks, atol=1e-4)

    assert (clip.meta.face_model.num_identity, clip.meta.face_model.num_expression) == (100, 79)
    np.testing.assert_array_equal(clip.track.expression, tracked["exp"])
    np.testing.assert_array_equal(clip.track.identity, tracked["id"][0])
    np.testing.assert_allclose(clip.track.blendshapes[:, 0], np.arange(30) / 1000, atol=1e-6)
    source = clip.meta.source
    assert source["from"] == "ad_nerf" and source["pictures"] == "com_imgs" and source["metres_per_unit"] == 1
    assert source["split"] == {"train": [[0, 26]], "val": [[27, 29]]}
    assert [line.split(" ")[0].rstrip(":") for line in source["not_found"]] == ["DeepSpeech", "au.csv"]
    assert not (clip.path / "stages").exists() and (clip.path / "preview.png").is_file()


def test_a_real_fit_finds_the_head_and_its_size(
    speaker: Clip, tmp_path: Path, options: PrepareOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Landmarks alone tell that this folder counts in decimetres, and where the head is in its space."""
    folder = write_nerf_folder(speaker, tmp_path / "anna", unit=0.1, **AD)
    monkeypatch.setattr("jaxtalk.preparation.landmarks.Landmarker", StandInLandmarker)
    clip = import_folder(folder, tmp_path / "clip", LAYOUT, options)
    unit = clip.meta.source["metres_per_unit"]
    assert 0.09 < unit < 0.11
    np.testing.assert_allclose(clip.track.translation, 10 * unit * speaker.track.translation, rtol=1e-4)
    truth, found = speaker.track.proxy_points, clip.track.proxy_points
    nearest = np.linalg.norm(truth[:, None] - found / (10 * unit), axis=-1).min(axis=1)
    assert np.median(nearest) < 0.01  # the speaker's points lie on the hair, too, which the fitted head lacks
    for frame in (0, 29):
        column, row = np.floor(_project_ours(clip.track.proxy_points, clip, frame).T).astype(int)
        inside = (column >= 0) & (column < 90) & (row >= 0) & (row < 90)
        assert np.mean(clip.mask(frame)[row[inside], column[inside]] != MASK_BACKGROUND) > 0.97
    distance = -clip.track.translation[:, 2]
    assert clip.meta.near < distance.min() < distance.max() < clip.meta.far
    assert clip.meta.face_model.name == "procedural" and clip.meta.source["fitted_degrees"] < 1
    said = " ".join(clip.meta.source["not_found"])
    assert "track_params.pt" in said and "near and far" in said


@pytest.mark.parametrize("metres", [1.0, 0.1, 3.0])
def test_similarity_recovers_a_known_one(metres: float) -> None:
    """Poses of a head in another unit, tilted and with another centre, of a head that looks around."""
    rng = np.random.default_rng(1)
    turn = Rotation.from_euler("xyz", rng.normal(0, 0.2, (80, 3))).as_matrix()
    place = np.array([0, 0, -0.8]) + rng.normal(0, 0.02, (80, 3))
    tilt, shift = Rotation.from_euler("xyz", [0.2, -0.1, 0.05]).as_matrix(), np.array([0.01, -0.02, 0.03])
    # x_folder = (tilt x + shift) / metres, and both see the same camera coordinates up to the unit
    folder_turn = turn @ tilt.T
    folder_place = (place - folder_turn @ shift) / metres
    valid = np.arange(80) != 5
    broken = place.copy()
    broken[5] = 99
    found = similarity((turn, broken), (folder_turn, folder_place), valid)
    np.testing.assert_allclose(found.turn, tilt, atol=1e-6)
    np.testing.assert_allclose(found.metres, metres, rtol=2e-3)
    np.testing.assert_allclose(found.shift, shift, atol=2e-3)
    assert found.degrees < 1e-3 and found.unit == (1.0 if metres == 1 else found.metres)
    points = rng.normal(0, 0.1, (20, 3))
    clip_points = found.place(points) @ folder_turn[7].T + found.unit * folder_place[7]
    local = points @ turn[7].T + place[7]
    np.testing.assert_allclose(clip_points / clip_points[:, 2:], local / local[:, 2:], atol=1e-4)
    moved_turn, moved_place = found.poses(folder_turn, folder_place)
    np.testing.assert_allclose(points @ moved_turn[7].T + moved_place[7], local, atol=2e-3)


def test_other_axes_are_refused() -> None:
    turn = Rotation.from_euler("xyz", np.random.default_rng(1).normal(0, 0.1, (9, 3))).as_matrix()
    place = np.tile([0, 0, -0.8], (9, 1))
    other = turn @ Rotation.from_euler("y", 90, degrees=True).as_matrix()
    with pytest.raises(JaxtalkError, match="looks 90 degrees away"):
        similarity((turn, place), (other, place), np.ones(9, bool))


def test_stored_speech_features_serve_the_clip(
    speaker: Clip, tmp_path: Path, options: PrepareOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    """aud.npy reaches the networks window for window; of a folder that begins at picture 7, too."""
    folder = write_nerf_folder(speaker, tmp_path / "anna", first=7, **AD)
    rows = np.random.default_rng(0).normal(size=(2 * 37 + 14, 29))
    windows = np.stack([rows[2 * i : 2 * i + 16] for i in range(37)])
    np.save(folder / "aud.npy", windows)  # float64, as DeepSpeech's recipe saves it
    stand_in_stages(monkeypatch, speaker)
    clip = import_folder(folder, tmp_path / "clip", LAYOUT, options)
    np.testing.assert_array_equal(clip_windows(FeatureSpec("deepspeech"), clip), windows[7:].astype(np.float32))
    assert clip.track.time[0] == 7 / 25 and clip.meta.source["split"]["train"] == [[7, 33]]
    assert not [line for line in clip.meta.source["not_found"] if "DeepSpeech" in line]


def test_dfrf_folders_and_gaps(
    speaker: Clip, tmp_path: Path, options: PrepareOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    """DFRF keeps a person in ID/0; a frame without a face is a gap in time, and rows of the tracker follow it."""
    skip = (9, 10)
    folder = write_nerf_folder(speaker, tmp_path / "bob" / "0", skip=skip, **AD)
    tracked = write_track_params(folder, speaker)
    (folder / "config.txt").write_text("near = 0.5\nfar = 0.9\nbc_type=torso_imgs\n")
    stand_in_stages(monkeypatch, speaker, skip=skip)
    clip = import_folder(tmp_path / "bob", tmp_path / "clip", LAYOUT, options)
    kept = [i for i in range(30) if i not in skip]
    np.testing.assert_allclose(clip.track.time, speaker.track.time[kept])
    np.testing.assert_array_equal(clip.track.expression, tracked["exp"][kept])  # one row a picture number
    assert clip.meta.source["split"]["train"] == [[0, 8], [11, 26]] and (clip.meta.near, clip.meta.far) == (0.5, 0.9)
    (tmp_path / "bob" / "1").mkdir()
    (tmp_path / "bob" / "1" / "transforms_train.json").write_text("{}")
    with pytest.raises(JaxtalkError, match=r"several people \(0, 1\)"):
        import_folder(tmp_path / "bob", tmp_path / "clip", LAYOUT, options)


def test_coefficients_of_another_video_are_not_taken(
    speaker: Clip, tmp_path: Path, options: PrepareOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_nerf_folder(speaker, tmp_path / "anna", **AD)
    tracked = write_track_params(folder, speaker)
    save_like_torch(folder / "track_params.pt", {**tracked, "euler": tracked["euler"] + 0.1})
    stand_in_stages(monkeypatch, speaker)
    clip = import_folder(folder, tmp_path / "clip", LAYOUT, options)
    assert clip.meta.face_model.name == "procedural"
    assert any("poses are not those" in line for line in clip.meta.source["not_found"])


def test_a_folder_with_little_in_it_is_measured(
    speaker: Clip, tmp_path: Path, options: PrepareOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No parsing maps and no background: both are made from the pictures; missing landmarks are interpolated."""
    import shutil

    folder = write_nerf_folder(speaker, tmp_path / "anna", **AD)
    shutil.rmtree(folder / "parsing")
    (folder / "bc.jpg").unlink()
    (folder / "transforms_val.json").unlink()
    (folder / "ori_imgs" / "4.lms").unlink()
    stand_in_stages(monkeypatch, speaker, skip=(27, 28, 29))
    monkeypatch.setattr(StandInLandmarker, "blind", (2,))
    clip = import_folder(folder, tmp_path / "clip", LAYOUT, options)
    clip.validate(decode=True)
    said = "\n".join(clip.meta.source["not_found"])
    for text in ("parsing/N.png of 27 of 27", "bc.jpg:", "transforms_val.json", "N.lms of 1 frames", "in 1 pictures"):
        assert text in said
    assert clip.meta.num_frames == 27 and not clip.track.valid[4] and clip.track.valid.sum() == 26
    between = (speaker.track.landmarks[3] + speaker.track.landmarks[5]) / 2
    np.testing.assert_allclose(clip.track.landmarks[4], between, atol=1e-3)
    np.testing.assert_allclose(clip.track.blendshapes[2, 0], 0.002, atol=1e-6)  # between pictures 1 and 3
    truth, found = speaker.mask(13), clip.mask(13)
    assert np.mean(found[truth == MASK_HEAD] == MASK_HEAD) > 0.8 and np.mean(found[truth == MASK_TORSO] > 0) > 0.8
    seen = np.stack([speaker.mask(i) for i in range(27)]).max(axis=0) == MASK_BACKGROUND
    error = np.abs(clip.background().astype(int) - speaker.background())[seen]
    assert np.median(error) < 6


def test_sound_in_stereo_becomes_mono_and_pictures_may_be_png(
    speaker: Clip, tmp_path: Path, options: PrepareOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_nerf_folder(speaker, tmp_path / "anna", suffix=".png", **AD)
    left = speaker.audio()
    soundfile.write(folder / "aud.wav", np.stack([left, np.zeros_like(left)], -1), 16000, subtype="PCM_16")
    stand_in_stages(monkeypatch, speaker)
    clip = import_folder(folder, tmp_path / "clip", LAYOUT, options)
    np.testing.assert_allclose(clip.audio(), left / 2, atol=2e-4)
    np.testing.assert_array_equal(clip.frame(5), speaker.frame(5))
    assert clip.meta.frame_format == "png"


def test_the_same_import_is_not_made_twice(
    speaker: Clip, tmp_path: Path, options: PrepareOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_nerf_folder(speaker, tmp_path / "anna", **AD)
    stand_in_stages(monkeypatch, speaker)
    clip = import_folder(folder, tmp_path / "clip", LAYOUT, options)
    before = (clip.path / "clip.json").stat().st_mtime_ns
    monkeypatch.setattr(StandInLandmarker, "__enter__", lambda self: pytest.fail("measured again"))
    import_folder(folder, tmp_path / "clip", LAYOUT, options)
    assert (clip.path / "clip.json").stat().st_mtime_ns == before
    (folder / "com_imgs" / "3.jpg").write_bytes((folder / "com_imgs" / "4.jpg").read_bytes() + b"x")
    with pytest.raises(JaxtalkError, match=r"made with other settings \(folder\.fingerprint"):
        import_folder(folder, tmp_path / "clip", LAYOUT, options)


def _edit(folder: Path, name: str, **changes: object) -> None:
    path = folder / f"transforms_{name}.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def _edit_frame(folder: Path, number: int, **changes: object) -> None:
    path = folder / "transforms_train.json"
    data = json.loads(path.read_text())
    data["frames"][number].update(changes)
    path.write_text(json.dumps(data))


def _mirrored(folder: Path) -> None:
    matrix = np.eye(4)
    matrix[0, 0], matrix[2, 3] = -1, 0.8
    _edit_frame(folder, 2, transform_matrix=matrix.tolist())


def _behind(folder: Path) -> None:
    matrix = np.eye(4)
    matrix[2, 3] = -0.8
    _edit_frame(folder, 2, transform_matrix=matrix.tolist())


FAULTS = {
    "no transforms": (lambda f: (f / "transforms_train.json").unlink(), r"transforms_train\.json: missing"),
    "not json": (lambda f: (f / "transforms_val.json").write_text("{"), r"transforms_val\.json: not readable JSON"),
    "no frames": (lambda f: _edit(f, "train", frames=3), "no list of frames"),
    "no focal length": (lambda f: _edit(f, "train", focal_len=-1), r"focal_len, cx, cy are \[-1"),
    "two cameras": (lambda f: _edit(f, "val", focal_len=10.0), r"transforms_val\.json: focal length"),
    "out of range": (lambda f: _edit_frame(f, 4, img_id=900, aud_id=900), r"no picture 900.*holds 0 to 29"),
    "below zero": (lambda f: _edit_frame(f, 4, aud_id=-2), "number -2 is below 0"),
    "same speech": (lambda f: _edit_frame(f, 4, aud_id=6), r"pictures 4 and 6 have the same speech \(aud_id 6\)"),
    "lacks a key": (lambda f: _edit_frame(f, 4, img_id=None), "frame 4 lacks img_id"),
    "flat matrix": (lambda f: _edit_frame(f, 4, transform_matrix=[1, 2]), "no finite 4 x 4 matrix"),
    "mirrored": (_mirrored, r"frame 2 \(picture 2\): transform_matrix is no rotation"),
    "behind": (_behind, "head's centre behind the camera"),
    "other size": (lambda f: _edit(f, "train", cx=50.0) or _edit(f, "val", cx=50.0),
                   r"0\.jpg: 90 x 90 pixels, but cx, cy of transforms_train\.json are the middle of 100\.0 x 89\.0"),
    "one of another size": (lambda f: Image.new("RGB", (64, 90)).save(f / "com_imgs" / "8.jpg"), r"8\.jpg: 64 x 90"),
    "plate of another size": (lambda f: Image.new("RGB", (64, 90)).save(f / "bc.jpg"), r"bc\.jpg: 64 x 90"),
    "no pictures": (lambda f: [(f / "com_imgs").rename(f / "x"), (f / "ori_imgs").rename(f / "y")], "no pictures"),
    "damaged picture": (lambda f: (f / "com_imgs" / "3.jpg").write_bytes(b"abc"), r"3\.jpg: not a readable picture"),
    "no sound": (lambda f: (f / "aud.wav").unlink(), "no sound.*--audio"),
    "bad landmarks": (lambda f: (f / "ori_imgs" / "3.lms").write_text("1 2\n"), r"3\.lms: landmarks of shape \(2,\)"),
    "bad features": (lambda f: (f / "aud.npy").write_bytes(b"abc"), r"aud\.npy: not a plain"),
    "short sound": (lambda f: soundfile.write(f / "aud.wav", np.zeros(99), 16000), r"0\.0 s of sound for pictures"),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_faults_name_the_file_and_the_mend(
    fault: str, speaker: Clip, tmp_path: Path, options: PrepareOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_nerf_folder(speaker, tmp_path / "anna", **AD)
    stand_in_stages(monkeypatch, speaker)
    break_it, message = FAULTS[fault]
    break_it(folder)
    with pytest.raises(JaxtalkError, match=message) as caught:
        import_folder(folder, tmp_path / "clip", LAYOUT, options)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "clip").exists() and not (tmp_path / "clip.partial").exists()


def test_pictures_without_faces_are_refused(
    speaker: Clip, tmp_path: Path, options: PrepareOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_nerf_folder(speaker, tmp_path / "anna", **AD)
    stand_in_stages(monkeypatch, speaker)
    monkeypatch.setattr(StandInLandmarker, "blind", tuple(range(20)))
    with pytest.raises(JaxtalkError, match="MediaPipe finds a face in 10 of 30 pictures"):
        import_folder(folder, tmp_path / "clip", LAYOUT, options)


def test_windows_of_another_shape_or_too_few_are_left_out(
    speaker: Clip, tmp_path: Path, options: PrepareOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_nerf_folder(speaker, tmp_path / "anna", **AD)
    stand_in_stages(monkeypatch, speaker)
    np.save(folder / "aud.npy", np.zeros((24, 16, 29)))
    np.save(folder / "aud_hu.npy", np.zeros((30, 1024), np.float32))
    clip = import_folder(folder, tmp_path / "clip", LAYOUT, options)
    said = "\n".join(clip.meta.source["not_found"])
    assert "aud.npy: 24 windows do not reach the last frame's, 29" in said
    assert "aud_hu.npy: shape (30, 1024) is no hubert (T, 2, 1024)" in said
    assert clip.feature("deepspeech") is None and clip.feature("hubert") is None


def test_frames_are_sorted_by_their_speech(speaker: Clip, tmp_path: Path) -> None:
    folder = write_nerf_folder(speaker, tmp_path / "anna", **AD)
    path = folder / "transforms_train.json"
    data = json.loads(path.read_text())
    path.write_text(json.dumps({**data, "frames": data["frames"][::-1]}))
    transforms = read_transforms(folder)
    assert transforms.img_id.tolist() == list(range(30)) and not transforms.in_order
    np.testing.assert_allclose(transforms.pose[1][5], speaker.track.translation[5], atol=1e-6)
    assert runs(np.array([3, 4, 5, 9])) == [[3, 5], [9, 9]] and runs(np.array([])) == []
