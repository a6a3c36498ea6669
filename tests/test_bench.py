"""The bench counts what it should: FLOPs known by hand, rates against a clock, a fake system through the protocols."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import grain
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from jaxtalk import bench
from jaxtalk.bench import device, runner
from jaxtalk.bench.rendering import RandomRun, measure_rendering
from jaxtalk.bench.step_flops import mean_flops
from jaxtalk.bench.table import si
from jaxtalk.bench.timing import rate
from jaxtalk.bench.training import main_dtype, measure_training
from jaxtalk.clip import Clip, ClipView
from jaxtalk.config import base
from jaxtalk.errors import JaxtalkError
from jaxtalk.methods import s3d_nerf
from jaxtalk.methods.api import Batch, Drive, Networks, Phase, Run, Term
from jaxtalk.training.sharding import make_mesh
from jaxtalk.training.state import Modules, split_networks
from tests.fake_clip import write_fake_clip
from tests.fake_method import FakeAvatar, fake_method
from tests.few_shot_case import made, quick_compilation
from tests.s3d_case import ball, small_config

IN, OUT, RAYS, SAMPLES = 12, 20, 8, 3
CONSTANT = jnp.full((3, 3), 0.1)


class _Scale(nnx.Module):
    """A linear map without bias, asked SAMPLES times for each of RAYS rays."""

    def __init__(self, key: jax.Array) -> None:
        self.kernel = nnx.Param(jax.random.normal(key, (IN, OUT)))


@dataclasses.dataclass(frozen=True)
class _Stage:
    name: str
    needs: tuple[str, ...] = ()
    steps: int = 5
    batch_size: int = 4
    init_from: Mapping[str, str] = dataclasses.field(default_factory=dict)
    ema_decay: float | None = None
    rays_per_step: int = 4 * RAYS
    evaluations_per_step: Mapping[str, int] = dataclasses.field(default_factory=lambda: {"field": 4 * RAYS * SAMPLES})

    def networks(self, key: jax.Array) -> Networks:
        return {self.name: _Scale(key)}

    def phases(self) -> tuple[Phase, ...]:
        def losses(
            networks: Networks, batch: Batch, key: jax.Array, step: jax.Array
        ) -> tuple[dict[str, Term], dict[str, jax.Array]]:
            values = batch["points"] @ networks[self.name].kernel[...]  # type: ignore[attr-defined]
            return {"square": Term(values**2)}, {}

        return (Phase("fit", (self.name,), optax.sgd(0.1), losses),)

    def example_spec(self) -> dict[str, jax.ShapeDtypeStruct]:
        return {"points": jax.ShapeDtypeStruct((RAYS, SAMPLES, IN), jnp.float32)}

    def examples(self, clips: Sequence[ClipView], seed: int) -> grain.MapDataset:
        def example(i: int) -> dict[str, np.ndarray]:
            return {"points": np.full((RAYS, SAMPLES, IN), i % 7, np.float32)}

        return grain.MapDataset.range(1 << 40).map(example)

    def preview_batch(self, clips: Sequence[ClipView]) -> None:
        return None

    def preview(self, networks: Networks, batch: Batch) -> dict[str, np.ndarray]:
        return {}


@pytest.fixture
def figures(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> bench.Figures:
    """The bench of a fake system with two stages, whose avatar needs 20 ms for 16 frames."""
    clip = write_fake_clip(tmp_path / "ball", seconds=1.0, size=32)
    fitted: list[Networks] = []

    class SlowAvatar(FakeAvatar):
        def render(self, drive: Drive) -> np.ndarray:
            time.sleep(0.02)
            return super().render(drive)

    def fit(run: Run, clip: ClipView) -> FakeAvatar:
        fitted.append(run.networks("second"))
        return SlowAvatar(clip.name, clip.meta.size, clip.meta.fps, clip.meta.camera, clip.track)

    stages = (_Stage("first"), _Stage("second", needs=("first",)))
    method = SimpleNamespace(**{**vars(fake_method([])), "fit": fit, "stages": lambda config: stages})
    monkeypatch.setattr(runner, "load_method", lambda name: method)
    config = base()
    config.method = "fake"
    result = bench.run_bench(
        config.lock(), size=16, seconds=0.1, clip=clip.path, out=tmp_path / "figures" / "bench.json"
    )
    assert fitted[0]["second"].kernel.shape == (IN, OUT)  # type: ignore[attr-defined]
    assert json.loads((tmp_path / "figures" / "bench.json").read_text()) == json.loads(
        json.dumps(dataclasses.asdict(result))
    )
    assert not list(tmp_path.glob("*.partial"))
    return result


def test_figures_of_a_fake_system(figures: bench.Figures, capsys: pytest.CaptureFixture[str]) -> None:
    assert figures.size == 16 and figures.device == jax.devices()[0].device_kind
    assert [speed.stage for speed in figures.training] == ["first", "second"]
    for speed in figures.training:
        # Forward, and as much again for the gradient of the kernel; none is asked for the points.
        assert speed.forward_flops_per_evaluation == 2 * IN * OUT
        assert speed.flops_per_evaluation == 4 * IN * OUT
        assert speed.rays_per_second == pytest.approx(4 * RAYS * speed.steps_per_second)
        assert speed.evaluations_per_second == pytest.approx(SAMPLES * speed.rays_per_second)
        assert speed.flops_per_second == pytest.approx(speed.evaluations_per_second * 4 * IN * OUT)
        assert 0 < speed.utilisation < 1 and speed.dtype == "float32"
        assert speed.steps_per_second_with_input > 0 and speed.compile_seconds > 0
        assert speed.step_bytes >= 4 * (IN * OUT + 4 * RAYS * SAMPLES * IN)
    drawn = figures.rendering
    assert drawn.size == (16, 16) and drawn.chunk == 16
    assert drawn.frames_per_second < 16 / 0.02
    assert drawn.frames_per_second_with_io < drawn.frames_per_second * 1.2
    assert drawn.rays_per_second == pytest.approx(256 * drawn.frames_per_second)
    assert drawn.evaluations_per_second == pytest.approx(SAMPLES * drawn.rays_per_second)
    assert drawn.flops_per_frame == 256 * SAMPLES * 2 * IN * OUT
    assert figures.peak_memory_bytes > 1e6 and figures.peak_memory_of in ("device", "process")
    from jaxtalk.bench.table import print_table

    print_table(figures)
    printed = capsys.readouterr().out
    for word in (
        "rays/s",
        "evaluations/s",
        "FLOPs per evaluation",
        "utilisation",
        "frames/s",
        "peak memory",
        "16 x 16",
    ):
        assert word in printed


def test_rate_against_a_clock() -> None:
    assert 30 < rate(lambda: time.sleep(0.02), 0.2) <= 50
    calls: list[int] = []

    def slow() -> None:
        calls.append(1)
        time.sleep(0.05)

    assert rate(slow, 0.01) <= 20 and len(calls) == 2  # no more than needed where one call is longer than the time


def test_matrix_rate_is_measured_and_known() -> None:
    found = device.matrix_rate("float32")
    assert 1e8 < found.measured < 1e15 and found.peak == (found.data_sheet or found.measured)
    size = 512  # against a product timed here: the same order of magnitude
    a = jnp.ones((size, size))
    product = jax.jit(lambda a: a @ a)
    product(a).block_until_ready()
    seconds = []
    for _ in range(10):
        started = time.perf_counter()
        product(a).block_until_ready()
        seconds.append(time.perf_counter() - started)
    assert found.measured > 0.2 * 2 * size**3 / min(seconds)
    assert device.data_sheet_rate("NVIDIA H200", "bfloat16") == 989e12
    assert device.data_sheet_rate("NVIDIA A100-SXM4-80GB", "float32") == 156e12
    assert device.data_sheet_rate("TPU v4", "bfloat16") == 275e12
    assert device.data_sheet_rate("NVIDIA L40S", "bfloat16") == 362e12
    assert device.data_sheet_rate("cpu", "float32") is None


def test_main_dtype_counts_loops() -> None:
    def program(a: jax.Array, b: jax.Array) -> jax.Array:
        once = a @ a
        often, _ = jax.lax.scan(lambda carry, _: ((carry @ carry).astype(b.dtype), None), b, length=3)
        return once.astype(jnp.float32) + often.astype(jnp.float32)

    a, b = jnp.ones((8, 8), jnp.float32), jnp.ones((8, 8), jnp.bfloat16)
    assert main_dtype(jax.make_jaxpr(program)(a, b).jaxpr) == "bfloat16"
    assert main_dtype(jax.make_jaxpr(program)(b, a).jaxpr) == "float32"


def test_what_the_step_chooses_counts_as_often_as_it_is_chosen() -> None:
    """A product of 3 x 3 is 54 FLOPs; its gradient is one more for each operand that has one."""

    def program(step: jax.Array, x: jax.Array) -> jax.Array:
        def total(x: jax.Array) -> jax.Array:
            lazy = jax.lax.cond((step - 5) % 16 == 0, lambda: x @ CONSTANT @ CONSTANT, lambda: x)
            late = jax.lax.cond(step >= 1000, lambda: lazy @ CONSTANT, lambda: lazy)
            inner = jax.jit(lambda step, y: jax.lax.cond(step % 2 == 0, lambda: y @ CONSTANT, lambda: y))
            unknown = jax.lax.cond(x.sum() > 0, lambda: x @ CONSTANT, lambda: x)  # of these, the costlier
            return inner(step, late).sum() + unknown.sum()

        return jax.grad(total)(x)

    traced = jax.make_jaxpr(program)(jnp.int32(0), jnp.ones((3, 3)))
    # There and back: a sixteenth of two products, none or one, half of one, and one.
    assert mean_flops(traced, 0, 5) == 54 * 2 * (2 / 16 + 0.5 + 1)
    assert mean_flops(traced, 0, 1000) == 54 * 2 * (2 / 16 + 1 + 0.5 + 1)
    assert mean_flops(traced, 0, 990) == 54 * 2 * (2 / 16 + 38 / 48 + 0.5 + 1)


@pytest.mark.slow
def test_a_gan_that_a_frozen_stage_judges(tmp_path: Path) -> None:
    """S3D-NeRF: two phases, R1 now and then, a lip-sync discriminator with random weights, rays for a part alone."""
    argument = "tiny,deform=nd,field_steps=400,stages.field.adv_start=300,stages.field.sync_start=300"
    config, clip, mesh = small_config(argument), ball(tmp_path / "ball"), make_mesh()
    stages = s3d_nerf.stages(config)
    parts = ("params", "stats")
    trained = {
        stage.name: (Modules.of(stage), dict(zip(parts, split_networks(made(stage.networks)), strict=True)))
        for stage in stages
    }
    with quick_compilation():
        speed = measure_training(stages[1], [clip], trained, mesh, 0, 0.1)
        run = RandomRun(tmp_path, config, trained)
        drawn = measure_rendering(s3d_nerf, run, clip, stages[1], speed, 0.1)
    assert (speed.at_step, speed.phases, speed.frozen) == (400, ("generator", "critic"), ("sync", "sync_shape"))
    assert speed.images_per_second == pytest.approx(2 * 5 * speed.steps_per_second)
    assert speed.flops_per_image == pytest.approx(speed.flops_per_step / 10) and speed.flops_per_evaluation is None
    assert speed.rays_per_second == pytest.approx(64 * speed.images_per_second)
    assert drawn.rays_per_second == pytest.approx(64 * drawn.frames_per_second) and drawn.chunk == 16
    assert drawn.evaluations_per_second == pytest.approx(4 * drawn.rays_per_second)
    assert drawn.flops_per_frame is None or drawn.flops_per_frame > 64 * 4 * 2 * 8 * 8  # the decoder alone


def test_configs_are_read_as_train_reads_them(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "import ml_collections\n"
        "def get_config(variant='plain'):\n"
        "    return ml_collections.ConfigDict({'method': variant})\n"
    )
    assert runner.load_config(f"{tmp_path}/mine.py").method == "plain"
    assert runner.load_config(f"{tmp_path}/mine.py:tiny,size=3").method == "tiny,size=3"
    with pytest.raises(JaxtalkError, match="no such config"):
        runner.load_config(f"{tmp_path}/other.py:tiny")


def test_numbers_for_people() -> None:
    assert [si(number) for number in (None, 0, 7, 999.4, 999.9, 12345, 2.5e9)] == [
        "–", "0 ", "7 ", "999 ", "1 k", "12.3 k", "2.5 G",
    ]  # fmt: skip
    assert si(3 * 1024**3, 1024) == "3 Gi"


@pytest.mark.slow
def test_ad_nerf_through_the_command(tmp_path: Path, fake_clip: Clip) -> None:
    from click.testing import CliRunner

    from jaxtalk.cli import main

    words = f"bench --config configs/ad_nerf.py:tiny --size 32 --seconds 0.5 --clip {fake_clip.path} --out {tmp_path}/b"
    result = CliRunner().invoke(main, words.split(), catch_exceptions=False)
    assert result.exit_code == 0
    found: dict[str, Any] = json.loads((tmp_path / "b").read_text())
    assert found["training"][0]["rays_per_second"] > 0 and found["rendering"]["frames_per_second"] > 0
