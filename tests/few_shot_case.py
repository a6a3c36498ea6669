"""Reference-conditioned systems of the least size, on balls, for the tests of `jaxtalk.few_shot`."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import grain
import jax
import ml_collections
import numpy as np
import pytest
from flax import nnx

from configs import dfrf, gdrf
from jaxtalk.clip import ClipView
from jaxtalk.few_shot.config import read
from jaxtalk.few_shot.stages import FieldStage, make_stages
from jaxtalk.methods.api import Networks

SIZE = 16


@contextlib.contextmanager
def quick_compilation() -> Iterator[None]:
    """Programs within are compiled in a quarter of the time and run slower: here each runs a few times only."""
    before = jax.config.values["jax_disable_most_optimizations"]
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", before)


@pytest.fixture(scope="module", autouse=True)
def compile_quickly() -> Iterator[None]:
    """Import it to have a module's tests run within `quick_compilation`."""
    with quick_compilation():
        yield


def small_config(arg: str = "tiny", method: str = "gdrf") -> ml_collections.ConfigDict:
    """The config of a variant with few and narrow layers, for balls of 16 x 16 pixels."""
    config = {"gdrf": gdrf, "dfrf": dfrf}[method].get_config(arg)
    config.data.size = SIZE
    model, stages = config.model, config.stages
    model.update(face_model="ball:3:1", mapping=8 if model.mapping else 0, torso_frames=6)
    model.speech.update(widths=(2, 3), embedding=(8,), hidden=8, layers=1, norm="none")
    model.audio.update(code_size=32 if model.audio.attention_windows else 8)
    model.references.update(
        encoder="small",
        channels=(4, 5),
        project=True,
        warp_base=4,
        warp_limit=8,
        warp_encoder=2,
        warp_decoder=1,
        warp_hidden=8,
        width=8,
        hidden=4,
        iterations=1,
    )
    model.field.update(depth=2, width=16, skips=(), position_frequencies=4)
    model.sampling.update(num_coarse=4, num_fine=4, num_samples=4)
    stages.audio.update(steps=2, batch_size=2)
    stages.field.update(steps=2, rays_per_frame=6, frames_per_step=2)
    stages.adapt.update(steps=2, rays_per_frame=6, frames_per_step=2)
    return config


def field_stage(config: ml_collections.ConfigDict) -> FieldStage:
    """The stage `field` of a config."""
    stage = make_stages(read(config))[-1]
    assert isinstance(stage, FieldStage)
    return stage


def made(make: Callable[[jax.Array], Networks], seed: int = 0) -> Networks:
    """Networks with kernels of the usual size, drawn here: to draw them as `make` does takes seconds to compile."""
    random = np.random.default_rng(seed)

    def draw(path: Any, leaf: jax.ShapeDtypeStruct) -> np.ndarray:
        if leaf.ndim > 1:
            drawn = random.normal(size=leaf.shape) * (2 / np.prod(leaf.shape[:-1])) ** 0.5
        else:
            drawn = np.full(leaf.shape, float(str(path[-1].key) in ("scale", "norm_scale", "std", "var")))
        return drawn.astype(leaf.dtype)

    networks = {}
    for name, module in nnx.eval_shape(lambda: make(jax.random.key(0))).items():
        graph, state = nnx.split(module)
        networks[name] = nnx.merge(graph, jax.tree_util.tree_map_with_path(draw, nnx.to_pure_dict(state)))
    return networks


def batch_of(examples: grain.MapDataset, first: int, count: int) -> dict[str, np.ndarray]:
    """Examples first, first + 1, ... as one batch."""
    found: list[dict[str, Any]] = [examples[first + i] for i in range(count)]
    return {name: np.stack([example[name] for example in found]) for name in found[0]}


def frame_of(clip: ClipView, rotation: np.ndarray) -> int:
    """Which frame of a ball's clip has this pose: none of them has another's."""
    return int(np.argmin(np.abs(clip.track.rotation - rotation).max((1, 2))))
