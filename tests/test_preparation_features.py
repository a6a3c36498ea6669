"""Features of speech kept in clips: the network's own, made once, at the right times, whole or not at all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from flax import nnx

from jaxtalk import cli
from jaxtalk.audio import FeatureSpec, clip_windows, wav2vec2
from jaxtalk.clip import Clip
from jaxtalk.datasets import Manifest, pack
from jaxtalk.datasets.prepared import prepare_dataset, write_manifest
from jaxtalk.errors import JaxtalkError
from jaxtalk.nn.pretrained.wav2vec2 import Wav2Vec2, Wav2Vec2Config, token_count
from jaxtalk.preparation import features
from jaxtalk.preparation.corpora import run
from jaxtalk.preparation.corpora.corpus import Corpus, Item
from jaxtalk.preparation.importers.sources import import_clip
from jaxtalk.preparation.job import PrepareOptions
from jaxtalk.preparation.prepare import prepare_clip
from jaxtalk.weights import WeightsAbsent
from jaxtalk.weights.convert import shapes_of
from jaxtalk.weights.converted import put
from tests.fake_clip import write_fake_clip
from tests.goldens.drawn import uniform

SPEC = FeatureSpec("wav2vec2")


@pytest.fixture(scope="module")
def small() -> Wav2Vec2:
    """768 channels as the published one, little else."""
    config = Wav2Vec2Config(8, 768, 8, heads=2, layers=1, position_groups=16)
    network = nnx.eval_shape(lambda: Wav2Vec2(config, rngs=nnx.Rngs(0)))
    put(network, {path: uniform(path, shape, -0.3, 0.4) for path, shape in shapes_of(network).items()}, "test")
    return network


@pytest.fixture
def network(small: Wav2Vec2, monkeypatch: pytest.MonkeyPatch) -> Wav2Vec2:
    monkeypatch.setattr(wav2vec2.weights, "find", lambda name: {"wav2vec2_base": Path("there")}[name])
    monkeypatch.setattr(wav2vec2, "_published", {"there": small}.get)
    return small


@pytest.fixture
def no_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JAXTALK_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def clips(tmp_path: Path) -> list[Clip]:
    people = ("ann", "ben", "cara")
    return [
        write_fake_clip(tmp_path / "clips" / name, seconds=0.4, seed=i, identity=name) for i, name in enumerate(people)
    ]


def _file(clip: Clip) -> Path:
    return clip.path / "features" / "wav2vec2.npy"


def _prepare(*words: str) -> Any:
    return CliRunner().invoke(cli.main, ["prepare", *words], prog_name="jaxtalk")


# --- what is kept


def test_what_is_kept_is_the_networks_of_the_whole_sound(clips: list[Clip], network: Wav2Vec2) -> None:
    computed = clip_windows(SPEC, clips[0])
    assert features.add_features(clips, ["wav2vec2"]) == 3
    stored = clips[0].feature("wav2vec2")
    assert stored is not None and stored.shape == (19, 768) and stored.dtype == np.float32  # 6400 samples
    np.testing.assert_array_equal(stored, wav2vec2.tokens(clips[0].audio(), 16000, network))
    other = np.load(_file(clips[1]))  # each of its own sound
    np.testing.assert_array_equal(other, wav2vec2.tokens(clips[1].audio(), 16000, network))
    assert (other != stored).mean() > 0.9
    np.testing.assert_array_equal(clip_windows(SPEC, clips[0]), computed)
    clips[0].validate(decode=True)


@pytest.mark.parametrize(("samples", "tokens"), [(3200, 9), (3280, 10), (6400, 19), (6480, 20), (640 * 25, 49)])
def test_as_many_tokens_as_the_sound_has(samples: int, tokens: int, network: Wav2Vec2) -> None:
    """640 N samples give 2 N - 1 tokens, 80 more 2 N (card s3d_nerf, trap 3)."""
    sound = np.random.default_rng(0).normal(size=samples).astype(np.float32)
    assert token_count(samples) == tokens == len(wav2vec2.tokens(sound, 16000))


@pytest.mark.parametrize("missing", [0, 1])
def test_windows_stand_right_at_both_ends(missing: int) -> None:
    """N frames of 640 samples, as 2 N tokens (padded) or 2 N - 1: alike but where the last token itself is heard."""
    frames = 10
    values = np.arange(2 * frames - missing, dtype=np.float32)[:, None]
    windows = wav2vec2.token_windows(values, np.arange(frames) / 25, 16, 50.0)[..., 0]
    # Frame i stands at 40 i ms, token k at 20 k + 12.47 ms: rows 7 and 8, 10 ms before and after, lie at 2 i - 1.123
    # and 2 i - 0.123 in tokens.
    rows = 2 * np.arange(frames)[:, None] + np.arange(-7.5, 8) - (399 / 2) / 320
    np.testing.assert_allclose(windows, np.clip(rows, 0, len(values) - 1), atol=1e-4)
    assert windows[0, :8].tolist() == [0] * 8 and windows[0, 9] == pytest.approx(0.877, abs=1e-3)
    assert windows[-1, 8] == pytest.approx(17.877, abs=1e-3)  # heard by the last frame's middle with either count
    assert windows[-1, -1] == len(values) - 1


# --- made once


def test_what_is_there_and_fits_stays(clips: list[Clip], network: Wav2Vec2, capsys: pytest.CaptureFixture[str]) -> None:
    _file(clips[0]).parent.mkdir()
    own = np.random.default_rng(1).normal(size=(20, 768)).astype(np.float16)  # of the user's own making, padded
    np.save(_file(clips[0]), own)
    assert features.add_features(clips, ["wav2vec2", "wav2vec2"]) == 2
    np.testing.assert_array_equal(np.load(_file(clips[0])), own)
    times = [_file(clip).stat().st_mtime_ns for clip in clips]
    assert features.add_features(clips, ["wav2vec2"]) == 0
    assert times == [_file(clip).stat().st_mtime_ns for clip in clips]
    _file(clips[1]).unlink()
    assert features.add_features(clips, ["wav2vec2"]) == 1
    assert "made again" not in capsys.readouterr().err


@pytest.mark.parametrize("damage", ["cut", "short", "shape", "nan"])
def test_what_does_not_fit_is_made_again(
    clips: list[Clip], network: Wav2Vec2, damage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    features.add_features(clips[:1], ["wav2vec2"])
    path, good = _file(clips[0]), np.load(_file(clips[0]))
    bad = {"short": good[:3], "shape": good[:, :5], "nan": np.full_like(good, np.nan)}
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:5000])
    else:
        np.save(path, bad[damage])
    assert features.add_features(clips[:1], ["wav2vec2"]) == 1
    np.testing.assert_array_equal(np.load(path), good)
    assert "made again" in capsys.readouterr().err


def test_an_interrupted_call_leaves_whole_files(
    clips: list[Clip], network: Wav2Vec2, monkeypatch: pytest.MonkeyPatch
) -> None:
    save, calls = np.save, []

    def full(file: Any, array: np.ndarray) -> None:
        calls.append(1)
        if len(calls) == 2:
            file.write(b"half")
            raise OSError(28, "No space left on device")
        save(file, array)

    monkeypatch.setattr(features.np, "save", full)
    with pytest.raises(OSError, match="No space"):
        features.add_features(clips, ["wav2vec2"])
    assert [_file(clip).is_file() for clip in clips] == [True, False, False]
    assert features.add_features(clips, ["wav2vec2"]) == 2
    assert all(sorted(path.name for path in _file(clip).parent.iterdir()) == ["wav2vec2.npy"] for clip in clips)


# --- what is missing is said first


def test_without_weights_it_says_how_to_get_them(clips: list[Clip], no_weights: None) -> None:
    folders = [str(clip.path) for clip in clips]
    result = _prepare("--features", "wav2vec2", *folders)
    assert result.exit_code == 2 and result.stderr.count("\n") == 1
    assert "jaxtalk weights get wav2vec2_base" in result.stderr and "Apache-2.0" in result.stderr
    assert not any(_file(clip).parent.exists() for clip in clips)
    for clip in clips:  # nothing is computed where all is there
        _file(clip).parent.mkdir()
        np.save(_file(clip), np.zeros((20, 768), np.float32))
    assert _prepare("--features", "wav2vec2", *folders).exit_code == 0


def test_weights_are_missed_before_any_work(tmp_path: Path, no_weights: None, monkeypatch: pytest.MonkeyPatch) -> None:
    options = PrepareOptions(features=("wav2vec2",))
    monkeypatch.setattr("jaxtalk.preparation.prepare._run", lambda job: pytest.fail("work was done"))
    monkeypatch.setattr(run, "_run", lambda *_: pytest.fail("work was done"))
    with pytest.raises(WeightsAbsent, match="wav2vec2_base"):
        prepare_clip(tmp_path / "talk.mp4", tmp_path / "out", options)
    with pytest.raises(WeightsAbsent, match="wav2vec2_base"):
        import_clip("ad_nerf", tmp_path, tmp_path / "out", options)
    corpus = Corpus("folder", (Item("a", tmp_path / "a.mp4", "a"),))
    with pytest.raises(WeightsAbsent, match="wav2vec2_base"):
        run.prepare_corpus(corpus, tmp_path / "out", options)
    assert not (tmp_path / "out").exists()
    with pytest.raises(JaxtalkError, match="not one that can be stored"):
        features.check_ready([tmp_path], ["deepspeech"])


# --- by the command, and of collections


def test_the_command_adds_to_clips_and_their_manifest(clips: list[Clip], network: Wav2Vec2, tmp_path: Path) -> None:
    folder = clips[0].path.parent
    write_manifest(folder, ["cara"])
    result = _prepare("--features", "wav2vec2", *map(str, sorted(folder.iterdir())))
    assert result.exit_code == 0 and "3 of 3 features made" in result.output
    manifest = Manifest.load(folder / "manifest.json")
    assert manifest.clips["cara"].split == "test"
    pack([clip.path for clip in clips], tmp_path / "packed", manifest)  # which checks every clip's hash
    result = _prepare("--features", "wav2vec2", *map(str, sorted(folder.iterdir())))
    assert result.exit_code == 0 and "0 of 3 features made" in result.output
    result = _prepare("--features", "wav2vec2", str(tmp_path / "nowhere"))
    assert result.exit_code == 2 and "no clip here" in result.stderr


def test_a_collection_gets_them_in_one_call(tmp_path: Path, network: Wav2Vec2, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not in the processes, and before the manifest takes the clips' hashes."""

    def one_by_one(function: Any, tasks: Any, *_: Any) -> Any:
        for index, (item, out, options) in enumerate(tasks):
            assert options.features == ()
            if item.name == "bad":
                yield index, run.Result(item.name, str(item.video), item.identity, "no face")
                continue
            write_fake_clip(out / item.name, seconds=0.2, identity=item.identity)
            yield index, run.Result(item.name, str(item.video), item.identity)

    monkeypatch.setattr(run, "in_processes", one_by_one)
    monkeypatch.setattr(run, "_with_models", lambda options: options)
    items = tuple(Item(name, tmp_path / f"{name}.mp4", name) for name in ("ann", "bad", "ben"))
    out = tmp_path / "out"
    prepare_dataset(Corpus("folder", items), out, PrepareOptions(features=("wav2vec2",)), 1)
    found = [Clip.open(out / name) for name in ("ann", "ben")]
    assert all(_file(clip).is_file() for clip in found)
    pack([clip.path for clip in found], tmp_path / "packed", Manifest.load(out / "manifest.json"))


def test_a_clip_that_is_there_gets_what_it_lacks(
    clips: list[Clip], network: Wav2Vec2, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jaxtalk.preparation.prepare.Job.of", lambda *_: None)
    monkeypatch.setattr("jaxtalk.preparation.prepare._already_there", lambda *_: True)
    clip = prepare_clip("talk.mp4", clips[0].path, PrepareOptions(features=("wav2vec2",)))
    assert clip.feature("wav2vec2") is not None
