"""Each metric notices what it should: a table of metric, corruption of a real clip, and the direction that it moves in.

Published weights are not needed: LPIPS runs with drawn weights, identity with a narrow network of drawn weights, FID
on thumbnails in place of Inception's features, and lip sync with a network that compares the brightness of painted
lips with the loudness of the voice. What those networks compute with their own weights is tested where they are.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage
from flax import nnx
from PIL import Image

from jaxtalk.audio.psf import mfcc_psf
from jaxtalk.audio.spectrum import SAMPLE_RATE
from jaxtalk.faces.landmarks import MOUTH, from_mediapipe
from jaxtalk.media.audio import load_audio
from jaxtalk.media.video import read_frames
from jaxtalk.metrics import METRICS, Faces, Material, Pictures, Suite, measures
from jaxtalk.metrics.identity import embeddings
from jaxtalk.metrics.landmarks import eye_aspect_ratio
from jaxtalk.metrics.lpips import LpipsMetric
from jaxtalk.nn.pretrained.iresnet import IResNet
from jaxtalk.nn.pretrained.lpips import Lpips
from jaxtalk.preparation.landmarks import Landmarker
from jaxtalk.weights.convert import shapes_of
from jaxtalk.weights.converted import put
from tests.goldens.drawn import uniform

SIZE, FRAMES, FPS = 256, 40, 25.0
LATE = 5  # frames
SPEAKER, ANOTHER = "en_real3d_May.mp4", "hdtf_WDA_KatieHill_000.mp4"  # the first blinks once in its first frames
ALMOST = 1e-5

# What a clip measured against itself must give.
PERFECT = {
    "psnr/rgb": 100.0,
    "ssim/gauss11": 1.0,
    "ssim/skimage7": 1.0,
    "lpips/alex": 0.0,
    "lpips/vgg": 0.0,
    "fid/inception2048": 0.0,
    "csim_gt/r50": 1.0,
    "lmd/mouth": 0.0,
    "lmd/mouth@256": 0.0,
    "lmd/all": 0.0,
    "lmd/all@256": 0.0,
    "drot/geodesic": 0.0,
    "drot/range": 0.0,
    "dpos/jaw": 0.0,
    "sync/offset": 0.0,
}

# (metric, corruption, sign of what the corruption adds to the metric)
MOVES = (
    ("psnr/rgb", "blurred", -1),
    ("psnr/rgb", "moved", -1),
    ("psnr/rgb", "colours swapped", -1),
    ("psnr/rgb", "video late", -1),
    ("ssim/gauss11", "blurred", -1),
    ("ssim/gauss11", "moved", -1),
    ("ssim/gauss11", "video late", -1),
    ("ssim/skimage7", "blurred", -1),
    ("ssim/skimage7", "moved", -1),
    ("lpips/alex", "blurred", 1),
    ("lpips/alex", "moved", 1),
    ("lpips/alex", "another speaker", 1),
    ("lpips/vgg", "blurred", 1),
    ("lpips/vgg", "another speaker", 1),
    ("fid/inception2048", "blurred", 1),
    ("fid/inception2048", "colours swapped", 1),
    ("fid/inception2048", "another speaker", 1),
    ("cpbd/python", "blurred", -1),
    ("cpbd/python", "noisy", 1),  # what it takes for sharpness: compare with the truth's
    ("psnr/rgb", "noisy", -1),
    ("csim_src/r50", "another speaker", -1),
    ("csim_gt/r50", "another speaker", -1),
    ("lmd/mouth", "video late", 1),
    ("lmd/mouth", "another speaker", 1),
    ("lmd/mouth@256", "video late", 1),
    ("lmd/all", "mirrored", 1),
    ("lmd/all", "another speaker", 1),
    ("lmd/all@256", "mirrored", 1),
    ("drot/geodesic", "mirrored", 1),
    ("drot/geodesic", "trembling", 1),
    ("drot/range", "mirrored", 1),
    ("dpos/jaw", "moved", 1),
    ("dpos/jaw", "trembling", 1),
    ("blinks/fixed", "blinks removed", -1),
    ("blinks/adaptive", "blinks removed", -1),
    ("jitter/rotation", "trembling", 1),
    ("jitter/place", "trembling", 1),
    ("sync/lse_c", "another voice", -1),
    ("sync/lse_d", "another voice", 1),
    ("sync/offset", "video late", 1),
    ("sync/offset", "voice late", -1),
)

# (metric, a corruption that is none of its business, one that is): the second moves it at least five times as far.
IGNORES = (
    ("lmd/mouth", "moved", "another speaker"),
    ("lmd/all", "moved", "another speaker"),
    ("drot/geodesic", "moved", "mirrored"),
    ("drot/range", "colours swapped", "mirrored"),
    ("dpos/jaw", "blurred", "moved"),
    ("jitter/rotation", "moved", "trembling"),
    ("jitter/place", "moved", "trembling"),
    ("csim_src/r50", "moved", "another speaker"),
    ("csim_gt/r50", "moved", "another speaker"),
    ("blinks/fixed", "moved", "blinks removed"),
    ("blinks/adaptive", "blurred", "blinks removed"),
)


def test_the_table_leaves_no_metric_out() -> None:
    assert {metric for metric, _, _ in MOVES} == set(METRICS)
    assert set(PERFECT) <= set(METRICS)


class LoudLips(nnx.Module):
    """A SyncNet whose embeddings of five frames are how bright the lips are, and how loud the voice."""

    def __init__(self, mean: float, deviation: float) -> None:
        self.mean, self.deviation = mean, deviation

    def lips(self, frames: jax.Array) -> jax.Array:
        bright = (frames[:, :, 114:126, 104:120].mean((2, 3, 4)) - 128) / 50
        return jnp.stack([bright[:, i : bright.shape[1] - 4 + i] for i in range(5)], axis=-1)

    def audio(self, cepstra: jax.Array) -> jax.Array:
        loud = cepstra[:, 0].reshape(-1, 5, 4).mean(-1)
        return jnp.clip((loud - self.mean) / self.deviation, -2, 2)


class Clip:
    """The beginning of a real clip, [F, 256, 256, 3], and its sound."""

    def __init__(self, path: Path) -> None:
        frames = [frame for _, (_, frame) in zip(range(FRAMES), read_frames(path), strict=False)]
        small = [Image.fromarray(frame).resize((SIZE, SIZE), Image.Resampling.BOX) for frame in frames]
        self.frames = np.stack([np.asarray(frame) for frame in small])
        self.sound = load_audio(path, SAMPLE_RATE)[: round(FRAMES / FPS * SAMPLE_RATE)]


def moved(frames: np.ndarray) -> np.ndarray:
    return np.pad(frames, ((0, 0), (3, 0), (5, 0), (0, 0)), mode="edge")[:, :SIZE, :SIZE]


def trembling(frames: np.ndarray) -> np.ndarray:
    rng = np.random.default_rng(0)
    pictures = []
    for frame in frames:
        shift = (int(rng.integers(-3, 4)), int(rng.integers(-3, 4)))
        picture = Image.fromarray(frame).rotate(float(rng.normal(0, 2)), Image.Resampling.BILINEAR, translate=shift)
        pictures.append(np.asarray(picture))
    return np.stack(pictures)


def noisy(frames: np.ndarray) -> np.ndarray:
    return np.clip(frames + np.random.default_rng(0).normal(0, 8, frames.shape), 0, 255).astype(np.uint8)


def blurred(frames: np.ndarray) -> np.ndarray:
    return scipy.ndimage.gaussian_filter(frames, (0, 2, 2, 0))


class Laboratory:
    """Measures one metric of one corruption, each at most once, and each picture's face once."""

    def __init__(self, folder: Path, landmarker: Landmarker) -> None:
        self.speaker, self.another = (Clip(folder / "clips" / name) for name in (SPEAKER, ANOTHER))
        self._landmarker = landmarker
        self._known: dict[bytes, tuple[np.ndarray, np.ndarray]] = {}
        points = self.find_faces(self.speaker.frames).points
        self.boxes = np.concatenate([points[:, MOUTH].min(1) - 12, points[:, MOUTH].max(1) + 12], axis=1)
        self.shut = eye_aspect_ratio(points) < 0.24
        rows = mfcc_psf(np.rint(self.speaker.sound * 32768), SAMPLE_RATE, num_cepstra=13)[:, 0]
        self._loud = np.pad(rows, (0, 4 * FRAMES - len(rows)), mode="edge").reshape(FRAMES, 4).mean(1)
        self.value = functools.cache(self._value)
        self._suite = functools.cache(lambda metric: Suite([metric], self.find_faces))

    def find_faces(self, frames: np.ndarray) -> Faces:
        found = [self._face(frame) for frame in frames]
        return Faces(*(np.stack(parts) for parts in zip(*found, strict=True)))

    def _face(self, frame: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        key = frame.tobytes()
        if key not in self._known:
            faces = self._landmarker.faces(frame)
            lost = np.full((68, 2), np.nan), np.full((3, 3), np.nan)
            self._known[key] = (from_mediapipe(faces[0].points)[:, :2], faces[0].rotation) if faces else lost
        return self._known[key]

    def listening(self) -> LoudLips:
        return LoudLips(float(self._loud.mean()), float(self._loud.std()))

    def painted(self, frames: np.ndarray) -> np.ndarray:
        """With lips as bright as the voice is loud."""
        frames = frames.copy()
        levels = 128 + 50 * np.clip((self._loud - self._loud.mean()) / self._loud.std(), -2, 2)
        for frame, (x0, y0, x1, y1), level in zip(frames, self.boxes.astype(int), levels, strict=True):
            frame[y0:y1, x0:x1] = round(float(level))
        return frames

    def open_eyed(self, frames: np.ndarray) -> np.ndarray:
        """The last open-eyed frame in the place of each with shut eyes."""
        return frames[np.maximum.accumulate(np.where(self.shut, 0, np.arange(FRAMES)))]

    def corrupted(self, frames: np.ndarray, corruption: str) -> np.ndarray:
        corruptions: dict[str, Callable[[np.ndarray], np.ndarray]] = {
            "blurred": blurred,
            "noisy": noisy,
            "moved": moved,
            "mirrored": lambda frames: frames[:, :, ::-1].copy(),
            "colours swapped": lambda frames: frames[..., ::-1].copy(),
            "trembling": trembling,
            "video late": lambda frames: frames[np.maximum(0, np.arange(FRAMES) - LATE)],
            "blinks removed": self.open_eyed,
            "another speaker": lambda _: self.another.frames,
        }
        return corruptions.get(corruption, lambda frames: frames)(frames)

    def heard(self, corruption: str) -> np.ndarray:
        if corruption == "another voice":
            return self.another.sound
        if corruption == "voice late":
            late = round(LATE / FPS * SAMPLE_RATE)
            return np.pad(self.speaker.sound, (late, 0))[: len(self.speaker.sound)]
        return self.speaker.sound

    def _value(self, metric: str, corruption: str, region: str = "frame") -> float:
        """The metric of the corrupted clip against the clip itself; `corruption` "" is the clip."""
        speaks = metric.startswith("sync")
        truth = self.painted(self.speaker.frames) if speaks else self.speaker.frames
        frames, kept = self.corrupted(truth, corruption), np.arange(FRAMES)
        if metric.startswith(("psnr", "ssim", "cpbd", "lpips")):  # costly, and one frame tells as much as another
            side = slice(None, None, 4 if metric.startswith("lpips") else 1)
            kept = kept[::5]
            truth, frames = truth[kept][:, side, side], frames[kept][:, side, side]
        real = Pictures(truth, self.find_faces)
        material = Material(
            image=Pictures(frames, self.find_faces) if corruption else real,
            truth=real,
            boxes={"frame": None, "mouth": self.boxes[kept]},
            times=kept / FPS,
            fps=FPS,
            sound=(self.heard(corruption), SAMPLE_RATE),
            source=Pictures(self.speaker.frames[:8], self.find_faces),
        )
        values, skipped = self._suite(metric).measure(material)
        assert not skipped, skipped
        found = values[metric][region]
        distance = METRICS[metric].distance
        if distance is not None:
            other, _ = self._suite(metric).measure(Material(real, real, material.boxes, material.times, FPS))
            return distance(found, other[metric][region])
        assert np.isfinite(found).all()
        return float(found.mean())


def thumbnails(frames: np.ndarray) -> np.ndarray:
    """Frames at 8 x 8 pixels, [F, 192]: stands for Inception's features."""
    side = SIZE // 8
    return frames.reshape(len(frames), 8, side, 8, side, 3).mean((2, 4)).reshape(len(frames), -1) / 255


def drawn(network: nnx.Module, low: Callable[[str], float]) -> None:
    """Gives a network (of `nnx.eval_shape`) parameters between `low` of their name and 0.5."""
    shapes = shapes_of(network)
    put(network, {path: uniform(path, shape, low(path), 0.5) for path, shape in shapes.items()}, "test")


def drawn_lpips(net: str) -> LpipsMetric:
    network = nnx.eval_shape(lambda: Lpips(net, rngs=nnx.Rngs(0)))
    drawn(network, lambda path: 0.0 if path.startswith("heads") else -0.5)
    return LpipsMetric(network, net)


def small_arcface(laboratory: Laboratory) -> IResNet:
    """A narrow network of drawn weights. Its embeddings are centred on the clips', which training
    does: otherwise all of them point the same way."""
    network = nnx.eval_shape(lambda: IResNet((1, 1, 1, 1), divisor=16, rngs=nnx.Rngs(0)))
    drawn(network, lambda path: 0.1 if path.endswith("var") else -0.5)
    frames = np.concatenate([clip.frames[::4] for clip in (laboratory.speaker, laboratory.another)])
    found = embeddings(frames, laboratory.find_faces(frames).points, network)
    network.features.bias[...] -= found.mean(0)
    return nnx.clone(network)  # another network: what has been compiled keeps its parameters


@pytest.fixture(scope="module")
def laboratory(real_data: Path) -> Iterator[Laboratory]:
    if not (real_data / "models" / "face_landmarker.task").is_file():
        pytest.skip("no models/face_landmarker.task in the folder of real clips")
    pytest.importorskip("mediapipe")
    landmarker = Landmarker(real_data / "models" / "face_landmarker.task")
    with landmarker, pytest.MonkeyPatch.context() as patch:  # unclosed, it may hang where it is collected
        laboratory = Laboratory(real_data, landmarker)
        patch.setattr(measures, "load_lpips", drawn_lpips)
        patch.setattr(measures, "load_fid_features", lambda: thumbnails)
        patch.setattr(measures, "_arcface", functools.cache(lambda: small_arcface(laboratory)))
        patch.setattr(measures, "_syncnet", functools.cache(laboratory.listening))
        yield laboratory


@pytest.mark.parametrize(("metric", "best"), PERFECT.items(), ids=str)
def test_a_clip_is_perfect_against_itself(laboratory: Laboratory, metric: str, best: float) -> None:
    assert laboratory.value(metric, "") == pytest.approx(best, abs=ALMOST)


@pytest.mark.parametrize(("metric", "corruption", "sign"), MOVES)
def test_a_corruption_moves_the_metric(laboratory: Laboratory, metric: str, corruption: str, sign: int) -> None:
    change = laboratory.value(metric, corruption) - laboratory.value(metric, "")
    assert sign * change > 1e-3 * abs(laboratory.value(metric, "")) + ALMOST


@pytest.mark.parametrize(("metric", "foreign", "own"), IGNORES)
def test_a_metric_minds_its_own_business(laboratory: Laboratory, metric: str, foreign: str, own: str) -> None:
    changes = [abs(laboratory.value(metric, name) - laboratory.value(metric, "")) for name in (foreign, own)]
    assert 5 * changes[0] < changes[1]


@pytest.mark.parametrize(("corruption", "frames"), [("video late", LATE), ("voice late", -LATE)])
def test_the_offset_is_what_was_done(laboratory: Laboratory, corruption: str, frames: int) -> None:
    assert laboratory.value("sync/offset", corruption) == frames


def test_a_late_video_costs_the_mouth_more_than_the_frame(laboratory: Laboratory) -> None:
    mouth, frame = (laboratory.value("psnr/rgb", "video late", region) for region in ("mouth", "frame"))
    assert mouth < frame - 1


def test_blurring_moves_landmarks_little(laboratory: Laboratory) -> None:
    blurred, late = (laboratory.value("lmd/mouth", name) for name in ("blurred", "video late"))
    assert 0 < blurred < 0.7 * late
