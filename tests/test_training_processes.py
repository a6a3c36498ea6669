"""Training on several devices, in several processes, and through kills: always the same numbers."""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest

from jaxtalk.training.logging import read_metrics
from jaxtalk.training.run import open_run, train_stages
from tests.test_training_run import arrays, lines
from tests.toy_method import FACTORIES, WIDTH, toy_config

EVERY_STEP = {"log_every": 1, "checkpoint_every": 10, "preview_every": 1000}
# A network that `fsdp` splits, and two phases: statistics, noise, averages and conditions all cross devices.
WIDE = [["regressor", {"width": WIDTH}], ["adversarial", {"every": 2, "start": 3, "needs": ["fit"]}]]


def start(devices: int = 1, **told: object) -> subprocess.Popen:
    """Trains in a process of its own; `told` is what `toy_method.main` reads, and `environment`."""
    environment = os.environ | {
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}",
        **told.pop("environment", {}),  # type: ignore[dict-item]
    }
    command = [sys.executable, "-m", "tests.toy_method", json.dumps(told)]
    return subprocess.Popen(
        command, cwd=Path(__file__).parents[1], env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True,
    )  # fmt: skip


def finish(process: subprocess.Popen) -> str:
    said, _ = process.communicate(timeout=200)
    assert process.returncode == 0, said
    return said


def build(stages: list) -> list:
    return [FACTORIES[name](**settings) for name, settings in stages]


def assert_same_values(ours: Path, theirs: Path, tolerance: float) -> None:
    """Every term and loss of every step, relative to its size (of signed means, whose parts cancel, none)."""
    stages = {line["stage"] for line in lines(ours)}
    pairs = list(zip(lines(ours), [line for line in lines(theirs) if line["stage"] in stages], strict=True))
    assert len(pairs) == 21 * len(stages) > 0
    for a, b in pairs:
        assert a.keys() == b.keys() and (a["stage"], a["step"]) == (b["stage"], b["step"])
        for name in set(a) - {"stage", "step", "state_sha256", "fit/bias", "fit/grad_norm"}:
            assert a[name] == pytest.approx(b[name], rel=tolerance), (name, a, b)


@pytest.fixture(scope="module")
def one_device(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if jax.device_count() != 1:
        pytest.skip("the reference needs a test process with one device")
    path = tmp_path_factory.mktemp("one")
    train_stages(toy_config(**EVERY_STEP), path, [], build(WIDE))
    return path


def test_eight_devices_equal_one(one_device: Path, tmp_path: Path) -> None:
    """Data parallel, and 4 x 2 with parameters split; what they saved is read back on one device."""
    eight = start(8, workdir=str(tmp_path / "8"), stages=WIDE[:1], train=EVERY_STEP)
    split = start(8, workdir=str(tmp_path / "4x2"), stages=WIDE, train=EVERY_STEP | {"fsdp": 2})
    finish(eight)
    assert "'fsdp'" in finish(split)  # the parameter table shows how the wide matrix is split
    reference = arrays(open_run(one_device, build(WIDE)).networks("fit")["regressor"])
    for name in ("8", "4x2"):
        assert_same_values(tmp_path / name, one_device, 1e-5)
        loaded = arrays(open_run(tmp_path / name, build(WIDE)).networks("fit")["regressor"])
        for a, b in zip(loaded, reference, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def test_two_processes_equal_one(one_device: Path, tmp_path: Path) -> None:
    """Two processes of two devices each, with their batches dealt out: the same losses, written once."""
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        port = probe.getsockname()[1]
    environments = [
        {"JAX_COORDINATOR_ADDRESS": f"localhost:{port}", "JAX_NUM_PROCESSES": "2", "JAX_PROCESS_ID": str(i)}
        for i in range(2)
    ]
    both = [
        start(2, workdir=str(tmp_path), stages=WIDE, train=EVERY_STEP | {"fsdp": 2}, environment=environment)
        for environment in environments
    ]
    for process in both:
        finish(process)
    assert_same_values(tmp_path, one_device, 1e-5)


def wait_for_step(workdir: Path, step: int, process: subprocess.Popen) -> None:
    while not any(line["step"] >= step for line in read_metrics(workdir / "metrics.jsonl")):
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.002)


def test_killed_and_stopped_runs_end_bit_equal(tmp_path: Path) -> None:
    """kill -9 at a random moment, then SIGTERM at another, then the end: the hash and the log of an unbroken run."""
    stages = [["regressor", {"steps": 800}]]
    often = {"log_every": 10, "checkpoint_every": 40, "preview_every": 1000}
    seed = int(time.time())
    print(f"moments drawn with seed {seed}")
    moments = random.Random(seed)
    broken, unbroken = tmp_path / "broken", tmp_path / "unbroken"

    killed = start(workdir=str(broken), stages=stages, train=often)
    wait_for_step(broken, moments.randrange(60, 200), killed)
    time.sleep(moments.uniform(0, 0.1))
    killed.kill()
    killed.communicate()
    reached = read_metrics(broken / "metrics.jsonl")[-1]["step"]
    assert killed.returncode == -signal.SIGKILL and reached < 800

    stopped = start(workdir=str(broken), stages=stages, train=often)
    wait_for_step(broken, reached + moments.randrange(60, 200), stopped)
    stopped.send_signal(signal.SIGTERM)
    said, _ = stopped.communicate(timeout=100)
    assert stopped.returncode == 128 + signal.SIGTERM, said
    assert "state saved" in said and "Traceback" not in said

    again = start(workdir=str(broken), stages=stages, train=often)
    straight = start(workdir=str(unbroken), stages=stages, train=often)
    assert "step 0 of" not in finish(again)
    finish(straight)
    assert lines(broken)[-1]["state_sha256"] == lines(unbroken)[-1]["state_sha256"]
    assert lines(broken) == lines(unbroken)
