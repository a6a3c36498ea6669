"""One picture to a clip of one frame: every kind of file, whom it shows, and what is refused."""

from __future__ import annotations

import dataclasses
import io
import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from jaxtalk.clip import MASK_HEAD, MASK_TORSO, Clip
from jaxtalk.errors import JaxtalkError
from jaxtalk.preparation import landmarks, picture_faces
from jaxtalk.preparation.picture import clip_name, clip_of_picture
from jaxtalk.preparation.picture_faces import find_face
from jaxtalk.preparation.picture_file import read_picture
from jaxtalk.preparation.prepare import PrepareOptions
from tests.test_preparation_decode import write_video

_FACE = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)


# --- files


def _saved(path: Path, image: Image.Image, **options: object) -> np.ndarray:
    image.save(path, **options)  # type: ignore[arg-type]
    return read_picture(path)


@pytest.mark.parametrize("suffix", ["png", "bmp", "tif", "webp", "ppm", "gif"])
def test_kinds_of_files(tmp_path: Path, suffix: str) -> None:
    options = {"lossless": True} if suffix == "webp" else {}
    found = _saved(tmp_path / f"face.{suffix}", Image.fromarray(_FACE), **options)
    assert found.shape == (20, 30, 3) and found.dtype == np.uint8 and found.flags["C_CONTIGUOUS"]
    if suffix != "gif":  # 256 colours
        np.testing.assert_array_equal(found, _FACE)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_pictures_are_upright(tmp_path: Path, orientation: int) -> None:
    """EXIF's table: where the first row and the first column of what is stored belong."""
    upright = {1: lambda a: a, 2: lambda a: a[:, ::-1], 3: lambda a: a[::-1, ::-1], 4: lambda a: a[::-1],
               5: lambda a: a.swapaxes(0, 1), 6: lambda a: np.rot90(a, -1), 7: lambda a: np.rot90(a, 2).swapaxes(0, 1),
               8: lambda a: np.rot90(a)}  # fmt: skip
    exif = Image.Exif()
    exif[0x0112] = orientation
    found = _saved(tmp_path / "face.png", Image.fromarray(_FACE), exif=exif)
    np.testing.assert_array_equal(found, upright[orientation](_FACE))


def test_transparency_lies_over_white(tmp_path: Path) -> None:
    alpha = np.tile(np.array([0, 51, 255], np.uint8), (20, 10))
    found = _saved(tmp_path / "a.png", Image.fromarray(np.dstack([_FACE, alpha])))
    share = alpha[..., None] / 255
    np.testing.assert_allclose(found, share * _FACE + (1 - share) * 255, atol=1)
    grey = _saved(tmp_path / "la.png", Image.fromarray(np.dstack([_FACE[..., 0], alpha])))
    np.testing.assert_allclose(grey[..., 1], (share * _FACE + (1 - share) * 255)[..., 0], atol=1)
    palette = Image.fromarray((_FACE[..., 0] // 128), "P")
    palette.putpalette([0, 0, 0, 9, 8, 7])
    found = _saved(tmp_path / "p.png", palette, transparency=0)
    np.testing.assert_array_equal(found, np.where(_FACE[..., :1] < 128, 255, np.array([9, 8, 7])))


def test_grey_and_deep_pictures_have_eight_bits(tmp_path: Path) -> None:
    grey = _FACE[..., 0]
    expected = np.repeat(grey[..., None], 3, axis=-1)
    np.testing.assert_array_equal(_saved(tmp_path / "g.png", Image.fromarray(grey)), expected)
    deep = Image.fromarray(grey.astype(np.uint16) * 257)
    for suffix in ("png", "tif"):
        np.testing.assert_array_equal(_saved(tmp_path / f"d.{suffix}", deep), expected)
    np.testing.assert_array_equal(_saved(tmp_path / "i.tif", Image.fromarray(grey.astype(np.int32))), expected)
    np.testing.assert_array_equal(_saved(tmp_path / "f.tif", Image.fromarray(grey.astype(np.float32) / 255)), expected)
    inked = _saved(tmp_path / "c.tif", Image.fromarray(_FACE).convert("CMYK"))
    np.testing.assert_allclose(inked, _FACE, atol=1)
    bilevel = _saved(tmp_path / "b.png", Image.fromarray(grey > 99))
    np.testing.assert_array_equal(bilevel[..., 2], np.where(grey > 99, 255, 0))


def test_deep_colour_is_read(tmp_path: Path) -> None:
    cv2 = pytest.importorskip("cv2")
    cv2.imwrite(str(tmp_path / "deep.png"), _FACE[..., ::-1].astype(np.uint16) * 257)
    np.testing.assert_allclose(read_picture(tmp_path / "deep.png"), _FACE, atol=1)


def test_what_is_no_picture_is_named(tmp_path: Path) -> None:
    write_video(tmp_path / "talk.mp4", np.arange(25) / 25, np.zeros(25, bool))
    (tmp_path / "notes.png").write_text("not a picture")
    (tmp_path / "empty.png").touch()
    buffer = io.BytesIO()
    Image.fromarray(_FACE).resize((300, 200)).save(buffer, "PNG")
    (tmp_path / "cut.png").write_bytes(buffer.getvalue()[:5000])
    for name, reason in [
        ("talk.mp4", r"a video.*jaxtalk prepare .*talk\.mp4 --out CLIP"),
        ("notes.png", "not a picture"),
        ("empty.png", "not a picture"),
        ("cut.png", "a damaged picture"),
        ("nobody.png", "no such file"),
        (".", "a folder"),
    ]:
        with pytest.raises(JaxtalkError, match=reason) as caught:
            read_picture(tmp_path / name)
        assert "\n" not in str(caught.value) and str(tmp_path) in str(caught.value)


def test_names_are_of_the_file_and_its_content(tmp_path: Path) -> None:
    names = ["anna.png", "a b/ü (1).v2.png", "!!.png", "x" * 200 + ".png"]
    (tmp_path / "a b").mkdir()
    for name in names:
        (tmp_path / name).write_bytes(b"1")
    digest = "6b86b273ff34"  # of "1"
    found = [clip_name(tmp_path / name) for name in names]
    assert found == [f"anna-{digest}", f"ü_1_.v2-{digest}", f"picture-{digest}", "x" * 60 + f"-{digest}"]
    (tmp_path / "anna.png").write_bytes(b"2")
    assert re.fullmatch(r"anna-[0-9a-f]{12}", clip_name(tmp_path / "anna.png")) and digest not in clip_name(
        tmp_path / "anna.png"
    )


# --- faces


class _Eyes:
    """In place of MediaPipe: sees discs of light at least a tenth of the picture's side high, and cut ones as whole."""

    def __init__(self) -> None:
        self.looks = 0

    def faces(self, image: np.ndarray) -> list[landmarks.Face]:
        from scipy.ndimage import find_objects, label

        self.looks += 1
        parts = find_objects(label(image[..., 0] > 99)[0])
        boxes = [np.array([c.start, r.start, c.stop, r.stop], np.float32) for r, c in parts]
        large = [box for box in boxes if box[3] - box[1] >= 0.1 * max(image.shape[:2])]
        rotation, shapes = np.eye(3, dtype=np.float32), np.zeros(52, np.float32)
        return [landmarks.Face(np.stack([[*box[:2], 0], [*box[2:], 0]]), shapes, rotation) for box in large]


def _shown(*discs: tuple[int, int, int], size: tuple[int, int] = (600, 400)) -> np.ndarray:
    """A dark picture with discs (x, y, height)."""
    x, y = np.meshgrid(np.arange(size[0]), np.arange(size[1]))
    light = [(x - disc[0]) ** 2 + (y - disc[1]) ** 2 < (disc[2] / 2) ** 2 for disc in discs]
    return np.repeat((200 * np.any([np.zeros_like(x, bool), *light], axis=0)).astype(np.uint8)[..., None], 3, axis=-1)


def test_one_face_is_asked_for() -> None:
    box = find_face(_Eyes(), _shown((300, 200, 120)), Path("a.png"))  # type: ignore[arg-type]
    np.testing.assert_allclose(box, [240, 140, 360, 260], atol=2)
    for discs, reason in [
        ([], "no face in this picture"),
        ([(300, 200, 120), (100, 90, 70)], r"a\.png: 2 faces, around the pixels \(100, 90\), \(300, 200\)"),
        ([(100 * (i % 5) + 80, 150 * (i // 5) + 90, 66) for i in range(9)], "9 or more faces"),
        ([(300, 200, 40)], r"too small \(\d+ pixels high, at least 48 are needed\)"),
    ]:
        with pytest.raises(JaxtalkError, match=reason):
            find_face(_Eyes(), _shown(*discs), Path("a.png"))  # type: ignore[arg-type]


@pytest.mark.parametrize("x", range(60, 2360, 230))
def test_small_faces_of_large_pictures_are_found_wherever_they_are(x: int) -> None:
    """In a landscape and in a portrait, across every edge of the squares that are looked at, once each."""
    for size, (row, column) in (((2400, 1600), (700, x)), ((1600, 2400), (x, 700))):
        eyes = _Eyes()
        box = find_face(eyes, _shown((column, row, 70), size=size), Path("a.png"))  # type: ignore[arg-type]
        np.testing.assert_allclose(box, [column - 35, row - 35, column + 35, row + 35], atol=2)
        assert 1 < eyes.looks < 80
        with pytest.raises(JaxtalkError, match="2 faces"):
            image = _shown((column, row, 70), (column + 90, row + 60, 70), size=(size[0] + 200, size[1] + 200))
            find_face(_Eyes(), image, Path("a.png"))  # type: ignore[arg-type]


def test_finds_of_one_face_are_one() -> None:
    whole = np.array([100.0, 100, 200, 220])
    part, near = np.array([90.0, 110, 150, 200]), np.array([190.0, 100, 290, 220])
    assert [box.tolist() for box in picture_faces._distinct([part, whole, near])] == [whole.tolist(), near.tolist()]


# --- real pictures


def _options(data: Path, **changes: object) -> PrepareOptions:
    pytest.importorskip("mediapipe")
    settings: dict[str, object] = {
        "size": 256,
        "landmarker": data / "models" / "face_landmarker.task",
        "face_model_file": data / "morphable" / "ict_facekit_light.npz",
    }
    return PrepareOptions(**(settings | changes))  # type: ignore[arg-type]


_PICTURES = ("liveportrait_s9.jpg", "sadtalker_happy.png", "sadtalker_people_0.png")


@pytest.mark.parametrize("name", _PICTURES)
def test_real_pictures_become_clips(
    real_data: Path, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = real_data / "images" / name
    if not source.is_file():
        pytest.skip(f"{source} is not here")
    options = _options(real_data, consent={"subject": "nobody"})
    clip = clip_of_picture(source, tmp_path, options)
    clip.validate(decode=True)
    assert clip.meta.num_frames == 1 and clip.meta.size == (256, 256) and clip.meta.frame_format == "png"
    assert clip.track.time.tolist() == [0.0] and clip.track.valid.all() and clip.meta.consent == {"subject": "nobody"}
    assert clip.meta.source["file"] == name and clip.meta.source["sha256"].startswith(clip.name[-12:])
    sound = clip.audio()
    assert len(sound) == 16000 / 25 and not sound.any()
    assert sorted(path.name for path in clip.path.iterdir()) == [
        "audio.wav", "background.png", "clip.json", "frames", "masks", "preview.png", "track.npz",
    ]  # fmt: skip
    _check_fit(clip)
    monkeypatch.setattr(landmarks, "Landmarker", None)  # the second time nothing is looked for
    assert clip_of_picture(source, tmp_path, options).path == clip.path


def _check_fit(clip: Clip) -> None:
    """The head's points lie on the mask of the head, the face's landmarks in its boxes, the near plane before it."""
    track, camera, labels = clip.track, clip.meta.camera, clip.mask(0)
    points = track.proxy_points @ track.rotation[0].T + track.translation[0]
    u = camera.cx - camera.focal * points[:, 0] / points[:, 2]
    v = camera.cy + camera.focal * points[:, 1] / points[:, 2]
    inside = (u > 0) & (u < 255) & (v > 0) & (v < 255)
    seen = labels[v[inside].astype(int), u[inside].astype(int)]
    assert inside.mean() > 0.7 and np.mean((seen == MASK_HEAD) | (seen == MASK_TORSO)) > 0.95
    seen_from_here = -points[inside & (track.proxy_points[:, 2] > 0), 2]  # its back is behind the far plane
    assert clip.meta.near < seen_from_here.min() and clip.meta.far > seen_from_here.max()
    x0, y0, x1, y1 = track.mouth_box[0]
    mouth = track.landmarks[0, 48:]
    assert (mouth >= [x0, y0]).all() and (mouth <= [x1, y1]).all()
    x, y = track.landmarks[0, 27:36].mean(axis=0).astype(int)
    assert labels[y, x] == MASK_HEAD and 0.05 < np.mean(labels == MASK_HEAD) < 0.6
    turned = np.degrees(np.arccos(np.clip(track.rotation[0, 2, 2], -1, 1)))
    assert turned < 35  # all of them look about at the viewer


def test_a_frame_of_a_video_is_measured_as_the_video_was(real_data: Path, tmp_path: Path) -> None:
    """A picture of a speaker has the pose and the identity's size that the video's own preparation finds there."""
    from jaxtalk.preparation.decode import pictures, probe
    from jaxtalk.preparation.prepare import prepare_clip

    options = _options(real_data)
    video = real_data / "clips" / "grid" / "bbaf2n.mpg"
    clip = prepare_clip(video, tmp_path / "speaker", options)
    assert probe(video).width
    frame = next(iter(pictures(video))).rgb()
    Image.fromarray(frame).save(tmp_path / "first.png")
    alone = clip_of_picture(tmp_path / "first.png", tmp_path, options)
    scale = alone.meta.source["crop"][2] / clip.meta.source["crop"][2]
    np.testing.assert_allclose(
        alone.track.landmarks[0] * scale + np.subtract(alone.meta.source["crop"][:2], clip.meta.source["crop"][:2])
        * 256 / clip.meta.source["crop"][2], clip.track.landmarks[0], atol=6,
    )  # fmt: skip
    turn = alone.track.rotation[0] @ clip.track.rotation[0].T
    assert np.degrees(np.arccos(np.clip((np.trace(turn) - 1) / 2, -1, 1))) < 6


def test_a_small_face_in_a_large_picture_is_found(real_data: Path) -> None:
    """Too small for MediaPipe in the whole picture, on any side of which it may stand."""
    options = _options(real_data)
    source = real_data / "images" / "sadtalker_happy.png"
    if not source.is_file():
        pytest.skip(f"{source} is not here")
    with landmarks.Landmarker(Path(str(options.landmarker)), num_faces=8) as landmarker:
        face = np.asarray(Image.open(source).convert("RGB"))
        (alone,) = landmarker.faces(face)
        for x, y in ((700, 300), (40, 1000), (2300, 60)):
            large = np.full((1400, 2600, 3), 110, np.uint8)
            large[y : y + 256, x : x + 256] = face
            assert not landmarker.faces(large)
            np.testing.assert_allclose(
                find_face(landmarker, large, source), alone.box + np.array([x, y, x, y]), atol=12
            )


def test_refused_pictures_leave_nothing(real_data: Path, tmp_path: Path) -> None:
    options = _options(real_data)
    source = real_data / "images" / "sadtalker_happy.png"
    if not source.is_file():
        pytest.skip(f"{source} is not here")
    face = Image.open(source).convert("RGB")
    two = Image.new("RGB", (2 * face.width, face.height))
    two.paste(face, (0, 0))
    two.paste(face, (face.width, 0))
    small = Image.new("RGB", (160, 160), "grey")
    small.paste(face.resize((64, 64)), (48, 48))
    for name, image, reason in [
        ("two", two, r"two\.png: 2 faces, around the pixels"),
        ("none", Image.new("RGB", (300, 300), "grey"), r"none\.png: no face"),
        ("small", small, r"small\.png: the face is too small"),
    ]:
        image.save(tmp_path / f"{name}.png")
        with pytest.raises(JaxtalkError, match=reason) as caught:
            clip_of_picture(tmp_path / f"{name}.png", tmp_path / "pictures", options)
        assert "\n" not in str(caught.value)
    assert not list((tmp_path / "pictures").glob("*"))


def test_other_options_make_it_again(real_data: Path, tmp_path: Path) -> None:
    source = real_data / "images" / "sadtalker_happy.png"
    if not source.is_file():
        pytest.skip(f"{source} is not here")
    options = _options(real_data, size=128)
    first = clip_of_picture(source, tmp_path, options)
    assert first.meta.face_model.name == "ict" and first.meta.size == (128, 128)
    other = clip_of_picture(source, tmp_path, dataclasses.replace(options, size=160))
    assert other.path == first.path and Clip.open(first.path).meta.size == (160, 160)
    (other.path / "track.npz").write_bytes(b"")
    assert clip_of_picture(source, tmp_path, dataclasses.replace(options, size=160)).track.num_frames == 1
    assert json.loads((first.path / "clip.json").read_text())["stages"]["fit"]["face_model"] == "ict"
