"""Small stages that show what the training core can express, and a program that trains them in a process of its own.

python -m tests.toy_method WORKDIR NAME[,NAME...] [--steps N] [--train.KEY VALUE] [--die-at STEP] [--print-loss]
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import grain
import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import optax
from flax import nnx

from jaxtalk.clip import ClipView
from jaxtalk.config import base
from jaxtalk.methods.api import Batch, Networks, Phase, Term

WIDTH = 256  # a WIDTH x WIDTH matrix is large enough to be split over `fsdp`
KERNELS = nnx.initializers.variance_scaling(1.0, "fan_in", "uniform")  # compiles faster than the normal ones


def points(seed: int, noise: float = 0.0) -> grain.MapDataset:
    """Pairs x [4], y [2] of a fixed smooth function; element i depends on (seed, i) alone."""

    def example(i: int) -> dict[str, np.ndarray]:
        rng = np.random.default_rng((seed, i))
        x = rng.uniform(-1, 1, 4).astype(np.float32)
        y = np.array([np.sin(2 * x[0]) * x[1], x[2] ** 2 - x[3]], np.float32)
        return {"x": x, "y": y + noise * rng.normal(size=2).astype(np.float32), "who": np.array(i % 3, np.int32)}

    return grain.MapDataset.range(1 << 40).map(example)


class MLP(nnx.Module):
    def __init__(self, sizes: Sequence[int], rngs: nnx.Rngs, norm: bool = False) -> None:
        self.layers = nnx.List([nnx.Linear(a, b, kernel_init=KERNELS, rngs=rngs) for a, b in itertools.pairwise(sizes)])
        self.norm = nnx.BatchNorm(sizes[-2], momentum=0.9, rngs=rngs) if norm else None

    def __call__(self, x: jax.Array, train: bool = True) -> jax.Array:
        for layer in list(self.layers)[:-1]:
            x = jnp.tanh(layer(x))
        if self.norm is not None:
            x = self.norm(x, use_running_average=not train)
        return self.layers[-1](x)


class Codes(nnx.Module):
    """Latents that are optimised like any parameter."""

    def __init__(self, count: int, size: int) -> None:
        self.codes = nnx.Param(jnp.zeros((count, size)))

    def __call__(self, who: jax.Array) -> jax.Array:
        return self.codes[...][who]


@dataclasses.dataclass
class ToyStage:
    """A stage from functions. `make` builds the networks, `plan` the phases."""

    name: str
    make: Callable[[jax.Array], Networks]
    plan: Callable[[], tuple[Phase, ...]]
    steps: int = 20
    batch_size: int = 16
    needs: tuple[str, ...] = ()
    init_from: Mapping[str, str] = dataclasses.field(default_factory=dict)
    ema_decay: float | None = None
    rays_per_step: int = 16
    pictures: bool = False
    data: Callable[[int], grain.MapDataset] = points

    def networks(self, key: jax.Array) -> Networks:
        return self.make(key)

    def phases(self) -> tuple[Phase, ...]:
        return self.plan()

    def example_spec(self) -> dict[str, jax.ShapeDtypeStruct]:
        example = self.data(0)[0]
        return {name: jax.ShapeDtypeStruct(array.shape, array.dtype) for name, array in example.items()}

    def examples(self, clips: Sequence[ClipView], seed: int) -> grain.MapDataset:
        return self.data(seed)

    def preview_batch(self, clips: Sequence[ClipView]) -> Batch | None:
        return {"x": np.zeros((8, 4), np.float32)} if self.pictures else None

    def preview(self, networks: Networks, batch: Batch) -> dict[str, np.ndarray]:
        value = np.asarray(networks["regressor"](jnp.asarray(batch["x"]), train=False))
        return {"grey": np.full((8, 8, 3), 1 / (1 + np.exp(-value.mean())), np.float32)}


def regression(networks: Networks, batch: Batch, key: jax.Array, step: jax.Array) -> tuple[dict, dict]:
    noise = 0.01 * jax.random.normal(key, batch["x"].shape)
    error = networks["regressor"](batch["x"] + noise) - batch["y"]
    return {"mse": Term(error**2)}, {"bias": jnp.mean(error)}


def regressor(name: str = "fit", width: int = 16, **settings: object) -> ToyStage:
    """A regression with batch statistics, dropout-like noise, Adam and averaged parameters."""
    settings = {"ema_decay": 0.9} | settings
    return ToyStage(
        name,
        lambda key: {"regressor": MLP((4, width, width, 2), nnx.Rngs(key), norm=True)},
        lambda: (Phase("fit", ("regressor",), optax.adam(1e-2), regression),),
        **settings,  # type: ignore[arg-type]
    )


def adversarial(name: str = "gan", every: int = 1, start: int = 0, **settings: object) -> ToyStage:
    """Two phases: the discriminator learns to tell y from the generator's, then the generator to deceive it."""

    def critic(networks: Networks, batch: Batch, key: jax.Array, step: jax.Array) -> tuple[dict, dict]:
        fake = networks["generator"](jax.random.normal(key, (batch["y"].shape[0], 3)))
        real_score, fake_score = networks["critic"](batch["y"]), networks["critic"](fake)
        return {"real": Term(jax.nn.softplus(-real_score)), "fake": Term(jax.nn.softplus(fake_score))}, {}

    def generator(networks: Networks, batch: Batch, key: jax.Array, step: jax.Array) -> tuple[dict, dict]:
        fake = networks["generator"](jax.random.normal(key, (batch["y"].shape[0], 3)))
        return {"deceive": Term(jax.nn.softplus(-networks["critic"](fake)))}, {}

    return ToyStage(
        name,
        lambda key: {
            "generator": MLP((3, 8, 2), nnx.Rngs(key)),
            "critic": MLP((2, 8, 1), nnx.Rngs(jax.random.fold_in(key, 1))),
        },
        lambda: (
            Phase("d", ("critic",), optax.adam(1e-2), critic),
            Phase("g", ("generator",), optax.adam(1e-2), generator, every=every, start=start),
        ),
        **settings,  # type: ignore[arg-type]
    )


def latents(name: str = "codes", needs: tuple[str, ...] = ("fit",), **settings: object) -> ToyStage:
    """A frozen regressor, and one latent per identity that is added to its input and optimised."""

    def losses(networks: Networks, batch: Batch, key: jax.Array, step: jax.Array) -> tuple[dict, dict]:
        x = batch["x"] + networks["codes"](batch["who"])
        offset = jnp.stack([batch["who"], -batch["who"]], -1) * 0.3
        return {"mse": Term((networks["regressor"](x, train=False) - batch["y"] - offset) ** 2)}, {}

    return ToyStage(
        name,
        lambda key: {"codes": Codes(3, 4)},
        lambda: (Phase("codes", ("codes",), optax.adam(3e-2), losses),),
        needs=needs,
        **settings,  # type: ignore[arg-type]
    )


FACTORIES = {"regressor": regressor, "adversarial": adversarial, "latents": latents}


def toy_config(**train: object) -> ml_collections.ConfigDict:
    """The shared settings with these of `train`."""
    config = base()
    config.method = "toy"
    config.train.update(train)
    config.lock()
    return config


def main(arguments: str) -> None:
    """Trains stages as a JSON text says: {"workdir", "stages": [[factory, settings], ...], "train": settings}."""
    from jaxtalk.errors import reported_errors
    from jaxtalk.training.distributed import initialize
    from jaxtalk.training.run import train_stages

    told = json.loads(arguments)
    initialize()
    with reported_errors():
        stages = [FACTORIES[name](**settings) for name, settings in told["stages"]]
        train_stages(toy_config(**told["train"]), Path(told["workdir"]), [], stages)


if __name__ == "__main__":
    main(sys.argv[1])
