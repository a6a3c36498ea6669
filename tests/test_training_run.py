"""Runs of several stages in one process: what is frozen, started from, resumed, refused and left behind."""

from __future__ import annotations

import json
import resource
import sys
from collections.abc import Iterator
from pathlib import Path

import grain
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from PIL import Image

from jaxtalk.errors import JaxtalkError
from jaxtalk.methods.api import Phase, Term
from jaxtalk.training.checkpoints import Checkpoints, load_model, steps_saved
from jaxtalk.training.logging import read_metrics, rewind_metrics
from jaxtalk.training.nonfinite import NonFiniteError
from jaxtalk.training.run import model_shapes, open_run, train_stages
from jaxtalk.training.sharding import make_mesh, replicated
from tests.toy_method import ToyStage, latents, points, regression, regressor, toy_config

SETTINGS = {"log_every": 5, "checkpoint_every": 10, "preview_every": 10}


def lines(workdir: Path, stage: str | None = None) -> list[dict]:
    """Lines of the log without what a clock says."""
    clocks = ("time", "steps_per_second", "rays_per_second")
    found = [line for line in read_metrics(workdir / "metrics.jsonl") if stage in (None, line["stage"])]
    return [{name: value for name, value in line.items() if name not in clocks} for line in found]


def arrays(module: nnx.Module) -> list[np.ndarray]:
    return [np.asarray(leaf) for leaf in jax.tree.leaves(nnx.to_pure_dict(nnx.state(module)))]


def still(name: str, **settings: object) -> ToyStage:
    """A regressor whose optimiser does nothing."""
    stage = regressor(name, **settings)
    stage.plan = lambda: (Phase("fit", ("regressor",), optax.set_to_zero(), regression),)
    return stage


@pytest.fixture(scope="module")
def stages() -> list[ToyStage]:
    return [
        regressor(pictures=True),
        latents(steps=80),
        still("adapt", init_from={"regressor": "fit"}, ema_decay=None, steps=1),
    ]


@pytest.fixture(scope="module")
def workdir(tmp_path_factory: pytest.TempPathFactory, stages: list[ToyStage]) -> Path:
    """A finished run of three stages; shared, so read only."""
    path = tmp_path_factory.mktemp("run")
    train_stages(toy_config(**SETTINGS), path, [], stages)
    return path


def test_optimised_latents_lower_the_loss_of_a_frozen_network(workdir: Path, stages: list[ToyStage]) -> None:
    losses = [line["codes/mse"] for line in lines(workdir, "codes") if "codes/mse" in line]
    assert losses[-1] < 0.75 * losses[0]
    codes = open_run(workdir, stages).networks("codes")
    assert list(codes) == ["codes"] and float(jnp.abs(codes["codes"].codes[...]).max()) > 0.1


def test_a_needed_stage_stays_as_it_was(tmp_path: Path) -> None:
    """The same latents trained on a second copy of the run: the first stage's files keep every byte."""
    first = regressor(steps=10)
    train_stages(toy_config(**SETTINGS), tmp_path, [], [first])
    folder = tmp_path / "stages" / "fit" / "checkpoints" / "10"
    before = {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}
    frozen = arrays(open_run(tmp_path, [first]).networks("fit")["regressor"])
    seen = {}

    def losses(networks, batch, key, step):
        x = batch["x"] + networks["codes"](batch["who"])
        # With batch statistics in use, a network that was not frozen would move them.
        y = networks["regressor"](x, train=True)
        seen["networks"] = set(networks)
        return {"mse": Term((y - batch["y"]) ** 2)}, {
            "norm": jnp.abs(networks["regressor"].layers[0].kernel[...]).sum()
        }

    second = latents(steps=10)
    second.plan = lambda: (Phase("codes", ("codes",), optax.adam(0.1), losses),)
    train_stages(toy_config(**SETTINGS), tmp_path, [], [first, second])
    assert seen["networks"] == {"regressor", "codes"}
    norms = {line["codes/norm"] for line in lines(tmp_path, "codes") if "codes/norm" in line}
    assert len(norms) == 1
    assert before == {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}
    after = arrays(open_run(tmp_path, [first]).networks("fit")["regressor"])
    assert all(np.array_equal(a, b) for a, b in zip(frozen, after, strict=True))


def test_adaptation_starts_from_the_averaged_network(workdir: Path, stages: list[ToyStage]) -> None:
    """`adapt` takes a step of length zero, so it must equal what it started from, the average of `fit`."""
    run = open_run(workdir, stages)
    ours, theirs = (nnx.state(run.networks(name)["regressor"], nnx.Param) for name in ("adapt", "fit"))
    assert jax.tree.all(jax.tree.map(lambda a, b: bool((a == b).all()), ours, theirs))
    model = load_model(workdir / "stages/fit/checkpoints", 20, model_shapes(stages[0], make_mesh())[1])
    kernel = run.networks("fit")["regressor"].layers[0].kernel[...]
    saved = {name: model[name]["regressor"]["layers"][0]["kernel"] for name in ("params", "ema")}
    assert np.array_equal(kernel, saved["ema"]) and not np.array_equal(kernel, saved["params"])
    fresh = stages[2].networks(jax.random.key(0))["regressor"]
    assert not np.array_equal(fresh.layers[0].kernel[...], run.networks("adapt")["regressor"].layers[0].kernel[...])


def test_an_avatar_is_adapted_with_the_same_loop(workdir: Path, stages: list[ToyStage], tmp_path: Path) -> None:
    """A new speaker, whose data are all shifted: adapted networks fit it better than those they started from."""

    def shifted(seed: int) -> grain.MapDataset:
        return points(seed).map(lambda example: example | {"y": example["y"] + np.float32(0.5)})

    run = open_run(workdir, stages)
    speaker = regressor("speaker", init_from={"regressor": "fit"}, data=shifted, ema_decay=None, steps=30)
    adapted, general = run.train(speaker, [], tmp_path)["regressor"], run.networks("fit")["regressor"]
    x, y = (np.stack([shifted(1)[i][name] for i in range(64)]) for name in ("x", "y"))
    errors = [float(jnp.mean((network(x, train=False) - y) ** 2)) for network in (adapted, general)]
    assert errors[0] < 0.7 * errors[1]
    before = (tmp_path / "metrics.jsonl").read_bytes()
    again = run.train(speaker, [], tmp_path)["regressor"]
    assert (tmp_path / "metrics.jsonl").read_bytes() == before
    assert all(np.array_equal(a, b) for a, b in zip(arrays(again), arrays(adapted), strict=True))


def test_a_finished_run_is_left_alone_and_says_so(
    workdir: Path, stages: list[ToyStage], capsys: pytest.CaptureFixture[str]
) -> None:
    before = (workdir / "metrics.jsonl").read_bytes()
    train_stages(toy_config(**SETTINGS), workdir, [], stages)
    assert capsys.readouterr().err.count("already finished") == 3
    assert (workdir / "metrics.jsonl").read_bytes() == before
    last = lines(workdir)[-1]
    assert last["stage"] == "adapt" and len(last["state_sha256"]) == 64


def test_what_a_run_leaves_behind(workdir: Path) -> None:
    steps = [line["step"] for line in lines(workdir, "fit")]
    assert steps == [5, 10, 15, 20, 20]
    previews = sorted(path.name for path in (workdir / "stages" / "fit" / "previews").iterdir())
    assert previews == ["grey-00000010.png", "grey-00000020.png"]
    with Image.open(workdir / "stages" / "fit" / "previews" / previews[-1]) as image:
        assert image.size == (8, 8) and 0 < np.asarray(image).mean() < 255
    versions = json.loads((workdir / "versions.json").read_text())
    assert versions["packages"]["jax"] == jax.__version__ and versions["devices"] == jax.device_count()
    assert steps_saved(workdir / "stages" / "fit" / "checkpoints") == [10, 20]


def test_config_reads_back_locked_with_tuples(workdir: Path, stages: list[ToyStage]) -> None:
    config = open_run(workdir, stages).config
    assert config.to_dict() == toy_config(**SETTINGS).to_dict()
    assert config.is_locked and config.data.clips == ()


def test_another_config_is_refused_by_key_and_a_safe_one_is_not(workdir: Path, stages: list[ToyStage]) -> None:
    other = toy_config(**SETTINGS)
    other.data.size = 128
    with pytest.raises(JaxtalkError, match=r"data\.size is 64 there and 128 now"):
        train_stages(other, workdir, [], stages)
    train_stages(toy_config(**SETTINGS | {"keep_checkpoints": 3}), workdir, [], stages)
    moved = toy_config(**SETTINGS)
    moved.data.clips, moved.samples.babble_seconds = ("elsewhere/anna",), 2.0
    train_stages(moved, workdir, [], stages)
    train_stages(toy_config(**SETTINGS), workdir, [], stages)


def test_an_unfinished_stage_and_a_missing_run_are_named(workdir: Path, stages: list[ToyStage], tmp_path: Path) -> None:
    with pytest.raises(JaxtalkError, match="no run here"):
        open_run(tmp_path, stages)
    longer = [regressor(steps=30)]
    with pytest.raises(JaxtalkError, match=r"fit is not finished \(step 20 of 30\)"):
        open_run(workdir, longer).networks("fit")
    with pytest.raises(JaxtalkError, match="no stage 'nose'"):
        open_run(workdir, stages).networks("nose")


def _truncate_model(folder: Path) -> None:
    largest = max((folder / "model").rglob("*"), key=lambda path: path.stat().st_size if path.is_file() else -1)
    largest.write_bytes(largest.read_bytes()[: largest.stat().st_size // 2])


def test_a_truncated_checkpoint_falls_back_to_the_one_before(
    workdir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The run continues from step 10, ends as if nothing had happened, and its log has no line twice."""
    stage = [regressor(pictures=True)]
    train_stages(toy_config(**SETTINGS), tmp_path, [], stage)
    checkpoints = tmp_path / "stages" / "fit" / "checkpoints"
    _truncate_model(checkpoints / "20")
    metrics = tmp_path / "metrics.jsonl"  # as it is when a run dies before the last line
    metrics.write_text("".join(line for line in metrics.open() if "sha256" not in line))
    capsys.readouterr()
    train_stages(toy_config(**SETTINGS), tmp_path, [], stage)
    said = capsys.readouterr().err
    assert "20 is damaged" in said and "continuing from step 10" in said
    assert lines(tmp_path) == lines(workdir, "fit")
    assert (checkpoints / "damaged-20").is_dir() and steps_saved(checkpoints) == [10, 20]


def test_damage_everywhere_is_an_error_and_nothing_is_touched(tmp_path: Path) -> None:
    stage = [regressor(steps=10)]
    train_stages(toy_config(**SETTINGS | {"checkpoint_every": 5}), tmp_path, [], stage)
    checkpoints = tmp_path / "stages" / "fit" / "checkpoints"
    for step in (5, 10):
        _truncate_model(checkpoints / str(step))
    with pytest.raises(JaxtalkError, match="cannot be read"):
        open_run(tmp_path, stage).networks("fit")
    metrics = tmp_path / "metrics.jsonl"
    metrics.write_text("".join(line for line in metrics.open() if "sha256" not in line))
    with pytest.raises(JaxtalkError, match=r"no checkpoint of \[10, 5\] can be read"):
        train_stages(toy_config(**SETTINGS), tmp_path, [], stage)
    assert steps_saved(checkpoints) == [5, 10]


def test_a_loss_that_is_not_finite_stops_with_step_term_and_dump(tmp_path: Path) -> None:
    """The optimiser spreads the damage at once, the log looks later: the first cause is named all the same."""

    def losses(networks, batch, key, step):
        terms, scalars = regression(networks, batch, key, step)
        return terms | {"penalty": Term(jnp.where(step == 13, jnp.nan, 1.0) * jnp.ones(3))}, scalars

    stage = regressor(steps=60)
    stage.plan = lambda: (Phase("fit", ("regressor",), optax.adam(1e-2), losses),)
    with pytest.raises(NonFiniteError, match=r"fit/penalty is nan at step 13; .* 10 steps is from before") as caught:
        train_stages(toy_config(**SETTINGS | {"log_every": 50}), tmp_path, [], [stage])
    assert (caught.value.step, caught.value.term) == (13, "fit/penalty")
    with np.load(caught.value.dump) as dump:
        assert dump["step"] == 13 and np.isnan(dump["value/fit/penalty"]) and np.isfinite(dump["value/fit/mse"])
        expected = np.stack([stage.data(0)[i]["x"] for i in range(13 * 16, 14 * 16)])
        np.testing.assert_array_equal(dump["batch/x"], expected)
    assert steps_saved(tmp_path / "stages" / "fit" / "checkpoints") == [10]


@pytest.fixture
def small_files() -> Iterator[None]:
    """Files may not grow beyond 100 kB, as if the disk were full: the C++ writers meet it too."""
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, old[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, old)


def _state(step: int) -> dict:
    big = jax.device_put(np.random.default_rng(step).normal(size=200_000).astype(np.float32), replicated(make_mesh()))
    empty: dict = {"stats": {}, "ema": {}, "opt": {}, "log": {}, "bad": {}}
    return {"params": {"net": {0: big}}, "step": jax.device_put(jnp.int32(step), replicated(make_mesh()))} | empty


def test_a_full_disk_leaves_the_checkpoint_before(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    with Checkpoints(tmp_path, 2) as checkpoints:
        checkpoints.save(1, _state(1), {})
    request.getfixturevalue("small_files")
    with (
        pytest.raises(JaxtalkError, match=r"2: the checkpoint could not be written .*step 1 is intact") as caught,
        Checkpoints(tmp_path, 2) as checkpoints,
    ):
        checkpoints.save(2, _state(2), {})
    assert "\n" not in str(caught.value)
    abstract = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=a.sharding), _state(0))
    with Checkpoints(tmp_path, 2) as checkpoints:
        restored = checkpoints.restore(abstract)
    assert restored is not None and int(restored["step"]) == 1
    np.testing.assert_array_equal(restored["params"]["net"][0], _state(1)["params"]["net"][0])


def test_saving_does_not_hold_the_step_and_the_step_does_not_spoil_the_save(tmp_path: Path) -> None:
    """Buffers donated while the checkpoint is being written: it holds what they held."""
    spoil = jax.jit(lambda state: jax.tree.map(lambda a: a + 1, state), donate_argnums=0)
    with Checkpoints(tmp_path, 2) as checkpoints:
        state = _state(3)
        expected = np.array(state["params"]["net"][0])
        abstract = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=a.sharding), state)
        checkpoints.save(3, state, {})
        for _ in range(20):
            state = spoil(state)
        checkpoints.wait()
        restored = checkpoints.restore(abstract)
    assert restored is not None
    np.testing.assert_array_equal(restored["params"]["net"][0], expected)


def test_rewinding_takes_back_later_lines_and_half_ones(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    kept = [{"stage": "a", "step": 20}, {"stage": "a", "step": 20, "state_sha256": "x"}, {"stage": "b", "step": 10}]
    lost = [{"stage": "b", "step": 20}, {"stage": "b", "step": 20, "state_sha256": "y"}]
    path.write_text("".join(json.dumps(line) + "\n" for line in kept + lost) + '{"stage": "b", "st')
    rewind_metrics(path, "b", 10)
    assert read_metrics(path) == kept
    rewind_metrics(path, "a", 20)
    assert read_metrics(path) == kept[:1]


def test_tensorboard_without_its_extra_names_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "clu.metric_writers", None)
    monkeypatch.delattr("clu.metric_writers", raising=False)
    with pytest.raises(JaxtalkError, match="install the extra"):
        train_stages(toy_config(**SETTINGS, tensorboard=True), tmp_path, [], [regressor()])


def test_batches_that_do_not_split_are_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(jax, "device_count", lambda: 1)
    with pytest.raises(JaxtalkError, match=r"train\.fsdp: 2 does not divide"):
        train_stages(toy_config(**SETTINGS, fsdp=2), tmp_path, [], [regressor()])
