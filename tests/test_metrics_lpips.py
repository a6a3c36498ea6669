"""LPIPS gives what torch gives, whatever the batch and the devices, and says how to get absent weights."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxtalk import weights
from jaxtalk.errors import JaxtalkError
from jaxtalk.metrics.batches import Batched
from jaxtalk.metrics.lpips import load_lpips
from jaxtalk.nn.pretrained.lpips import _unit
from jaxtalk.nn.pretrained.vgg import Vgg
from jaxtalk.training.sharding import batch_sharding, make_mesh
from jaxtalk.weights import WeightsAbsent
from tests.goldens import drawn
from tests.pretrained_case import GOLDEN, drawn_heads, put_in_cache

TRUNKS = {"alex": "alexnet", "vgg": "vgg16"}
NETS = pytest.mark.parametrize("net", TRUNKS)


def pictures() -> tuple[np.ndarray, np.ndarray]:
    true, rendered = (drawn.uniform(f"{which} pictures", (2, 64, 72, 3)) for which in ("true", "rendered"))
    return true, rendered


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache with the trunks and heads of the golden."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JAXTALK_CACHE", str(folder))
        for net, trunk in TRUNKS.items():
            put_in_cache(folder, trunk)
            put_in_cache(folder, f"lpips_{net}", drawn_heads(net))
    return folder


@pytest.fixture
def here(cache: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("JAXTALK_CACHE", str(cache))
    return cache


@NETS
def test_equal_to_torch(here: Path, net: str) -> None:
    with np.load(GOLDEN) as golden:
        np.testing.assert_allclose(load_lpips(net)(*pictures()), golden[f"lpips_{net}/drawn"], rtol=1e-4)


@NETS
def test_equal_to_torch_with_the_released_heads(
    here: Path, net: str, real_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = real_data / "models" / f"lpips_lin_v0.1_{net}.pth"
    if not file.is_file():
        pytest.skip(f"the released heads are not here: {file}")
    monkeypatch.setenv("JAXTALK_CACHE", str(tmp_path))
    (tmp_path / f"{TRUNKS[net]}.npz").symlink_to(here / f"{TRUNKS[net]}.npz")
    weights.convert_file(f"lpips_{net}", file)
    assert "from the published" in weights.check(f"lpips_{net}")
    with np.load(GOLDEN) as golden:
        np.testing.assert_allclose(load_lpips(net)(*pictures()), golden[f"lpips_{net}/released"], rtol=1e-4)


@NETS
def test_zero_for_the_same_picture_and_symmetric(here: Path, net: str) -> None:
    metric, (true, rendered) = load_lpips(net), pictures()
    np.testing.assert_allclose(metric(true, true), 0.0, atol=1e-9)
    np.testing.assert_allclose(metric(true, rendered), metric(rendered, true), rtol=1e-6)
    assert (metric(true, rendered) > 0.05).all()


def test_any_number_of_frames_and_both_kinds_of_pixels(here: Path) -> None:
    metric = load_lpips("alex")
    true = np.random.default_rng(0).integers(0, 256, (11, 35, 40, 3), np.uint8)
    rendered = np.roll(true, 3, axis=2)
    values = metric(true, rendered)
    assert values.shape == (11,) and values.dtype == np.float32 and len(set(values.tolist())) == 11
    one_by_one = [metric(true[i : i + 1], rendered[i : i + 1])[0] for i in range(11)]
    np.testing.assert_allclose(values, one_by_one, rtol=1e-5)
    floats = metric(true.astype(np.float32) / 255, rendered.astype(np.float32) / 255)
    np.testing.assert_allclose(values, floats, rtol=1e-5)


def test_more_noise_is_further(here: Path) -> None:
    ramp = np.linspace(0, 1, 48 * 48 * 3, dtype=np.float32).reshape(1, 48, 48, 3)
    noise = drawn.uniform("noise", (1, 48, 48, 3), -1, 1)
    values = [float(load_lpips("alex")(ramp, ramp + np.float32(size) * noise)[0]) for size in (0.01, 0.03, 0.1, 0.3)]
    assert values == sorted(values) and values[-1] > 3 * values[0] > 0


def test_frames_that_do_not_fit(here: Path) -> None:
    metric, frames = load_lpips("alex"), np.zeros((2, 40, 40, 3), np.uint8)
    with pytest.raises(JaxtalkError, match=r"truth is \(2, 40, 40, 3\) and image \(1, 40, 40, 3\)"):
        metric(frames, frames[:1])
    with pytest.raises(JaxtalkError, match=r"frames of \(40, 30\) are smaller than 31"):
        metric(frames[:, :, :30], frames[:, :, :30])
    assert np.isfinite(metric(frames[:, :31, :31], frames[:, :31, :31] + 50)).all()  # the smallest that fit
    with pytest.raises(JaxtalkError, match=r"float64 .*; give uint8, or float32"):
        metric(frames / 255, frames / 255)
    with pytest.raises(JaxtalkError, match="0 and 0 frames"):
        metric(frames[:0], frames[:0])


def test_absent_weights_say_how_to_get_them(here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JAXTALK_CACHE", str(tmp_path))
    with pytest.raises(WeightsAbsent) as caught:
        load_lpips("alex")
    for part in (
        str(tmp_path / "alexnet.npz"),
        "licence: BSD-3-Clause",
        "source: https://download.pytorch.org/models/alexnet-owt-7be5be79.pth",
        "`jaxtalk weights get alexnet`",
        "`jaxtalk weights convert alexnet FILE`",
    ):
        assert part in str(caught.value)
    (tmp_path / "alexnet.npz").symlink_to(here / "alexnet.npz")
    with pytest.raises(WeightsAbsent, match="lpips_alex is not on this machine"):
        load_lpips("alex")


def test_gradients_are_finite_where_features_vanish() -> None:
    taps = jnp.zeros((1, 2, 2, 3)).at[0, 0, 0].set(jnp.array([3.0, 0.0, 4.0]))
    np.testing.assert_allclose(_unit(taps)[0, 0, 0], [0.6, 0.0, 0.8])
    assert jnp.isfinite(jax.grad(lambda x: _unit(x)[..., 0].sum())(taps)).all()


class Doubled(nnx.Module):
    """What `Batched` needs of a network, with values that are easily checked."""

    def __init__(self) -> None:
        self.factor = nnx.Param(jnp.float32(2.0))


@pytest.mark.parametrize("count", [1, 7, 8, 9, 16])
def test_batches_give_each_frame_its_own_value(count: int) -> None:
    batched = Batched(Doubled(), lambda network, x: network.factor[...] * x[:, 0, 0, 0], batch=8)
    frames = np.arange(count, dtype=np.float32).reshape(-1, 1, 1, 1)
    np.testing.assert_array_equal(batched(frames), 2.0 * np.arange(count))


@pytest.mark.parametrize(("side", "batch"), [(64, 8), (256, 8), (512, 2), (1024, 1)])
def test_large_frames_come_in_small_batches(side: int, batch: int) -> None:
    shapes: list[tuple[int, ...]] = []

    def first_pixel(network: Doubled, x: jax.Array) -> jax.Array:
        shapes.append(x.shape)
        return network.factor[...] * x[:, 0, 0, 0]

    frames = np.zeros((3, side, side, 1), np.uint8)
    frames[:, 0, 0, 0] = 51 * np.arange(3)
    np.testing.assert_allclose(Batched(Doubled(), first_pixel)(frames), [0.0, 0.4, 0.8], rtol=1e-6)
    assert shapes == [(batch, side, side, 1)]


def eight_devices() -> None:
    """Run by `test_eight_devices_give_the_same` in a process that has eight."""
    assert jax.device_count() == 8
    frames = drawn.uniform("many pictures", (11, 33, 35, 3))
    values = load_lpips("alex")(frames, frames[::-1])
    vgg = weights.load("vgg16", nnx.eval_shape(lambda: Vgg(16, ("relu1_2", "relu3_1"), rngs=nnx.Rngs(0))))
    rows = jax.device_put(frames[:8], batch_sharding(make_mesh(fsdp=2)))
    taps = jax.jit(lambda rows: vgg(rows))(rows)
    assert all(tap.sharding.is_equivalent_to(rows.sharding, 4) for tap in taps)
    np.savez(sys.argv[2], lpips=values, **{f"tap{i}": drawn.kept(np.asarray(tap)) for i, tap in enumerate(taps)})


def test_eight_devices_give_the_same(here: Path, tmp_path: Path) -> None:
    out = tmp_path / "values.npz"
    told = {"XLA_FLAGS": "--xla_force_host_platform_device_count=8", "JAX_PLATFORMS": "cpu"}
    subprocess.run(
        [sys.executable, "-m", "tests.test_metrics_lpips", "eight_devices", str(out)],
        check=True, cwd=Path(__file__).parents[1], env=os.environ | told,
    )  # fmt: skip
    frames = drawn.uniform("many pictures", (11, 33, 35, 3))
    vgg = weights.load("vgg16", nnx.eval_shape(lambda: Vgg(16, ("relu1_2", "relu3_1"), rngs=nnx.Rngs(0))))
    with np.load(out) as values:
        np.testing.assert_allclose(values["lpips"], load_lpips("alex")(frames, frames[::-1]), rtol=1e-5, atol=1e-9)
        for index, tap in enumerate(vgg(frames[:8])):
            assert drawn.relative_error(np.asarray(tap), values[f"tap{index}"]) < 1e-5


if __name__ == "__main__":
    eight_devices()
