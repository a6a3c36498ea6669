"""Folders of RAD-NeRF, ER-NeRF, SyncTalk and TalkingGaussian become clips; and a folder of real footage."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from jaxtalk.clip import MASK_BACKGROUND, MASK_HEAD, MASK_TORSO, Clip
from jaxtalk.errors import JaxtalkError
from jaxtalk.preparation.importers import nerf_files
from jaxtalk.preparation.importers.nerf_clip import import_folder
from jaxtalk.preparation.importers.rad_nerf import LAYOUT
from jaxtalk.preparation.job import PrepareOptions
from jaxtalk.synthetic.speaker import write_speaker
from tests.nerf_folder_case import stand_in_stages, write_nerf_folder

RAD = {"first_centre": 0.5, "pictures": "gt_imgs"}


@pytest.fixture(scope="module")
def speaker(tmp_path_factory: pytest.TempPathFactory) -> Clip:
    path = tmp_path_factory.mktemp("clips") / "speaker"
    return write_speaker(path, identity=5, utterance=5000, seconds=1.0, size=64)


@pytest.fixture
def options(tmp_path: Path) -> PrepareOptions:
    landmarker = tmp_path / "face_landmarker.task"
    landmarker.write_bytes(b"stand-in")
    return PrepareOptions(landmarker=landmarker, face_model="procedural", identity="bob")


def _ngp_rays(folder: Path, frame: int, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rays as RAD-NeRF shoots them through pixels (column, row): its own axes, then back into the folder's world."""
    data = json.loads((folder / "transforms_train.json").read_text())
    pose = np.array(data["frames"][frame]["transform_matrix"])
    order = [1, 2, 0]
    ngp = np.eye(4)
    ngp[:3, 0], ngp[:3, 1], ngp[:3, 2] = pose[order, 0], -pose[order, 1], -pose[order, 2]
    ngp[:3, 3] = 4 * pose[order, 3]
    plane = (pixels + 0.5 - [data["cx"], data["cy"]]) / data["focal_len"]
    directions = np.concatenate([plane, np.ones((len(plane), 1))], 1) @ ngp[:3, :3].T
    back = np.argsort(order)
    return ngp[back, 3] / 4, directions[:, back]


def test_round_trip_of_wide_pictures(
    speaker: Clip, tmp_path: Path, options: PrepareOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rays of RAD-NeRF pass through the middles of pixels, as ours do; pictures need not be square."""
    folder = write_nerf_folder(speaker, tmp_path / "bob", border=7, **RAD)
    stand_in_stages(monkeypatch, speaker)
    clip = import_folder(folder, tmp_path / "clip", LAYOUT, options)
    clip.validate(decode=True)
    assert clip.meta.size == (64, 78) and clip.meta.identity == "bob"
    assert (clip.meta.camera.cx, clip.meta.camera.cy) == (39.0, 32.0)
    pixels = np.random.default_rng(0).uniform(0, 63, (40, 2))
    track, camera = clip.track, clip.meta.camera
    for frame in (0, 20):
        origin, directions = _ngp_rays(folder, frame, pixels)
        points = origin + 0.8 * directions
        local = points @ track.rotation[frame].T + track.translation[frame]
        ours = np.stack([camera.cx - camera.focal * local[:, 0] / local[:, 2],
                         camera.cy + camera.focal * local[:, 1] / local[:, 2]], -1)  # fmt: skip
        np.testing.assert_allclose(ours, pixels + 0.5, atol=1e-3)
        np.testing.assert_array_equal(clip.frame(frame), np.asarray(Image.open(folder / "gt_imgs" / f"{frame}.jpg")))
    np.testing.assert_allclose(clip.track.landmarks, speaker.track.landmarks + np.array([7, 0]), atol=1e-4)
    distance = -clip.track.translation[:, 2]
    assert clip.meta.near < distance.min() - 0.08 and clip.meta.far > distance.max() + 0.05
    assert not (clip.path / "preview.png").exists() and clip.meta.source["pictures"] == "gt_imgs"


def test_wide_pictures_without_parsing_maps_are_refused(
    speaker: Clip, tmp_path: Path, options: PrepareOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_nerf_folder(speaker, tmp_path / "bob", border=7, **RAD)
    (folder / "parsing" / "3.png").unlink()
    stand_in_stages(monkeypatch, speaker)
    with pytest.raises(JaxtalkError, match=r"parsing: missing, .* must be square, not 78 x 64"):
        import_folder(folder, tmp_path / "clip", LAYOUT, options)


@pytest.mark.parametrize("space", [" ", ""])
def test_action_units_with_either_spelling(
    space: str, speaker: Clip, tmp_path: Path, options: PrepareOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_nerf_folder(speaker, tmp_path / "bob", **RAD)
    names = ["frame", "timestamp", "AU01_r", "AU45_r", "AU45_c"]
    rows = [[i + 1, i / 25, 0.1 * i, 2 - 0.05 * i, 1] for i in range(25)]
    text = [(f",{space}").join(names), *((f",{space}").join(f"{value:.3f}" for value in row) for row in rows)]
    (folder / "au.csv").write_text("\n".join(text) + "\n")
    stand_in_stages(monkeypatch, speaker)
    clip = import_folder(folder, tmp_path / "clip", LAYOUT, options)
    assert clip.meta.source["action_units"] == ["AU01_r", "AU45_r"]
    units = clip.feature("action_units")
    assert units is not None
    np.testing.assert_allclose(units, np.array(rows)[:, 2:4], atol=1e-3)
    (folder / "au.csv").write_text("\n".join(text[:9]))
    again = import_folder(folder, tmp_path / "again", LAYOUT, options)
    assert any("au.csv: 8 rows" in line for line in again.meta.source["not_found"])
    (folder / "au.csv").write_text(text[0] + "\n1,2,three,4,5\n")
    with pytest.raises(JaxtalkError, match=r"au\.csv: not a table of numbers"):
        import_folder(folder, tmp_path / "third", LAYOUT, options)


def test_other_features_are_kept_by_name(
    speaker: Clip, tmp_path: Path, options: PrepareOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_nerf_folder(speaker, tmp_path / "bob", **RAD)
    arrays = {"aud_hu": (23, 2, 1024), "aud_eo": (25, 16, 44), "aud_ds": (25, 16, 29)}
    for name, shape in arrays.items():
        np.save(folder / f"{name}.npy", np.random.default_rng(1).normal(size=shape))
    np.save(folder / "aud.npy", np.zeros((25, 16, 29)))  # aud_ds.npy is the surer one
    stand_in_stages(monkeypatch, speaker)
    clip = import_folder(folder, tmp_path / "clip", LAYOUT, options)
    for name, stored in (("aud_hu", "hubert"), ("aud_eo", "wav2vec_eo"), ("aud_ds", "deepspeech")):
        array = clip.feature(stored)
        assert array is not None and array.dtype == np.float32
        np.testing.assert_array_equal(array, np.load(folder / f"{name}.npy").astype(np.float32))


def test_colours_of_parsing_maps(tmp_path: Path) -> None:
    """BGR as OpenCV writes them: head blue, neck green, torso red; TalkingGaussian's mouth grey and hair black."""
    colours = {
        (255, 255, 255): MASK_BACKGROUND,
        (0, 0, 255): MASK_HEAD,
        (100, 100, 100): MASK_HEAD,
        (0, 0, 0): MASK_HEAD,
        (0, 255, 0): MASK_TORSO,
        (255, 0, 0): MASK_TORSO,
        (250, 246, 251): MASK_BACKGROUND,  # a map that was saved with losses
    }
    Image.fromarray(np.array([list(colours)], np.uint8)).save(tmp_path / "0.png")
    assert nerf_files.labels(tmp_path / "0.png").tolist() == [list(colours.values())]


def test_the_other_layout_has_another_pixel_centre(
    speaker: Clip, tmp_path: Path, options: PrepareOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    from jaxtalk.preparation.importers import ad_nerf

    folder = write_nerf_folder(speaker, tmp_path / "bob", **RAD)
    stand_in_stages(monkeypatch, speaker)
    own = import_folder(folder, tmp_path / "own", LAYOUT, options)
    with pytest.raises(JaxtalkError, match=r"no pictures \(com_imgs\)"):
        import_folder(folder, tmp_path / "wrong", dataclasses.replace(ad_nerf.LAYOUT, pictures=("com_imgs",)), options)
    (folder / "gt_imgs").rename(folder / "com_imgs")
    other = import_folder(folder, tmp_path / "other", ad_nerf.LAYOUT, options)
    assert other.meta.camera.cx == own.meta.camera.cx + 0.5 and other.meta.camera.cy == own.meta.camera.cy + 0.5


@pytest.mark.slow
@pytest.mark.real
def test_a_folder_of_real_footage(real_data: Path, tmp_path: Path) -> None:
    """A clip of our own preparation, as a folder without parsing maps, background or landmarks: all is measured anew,
    in the folder's cameras, and agrees with what the first preparation found."""
    import shutil

    pytest.importorskip("mediapipe")
    from jaxtalk.preparation.prepare import prepare_clip

    files = {
        "landmarker": real_data / "models" / "face_landmarker.task",
        "face_model_file": real_data / "morphable" / "ict_facekit_light.npz",
    }
    video = real_data / "clips" / "grid" / "bbaf2n.mpg"
    first = prepare_clip(video, tmp_path / "first", PrepareOptions(size=256, **files))
    folder = write_nerf_folder(first, tmp_path / "speaker", unit=0.5, **RAD)
    shutil.rmtree(folder / "parsing")
    (folder / "bc.jpg").unlink()
    for file in (folder / "ori_imgs").glob("*.lms"):
        file.unlink()
    clip = import_folder(folder, tmp_path / "clip", LAYOUT, PrepareOptions(**files))
    clip.validate(decode=True)
    unit = clip.meta.source["metres_per_unit"]
    assert abs(unit / 0.5 - 1) < 0.1 and clip.meta.source["fitted_degrees"] < 1.5
    track, camera = clip.track, clip.meta.camera
    for i in (0, 40, 74):
        agree = clip.mask(i) == first.mask(i)
        assert agree.mean() > 0.96
        points = track.proxy_points @ track.rotation[i].T + track.translation[i]
        u = camera.cx - camera.focal * points[:, 0] / points[:, 2]
        v = camera.cy + camera.focal * points[:, 1] / points[:, 2]
        inside = (u > 0) & (u < 255) & (v > 0) & (v < 255)
        assert np.mean(first.mask(i)[v[inside].astype(int), u[inside].astype(int)] > 0) > 0.95
    np.testing.assert_allclose(track.landmarks, first.track.landmarks, atol=6)
    assert np.abs(track.blendshapes - first.track.blendshapes).mean() < 0.02
    assert np.abs(track.gaze - first.track.gaze).mean() < 0.05
    assert np.abs(clip.background().astype(int) - first.background()).mean() < 8
