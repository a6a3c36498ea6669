"""Synthetic clips: exact ground truth, the same bits from the same seeds, and variation in all that a model needs."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest

from jaxtalk.clip import MASK_BACKGROUND, MASK_HEAD, MASK_TORSO, Clip
from jaxtalk.errors import JaxtalkError
from jaxtalk.faces.landmarks import BLENDSHAPE_NAMES, BROWS, EYES, MOUTH, NOSE, lip_gap
from jaxtalk.faces.procedural import procedural_face_model
from jaxtalk.faces.rasterizer import rasterize
from jaxtalk.synthetic.corpus import write_corpus
from jaxtalk.synthetic.look import sample_look
from jaxtalk.synthetic.motion import portrait_camera, sample_motion
from jaxtalk.synthetic.phonemes import SYMBOLS
from jaxtalk.synthetic.render import Pose, Renderer
from jaxtalk.synthetic.speaker import write_speaker
from jaxtalk.synthetic.voice import speak

SIZE = 64
LONG_HAIR = next(i for i in range(100) if sample_look(i).hair_style == "long")
BALD = next(i for i in range(100) if sample_look(i).hair_style == "bald")


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Clip:
    folder = tmp_path_factory.mktemp("speaker")
    return write_speaker(folder / "clip", identity=1, utterance=3, seconds=6.0, size=SIZE)


def _frames(clip: Clip) -> np.ndarray:
    return np.stack([clip.frame(i) for i in range(clip.meta.num_frames)]).astype(np.float64) / 255


def _masks(clip: Clip) -> np.ndarray:
    return np.stack([clip.mask(i) for i in range(clip.meta.num_frames)])


def _digest(folder: Path) -> str:
    digest = hashlib.sha256()
    for file in sorted(folder.rglob("*.*")):
        if file.suffix == ".npz":  # a zip file, which holds the time of day
            with np.load(file) as data:
                for name in data.files:
                    digest.update(data[name].tobytes())
        elif file.is_file():
            digest.update(file.read_bytes())
    return digest.hexdigest()


def _explained(inputs: np.ndarray, outputs: np.ndarray) -> float:
    """Share of the outputs' variance that a linear map of the inputs explains in odd frames, fitted on even ones."""
    design = np.concatenate([inputs, np.ones((len(inputs), 1))], axis=1)
    weights = np.linalg.lstsq(design[::2], outputs[::2], rcond=1e-3)[0]
    left = outputs[1::2] - design[1::2] @ weights
    return float(1 - (left**2).sum() / ((outputs[1::2] - outputs[::2].mean(axis=0)) ** 2).sum())


def test_the_clip_is_valid_and_says_that_it_is_synthetic(clip: Clip) -> None:
    clip.validate(decode=True)
    meta = clip.meta
    assert meta.synthetic and meta.identity == "synthetic-1" and "synthetic" in meta.consent["subject"]
    assert (meta.source["identity"], meta.source["utterance"]) == (1, 3)
    assert meta.num_frames == 150 and len(clip.audio()) == 6 * meta.sample_rate
    assert (meta.face_model.num_identity, meta.face_model.num_expression) == (
        clip.track.identity.shape[0],
        clip.track.expression.shape[1],
    )
    phonemes = clip.feature("phonemes")
    np.testing.assert_array_equal(phonemes, speak(3, 1, 6.0).phonemes)
    assert list(SYMBOLS) == meta.source["phonemes"]


def test_the_same_seeds_give_the_same_bits(tmp_path: Path) -> None:
    clips = [write_speaker(tmp_path / name, identity=2, utterance=9, seconds=0.4, size=32) for name in "ab"]
    assert _digest(clips[0].path) == _digest(clips[1].path)
    other = write_speaker(tmp_path / "c", identity=2, utterance=10, seconds=0.4, size=32)
    assert _digest(other.path) != _digest(clips[0].path)


def test_background_pixels_are_the_plate_exactly(clip: Clip) -> None:
    frames, masks, plate = _frames(clip), _masks(clip), clip.background() / 255.0
    from scipy.ndimage import binary_erosion

    for frame, mask in zip(frames[::15], masks[::15], strict=True):
        empty = binary_erosion(mask == MASK_BACKGROUND, np.ones((3, 3)), border_value=1)
        assert empty.mean() > 0.2
        np.testing.assert_array_equal(frame[empty], plate[empty])


def test_masks_hold_head_and_torso_where_they_are(clip: Clip) -> None:
    masks, points = _masks(clip), clip.track.landmarks
    inner = np.concatenate([BROWS, NOSE, EYES, MOUTH])
    columns, rows = np.floor(points[:, inner]).astype(int).transpose(2, 0, 1)
    labels = np.take_along_axis(masks.reshape(len(masks), -1), rows * SIZE + columns, axis=1)
    assert (labels == MASK_HEAD).mean() > 0.999
    assert (masks[:, -1, SIZE // 2] == MASK_TORSO).all()
    assert ((masks == MASK_TORSO).mean(axis=(1, 2)) > 0.08).all()
    chin = np.round(points[:, 8, 1]).astype(int)
    heads = [np.flatnonzero((mask == MASK_HEAD).any(axis=1)).max() for mask in masks]
    assert np.percentile(np.abs(np.array(heads) - chin), 90) < 14, "long hair may hang lower, the neck is torso"


def test_long_hair_belongs_to_the_head(tmp_path: Path) -> None:
    clip = write_speaker(tmp_path / "long", identity=LONG_HAIR, utterance=0, seconds=0.2, size=96)
    chin = clip.track.landmarks[0, 8, 1]
    assert (clip.mask(0)[int(chin) + 3 :] == MASK_HEAD).sum() > 30
    bald = write_speaker(tmp_path / "bald", identity=BALD, utterance=0, seconds=0.2, size=96)
    chin = bald.track.landmarks[0, 8, 1]
    assert (bald.mask(0)[int(chin) + 4 :] == MASK_HEAD).sum() == 0


def test_landmarks_are_the_posed_model(clip: Clip) -> None:
    """From track.npz alone: model, pose and camera give the stored landmarks; the transposed rotation does not."""
    track, camera, model = clip.track, clip.meta.camera, procedural_face_model()
    vertices = model.vertices(np.broadcast_to(track.identity, (150, 22)), track.expression)[:, model.landmark_vertices]

    def project(rotation: np.ndarray) -> np.ndarray:
        x, y, z = np.moveaxis(np.einsum("fij,fvj->fvi", rotation, vertices) + track.translation[:, None], -1, 0)
        return np.stack([camera.cx - camera.focal * x / z, camera.cy + camera.focal * y / z], -1)

    np.testing.assert_allclose(project(track.rotation), track.landmarks, atol=1e-3)
    assert np.abs(project(track.rotation.swapaxes(1, 2)) - track.landmarks).max() > 2
    np.testing.assert_allclose(
        track.rotation @ track.rotation.swapaxes(1, 2), np.tile(np.eye(3), (150, 1, 1)), atol=1e-5
    )
    assert (np.linalg.det(track.rotation) > 0.99).all()


def test_the_drawn_face_lies_where_the_track_says(clip: Clip) -> None:
    """The mesh drawn anew from the track covers the head mask's inside and nothing of the background."""
    track, model = clip.track, procedural_face_model()
    for i in (0, 70, 149):
        vertices = model.vertices(track.identity, track.expression[i]) @ track.rotation[i].T + track.translation[i]
        drawn = rasterize(vertices, model.region_triangles("face"), clip.meta.camera, (SIZE, SIZE)).covered
        assert drawn.sum() > 300
        assert (clip.mask(i)[drawn] == MASK_HEAD).mean() > 0.97


def test_near_far_and_proxy_points_enclose_the_head(clip: Clip) -> None:
    track, meta = clip.track, clip.meta
    points = np.einsum("fij,pj->fpi", track.rotation, track.proxy_points) + track.translation[:, None]
    assert meta.near < -points[..., 2].max() < -points[..., 2].min() < meta.far
    assert meta.far - meta.near < 0.45
    inside = np.stack([meta.camera.cx - meta.camera.focal * points[..., 0] / points[..., 2],
                       meta.camera.cy + meta.camera.focal * points[..., 1] / points[..., 2]], -1)  # fmt: skip
    for i in (0, 100):
        rows, columns = np.nonzero(clip.mask(i) == MASK_HEAD)
        pixels = np.stack([columns + 0.5, rows + 0.5], -1)
        nearest = np.linalg.norm(pixels[:, None] - inside[i][None], axis=-1).min(axis=1)
        assert nearest.max() < 2.5, "every head pixel has a proxy point beside it"


def test_eyes_brows_and_mouth_in_the_track_agree(clip: Clip) -> None:
    track = clip.track
    names = procedural_face_model().expression_names
    np.testing.assert_allclose(track.eye_openness, 1 - track.expression[:, [names.index("eyeBlinkLeft"),
                                                                            names.index("eyeBlinkRight")]])  # fmt: skip
    jaw = track.blendshapes[:, BLENDSHAPE_NAMES.index("jawOpen")]
    assert np.corrcoef(jaw, lip_gap(track.landmarks))[0, 1] > 0.8
    np.testing.assert_array_equal(jaw, track.expression[:, names.index("jawOpen")])
    unused = BLENDSHAPE_NAMES.index("noseSneerLeft")
    assert (track.blendshapes[:, unused] == 0).all()


def test_sound_and_mouth_are_in_sync(clip: Clip) -> None:
    """The loudness of the sound goes with the lips at no offset, and not a second off."""
    audio, time = clip.audio(), clip.track.time
    level = np.array([np.std(audio[max(0, int((t - 0.03) * 16000)) : int((t + 0.03) * 16000) + 1]) for t in time])
    gap = lip_gap(clip.track.landmarks)
    lags = range(-10, 11)
    scores = [np.corrcoef(level[10:-10], gap[10 + lag : len(gap) - 10 + lag])[0, 1] for lag in lags]
    assert abs(lags[int(np.argmax(scores))]) <= 2
    assert max(scores) > 0.5 > 0.35 > np.corrcoef(level[:-25], gap[25:])[0, 1]


def test_pose_ranges_and_blinks_of_many_utterances() -> None:
    silence = speak(0, 0, 60.0).phonemes
    times = np.arange(0, 60, 0.04)
    yaws, pitches, rates = [], [], []
    for seed in range(6):
        motion = sample_motion(seed, seed + 1, times, 60.0, silence)
        forward = np.stack([pose.rotation[:, 2] for pose in motion.head])
        yaws.append(np.degrees(np.arctan2(forward[:, 0], forward[:, 2])))
        pitches.append(np.degrees(np.arcsin(forward[:, 1])))
        starts = (np.diff((motion.blink > 0.5).astype(int)) == 1).sum()
        rates.append(starts / 60)
        assert np.abs(np.diff(yaws[-1])).max() < 4, "degrees a frame"
    assert 12 < np.abs(yaws).max() <= 21 and 5 < np.abs(pitches).max() <= 14
    assert np.std(yaws) > 4
    assert 0.15 < np.mean(rates) < 0.55 and min(rates) > 0.08


def test_blinks_and_pose_know_nothing_of_speech() -> None:
    times = np.arange(0, 5, 0.04)
    one, other = (sample_motion(1, 2, times, 5.0, speak(u, 1, 5.0).phonemes) for u in (10, 11))
    np.testing.assert_array_equal(one.blink, other.blink)
    np.testing.assert_array_equal(one.gaze, other.gaze)
    assert all(np.array_equal(a.rotation, b.rotation) for a, b in zip(one.head, other.head, strict=True))
    assert not np.array_equal(one.brow, other.brow), "brows do"


def test_identities_differ_more_than_moments() -> None:
    """Between people, with equal pose and expression, pictures of the face differ more than within one who talks."""
    size, count = 48, 6
    camera, model = portrait_camera(size), procedural_face_model()
    rng = np.random.default_rng(0)
    pose = Pose(np.eye(3), np.array([0.0, 0.016, -0.8]))
    expressions = np.zeros((4, model.num_expression), np.float32)
    expressions[:, [model.expression_names.index(n) for n in ("jawOpen", "mouthPucker", "eyeBlinkLeft")]] = rng.uniform(
        0, 0.8, (4, 3)
    )
    centre = slice(size // 4, 3 * size // 4)
    pictures = np.empty((count, 4, size // 2, size // 2, 3))
    for i in range(count):
        renderer = Renderer(sample_look(i), camera, size)
        for j, expression in enumerate(expressions):
            pictures[i, j] = renderer.render(expression, np.zeros(2), pose, pose)[0][centre, centre] / 255
    within = np.sqrt(((pictures[:, :1] - pictures[:, 1:]) ** 2).mean())
    apart = [np.sqrt(((pictures[i] - pictures[j]) ** 2).mean()) for i in range(count) for j in range(i)]
    assert np.mean(apart) > 3 * within and min(apart) > within


def test_shapes_differ_between_identities() -> None:
    model = procedural_face_model()
    shapes = np.stack([sample_look(i).shape for i in range(40)]) @ model.identity_basis[
        :, model.landmark_vertices
    ].reshape(model.num_identity, -1)
    spread = np.sqrt(shapes.reshape(40, 68, 3).var(axis=0).sum(axis=-1))
    assert 0.0015 < spread.mean() < 0.012, "millimetres, not centimetres"
    assert len({sample_look(i).hair_style for i in range(40)}) >= 5


def test_speech_pose_and_blinks_each_explain_what_they_should(clip: Clip) -> None:
    """With the pose held still, mouth pixels follow visemes and eye pixels blinks; most variation in a clip is pose."""
    names = procedural_face_model().expression_names
    camera = portrait_camera(SIZE)
    renderer = Renderer(sample_look(1), camera, SIZE)
    still = Pose(np.eye(3), np.array([0.0, 0.016, -0.8]))
    frames = np.stack([renderer.render(e, np.zeros(2), still, still)[0] for e in clip.track.expression]) / 255.0
    model = procedural_face_model()
    points = still.apply(renderer.neutral[model.landmark_vertices])
    x = camera.cx - camera.focal * points[:, 0] / points[:, 2]
    y = camera.cy + camera.focal * points[:, 1] / points[:, 2]

    def around(index: np.ndarray) -> np.ndarray:
        rows = slice(int(y[index].min()) - 1, int(y[index].max()) + 3)
        columns = slice(int(x[index].min()) - 1, int(x[index].max()) + 2)
        return frames[:, rows, columns].reshape(len(frames), -1)

    speech = clip.track.expression[:, [i for i, n in enumerate(names) if n.startswith(("mouth", "jaw", "tongue"))]]
    eyes = clip.track.expression[:, [i for i, n in enumerate(names) if n.startswith("eye")]]
    mouth_pixels, eye_pixels = around(MOUTH), around(EYES)
    assert _explained(speech, mouth_pixels) > 0.6
    assert _explained(np.roll(speech, 25, axis=0), mouth_pixels) < 0.3
    assert _explained(eyes, eye_pixels) > 0.5 > _explained(speech, eye_pixels) + 0.2
    assert mouth_pixels.std(axis=0).max() > 0.12, "mouths visibly move at 64 pixels"
    assert eye_pixels.std(axis=0).max() > 0.05, "blinks are visible at 64 pixels"
    moving = _frames(clip)
    assert ((moving - moving.mean(axis=0)) ** 2).mean() > 3 * ((frames - frames.mean(axis=0)) ** 2).mean()


def test_gaze_moves_the_iris_as_the_track_says() -> None:
    """Yaw is to the image's right, pitch up: the eye's dark centre goes there; shut eyes show none."""
    size, model = 160, procedural_face_model()
    camera, still = portrait_camera(size), Pose(np.eye(3), np.array([0.0, 0.016, -0.8]))
    renderer = Renderer(sample_look(BALD), camera, size)
    eye = still.apply(renderer.neutral[model.landmark_vertices[42:48]])
    x, y = camera.cx - camera.focal * eye[:, 0] / eye[:, 2], camera.cy + camera.focal * eye[:, 1] / eye[:, 2]

    def dark_centre(yaw: float, pitch: float) -> np.ndarray:
        picture = renderer.render(np.zeros(model.num_expression), np.array([yaw, pitch]), still, still)[0]
        rows, columns = slice(int(y[[1, 2]].max()) + 1, int(y[[4, 5]].min())), slice(int(x.min()) + 2, int(x.max()) - 1)
        darkness = (255.0 - picture[rows, columns].min(axis=-1)) ** 4
        grid = np.stack(np.mgrid[rows, columns][::-1], -1)
        return (darkness[..., None] * grid).sum(axis=(0, 1)) / darkness.sum()

    assert dark_centre(0.35, 0)[0] > dark_centre(0, 0)[0] + 0.7 > dark_centre(-0.35, 0)[0] + 1.4
    assert dark_centre(0, 0.25)[1] < dark_centre(0, -0.25)[1] - 0.3


def test_a_face_landmarker_finds_the_faces_and_agrees(tmp_path: Path, real_data: Path) -> None:
    """MediaPipe, which knows nothing of our model, sees a face in every frame, its landmarks and lips near ours."""
    pytest.importorskip("mediapipe")
    import mediapipe
    from mediapipe.tasks.python import BaseOptions, vision

    from jaxtalk.faces.landmarks import from_mediapipe

    clip = write_speaker(tmp_path / "seen", identity=1, utterance=4, seconds=1.6, size=256)
    options = vision.FaceLandmarkerOptions(
        base_options=BaseOptions(model_asset_path=str(real_data / "models" / "face_landmarker.task"))
    )
    seen = []
    with vision.FaceLandmarker.create_from_options(options) as landmarker:
        for i in range(0, 40, 2):
            found = landmarker.detect(mediapipe.Image(image_format=mediapipe.ImageFormat.SRGB, data=clip.frame(i)))
            assert found.face_landmarks, f"no face in frame {i}"
            seen.append([(256 * point.x, 256 * point.y) for point in found.face_landmarks[0]])
    theirs, ours = from_mediapipe(np.array(seen)), clip.track.landmarks[::2]
    distance = np.linalg.norm(theirs - ours, axis=-1)
    inter_ocular = np.linalg.norm(ours[:, 45] - ours[:, 36], axis=-1).mean()
    assert distance[:, 17:].mean() < 0.06 * inter_ocular
    assert np.corrcoef(lip_gap(theirs), lip_gap(ours))[0, 1] > 0.9


def test_torso_moves_by_itself() -> None:
    times = np.arange(0, 30, 0.04)
    motion = sample_motion(3, 4, times, 30.0, speak(4, 3, 30.0).phonemes)
    torso = np.stack([pose.translation for pose in motion.torso])
    head = np.stack([pose.rotation[:, 2] for pose in motion.head])
    assert 0.001 < torso.std(axis=0)[0] < 0.01
    assert abs(np.corrcoef(torso[:, 0], head[:, 0])[0, 1]) < 0.6


def test_a_corpus_is_written_once(tmp_path: Path) -> None:
    paths = write_corpus(tmp_path, 2, 2, 0.2, 32, seed=1)
    assert len(set(paths)) == 4
    clips = [Clip.open(path) for path in paths]
    assert [c.meta.identity for c in clips] == ["synthetic-10000"] * 2 + ["synthetic-10001"] * 2
    assert len({c.audio().tobytes() for c in clips}) == 4
    before = {path: (path / "clip.json").stat().st_mtime_ns for path in paths}
    (paths[1] / "clip.json").unlink()
    write_corpus(tmp_path, 2, 2, 0.2, 32, seed=1)
    after = {path: (path / "clip.json").stat().st_mtime_ns for path in paths}
    assert [before[p] == after[p] for p in paths] == [True, False, True, True]
    write_corpus(tmp_path, 1, 1, 0.2, 40, seed=1)
    assert Clip.open(paths[0]).meta.size == (40, 40), "other settings: made anew"


@pytest.mark.slow
def test_two_processes_write_the_same_corpus(tmp_path: Path) -> None:
    one = write_corpus(tmp_path / "one", 2, 1, 0.2, 32)
    two = write_corpus(tmp_path / "two", 2, 1, 0.2, 32, processes=2)
    assert [_digest(path) for path in one] == [_digest(path) for path in two]


@pytest.mark.parametrize("wrong", [{"seconds": 0.01, "size": 64}, {"seconds": 1.0, "size": 4}])
def test_impossible_wishes_are_one_line(tmp_path: Path, wrong: dict[str, float]) -> None:
    with pytest.raises(JaxtalkError, match="ask for more"):
        write_speaker(tmp_path / "no", identity=0, utterance=0, **wrong)
    assert not list(tmp_path.iterdir())
