"""What is trained: head, then torso before the frozen head; or both at once."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import grain
import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from jaxtalk.clip import ClipView
from jaxtalk.errors import JaxtalkError
from jaxtalk.losses.reconstruction import squared_error
from jaxtalk.methods.ad_nerf.config import AdNerfConfig, StageConfig
from jaxtalk.methods.ad_nerf.examples import RayExamples, example_spec
from jaxtalk.methods.ad_nerf.fields import head_condition, head_networks, torso_condition, torso_networks
from jaxtalk.methods.ad_nerf.frames import render_frames
from jaxtalk.methods.ad_nerf.rendering import evaluations_per_ray, render, together, torso_bounds
from jaxtalk.methods.ad_nerf.scene import Scene, scene_of
from jaxtalk.methods.api import Batch, Networks, Phase, Term
from jaxtalk.ops.compositing import Composite
from jaxtalk.rays.parameters import parameters_of
from jaxtalk.rays.rendering import rays_through
from jaxtalk.rays.speech_code import speech_code

PREVIEW_FRAMES = 3


@dataclasses.dataclass(frozen=True)
class FieldStage:
    """The stage `head`, `torso` or `portrait` (both); see `jaxtalk.methods.api.Stage`."""

    name: str
    config: AdNerfConfig
    settings: StageConfig
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

    @property
    def rays_per_step(self) -> int:
        """Rays over all processes: what `rays/s` counts."""
        return self.settings.frames_per_step * self.settings.rays_per_frame

    @property
    def evaluations_per_step(self) -> dict[str, int]:
        """Network evaluations per step of each field asked, trained or frozen."""
        sampling = self.config.model.sampling
        fields = {"head": ("head",), "torso": ("head", "torso"), "portrait": ("head", "torso")}[self.name]
        return {name: self.rays_per_step * evaluations_per_ray(sampling, name) for name in fields}

    @property
    def flops_per_evaluation(self) -> dict[str, int]:
        """Floating point operations of one forward evaluation of each of this stage's fields: two a weight.

        Training a field takes three times as many: forward, and backward to inputs and to weights.
        """
        networks = nnx.eval_shape(lambda: self.networks(jax.random.key(0)))
        kernels = {
            name: [leaf for leaf in jax.tree.leaves(nnx.state(networks[name])) if leaf.ndim == 2]
            for name in ("head", "torso")
            if name in networks
        }
        return {name: 2 * sum(leaf.size for leaf in leaves) for name, leaves in kernels.items()}

    def networks(self, key: jax.Array) -> Networks:
        keys = jax.random.split(key)
        model = self.config.model
        networks: Networks = {}
        if self.name in ("head", "portrait"):
            networks |= head_networks(model, keys[0])
        if self.name in ("torso", "portrait"):
            networks |= torso_networks(model, keys[1])
        return networks

    def phases(self) -> tuple[Phase, ...]:
        names = nnx.eval_shape(lambda: self.networks(jax.random.key(0)))
        return (Phase(self.name, tuple(names), optimizer(self.settings), self.losses),)

    def losses(
        self, networks: Networks, batch: Batch, key: jax.Array, step: jax.Array
    ) -> tuple[dict[str, Term], dict[str, jax.Array]]:
        """Squared errors of the pictures (coarse and fine) against the head's target and the whole frame."""
        smooth = step >= self.settings.attention_start if self.name != "torso" else smooths(self.config)
        keys = jax.random.split(key)
        code = speech_code(networks, self.config.model.audio, batch["audio"], smooth)
        head = self._head(networks, batch, code, keys[0])
        terms: dict[str, Term] = {}
        if self.name != "torso":
            behind = self._behind(batch, jax.random.fold_in(key, 2))
            pictures = [picture.foreground + picture.background_weight[..., None] * behind for picture in head]
            terms |= _terms("head", pictures, jnp.where(batch["is_head"] > 0, batch["frame"], behind))
        if self.name != "head":
            torso = self._torso(networks, batch, jax.lax.stop_gradient(code), keys[1])
            given = jax.tree.map(jax.lax.stop_gradient, head[-1])  # trained together or not, the head is given
            pictures = [together(self.config.model, given, one) for one in torso]
            terms |= _terms("frame", pictures, batch["frame"])
        errors = {name: terms[name].values.mean() for name in ("head", "frame") if name in terms}
        return terms, {f"psnr_{name}": -10 * jnp.log10(error) for name, error in errors.items()}

    def _behind(self, batch: Batch, key: jax.Array) -> jax.Array:
        """What stands behind the head while it learns: the plate, or a new colour for every ray, which no half
        transparent head can match."""
        plate = batch["background"]
        return jax.random.uniform(key, plate.shape) if self.settings.random_background else plate

    def _head(self, networks: Networks, batch: Batch, code: jax.Array, key: jax.Array) -> tuple[Composite, ...]:
        model = self.config.model
        rays = rays_through(*(batch[n] for n in ("pixels", "rotation", "translation", "camera", "bounds")))
        condition = head_condition(model, code, batch["eye_openness"])
        return render(networks, "head", model.sampling, rays, condition, batch["background"], key)

    def _torso(self, networks: Networks, batch: Batch, code: jax.Array, key: jax.Array) -> tuple[Composite, ...]:
        model = self.config.model
        first = batch["torso_rotation"], batch["torso_translation"]
        bounds = torso_bounds(model.sampling, batch["depth_range"], first[1])
        bounds = jnp.broadcast_to(bounds[:, None], batch["bounds"].shape)
        rays = rays_through(batch["pixels"], *first, batch["camera"], bounds)
        condition = torso_condition(model, code, (batch["rotation"], batch["translation"]), first)
        return render(networks, "torso", model.sampling, rays, condition, batch["background"], key)

    def example_spec(self) -> dict[str, jax.ShapeDtypeStruct]:
        return example_spec(self.config, self.settings.rays_per_example)

    def examples(self, clips: Sequence[ClipView], seed: int) -> grain.MapDataset:
        return RayExamples(self.config, self.settings, only(clips), seed)

    def preview_batch(self, clips: Sequence[ClipView]) -> Batch:
        clip = only(clips)
        rays = RayExamples(self.config, self.settings, clip, 0)
        index = np.linspace(0, clip.track.num_frames - 1, PREVIEW_FRAMES).astype(int)
        batch = {name: getattr(clip.track, name)[index].astype(np.float32) for name in _DRIVE}
        scene = {f"scene_{name}": array for name, array in scene_of(clip)._asdict().items()}
        truth = np.stack([clip.frame(i) / np.float32(255) for i in index])
        return batch | scene | {"audio": rays.audio[index], "truth": truth}

    def preview(self, networks: Networks, batch: Batch) -> dict[str, np.ndarray]:
        scene = Scene(**{name: batch[f"scene_{name}"] for name in Scene._fields})
        parameters = parameters_of(networks)
        drive = (batch[name] for name in ("audio", *_DRIVE))
        frames = render_frames(self.config.model, parameters, scene, *drive, smooth=smooths(self.config))
        pairs = np.concatenate([batch["truth"], np.asarray(frames)], 2)
        return {"truth_and_ours": np.concatenate(list(pairs), 0)}


_DRIVE = ("eye_openness", "rotation", "translation")


def _terms(name: str, pictures: Sequence[jax.Array], target: jax.Array) -> dict[str, Term]:
    names = [f"{name}_coarse", name][-len(pictures) :]
    return {n: Term(squared_error(picture, target)) for n, picture in zip(names, pictures, strict=True)}


def optimizer(settings: StageConfig) -> optax.GradientTransformation:
    """Adam at rate * 0.1^(step / decay_steps); the attention's starts later, at `attention_factor` times the rate."""

    def rate(step: jax.Array) -> jax.Array:
        return settings.learning_rate * 0.1 ** (step / settings.decay_steps)

    def adam(schedule: optax.Schedule) -> optax.GradientTransformation:
        return optax.adamw(schedule, eps=settings.adam_eps, weight_decay=settings.weight_decay)

    start = settings.attention_start
    late = adam(lambda count: settings.attention_factor * rate(count + start))
    attention = optax.transforms.conditionally_mask(late, lambda step: step >= start)
    return optax.partition(
        {"attention": attention, "rest": adam(rate)},
        lambda parameters: {name: "attention" if name == "attention" else "rest" for name in parameters},
    )


def smooths(config: AdNerfConfig) -> bool:
    """Whether the finished head hears smoothed codes: training went past the attention's start."""
    settings = config.stages.portrait or config.stages.head
    assert settings is not None
    return config.model.audio.attention_windows > 0 and settings.steps > settings.attention_start


def only(clips: Sequence[ClipView]) -> ClipView:
    """AD-NeRF learns one person from one clip. Raises `JaxtalkError` for another number."""
    if len(clips) != 1:
        raise JaxtalkError(f"config.data.clips: ad_nerf learns one person from one clip, and there are {len(clips)}")
    return clips[0]


def make_stages(config: AdNerfConfig) -> tuple[FieldStage, ...]:
    """The stages that the config asks for, in order."""
    stages = config.stages
    if stages.portrait is not None:
        return (FieldStage("portrait", config, stages.portrait),)
    assert stages.head is not None
    head = FieldStage("head", config, stages.head)
    return (head,) if stages.torso is None else (head, FieldStage("torso", config, stages.torso, needs=("head",)))
