"""What a system is: stages to train, and avatars that render. `training`, `synthesis`, `evaluation` know only this.

A method is a package `jaxtalk.methods.NAME` that exports

    stages(config) -> tuple[Stage, ...]         what is trained, in order
    fit(run, clip) -> Avatar                    a talking head of one identity from a trained run
    load_avatar(folder) -> Avatar               reads what `Avatar.save` wrote
    audio_feature(config) -> jaxtalk.audio.FeatureSpec    what speech looks like to this system

and, when it learns an unseen identity from seconds of video,

    adapt(run, clip, steps, *, from_scratch=False, folder=None) -> Avatar    after so many steps on `clip`; 0: none

A stage is trained by the one loop in `training`. At each step every phase whose turn it is takes one optimiser update:
gradients with respect to that phase's networks alone. GANs (two phases), VAEs, fields, latent inversion (a network that
holds the latents) and adaptation (`init_from`) are all stages.

Axes: B examples of the global batch, F frames, R rays, H W picture rows and columns, features last.
"""

from __future__ import annotations

import dataclasses
import importlib
import pkgutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

import grain
import jax
import ml_collections
import numpy as np
import optax
from flax import nnx

from jaxtalk.clip import Camera, ClipView, Track
from jaxtalk.errors import JaxtalkError

Networks = dict[str, nnx.Module]
Batch = Mapping[str, Any]  # name -> array [B, ...]


@dataclasses.dataclass(frozen=True)
class Term:
    """One term of a loss, unreduced: the step takes sum(values * mask) / sum(mask) over the global batch, times weight.

    `mask` broadcasts against `values`; None counts every value.
    """

    values: jax.Array
    weight: float | jax.Array = 1.0
    mask: jax.Array | None = None


# (networks, batch, key, step) -> (terms, scalars for the log). Networks of earlier stages are in `networks`, frozen.
# State that is no parameter (batch statistics, codebook usage) is kept by mutating the modules as Flax does.
LossFn = Callable[[Networks, Batch, jax.Array, jax.Array], tuple[dict[str, Term], dict[str, jax.Array]]]


@dataclasses.dataclass(frozen=True)
class Phase:
    """One optimiser update of one step. It runs at steps `start, start + every, ...`.

    `optimizer` sees the parameters as {network name: pure dict}.
    """

    name: str
    trains: tuple[str, ...]
    optimizer: optax.GradientTransformation
    losses: LossFn
    every: int = 1
    start: int = 0


class Stage(Protocol):
    """One training run of some networks. Everything is known from the config; nothing is read before `examples`."""

    @property
    def name(self) -> str: ...

    @property
    def steps(self) -> int: ...

    @property
    def batch_size(self) -> int:
        """Examples per step over all processes."""
        ...

    @property
    def needs(self) -> tuple[str, ...]:
        """Earlier stages whose networks are loaded, frozen, beside this one's; own names hide theirs."""
        ...

    @property
    def init_from(self) -> Mapping[str, str]:
        """Own network -> earlier stage whose final (averaged) parameters it starts from."""
        ...

    @property
    def ema_decay(self) -> float | None:
        """Decay of an exponential moving average of the parameters, used for preview, fit and evaluation.

        At step t it is at most (1 + t) / (10 + t), so that the initial values are soon forgotten. None: no average.
        """
        ...

    def networks(self, key: jax.Array) -> Networks:
        """Builds this stage's own networks. Runs under `jax.eval_shape` and under `jax.jit`."""
        ...

    def phases(self) -> tuple[Phase, ...]: ...

    def example_spec(self) -> dict[str, jax.ShapeDtypeStruct]:
        """Shape and type of each array of one example (without the batch axis)."""
        ...

    def examples(self, clips: Sequence[ClipView], seed: int) -> grain.MapDataset:
        """An endless random-access stream of examples (dicts of numpy arrays as `example_spec` says).

        Element i depends on (clips, seed, i) alone. Sharding by process, batching and prefetching are done to it.
        """
        ...

    def preview_batch(self, clips: Sequence[ClipView]) -> Batch | None:
        """A fixed batch to draw pictures from during training; None for a stage without pictures."""
        ...

    def preview(self, networks: Networks, batch: Batch) -> dict[str, np.ndarray]:
        """Pictures {name: [H, W, 3] float in [0, 1]} from the (averaged) networks."""
        ...


@dataclasses.dataclass(frozen=True)
class Drive:
    """What moves an avatar, frame by frame. Each system reads what it knows."""

    audio: np.ndarray  # [F, ...] what the avatar's `listen` gave
    rotation: np.ndarray  # [F, 3, 3] head to camera
    translation: np.ndarray  # [F, 3]
    eye_openness: np.ndarray  # [F, 2]
    camera: Camera | None = None  # None: the avatar's own, at its own size

    def take(self, index: np.ndarray | slice) -> Drive:
        per_frame = ("audio", "rotation", "translation", "eye_openness")
        return dataclasses.replace(self, **{name: getattr(self, name)[index] for name in per_frame})


class Avatar(Protocol):
    """A fitted identity that renders. Self-contained: the folder that `save` writes is all it needs."""

    name: str
    size: tuple[int, int]  # height, width of what `render` gives
    fps: float
    camera: Camera
    track: Track  # the training frames' track: poses and blinks to borrow

    def listen(self, windows: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
        """From the windows of an utterance to what `Drive.audio` takes, one row a frame.

        Both come in parts [n, ...] of consecutive frames at `fps`. A system that hears each frame's window alone
        gives them back; one that reads speech as a sequence answers when it has heard all.
        """
        ...

    def render(self, drive: Drive) -> np.ndarray:
        """Frames [F, H, W, 3] float32 in [0, 1]. Call it with the same F again and again: compiled once per F."""
        ...

    def save(self, folder: Path) -> None: ...


class Run(Protocol):
    """A trained run as `fit` sees it."""

    @property
    def workdir(self) -> Path: ...

    @property
    def config(self) -> ml_collections.ConfigDict: ...

    def networks(self, stage: str) -> Networks:
        """The networks of a finished stage, with averaged parameters where the stage keeps them."""
        ...

    def train(self, stage: Stage, clips: Sequence[ClipView], folder: Path) -> Networks:
        """Trains one more stage, for an avatar, in FOLDER: `needs` and `init_from` are stages of this run.

        It resumes there, and is not trained again once finished.
        """
        ...


def load_method(name: str) -> ModuleType:
    """Imports `jaxtalk.methods.NAME`. An unknown name is an error that lists the known ones."""
    names = method_names()
    if name not in names:
        raise JaxtalkError(f"config.method: there is no system {name!r}; known are {', '.join(names)}")
    return importlib.import_module(f"jaxtalk.methods.{name}")


def method_names() -> list[str]:
    """All systems, found by their folders."""
    return sorted(module.name for module in pkgutil.iter_modules([str(Path(__file__).parent)]) if module.ispkg)


def check_generalises(method: Any, name: str, wanted: str) -> None:
    """Raises `JaxtalkError` for a system that is trained for one person; `wanted` says what needs another."""
    if not getattr(method, "generalises", False):
        able = [other for other in method_names() if getattr(load_method(other), "generalises", False)]
        raise JaxtalkError(
            f"{name} is trained for one person and {wanted}; "
            f"systems that meet strangers: {', '.join(able) or 'none yet'}"
        )
