"""`jaxtalk bench`: one config in, its figures on this device out, as a table and as JSON."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.util
import json
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import jax
import ml_collections
import numpy as np

from jaxtalk import __version__
from jaxtalk.audio import FeatureSpec
from jaxtalk.bench.device import MatrixRate, matrix_rate, peak_memory
from jaxtalk.bench.rendering import RandomRun, RenderingSpeed, measure_rendering
from jaxtalk.bench.table import print_table
from jaxtalk.bench.training import TrainingSpeed, measure_training, random_stages
from jaxtalk.errors import JaxtalkError
from jaxtalk.input.clips import open_clips
from jaxtalk.methods.api import load_method
from jaxtalk.progress import console
from jaxtalk.training.sharding import make_mesh

_CLIP_SECONDS = 2.4  # frames enough for the input pipeline to choose from, and for a source a second from its targets


@dataclasses.dataclass(frozen=True)
class Figures:
    """All that was measured. `devices` train; one of them renders."""

    config: str
    method: str
    size: int
    device: str
    backend: str
    devices: int
    host_cpus: int
    jax_version: str
    jaxtalk_version: str
    matrix_rates: tuple[MatrixRate, ...]
    training: tuple[TrainingSpeed, ...]
    rendering: RenderingSpeed
    peak_memory_bytes: float
    peak_memory_of: str  # device or process


def run_bench(
    config: str | ml_collections.ConfigDict,
    *,
    size: int | None = None,
    seconds: float = 10.0,
    clip: str | os.PathLike[str] | None = None,
    out: str | os.PathLike[str] | None = None,
) -> Figures:
    """Measures training and rendering of a config, prints a table, and writes JSON to `out`.

    Args:
      config: FILE.py[:VARIANT], as train.py takes it, or a config.
      size: side of the frames in pixels, in place of the config's.
      seconds: about how long each measurement runs; there are two for each stage and two for rendering.
      clip: a clip's folder; a synthetic speaker when None.
      out: file for the figures.

    Raises `JaxtalkError` for what the user can mend. Compilation is timed, so no cache of programs is used.
    """
    name = config if isinstance(config, str) else config.method
    settings = (load_config(config) if isinstance(config, str) else config).copy_and_resolve_references()
    if size is not None:
        settings.data.size = size
    if out is not None:  # before anything is measured, so that no figures are lost to a place that cannot be made
        Path(out).parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="jaxtalk-bench-") as folder, _no_compile_cache():
        figures = _measure(name, settings, Path(folder), seconds, None if clip is None else Path(clip))
    print_table(figures)
    if out is not None:
        partial = Path(f"{os.fspath(out)}.partial")
        partial.write_text(json.dumps(dataclasses.asdict(figures), indent=1) + "\n")
        os.replace(partial, out)
    return figures


def load_config(text: str) -> ml_collections.ConfigDict:
    """The config of FILE.py[:VARIANT]. Raises `JaxtalkError` when there is no such file."""
    file, separator, variant = text.partition(".py:")
    path = Path(f"{file}.py" if separator else text)
    if not path.is_file():
        raise JaxtalkError(f"{path}: no such config; give FILE.py or FILE.py:VARIANT, e.g. configs/ad_nerf.py:tiny")
    spec = importlib.util.spec_from_file_location("jaxtalk_bench_config", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.path.insert(0, str(path.resolve().parents[1]))  # a config may import one beside it: from configs import ...
    try:
        spec.loader.exec_module(module)
    finally:
        del sys.path[0]
    return module.get_config(variant) if separator else module.get_config()


def _measure(name: str, config: ml_collections.ConfigDict, folder: Path, seconds: float, clip: Path | None) -> Figures:
    method, mesh = load_method(config.method), make_mesh(config.train.fsdp)
    path = clip if clip is not None else _speaker(folder, config.data.size, method.audio_feature(config))
    config.data.clips = (str(path.resolve()),)
    config.data.dataset, config.data.identities, config.data.held_out = "", (), ()
    stages = method.stages(config)
    clips = open_clips(config, folder)
    _say(f"{len(stages)} stage(s) and rendering, about {2 * seconds * (len(stages) + 1):.0f} s after compilation")
    trained = random_stages(stages, mesh)
    training = []
    for stage in stages:
        _say(f"training {stage.name}")
        training.append(measure_training(stage, clips, trained, mesh, config.data.workers, seconds))
    _say("rendering")
    rendering = measure_rendering(
        method, RandomRun(folder, config, trained), clips[0], stages[-1], training[-1], seconds
    )
    memory, owner = peak_memory()
    return Figures(
        config=name,
        method=config.method,
        size=config.data.size,
        device=jax.devices()[0].device_kind,
        backend=jax.default_backend(),
        devices=mesh.size,
        host_cpus=len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1,
        jax_version=jax.__version__,
        jaxtalk_version=__version__,
        matrix_rates=tuple(matrix_rate(dtype) for dtype in sorted({stage.dtype for stage in training})),
        training=tuple(training),
        rendering=rendering,
        peak_memory_bytes=memory,
        peak_memory_of=owner,
    )


def _speaker(folder: Path, size: int, spec: FeatureSpec) -> Path:
    """A synthetic clip. Tokens of wav2vec 2.0, which are made once a clip, are random: no weights are needed."""
    from jaxtalk.synthetic.speaker import write_speaker

    _say(f"making a synthetic speaker at {size} x {size}")
    path = folder / "speaker"
    write_speaker(path, identity=0, utterance=0, seconds=_CLIP_SECONDS, size=size)
    if spec.name == "wav2vec2":
        tokens = np.random.default_rng(0).normal(size=(round(50 * _CLIP_SECONDS), spec.num_channels))
        (path / "features").mkdir(exist_ok=True)
        np.save(path / "features" / "wav2vec2.npy", tokens.astype(np.float16))
    return path


@contextlib.contextmanager
def _no_compile_cache() -> Iterator[None]:
    before = jax.config.jax_enable_compilation_cache  # type: ignore[attr-defined]
    jax.config.update("jax_enable_compilation_cache", False)
    try:
        yield
    finally:
        jax.config.update("jax_enable_compilation_cache", before)


def _say(text: str) -> None:
    console.print(f"bench: {text}", highlight=False)
