"""The stage `sync` of S3D-NeRF: its examples, what it learns, what it refuses, and how it is measured."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from jaxtalk.audio.wav2lip_mel import mel_windows
from jaxtalk.clip import Clip, ClipView
from jaxtalk.errors import JaxtalkError
from jaxtalk.evaluation import sync_offsets
from jaxtalk.input.views import DerivedView
from jaxtalk.methods.s3d_nerf.sync_augment import vary_boxes, vary_crops, vary_mel
from jaxtalk.methods.s3d_nerf.sync_config import SyncAugmentConfig, SyncNetConfig, SyncStageConfig
from jaxtalk.methods.s3d_nerf.sync_examples import SyncExamples, lip_shapes, mel_columns
from jaxtalk.methods.s3d_nerf.sync_judging import embed_clip
from jaxtalk.methods.s3d_nerf.sync_stage import SyncStage, comparable, optimizer, sync_networks
from jaxtalk.metrics.offset_plot import draw_offsets
from jaxtalk.metrics.sync_windows import mean_and_error, offset_curve, peak_offset, told_apart
from jaxtalk.nn.sync_network import SyncNetwork
from jaxtalk.ops.crops import lip_crops
from jaxtalk.training.state import Modules
from jaxtalk.training.step import make_plan, reduce_term
from jaxtalk.weights import WeightsAbsent
from tests.fake_clip import write_fake_clip
from tests.few_shot_case import batch_of, compile_quickly  # noqa: F401

NET = SyncNetConfig(divisor=32, least_width=8, lip_size=(24, 48), motion_gain=4.0)
SETTINGS = SyncStageConfig(steps=10, batch_size=4, windows=3, learning_rate=2e-3)


class Trimmed(DerivedView):
    """A clip's frames `index`."""

    def __init__(self, clip: ClipView, index: np.ndarray, **meta: object) -> None:
        super().__init__(clip)
        self._index = index
        self.meta = dataclasses.replace(clip.meta, num_frames=len(index), **meta)  # type: ignore[arg-type]
        self.track = clip.track.take(index)

    def frame(self, index: int) -> np.ndarray:
        return self._view.frame(int(self._index[index]))

    def mask(self, index: int) -> np.ndarray:
        return self._view.mask(int(self._index[index]))


@pytest.fixture(scope="module")
def balls(tmp_path_factory: pytest.TempPathFactory) -> list[Clip]:
    """Two talking balls of 1.6 seconds."""
    folder = tmp_path_factory.mktemp("sync")
    return [write_fake_clip(folder / f"ball{i}", seconds=1.6, seed=i, identity=f"ball{i}") for i in range(2)]


def stage(net: SyncNetConfig = NET, **settings: object) -> SyncStage:
    return SyncStage(net, dataclasses.replace(SETTINGS, **settings), (32, 32))  # type: ignore[arg-type]


def test_an_example_is_what_its_spec_says(balls: list[Clip]) -> None:
    examples = stage().examples(balls, 0)
    spec = stage().example_spec()
    assert mel_columns(5) == 16 and spec["frames"].shape == (3, 5, 32, 32, 3) and spec["mel"].shape == (3, 80, 16)
    for index in (0, 7, 12345678):
        example = examples[index]
        assert {n: (a.shape, a.dtype) for n, a in example.items()} == {n: (s.shape, s.dtype) for n, s in spec.items()}
        again = stage().examples(balls, 0)[index]
        assert all(np.array_equal(array, again[name]) for name, array in example.items())


def test_windows_hold_frames_and_sound_of_one_place(balls: list[Clip]) -> None:
    example = SyncExamples(SETTINGS, 5, balls)(50, np.random.default_rng(0))
    for window in range(3):
        clip, start = balls[int(example["clip"][window])], round(float(example["time"][window]) * 25)
        for frame in range(5):
            np.testing.assert_array_equal(example["frames"][window, frame], clip.frame(start + frame))
        np.testing.assert_allclose(example["boxes"][window], clip.track.face_box[start : start + 5], rtol=1e-6)
        mel = mel_windows(clip.audio(), 16000, np.array([start / 25]))[0]
        np.testing.assert_array_equal(example["mel"][window], mel)


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_negatives_are_far_or_of_others(balls: list[Clip], share: float) -> None:
    settings = dataclasses.replace(SETTINGS, windows=2, share_other=share, min_shift=7)
    examples = SyncExamples(settings, 5, balls)
    drawn = [examples(i % len(examples.places), np.random.default_rng(i)) for i in range(200)]
    others = [example["clip"][0] != example["clip"][1] for example in drawn]
    assert abs(np.mean(others) - share) < 0.12
    shifts = [
        round(abs(float(np.diff(e["time"])[0])) * 25) for e, other in zip(drawn, others, strict=True) if not other
    ]
    if share < 1:
        assert min(shifts) == 7 and max(shifts) > 20


def test_short_clips_borrow_negatives_and_none_is_refused(balls: list[Clip]) -> None:
    short = Trimmed(balls[0], np.arange(7))
    example = SyncExamples(dataclasses.replace(SETTINGS, share_other=0.0), 5, [short, balls[1]])(
        1, np.random.default_rng(0)
    )
    assert example["clip"].tolist() == [0, 1, 1]
    with pytest.raises(JaxtalkError, match="too short to hold two windows 5 frames apart"):
        SyncExamples(SETTINGS, 5, [short])
    with pytest.raises(JaxtalkError, match="no 5 consecutive frames"):
        SyncExamples(SETTINGS, 5, [Trimmed(balls[0], np.arange(4)), balls[1]])
    with pytest.raises(JaxtalkError, match="30 frames a second"):
        SyncExamples(SETTINGS, 5, [Trimmed(balls[0], np.arange(20), fps=30.0)])


def test_lip_shapes_follow_the_mouth_whatever_the_face() -> None:
    """The opening of a face that comes nearer and turns in the picture; deviations from the clip's mean."""
    opening = np.sin(np.arange(30)) + 1
    points = np.random.default_rng(0).normal(size=(1, 68, 2)).repeat(30, 0)
    points[:, 36:42], points[:, 42:48] = [-1, 0], [1, 0]
    points[:, 62], points[:, 66] = [0, 2], np.stack([0 * opening, 2 + opening], -1)
    turn = np.array([[0.8, 0.6], [-0.6, 0.8]])
    placed = points @ turn * np.linspace(3, 9, 30)[:, None, None] + 50
    for landmarks in (points, placed):
        shapes = lip_shapes(SimpleNamespace(track=SimpleNamespace(landmarks=landmarks)))  # type: ignore[arg-type]
        np.testing.assert_allclose(shapes[:, 0], (opening - opening.mean()) / opening.std(), atol=1e-4)
        np.testing.assert_allclose(shapes[:, 1:], 0, atol=1e-4)


def test_comparable_is_far_or_of_another_clip() -> None:
    clip, time = jnp.array([0, 0, 0, 1]), jnp.array([1.0, 1.16, 1.2, 1.0])
    expected = [[0, 0, 1, 1], [0, 0, 0, 1], [1, 0, 0, 1], [1, 1, 1, 0]]
    np.testing.assert_array_equal(comparable(clip, time, 5), np.array(expected, bool))


def test_triplet_term_is_equation_7_written_out(balls: list[Clip]) -> None:
    """Without augmentation the term equals hinges worked out from the embeddings of each window."""
    own = stage(margin=0.4)
    batch = batch_of(own.examples(balls, 0), 0, 4)
    networks = own.networks(jax.random.key(0))
    network = nnx.clone(networks["sync"])
    assert isinstance(network, SyncNetwork)

    @nnx.jit
    def losses(network: SyncNetwork, batch: dict[str, jax.Array]) -> tuple[jax.Array, dict[str, jax.Array]]:
        terms, scalars = own.losses({"sync": network}, batch, jax.random.key(1), jnp.int32(0))
        return reduce_term(terms["triplet"]), scalars

    loss, scalars = losses(networks["sync"], batch)
    windows = {name: array.reshape(12, *array.shape[2:]) for name, array in batch.items()}

    @nnx.jit
    def embed(network: SyncNetwork, frames: jax.Array, boxes: jax.Array, mel: jax.Array) -> tuple[jax.Array, jax.Array]:
        return network.faces(lip_crops(frames / 255.0, boxes, (24, 48)), train=True), network.audio(mel, train=True)

    lips, speech = map(np.asarray, embed(network, windows["frames"], windows["boxes"], windows["mel"]))
    hinges, told = [], []
    for example in range(4):
        for i in range(3 * example, 3 * example + 3):
            for j in range(3 * example, 3 * example + 3):
                same = windows["clip"][i] == windows["clip"][j]
                if same and abs(windows["time"][i] - windows["time"][j]) < 4.5 / 25:
                    continue
                positive = lips[i] @ speech[i]
                hinges.append(
                    max(0, 0.4 - positive + lips[i] @ speech[j]) + max(0, 0.4 - positive + lips[j] @ speech[i])
                )
                told.append(positive > lips[i] @ speech[j])
    np.testing.assert_allclose(loss, np.mean(hinges), rtol=1e-3)
    np.testing.assert_allclose(scalars["accuracy"], np.mean(told), atol=0.03)


def test_weights_choose_terms_and_networks(balls: list[Clip]) -> None:
    names = {}
    for articulation, contrast, triplet in ((0.0, 0.0, 1.0), (0.5, 1.0, 0.0)):
        own = stage(articulation=articulation, contrast=contrast, triplet=triplet)
        plan = make_plan(own, Modules({}, {}, {}))
        names[articulation] = (set(plan.names), set(plan.phases[0].trains))
    assert names[0.0][1] == {"sync"} and "sync/triplet" in names[0.0][0] and "sync/contrast" not in names[0.0][0]
    assert names[0.5][1] == {"sync", "sync_shape"}
    assert {"sync/contrast", "sync/shape_of_lips", "sync/shape_of_speech", "sync/accuracy"} <= names[0.5][0]
    assert "sync/triplet" not in names[0.5][0]


def test_a_few_windows_are_learnt_by_heart(balls: list[Clip]) -> None:
    own = stage(articulation=0.5, weight_decay=1e-3)
    batch = {name: jnp.asarray(array) for name, array in batch_of(own.examples(balls, 0), 0, 4).items()}
    networks = nnx.Dict(own.networks(jax.random.key(0)))
    graph, params, rest = nnx.split(networks, nnx.Param, ...)
    params, rest = nnx.to_pure_dict(params), nnx.to_pure_dict(rest)
    rule = optimizer(own.settings)

    @jax.jit
    def step(params: dict, rest: dict, moments: optax.OptState) -> tuple:
        def loss(params: dict) -> tuple:
            merged = nnx.merge(graph, params, rest)
            terms, scalars = own.losses(dict(merged.items()), batch, jax.random.key(0), jnp.int32(0))
            total = sum(term.weight * reduce_term(term) for term in terms.values())
            return total, (nnx.to_pure_dict(nnx.state(merged, nnx.Not(nnx.Param))), scalars)

        slope, (rest, scalars) = jax.grad(loss, has_aux=True)(params)
        change, moments = rule.update(slope, moments, params)
        return optax.apply_updates(params, change), rest, moments, scalars

    moments, scores = rule.init(params), []
    for _ in range(40):
        params, rest, moments, scalars = step(params, rest, moments)
        scores.append(float(scalars["accuracy"]))
    assert np.mean(scores[:3]) < 0.75 and np.mean(scores[-5:]) > 0.95


def test_augmentation_stays_in_range_and_off_changes_nothing() -> None:
    off, on = SyncAugmentConfig(), SyncAugmentConfig(True, 0.1, 0.3, 6.0, 4.0, 0.3)
    random, key = np.random.default_rng(0), jax.random.key(0)
    boxes = jnp.asarray(np.tile([10, 12, 40, 52.0], (6, 5, 1)), jnp.float32)
    crops = jnp.asarray(random.uniform(size=(6, 5, 8, 12, 3)), jnp.float32)
    mel = jnp.asarray(random.uniform(-3.9, 3.9, (6, 80, 16)), jnp.float32).at[:, :4].set(-4)
    np.testing.assert_allclose(vary_boxes(off, boxes, key), boxes, atol=1e-5)
    np.testing.assert_allclose(vary_crops(off, crops, key), crops, atol=1e-6)
    np.testing.assert_allclose(vary_mel(off, mel, key), mel, atol=1e-6)
    moved = np.asarray(vary_boxes(on, boxes, key))
    assert (moved == moved[:, :1]).all(), "one draw for all frames of a window"
    assert np.abs(moved - np.asarray(boxes)).max() <= 0.1 * 40 * 1.5 + 1e-3 and np.ptp(moved[:, 0], axis=0).min() > 0.5
    coloured, louder = np.asarray(vary_crops(on, crops, key)), np.asarray(vary_mel(on, mel, key))
    assert coloured.min() >= 0 and coloured.max() <= 1 and louder.min() >= -4 and louder.max() <= 4
    assert (louder[:, :4] == -4).all(), "silence stays silent"
    flipped = np.asarray(vary_crops(SyncAugmentConfig(flip=True), crops, key))
    kinds = [np.allclose(flipped[i], crops[i]) + 2 * np.allclose(flipped[i], crops[i, :, :, ::-1]) for i in range(6)]
    assert set(kinds) == {1, 2}


def test_expert_needs_its_file_and_its_sizes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("JAXTALK_CACHE", str(tmp_path))
    with pytest.raises(WeightsAbsent, match="wav2lip_expert"):
        nnx.eval_shape(lambda: sync_networks(SyncNetConfig(expert=True), jax.random.key(0)))
    with pytest.raises(JaxtalkError, match=r"config\.model\.sync\.expert"):
        sync_networks(SyncNetConfig(expert=True, divisor=8), jax.random.key(0))


def test_embeddings_are_counted_by_time(balls: list[Clip]) -> None:
    """A clip whose frames 12 to 16 are missing has no window that holds them, and later ones keep their place."""
    network = sync_networks(NET, jax.random.key(0))["sync"]
    lips, speech = embed_clip(network, balls[0])  # type: ignore[arg-type]
    assert lips.shape == speech.shape == (36, 16) and np.isfinite(lips).all()
    gap = Trimmed(balls[0], np.r_[0:12, 17:40])
    with_gap, _ = embed_clip(network, gap)  # type: ignore[arg-type]
    missing = np.zeros(36, bool)
    missing[8:17] = True
    np.testing.assert_array_equal(np.isnan(with_gap).all(1), missing)
    np.testing.assert_allclose(with_gap[~missing], lips[~missing], atol=1e-4)


def test_preview_is_a_picture(balls: list[Clip]) -> None:
    own = stage()
    pictures = own.preview(own.networks(jax.random.key(0)), own.preview_batch(balls))
    assert pictures["offsets"].ndim == 3 and 0 <= pictures["offsets"].min() < pictures["offsets"].max() <= 1


def planted(count: int, shift: int, noise: float = 0.0, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Random directions; the speech of frame t is the lips of frame t - shift."""
    random = np.random.default_rng(seed)
    lips = random.normal(size=(count + abs(shift), 12))
    speech = np.roll(lips, shift, 0) + noise * random.normal(size=lips.shape)
    unit = [x / np.linalg.norm(x, axis=1, keepdims=True) for x in (lips, speech)]
    return unit[0][abs(shift) :], unit[1][abs(shift) :]


@pytest.mark.parametrize("shift", [-4, 0, 7])
def test_a_planted_offset_is_found(shift: int) -> None:
    """Positive: the sound comes later."""
    curve = offset_curve(*planted(60, shift))
    assert curve.shape == (31,) and np.argmax(curve) - 15 == shift
    np.testing.assert_allclose(curve[15 + shift], 1, atol=1e-6)


def _won(lips: np.ndarray, speech: np.ndarray, start: int, frames: int) -> float:
    """The share of shifts that a run of windows beats, place by place."""

    def mean(offset: int) -> float:
        places = range(start, start + frames)
        if any(p >= len(lips) or not 0 <= p + offset < len(lips) for p in places):
            return float("nan")
        return float(np.mean([lips[p] @ speech[p + offset] for p in places]))

    others = [mean(offset) for offset in range(-15, 16) if abs(offset) >= 5]
    others = [value for value in others if np.isfinite(value)]
    own = mean(0)
    return float(np.mean([own > value for value in others])) if others and np.isfinite(own) else float("nan")


def test_accuracy_against_a_slow_reference() -> None:
    lips, speech = planted(40, 0, noise=2.0)
    lips[11], speech[11] = np.nan, np.nan
    for frames in (1, 6):
        expected = [_won(lips, speech, t, frames) for t in range(40)]
        np.testing.assert_allclose(told_apart(lips, speech, frames), expected, atol=1e-6)
    assert np.nanmean(told_apart(lips, speech, 6)) > np.nanmean(told_apart(lips, speech, 1)) > 0.6
    same = np.ones((30, 1))
    np.testing.assert_array_equal(told_apart(same, same), 0.5)


def test_a_peak_lies_between_frames() -> None:
    """A parabola's top is found; at an end, or beside a gap, the frame itself."""
    offsets = np.arange(-15, 16)
    for top in (-3.4, 0.0, 0.3):
        assert peak_offset(1 - 0.01 * (offsets - top) ** 2) == pytest.approx(top)
    assert peak_offset(offsets.astype(float)) == 15
    assert peak_offset(np.where(offsets == 1, np.nan, -np.abs(offsets - 0.3))) == 0


def test_error_of_a_mean_by_blocks() -> None:
    values = np.repeat([0.0, 1.0, 1.0, 0.0], 10)
    mean, error = mean_and_error(np.r_[values, np.nan], 10)
    assert mean == 0.5
    np.testing.assert_allclose(error, np.std([0, 1, 1, 0], ddof=1) / 2)
    assert np.isnan(mean_and_error(values[:15], 10)[1])


def test_a_curve_is_drawn_with_its_gaps_and_its_peak() -> None:
    """Flat curves differ in the dot alone, which marks the peak."""
    curve = np.r_[np.nan, np.zeros(30)]
    drawn = [draw_offsets({"anna": np.where(np.arange(31) == peak, 1e-6, curve)}) for peak in (10, 20)]
    assert drawn[0].dtype == np.uint8 and drawn[0].shape == drawn[1].shape == (480, 840, 3)
    columns = [np.flatnonzero((picture != other).any((0, 2))) for picture, other in (drawn, drawn[::-1])]
    np.testing.assert_array_equal(*columns)
    assert 10 < np.ptp(columns[0]) < 500


def test_offsets_of_clips_are_measured_written_and_drawn(
    balls: list[Clip], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pairs = {"ball0": planted(120, 0, noise=1.0), "ball1": planted(30, 3, seed=1)}
    run = SimpleNamespace(workdir=tmp_path, config=SimpleNamespace(method="s3d"))
    method = SimpleNamespace(sync_embeddings=lambda run, clip: pairs[clip.name])
    monkeypatch.setattr(sync_offsets, "load_method", lambda name: method)
    results = json.loads(json.dumps(sync_offsets.measure_offsets(run, balls)))  # type: ignore[arg-type]
    np.testing.assert_allclose([results["clips"][name]["peak"] for name in pairs], [0, 3], atol=0.3)
    accuracy = results["clips"]["ball0"]["accuracy"]
    assert accuracy["1s"]["mean"] > accuracy["single"]["mean"] > 0.8 and accuracy["single"]["standard_error"] > 0
    assert results["clips"]["ball1"]["accuracy"]["2s"]["mean"] is None
    expected = np.mean([results["clips"][name]["accuracy"]["single"]["mean"] for name in pairs])
    np.testing.assert_allclose(results["accuracy"]["single"]["mean"], expected)
    curves = [np.array(results["clips"][name]["similarity"], float) for name in pairs]
    np.testing.assert_allclose(np.array(results["similarity"], float), np.nanmean(curves, 0))
    assert results["peak"] == pytest.approx(peak_offset(np.array(results["similarity"], float)), abs=0.01)
    assert "ball1" in sync_offsets.table(results)
    sync_offsets.draw(results, tmp_path / "offsets.png")
    assert (tmp_path / "offsets.png").stat().st_size > 5000
    monkeypatch.setattr(sync_offsets, "load_method", lambda name: SimpleNamespace())
    with pytest.raises(JaxtalkError, match="trains no lip-sync discriminator"):
        sync_offsets.measure_offsets(run, balls)  # type: ignore[arg-type]
