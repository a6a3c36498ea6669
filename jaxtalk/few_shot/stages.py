"""What is trained: the field with its references and its ears, on many people, then on one."""

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

from jaxtalk.audio import clip_windows
from jaxtalk.clip import ClipView
from jaxtalk.few_shot.coefficients import coefficients
from jaxtalk.few_shot.config import FewShotConfig, StageConfig
from jaxtalk.few_shot.examples import TargetExamples, example_spec
from jaxtalk.few_shot.frames import all_networks, encode_person, reference_conditions, render_frames
from jaxtalk.few_shot.networks import condition, with_identity
from jaxtalk.few_shot.person import Person, person_of
from jaxtalk.few_shot.picture import see, slot_noise
from jaxtalk.few_shot.references import encode, warped
from jaxtalk.few_shot.speech import SpeechStage, speech_terms
from jaxtalk.input.examples import endless
from jaxtalk.losses.reconstruction import squared_error
from jaxtalk.methods.api import Batch, Networks, Phase, Term
from jaxtalk.nn.feature_encoders import Resnet34Features
from jaxtalk.nn.speech_coefficients import Normaliser, SpeechToCoefficients
from jaxtalk.ops.compositing import Composite
from jaxtalk.rays.parameters import abstract_parameters, parameters_of
from jaxtalk.rays.rendering import rays_through
from jaxtalk.rays.speech_code import speech_code

PREVIEW_FRAMES = 3
_NEVER = 1 << 30  # steps


@dataclasses.dataclass(frozen=True)
class FieldStage:
    """The stage `field`, or `adapt` for one person; see `jaxtalk.methods.api.Stage`.

    `own_statistics`: coefficients are standardised by these clips' mean and deviation, and not by those that came
    with the networks (nothing was trained before).
    """

    name: str
    config: FewShotConfig
    settings: StageConfig
    needs: tuple[str, ...] = ()
    init_from: Mapping[str, str] = dataclasses.field(default_factory=dict)
    own_statistics: bool = False

    @property
    def steps(self) -> int:
        return self.settings.steps

    @property
    def batch_size(self) -> int:
        return self.settings.frames_per_step

    @property
    def ema_decay(self) -> float | None:
        return self.settings.ema_decay

    @property
    def rays_per_step(self) -> int:
        """Rays over all processes: what `rays/s` counts."""
        return self.settings.frames_per_step * self.settings.rays_per_frame

    @property
    def evaluations_per_step(self) -> dict[str, int]:
        """Evaluations of the fields (coarse and fine together) per step."""
        return {"field": self.rays_per_step * self.config.model.sampling.evaluations_per_ray}

    def networks(self, key: jax.Array) -> Networks:
        networks = all_networks(self.config.model, key)
        imagenet = self.config.model.references.imagenet
        if imagenet and "encoder" not in self.init_from:
            encoder = networks["encoder"]
            assert isinstance(encoder, Resnet34Features)
            encoder.load_imagenet(imagenet)
        return networks

    def phases(self) -> tuple[Phase, ...]:
        names = nnx.eval_shape(lambda: self.networks(jax.random.key(0)))
        trained = tuple(name for name in names if name != "normaliser")
        return (Phase(self.name, trained, optimizer(self.settings), self.losses),)

    def losses(
        self, networks: Networks, batch: Batch, key: jax.Array, step: jax.Array
    ) -> tuple[dict[str, Term], dict[str, jax.Array]]:
        """Equation 14: squared errors of the pictures, coarse and fine, and the errors of the coefficients heard."""
        model = self.config.model
        keys = jax.random.split(key, 4)
        motion, terms = self._motion(networks, batch, keys[3], step)
        z = condition(networks, model, motion, batch["eye_openness"])
        size = batch["reference_images"].shape[-3:-1]
        images = batch["reference_images"].astype(jnp.float32) / 255
        poses = batch["reference_rotation"], batch["reference_translation"]
        views = encode(networks, model, images, *poses, batch["camera"])
        source_z = None
        if model.listens:
            source_z = reference_conditions(networks, model, batch["reference_coefficients"], batch["identity"])
        views = warped(networks, model, views, z, source_z)
        behind = batch["background"]
        if self.settings.random_background:  # a new colour for every ray, which no half transparent head can match
            behind = jax.random.uniform(keys[0], behind.shape)
        target = jnp.where(batch["is_head"] > 0, batch["frame"], behind)
        rays = rays_through(*(batch[n] for n in ("pixels", "rotation", "translation", "camera", "bounds")))
        noise = slot_noise(model, keys[1], (len(z),))
        pictures, offsets = see(networks, model, views, z, rays, behind, noise, keys[2], size)
        names = ("coarse", "picture")[-len(pictures) :]
        found = {n: Term(squared_error(p.color, target)) for n, p in zip(names, pictures, strict=True)}
        if offsets is not None:
            found["offset"] = Term(_offset_penalty(offsets, pictures[-1]), self.settings.offset_weight)
        psnr = -10 * jnp.log10(found["picture"].values.mean())
        return found | terms, {"psnr": psnr}

    def _motion(
        self, networks: Networks, batch: Batch, key: jax.Array, step: jax.Array
    ) -> tuple[jax.Array, dict[str, Term]]:
        """What moves the face of each target, and the terms of equation 5."""
        model = self.config.model
        if not model.listens:
            smooth = step >= self.settings.attention_start
            return speech_code(networks, model.audio, batch["audio"], smooth), {}
        normaliser, speech = networks["normaliser"], networks["speech"]
        assert isinstance(normaliser, Normaliser) and isinstance(speech, SpeechToCoefficients)
        if self.own_statistics:
            normaliser.fit_to(batch["mean"][0], batch["std"][0])
        heard, _ = speech(batch["windows"])  # its statistics stay those of `audio`: these batches are of few clips
        wanted = normaliser.standardise(batch["coefficients"])
        terms = speech_terms(model.speech, heard, wanted, batch["valid"])
        weight = self.settings.speech_weight
        terms = {name: dataclasses.replace(term, weight=weight * term.weight) for name, term in terms.items()}
        given = jax.lax.stop_gradient(heard) if model.stop_grad_z_to_lstm else heard
        keys = jax.random.split(key)
        tracked = jax.random.uniform(keys[0], (len(given), 1, 1)) < self.settings.tracked_share
        given = jnp.where(tracked, wanted, given)
        if not model.semantic_window:
            given = jnp.einsum("btd,bt->bd", given, batch["position"], precision="highest")
        given = given + self.settings.motion_noise * jax.random.normal(keys[1], given.shape)
        identity = batch["identity"][:, None] if model.semantic_window else batch["identity"]
        return with_identity(model, given, identity), terms

    def example_spec(self) -> dict[str, jax.ShapeDtypeStruct]:
        return example_spec(self.config.model, self.settings, self.config.size)

    def examples(self, clips: Sequence[ClipView], seed: int) -> grain.MapDataset:
        make = TargetExamples(self.config, self.settings, clips)
        return endless(len(clips), make, seed)

    def preview_batch(self, clips: Sequence[ClipView]) -> Batch:
        """Frames of the first clip with true coefficients (the LSTM's ear is tested elsewhere), and the person."""
        clip, model = clips[0], self.config.model
        index = np.linspace(0, clip.track.num_frames - 1, PREVIEW_FRAMES).astype(int)
        if model.listens:
            heard = windowed(coefficients(clip, model.speech.centred), index, model.semantic_window)
        else:
            heard = clip_windows(model.audio.feature(self.config.feature), clip)[index]
        person = {f"person_{name}": array for name, array in person_of(clip, model)._asdict().items()}
        drive = {name: getattr(clip.track, name)[index].astype(np.float32) for name in _DRIVE}
        truth = np.stack([clip.frame(int(i)) / np.float32(255) for i in index])
        return person | drive | {"heard": heard, "truth": truth}

    def preview(self, networks: Networks, batch: Batch) -> dict[str, np.ndarray]:
        model, parameters = self.config.model, parameters_of(networks)
        person = Person(**{name: batch[f"person_{name}"] for name in Person._fields})
        views = encode_person(model, parameters, person)
        drive = (batch[name] for name in ("heard", *_DRIVE))
        frames = render_frames(model, parameters, person, views, *drive, smooth=smooths(self.config))
        pairs = np.concatenate([batch["truth"], np.asarray(frames)], 2)
        return {"truth_and_ours": np.concatenate(list(pairs), 0)}


_DRIVE = ("eye_openness", "rotation", "translation")


def windowed(values: np.ndarray, index: np.ndarray, window: int) -> np.ndarray:
    """Values of frames `index`, or of the `window` frames around each, the ends repeated."""
    if not window:
        return values[index]
    around = index[:, None] + np.arange(window) - window // 2
    return values[np.clip(around, 0, len(values) - 1)]


def _offset_penalty(
    offsets: Float[Array, "*batch rays samples"], picture: Composite
) -> Float[Array, "*batch rays samples"]:
    """Squared offsets, counting less the farther the surface is: (1 - min(depth, 1)), metres (card gdrf A.2)."""
    return offsets * (1 - jnp.minimum(jax.lax.stop_gradient(picture.depth), 1.0))[..., None]


def optimizer(settings: StageConfig) -> optax.GradientTransformation:
    """Adam at rate * 0.1^(step / decay_steps), or at a constant rate; audio64's attention starts later and faster."""

    def rate(step: jax.Array) -> jax.Array:
        decay = 0.1 ** (step / settings.decay_steps) if settings.decay_steps else jnp.float32(1)
        return settings.learning_rate * decay

    def adam(schedule: optax.Schedule) -> optax.GradientTransformation:
        return optax.adamw(schedule, eps=settings.adam_eps, weight_decay=settings.weight_decay)

    start = settings.attention_start
    late = adam(lambda count: settings.attention_factor * rate(count + start))
    attention = optax.transforms.conditionally_mask(late, lambda step: step >= start)
    own = {
        "attention": attention,
        "speech": adam(lambda step: settings.speech_factor * rate(step)),
        "warp": adam(lambda step: settings.warp_factor * rate(step)),
    }
    return optax.partition(
        own | {"rest": adam(rate)},
        lambda parameters: {name: name if name in own else "rest" for name in parameters},
    )


def smooths(config: FewShotConfig) -> bool:
    """Whether audio64's codes are smoothed in rendering: base training went past the attention's start."""
    field = config.stages.field
    return config.model.audio.attention_windows > 0 and field.steps > field.attention_start


def make_stages(config: FewShotConfig) -> tuple[SpeechStage | FieldStage, ...]:
    """`audio` where speech becomes coefficients, then `field`, end to end with it."""
    model, stages = config.model, config.stages
    if not model.listens:
        return (FieldStage("field", config, stages.field),)
    audio = SpeechStage(model.speech, stages.audio, model.face.num_expression)
    field = FieldStage("field", config, stages.field, init_from={"speech": "audio", "normaliser": "audio"})
    return audio, field


_FROM_SCRATCH = (
    *("learning_rate", "speech_factor", "speech_weight", "tracked_share", "warp_factor", "motion_noise"),
    *("mouth_share", "face_share"),
)


def adapt_stage(config: FewShotConfig, steps: int, from_scratch: bool) -> FieldStage:
    """`adapt`: everything, on one person, with a fresh optimiser and steps counted from here (card gdrf 1, 4).

    `from_scratch` starts with random networks in place of the base model's: what base training is worth. They learn at
    the base model's rate and from its rays, since gentle steps would be too few for them.
    """
    settings = dataclasses.replace(config.stages.adapt, steps=steps)
    if not config.model.listens:  # what is rendered is what was trained: smoothed from the start, or never
        settings = dataclasses.replace(settings, attention_start=0 if smooths(config) else _NEVER)
    if from_scratch:
        taken = {name: getattr(config.stages.field, name) for name in _FROM_SCRATCH}
        settings = dataclasses.replace(settings, **taken)
        return FieldStage("adapt", config, settings, own_statistics=True)
    names = abstract_parameters(all_networks, config.model)
    return FieldStage("adapt", config, settings, init_from=dict.fromkeys(names, "field"))
