"""Heat maps: shares below the nose, what is drawn, and systems that have none."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from jaxtalk.clip import ClipView
from jaxtalk.errors import JaxtalkError
from jaxtalk.evaluation import heat_maps
from jaxtalk.methods.api import Drive
from jaxtalk.methods.s3d_nerf.avatar import S3DAvatar, avatar_of
from jaxtalk.methods.s3d_nerf.frames import person_of
from jaxtalk.methods.s3d_nerf.networks import generator
from tests.few_shot_case import compile_quickly, made
from tests.s3d_case import ball, settings

__all__ = ["compile_quickly"]


def _landmarks() -> np.ndarray:
    """A square face over a picture of 32 pixels, with its nose at two thirds of its height."""
    points = np.full((68, 2), [16.0, 16.0])
    points[0], points[16], points[4], points[12] = [4, 8], [28, 8], [4, 28], [28, 28]
    points[8], points[17:27] = [16, 28], [16, 8]
    points[33] = [16, 20]
    return points


def test_even_heat_has_the_share_of_the_area_and_heat_at_the_mouth_more() -> None:
    heat = np.ones((16, 16))
    found = heat_maps.measured(heat, _landmarks(), (32, 32))
    assert found["heat_below_nose"] == pytest.approx(found["area_below_nose"], abs=1e-6)
    assert 0.2 < found["area_below_nose"] < 0.5
    heat[12] = 100.0
    assert heat_maps.measured(heat, _landmarks(), (32, 32))["heat_below_nose"] > 0.9
    heat = np.ones((16, 16))
    assert found["heat_in_face"] == pytest.approx(found["area_in_face"], abs=1e-6)
    heat[:, 0] = 1e6  # beside the face: does not count below the nose
    beside = heat_maps.measured(heat, _landmarks(), (32, 32))
    assert heat_maps.measured(0 * heat, _landmarks(), (32, 32))["heat_below_nose"] == 0  # nobody listens
    assert beside["heat_below_nose"] == found["heat_below_nose"] and beside["heat_in_face"] < 1e-4


def test_the_hottest_place_is_the_brightest(tmp_path: Path) -> None:
    heat = np.zeros((4, 4))
    heat[3, 1] = 1
    heat_maps.draw(np.full((8, 8, 3), 100, np.uint8), heat, tmp_path / "map.png")
    image = np.asarray(Image.open(tmp_path / "map.png")).astype(int)
    assert image.shape == (32, 64, 3) and (image[:, :32] == 100).all()
    row, column = np.unravel_index(image[:, 32:, 0].argmax(), (32, 32))
    assert row >= 24 and 8 <= column < 16


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> ClipView:
    return ball(tmp_path_factory.mktemp("clips") / "ball", seconds=1.0)


def _avatar(clip: ClipView, arg: str = "tiny") -> S3DAvatar:
    config = settings(arg)
    return avatar_of(config, made(lambda key: generator(config, key)), clip)


def _drive(clip: ClipView, windows: np.ndarray) -> Drive:
    track = clip.track.take(np.arange(len(windows)))
    return Drive(windows, track.rotation, track.translation, track.eye_openness)


def test_heat_is_what_changes_with_speech(clip: ClipView) -> None:
    avatar = _avatar(clip)
    feature = avatar.config.feature
    random = np.random.default_rng(0)
    windows = random.normal(size=(3, feature.window, feature.num_channels)).astype(np.float32)
    heat = avatar.heat(_drive(clip, windows))
    assert heat.shape == (4, 4) and heat.min() > 0 and heat.std() > 0
    assert avatar.heat(_drive(clip, np.repeat(windows[:1], 3, 0))).max() < 1e-5
    with pytest.raises(JaxtalkError, match=r"deform\.kind=nd"):
        _avatar(clip, "tiny,deform=nd").heat(_drive(clip, windows))


def test_a_clip_s_map_is_of_its_first_measured_frame(clip: ClipView, monkeypatch: pytest.MonkeyPatch) -> None:
    fitted: list[Any] = []

    def fit(run: Any, source: ClipView) -> S3DAvatar:
        fitted.append(person_of(source).picture)
        return _avatar(source)

    method = SimpleNamespace(fit=fit, audio_feature=lambda config: settings().feature)
    monkeypatch.setattr(heat_maps, "load_method", lambda name: method)
    run: Any = SimpleNamespace(config=SimpleNamespace(method="s3d_nerf"), workdir=Path("runs/s3d"))
    heat, source = heat_maps.heat_of(run, clip)
    assert heat.shape == (4, 4) and source.meta.num_frames == 1 and len(fitted) == 1
    np.testing.assert_array_equal(fitted[0], clip.frame(0))
    method.fit = lambda run, source: SimpleNamespace()
    with pytest.raises(JaxtalkError, match="hear nothing"):
        heat_maps.heat_of(run, clip)
