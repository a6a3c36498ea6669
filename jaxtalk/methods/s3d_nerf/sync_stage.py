"""The stage `sync`: the lip-sync discriminator learns which speech belongs to which lips (card s3d_nerf, 2.9)."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import grain
import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from jaxtalk import weights
from jaxtalk.clip import ClipView
from jaxtalk.errors import JaxtalkError
from jaxtalk.few_shot.speech import consecutive_starts
from jaxtalk.input.examples import endless
from jaxtalk.losses.reconstruction import squared_error
from jaxtalk.losses.sync import contrast, triplet
from jaxtalk.methods.api import Batch, Networks, Phase, Term
from jaxtalk.methods.s3d_nerf.sync_augment import vary_boxes, vary_crops, vary_mel
from jaxtalk.methods.s3d_nerf.sync_config import SyncNetConfig, SyncStageConfig
from jaxtalk.methods.s3d_nerf.sync_examples import FPS, SHAPES, SyncExamples, example_spec, window_frames, window_mel
from jaxtalk.methods.s3d_nerf.sync_judging import embed_windows
from jaxtalk.metrics.offset_plot import draw_offsets
from jaxtalk.metrics.sync_windows import offset_curve
from jaxtalk.nn.pretrained.wav2lip_expert import EMBEDDING, FACE_SIZE, FRAMES
from jaxtalk.nn.sync_network import SyncNetwork
from jaxtalk.ops.crops import lip_crops

PREVIEW_CLIPS, PREVIEW_WINDOWS = 4, 100


def sync_networks(net: SyncNetConfig, key: jax.Array) -> Networks:
    """{"sync"}, drawn anew or with Wav2Lip's weights.

    Raises:
        WeightsAbsent: these are asked for and are not on this machine.
        JaxtalkError: they are asked for and do not fit the sizes.
    """
    if net.expert and (net.divisor, net.frames, net.lip_size, net.motion_gain) != (1, FRAMES, FACE_SIZE, 1):
        raise JaxtalkError(
            f"config.model.sync.expert: Wav2Lip's weights are those of divisor 1, {FRAMES} frames, lip_size "
            f"{FACE_SIZE} and motion_gain 1; set these, or expert=False"
        )
    network = SyncNetwork(
        net.divisor,
        net.frames,
        final_relu=net.expert,
        dropout=net.dropout,
        lip_size=net.lip_size,
        least_width=net.least_width,
        motion_gain=net.motion_gain,
        rngs=nnx.Rngs(key),
    )
    if net.expert:
        weights.load("wav2lip_expert", network)
    return {"sync": network}


@dataclasses.dataclass(frozen=True)
class SyncStage:
    """See `jaxtalk.methods.api.Stage`. One example is `settings.windows` windows of consecutive frames and sound.

    `size` is the clips' (height, width).
    """

    net: SyncNetConfig
    settings: SyncStageConfig
    size: tuple[int, int]
    name: str = "sync"
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
        keys = jax.random.split(key)
        networks = sync_networks(self.net, keys[0])
        if self.settings.articulation:
            size = max(EMBEDDING // self.net.divisor, self.net.least_width)
            networks["sync_shape"] = nnx.Linear(size, SHAPES * self.net.frames, rngs=nnx.Rngs(keys[1]))
        return networks

    def phases(self) -> tuple[Phase, ...]:
        trained = ("sync", "sync_shape") if self.settings.articulation else ("sync",)
        return (Phase(self.name, trained, optimizer(self.settings), self.losses),)

    def losses(
        self, networks: Networks, batch: Batch, key: jax.Array, step: jax.Array
    ) -> tuple[dict[str, Term], dict[str, jax.Array]]:
        """Equation 7 on the windows of each example, both ways; or all windows of the batch told apart; or both."""
        network, settings = networks["sync"], self.settings
        assert isinstance(network, SyncNetwork)
        keys = jax.random.split(key, 5)
        windows = {name: array.reshape(-1, *array.shape[2:]) for name, array in batch.items()}
        boxes = vary_boxes(settings.augment, windows["boxes"], keys[0])
        crops = vary_crops(settings.augment, lip_crops(windows["frames"] / 255.0, boxes, self.net.lip_size), keys[1])
        lips = network.faces(crops, train=True, key=keys[2])
        speech = network.audio(vary_mel(settings.augment, windows["mel"], keys[3]), train=True, key=keys[4])
        cosines = jnp.einsum("ie,je->ij", lips, speech, precision="highest")
        apart = comparable(windows["clip"], windows["time"], settings.min_shift)
        own = jnp.diagonal(cosines)[:, None]
        # Pairs of windows of one example, each window in turn the one that others are negatives to.
        example = jnp.arange(len(cosines)) // settings.windows
        pairs = apart & (example[:, None] == example)
        terms = {}
        if settings.triplet:
            hinges = triplet(own, cosines, settings.margin) + triplet(own, cosines.T, settings.margin)
            terms["triplet"] = Term(hinges, settings.triplet, pairs)
        if settings.contrast:
            terms["contrast"] = Term(contrast(cosines, apart, settings.temperature), settings.contrast)
        if settings.articulation:
            tell = networks["sync_shape"]
            for name, vectors in (("lips", lips), ("speech", speech)):
                told = tell(vectors * vectors.shape[-1] ** 0.5)
                terms[f"shape_of_{name}"] = Term(squared_error(told, windows["shape"]), settings.articulation)
        told = ((own > cosines) & pairs).sum() / jnp.maximum(pairs.sum(), 1)
        return terms, {"accuracy": told, "cosine": own.mean()}

    def example_spec(self) -> dict[str, jax.ShapeDtypeStruct]:
        return example_spec(self.settings, self.net.frames, self.size)

    def examples(self, clips: Sequence[ClipView], seed: int) -> grain.MapDataset:
        make = SyncExamples(self.settings, self.net.frames, clips)
        return endless(len(make.places), make, seed)

    def preview_batch(self, clips: Sequence[ClipView]) -> Batch:
        """Windows of the first clips, as many of each as the shortest has."""
        shown = clips[:PREVIEW_CLIPS]
        starts = [consecutive_starts(clip, self.net.frames)[:PREVIEW_WINDOWS] for clip in shown]
        count = min(map(len, starts))
        windows: dict[str, list[np.ndarray]] = {"frames": [], "boxes": [], "mel": []}
        for clip, own in zip(shown, starts, strict=True):
            windows["mel"].append(window_mel(clip, own[:count], self.net.frames))
            found = [window_frames(clip, int(start), self.net.frames) for start in own[:count]]
            for name in ("frames", "boxes"):
                windows[name].append(np.stack([window[name] for window in found]))
        return {name: np.stack(arrays) for name, arrays in windows.items()}

    def preview(self, networks: Networks, batch: Batch) -> dict[str, np.ndarray]:
        """Mean cosine of lips and sound that is shifted by -15 to 15 frames: it should peak at 0."""
        network = networks["sync"]
        assert isinstance(network, SyncNetwork)
        clips = zip(batch["frames"], batch["boxes"], batch["mel"], strict=True)
        curves = [offset_curve(*embed_windows(network, *windows)) for windows in clips]
        drawn = draw_offsets({f"clip {index}": curve for index, curve in enumerate(curves)})
        return {"offsets": drawn.astype(np.float32) / 255}


def comparable(clip: jax.Array, time: jax.Array, min_shift: int) -> jax.Array:
    """Whether two windows [N] are of different clips, or at least `min_shift` frames apart: [N, N] bool."""
    far = jnp.abs(time[:, None] - time) * FPS > min_shift - 0.5
    return far | (clip[:, None] != clip)


def optimizer(settings: SyncStageConfig) -> optax.GradientTransformation:
    """Adam; with weight decay AdamW, on kernels alone."""
    rate: float | optax.Schedule = settings.learning_rate
    if settings.decay_steps:
        rate = optax.cosine_decay_schedule(settings.learning_rate, settings.decay_steps)
    return optax.adamw(
        rate,
        settings.adam_b1,
        settings.adam_b2,
        weight_decay=settings.weight_decay,
        mask=lambda parameters: jax.tree.map(lambda leaf: leaf.ndim > 1, parameters),
    )
