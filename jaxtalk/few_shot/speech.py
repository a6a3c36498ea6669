"""The stage `audio`: speech to expression and pose, learnt from many clips (card gdrf 2.1, equations 2 to 5)."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import grain
import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jaxtyping import Array, Float

from jaxtalk.audio import FeatureSpec, clip_windows
from jaxtalk.clip import ClipView
from jaxtalk.errors import JaxtalkError
from jaxtalk.few_shot.coefficients import check_face_model, coefficient_statistics, coefficients, pose_of
from jaxtalk.few_shot.curves import draw_curves
from jaxtalk.few_shot.listening import SEQUENCE, listen, predict
from jaxtalk.input.examples import Example, endless
from jaxtalk.losses.reconstruction import squared_error
from jaxtalk.losses.sequences import (
    EXPRESSION_CONTINUITY,
    POSE_CONTINUITY,
    POSE_SIZE,
    POSE_WEIGHT,
    continuity,
    split_pose,
)
from jaxtalk.methods.api import Batch, Networks, Phase, Term
from jaxtalk.nn.speech_coefficients import CHANNELS, WINDOW, Normaliser, SpeechToCoefficients

__all__ = [
    "SpeechConfig",
    "SpeechNetConfig",
    "SpeechStage",
    "coefficient_statistics",
    "coefficients",
    "consecutive_starts",
    "listen",
    "pose_of",
    "predict",
    "speech_networks",
    "speech_terms",
]
FEATURE = FeatureSpec("atc")
PREVIEW_FRAMES = 200


@dataclasses.dataclass(frozen=True)
class SpeechNetConfig:
    """Sizes of the network (`nn.speech_coefficients`) and the weights of its losses; the defaults are the card's."""

    widths: tuple[int, ...] = (64, 128, 256, 256, 512)
    embedding: tuple[int, ...] = (2048, 256)
    hidden: int = 256
    layers: int = 3
    norm: str = "batch"  # or none
    centred: bool = False  # coefficients without each clip's mean (`few_shot.coefficients`)
    pose_weight: float = POSE_WEIGHT
    expression_continuity: float = EXPRESSION_CONTINUITY
    pose_continuity: float = POSE_CONTINUITY


@dataclasses.dataclass(frozen=True)
class SpeechConfig:
    """How the stage trains."""

    steps: int = 100_000
    batch_size: int = 16
    learning_rate: float = 2e-4
    adam_b1: float = 0.5
    ema_decay: float | None = None


def speech_networks(net: SpeechNetConfig, num_expression: int, key: jax.Array) -> Networks:
    """{"speech", "normaliser"} for a face model of `num_expression` coefficients."""
    size = num_expression + POSE_SIZE
    speech = SpeechToCoefficients(
        size,
        widths=net.widths,
        embedding=net.embedding,
        hidden=net.hidden,
        layers=net.layers,
        norm=net.norm,
        rngs=nnx.Rngs(key),
    )
    return {"speech": speech, "normaliser": Normaliser(size)}


def speech_terms(
    net: SpeechNetConfig,
    predicted: Float[Array, "batch time size"],
    target: Float[Array, "batch time size"],
    valid: Float[Array, "batch time"],
) -> dict[str, Term]:
    """Equation 5 on standardised sequences: errors of expression and pose (means over elements), and continuity."""
    (expression, pose), wanted = split_pose(predicted), split_pose(target)
    mask = valid[..., None]
    return {
        "expression": Term(squared_error(expression, wanted[0]), mask=mask),
        "pose": Term(squared_error(pose, wanted[1]), net.pose_weight, mask),
        "expression_continuity": Term(continuity(expression), net.expression_continuity),
        "pose_continuity": Term(continuity(pose), net.pose_continuity),
    }


def consecutive_starts(clip: ClipView, length: int = SEQUENCE) -> np.ndarray:
    """First frames [S] of all runs of `length` frames without a gap in time.

    Raises:
        JaxtalkError: the clip has none.
    """
    time = clip.track.time
    # Frames since the last gap, this one included.
    index = np.arange(len(time))
    run = index - np.maximum.accumulate(np.where(_after_gap(time, clip.meta.fps), index, 0)) + 1
    ends = np.flatnonzero(run >= length)
    if not ends.size:
        raise JaxtalkError(
            f"clip {clip.name}: no {length} consecutive frames to learn speech from (it has {len(time)}); use a longer "
            "clip, or leave it out of config.data.clips"
        )
    return ends - (length - 1)


def _after_gap(time: np.ndarray, fps: float) -> np.ndarray:
    """Whether frames are missing before each frame, [F] bool.

    Footage of another rate was brought to `fps` by its nearest pictures, so that steps of nearly two frames may be no
    gap: the steps around them make up for it. After a gap all frames are late.
    """
    late = time * fps - np.arange(len(time))  # frames
    gaps = np.zeros(len(time), bool)
    for i in np.flatnonzero(np.diff(time) > 1.5 / fps) + 1:
        gaps[i] = np.median(late[i : i + 5]) - np.median(late[max(i - 5, 0) : i]) > 0.5
    return gaps


class _Sequences:
    """Makes the example of a sequence: its frames' speech and coefficients."""

    def __init__(self, clips: Sequence[ClipView], centred: bool) -> None:
        self._windows = [clip_windows(FEATURE, clip) for clip in clips]
        self._values = [coefficients(clip, centred) for clip in clips]
        self._valid = [clip.track.valid.astype(np.float32) for clip in clips]
        starts = [consecutive_starts(clip) for clip in clips]
        self.places = np.array([(clip, start) for clip, own in enumerate(starts) for start in own])
        self._mean, self._std = coefficient_statistics(clips, centred)

    def __call__(self, item: int, rng: np.random.Generator) -> Example:
        clip, start = self.places[item]
        frames = slice(start, start + SEQUENCE)
        return {
            "windows": self._windows[clip][frames],
            "coefficients": self._values[clip][frames],
            "valid": self._valid[clip][frames],
            "mean": self._mean,
            "std": self._std,
        }


@dataclasses.dataclass(frozen=True)
class SpeechStage:
    """The stage `audio`; see `jaxtalk.methods.api.Stage`. One example is 16 consecutive frames of some clip."""

    net: SpeechNetConfig
    settings: SpeechConfig
    num_expression: int
    name: str = "audio"
    needs: tuple[str, ...] = ()
    init_from: Mapping[str, str] = dataclasses.field(default_factory=dict)

    @property
    def steps(self) -> int:
        return self.settings.steps

    @property
    def batch_size(self) -> int:
        return self.settings.batch_size

    @property
    def ema_decay(self) -> float | None:
        return self.settings.ema_decay

    def networks(self, key: jax.Array) -> Networks:
        return speech_networks(self.net, self.num_expression, key)

    def phases(self) -> tuple[Phase, ...]:
        optimizer = optax.adam(self.settings.learning_rate, b1=self.settings.adam_b1)
        return (Phase(self.name, ("speech",), optimizer, self.losses),)

    def losses(
        self, networks: Networks, batch: Batch, key: jax.Array, step: jax.Array
    ) -> tuple[dict[str, Term], dict[str, jax.Array]]:
        """Equation 5; and for the log, which part of the batch's squared expression the prediction explains."""
        speech, normaliser = networks["speech"], networks["normaliser"]
        assert isinstance(speech, SpeechToCoefficients) and isinstance(normaliser, Normaliser)
        normaliser.fit_to(batch["mean"][0], batch["std"][0])
        target = normaliser.standardise(batch["coefficients"])
        predicted, _ = speech(batch["windows"], use_running_average=False)
        terms = speech_terms(self.net, predicted, target, batch["valid"])
        moved = jnp.sum(jnp.square(split_pose(target)[0]) * batch["valid"][..., None])
        missed = jnp.sum(terms["expression"].values * batch["valid"][..., None])
        return terms, {"expression_explained": 1 - missed / jnp.maximum(moved, 1e-9)}

    def example_spec(self) -> dict[str, jax.ShapeDtypeStruct]:
        size = self.num_expression + POSE_SIZE
        shapes: dict[str, tuple[int, ...]] = {
            "windows": (SEQUENCE, WINDOW, CHANNELS),
            "coefficients": (SEQUENCE, size),
            "valid": (SEQUENCE,),
            "mean": (size,),
            "std": (size,),
        }
        return {name: jax.ShapeDtypeStruct(shape, np.float32) for name, shape in shapes.items()}

    def examples(self, clips: Sequence[ClipView], seed: int) -> grain.MapDataset:
        check_face_model(clips, self.num_expression)
        make = _Sequences(clips, self.net.centred)
        return endless(len(make.places), make, seed)

    def preview_batch(self, clips: Sequence[ClipView]) -> Batch:
        """The beginning of the first clip."""
        windows, values = clip_windows(FEATURE, clips[0]), coefficients(clips[0], self.net.centred)
        return {"windows": windows[:PREVIEW_FRAMES], "coefficients": values[:PREVIEW_FRAMES]}

    def preview(self, networks: Networks, batch: Batch) -> dict[str, np.ndarray]:
        """Curves of the coefficients that speech moves most, measured and predicted."""
        predicted = predict(networks, batch["windows"], stateful=False)
        return {"coefficients": draw_curves(batch["coefficients"], predicted)}
