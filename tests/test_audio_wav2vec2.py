"""The feature wav2vec2: whole recordings, at the right times, from the network or from a file of the user's."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from flax import nnx

from jaxtalk.audio import FeatureSpec, audio_windows, clip_windows, load_stored, wav2vec2
from jaxtalk.clip import Clip
from jaxtalk.errors import JaxtalkError
from jaxtalk.nn.pretrained.wav2vec2 import Wav2Vec2, Wav2Vec2Config
from jaxtalk.weights import WeightsAbsent
from jaxtalk.weights.convert import shapes_of
from jaxtalk.weights.converted import put
from tests.goldens.drawn import uniform

RATE = 16000
SPEC = FeatureSpec("wav2vec2")


@pytest.fixture(scope="module")
def network() -> Wav2Vec2:
    """A small one, of any weights."""
    config = Wav2Vec2Config(16, 24, 32, heads=2, layers=1, position_groups=2)
    small = nnx.eval_shape(lambda: Wav2Vec2(config, rngs=nnx.Rngs(0)))
    put(small, {path: uniform(path, shape, -0.3, 0.4) for path, shape in shapes_of(small).items()}, "test")
    return small


@pytest.fixture
def no_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JAXTALK_CACHE", str(tmp_path))


def _noise(seconds: float, seed: int = 0) -> np.ndarray:
    return 0.1 * np.random.default_rng(seed).normal(size=round(seconds * RATE)).astype(np.float32)


def test_tokens_are_the_networks_of_normalised_sound(network: Wav2Vec2) -> None:
    sound = 3 + _noise(1.3)
    normal = (sound - sound.mean()) / sound.std()
    expected = nnx.jit(lambda network, sound: network(sound))(network, normal[None])[0]
    values = wav2vec2.tokens(sound, RATE, network)
    assert values.shape == (64, 24) and values.dtype == np.float32  # (20800 - 400) // 320 + 1
    np.testing.assert_allclose(values, expected, atol=2e-5)
    # Neither loudness nor an offset is heard.
    np.testing.assert_allclose(wav2vec2.tokens(5 * sound - 2, RATE, network), values, atol=1e-3)


def test_tokens_depend_on_the_whole_recording(network: Wav2Vec2) -> None:
    sound = _noise(2.0)
    longer = np.concatenate([sound, 9 * _noise(1.0, 1)])
    early = [wav2vec2.tokens(part, RATE, network)[:30] for part in (sound, longer)]
    assert np.abs(early[0] - early[1]).max(1).min() > 1e-3
    assert not SPEC.local and FeatureSpec("mfcc").local


def test_long_recordings_go_in_pieces(network: Wav2Vec2, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pieces of 2 s whose outer 0.4 s are their neighbours': each token stands where its own sound is."""
    sound = _noise(5.1)
    whole = wav2vec2.tokens(sound, RATE, network)
    monkeypatch.setattr(wav2vec2, "_PIECE", 2 * RATE)
    monkeypatch.setattr(wav2vec2, "_CONTEXT", 20 * 320)
    values, normal = wav2vec2.tokens(sound, RATE, network), wav2vec2._normalised(sound)
    assert values.shape == whole.shape
    starts = [0, 60 * 320, 120 * 320, 180 * 320]  # 2 s less twice 0.4 s apart; the fourth piece reaches the end
    pieces = [wav2vec2._run(network, normal[start : start + 2 * RATE]) for start in starts]
    assert [len(piece) for piece in pieces] == [99, 99, 99, 74]
    for first, end, piece in ((0, 80, 0), (80, 140, 1), (140, 200, 2), (200, 254, 3)):
        offset = starts[piece] // 320
        np.testing.assert_allclose(values[first:end], pieces[piece][first - offset : end - offset], atol=1e-5)


@pytest.mark.parametrize("samples", [0, 10, 399, 400, 64000, 64001])
def test_any_length_has_tokens(samples: int, network: Wav2Vec2) -> None:
    values = wav2vec2.tokens(_noise(4.1)[:samples], RATE, network)
    assert len(values) == max(0, samples - 400) // 320 + 1 and np.isfinite(values).all()
    assert np.isfinite(wav2vec2.tokens(np.zeros(max(samples, 1), np.float32), RATE, network)).all()


def test_pieces_cover_every_length(network: Wav2Vec2, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever remains for the last piece, no token is left out: a ramp comes back as a ramp."""
    monkeypatch.setattr(wav2vec2, "_PIECE", 32000)
    monkeypatch.setattr(wav2vec2, "_CONTEXT", 6400)
    monkeypatch.setattr(wav2vec2, "_normalised", lambda samples: samples)

    def middles(_: Wav2Vec2, piece: np.ndarray, size: int | None = None) -> np.ndarray:
        assert size is None or len(piece) <= size
        return piece[: 320 * ((len(piece) - 400) // 320) + 1 : 320, None]

    monkeypatch.setattr(wav2vec2, "_run", middles)
    for samples in (32000, 32001, 44800, 44801, 45000, 51199, 51200, 51201, 70000, 70001):
        ramp = np.arange(samples, dtype=np.float32)
        expected = np.arange(0, samples - 399, 320)
        np.testing.assert_array_equal(wav2vec2.tokens(ramp, RATE, network)[:, 0], expected, str(samples))


def test_windows_are_placed_by_time() -> None:
    """Tokens that are their own times come back as the times of the rows, where there are tokens."""
    middles = (np.arange(100) * 320 + 199.5) / RATE
    values = np.repeat(middles[:, None], 3, 1).astype(np.float32)
    times = np.array([0.5, 0.04, 1.0, 1.2345, -3.0, 50.0])
    windows = wav2vec2.token_windows(values, times, 16, 50.0)
    rows = times[:, None] + (np.arange(16) - 7.5) / 50
    np.testing.assert_allclose(windows[..., 1], np.clip(rows, middles[0], middles[-1]), atol=1e-6)
    assert windows.shape == (6, 16, 3) and windows.dtype == np.float32
    single = wav2vec2.token_windows(values[:1], times, 2, 25.0)
    np.testing.assert_allclose(single, middles[0])


def test_a_click_is_found_where_it_is() -> None:
    """A token is heard most at its middle, and not at all from its neighbours' on."""
    values = np.zeros((100, 1), np.float32)
    values[50] = 1  # samples 16000 .. 16399, middle 1.01247 s
    times = np.arange(0.9, 1.1, 0.0001)
    heard = wav2vec2.token_windows(values, times, 1, 50.0)[:, 0, 0]
    assert times[heard.argmax()] == pytest.approx(1.01247, abs=1e-4)
    assert np.ptp(times[heard > 0]) == pytest.approx(0.04, abs=3e-4)


def test_a_stored_file_is_used(fake_clip: Clip, no_weights: None, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(WeightsAbsent, match=r"clip ball: .*wav2vec2_base.*features/wav2vec2\.npy"):
        clip_windows(SPEC, fake_clip)
    stored = np.random.default_rng(0).normal(size=(100, 768))
    monkeypatch.setattr(fake_clip, "feature", {"wav2vec2": stored}.get)
    windows = clip_windows(SPEC, fake_clip)
    assert windows.shape == (50, 16, 768) and windows.dtype == np.float32
    expected = wav2vec2.token_windows(stored.astype(np.float32), fake_clip.track.time, 16, 50.0)
    np.testing.assert_array_equal(windows, expected)


def test_the_network_is_used_where_nothing_is_stored(network: Wav2Vec2, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wav2vec2.weights, "find", lambda name: {"wav2vec2_base": Path("there")}[name])
    monkeypatch.setattr(wav2vec2, "_published", {"there": network}.get)
    sound, times = _noise(1.0), np.array([0.3, 0.7])
    windows = audio_windows(SPEC, sound, RATE, times)
    expected = wav2vec2.token_windows(wav2vec2.tokens(sound, RATE, network), times, 16, 50.0)
    np.testing.assert_array_equal(windows, expected)


def test_damaged_files_name_the_mend(tmp_path: Path) -> None:
    path = tmp_path / "wav2vec2.npy"
    np.save(path, np.zeros((10, 16, 29)))
    with pytest.raises(JaxtalkError, match=r"wav2vec2\.npy: shape \(10, 16, 29\), expected \(tokens, 768\), 50 tokens"):
        load_stored(path, SPEC)
    np.save(path, np.full((10, 768), np.inf))
    with pytest.raises(JaxtalkError, match="not finite"):
        load_stored(path, SPEC)
    np.save(path, np.ones((10, 768)))
    stored = load_stored(path, SPEC)
    nothing = np.zeros(0, np.float32)
    assert audio_windows(SPEC, nothing, RATE, np.array([0.0, 0.35]), stored).shape == (2, 16, 768)
    with pytest.raises(JaxtalkError, match=r"10 tokens, 50 a second, are too few for a frame at 0\.50 s"):
        audio_windows(SPEC, nothing, RATE, np.array([0.5]), stored)


def test_the_feature_has_768_channels() -> None:
    assert (SPEC.num_channels, SPEC.window, SPEC.rate) == (768, 16, 50)
    assert FeatureSpec("wav2vec2", window=2, rate=25.0).window == 2
    with pytest.raises(JaxtalkError, match="768 channels, not 29"):
        FeatureSpec("wav2vec2", num_channels=29)
