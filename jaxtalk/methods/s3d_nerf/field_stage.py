"""The stage `field`: everything that makes pictures, against two discriminators and the lip-sync one (card 2.10, 4)."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence

import grain
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float

from jaxtalk.clip import ClipView
from jaxtalk.input.examples import endless
from jaxtalk.losses.adversarial import discriminator_loss, generator_loss, r1_penalty
from jaxtalk.losses.reconstruction import squared_error
from jaxtalk.losses.sync import sync_loss
from jaxtalk.methods.api import Batch, Networks, Phase, Term
from jaxtalk.methods.s3d_nerf.config import FieldStageConfig, S3DConfig
from jaxtalk.methods.s3d_nerf.examples import FieldExamples, example_spec
from jaxtalk.methods.s3d_nerf.networks import DISCRIMINATORS, critics, generator
from jaxtalk.methods.s3d_nerf.perceptual import perceptual_terms
from jaxtalk.methods.s3d_nerf.picture import Picture, Source, Target, encode, picture
from jaxtalk.methods.s3d_nerf.speech import SpeechTokens
from jaxtalk.methods.s3d_nerf.truth import Truth, psnr_in
from jaxtalk.nn.sync_network import SyncNetwork, judge
from jaxtalk.ops.triplane import View
from jaxtalk.rays.parameters import abstract_parameters

PICTURES = ("coarse", "fine")  # what is made of a target, and judged
_QUIET = 1e-4  # attention below which nothing is gained
_PER_FRAME = ("windows", "rotation", "translation", "bounds")


@dataclasses.dataclass(frozen=True)
class FieldStage:
    """See `jaxtalk.methods.api.Stage`. One example is a source and T consecutive targets of one clip."""

    config: S3DConfig
    name: str = "field"
    init_from: Mapping[str, str] = dataclasses.field(default_factory=dict)

    @property
    def settings(self) -> FieldStageConfig:
        return self.config.stages.field

    @property
    def needs(self) -> tuple[str, ...]:
        return ("sync",) if self.config.syncs else ()

    @property
    def steps(self) -> int:
        return self.settings.steps

    @property
    def batch_size(self) -> int:
        return self.settings.clips_per_step

    @property
    def ema_decay(self) -> float | None:
        return self.settings.ema_decay

    @property
    def images_per_step(self) -> int:
        """Target frames over all processes: what `images/s` counts."""
        return self.settings.clips_per_step * self.settings.frames

    @property
    def rays_per_step(self) -> int:
        """Rays over all processes: what `rays/s` counts."""
        model, pixels = self.config.model, self.config.model.coarse_size**2
        return self.images_per_step * (min(model.face_rays, pixels) or pixels)

    @property
    def evaluations_per_step(self) -> dict[str, int]:
        """Points at which the generator's phase asks the field."""
        return {"field": self.rays_per_step * sum(self.config.model.sampling.passes)}

    def networks(self, key: jax.Array) -> Networks:
        keys = jax.random.split(key)
        judges = critics(self.config, keys[1]) if self.settings.w_adv else {}
        return generator(self.config, keys[0]) | judges

    def phases(self) -> tuple[Phase, ...]:
        """The generator; and where they judge, the discriminators from `adv_start` on."""
        settings = self.settings
        names = tuple(abstract_parameters(generator, self.config))
        phases = [Phase("generator", names, optimizer(settings, settings.learning_rate), self.losses)]
        if settings.w_adv:
            adam = optimizer(settings, settings.discriminator_rate)
            phases.append(Phase("critic", DISCRIMINATORS, adam, self.critic_losses, start=settings.adv_start))
        return tuple(phases)

    def losses(
        self, networks: Networks, batch: Batch, key: jax.Array, step: jax.Array
    ) -> tuple[dict[str, Term], dict[str, jax.Array]]:
        """Equation 9, each term from its start on."""
        settings = self.settings
        made = self._pictures(networks, batch, key, slice(None))
        truth = Truth.of(batch, self.config.model.coarse_size)
        terms = self._pixels(made, truth)
        if settings.w_per:
            terms |= perceptual_terms(made, truth, settings, step)
        if settings.w_adv:
            terms |= self._adversarial(networks, made, step)
        if settings.w_sync:
            terms |= self._sync(networks, made, batch, step)
        if self.config.model.deform.kind != "none":
            terms["deform"] = Term(made.offsets, settings.w_deform)
        if settings.w_listen and made.listened is not None:
            terms["listen"] = self._listening(made.listened, step)
        if settings.w_shape:
            terms["shape"] = self._shape(networks, batch)
        error = jnp.square(made.fine - truth.fine)
        scalars = {"psnr": -10 * jnp.log10(error.mean()), "psnr_mouth": psnr_in(error, truth.mouth(error.shape[-3]))}
        return terms, scalars | {"opacity": made.opacity.mean()}

    def critic_losses(
        self, networks: Networks, batch: Batch, key: jax.Array, step: jax.Array
    ) -> tuple[dict[str, Term], dict[str, jax.Array]]:
        """Softplus of both discriminators on made and true pictures, and R1 on the true ones every so many steps."""
        settings = self.settings
        chosen = self._judged()
        made = jax.lax.stop_gradient(self._pictures(networks, batch, key, chosen))
        truth = Truth.of(batch, self.config.model.coarse_size)
        lazy = (step - settings.adv_start) % settings.r1_every == 0
        terms: dict[str, Term] = {}
        scalars: dict[str, jax.Array] = {}
        for name, critic in zip(PICTURES, DISCRIMINATORS, strict=True):
            fake, real = _flat(getattr(made, name)), _flat(getattr(truth, name)[:, chosen])
            judge = networks[critic]
            on_real, on_fake = judge(real), judge(fake)
            terms[f"judged_{name}"] = Term(discriminator_loss(on_real, on_fake))
            scalars |= {f"real_{name}": on_real, f"fake_{name}": on_fake}
            weight = 0.5 * settings.r1_gamma * settings.r1_every
            penalty = jax.lax.cond(
                lazy, lambda judge=judge, real=real: r1_penalty(judge, real), lambda real=real: jnp.zeros(len(real))
            )
            terms[f"r1_{name}"] = Term(penalty, weight)
        return terms, scalars

    def _judged(self) -> slice:
        return slice(self.settings.critic_frames or None)

    def _pictures(self, networks: Networks, batch: Batch, key: jax.Array, chosen: slice) -> Picture:
        """What is made of the chosen targets [batch, T, ...]; the planes of each clip are made once."""
        model = self.config.model
        encoded = encode(networks, model, source_of(batch))
        per_frame = {name: batch[name] for name in _PER_FRAME}
        if self.settings.w_shape:
            per_frame["lips"] = self._known_lips(batch, jax.random.fold_in(key, 1))
        targets = {name: jnp.moveaxis(array[:, chosen], 1, 0) for name, array in per_frame.items()}
        keys = jax.random.split(key, len(targets["windows"]))

        def one(arrays: tuple[dict[str, jax.Array], jax.Array]) -> Picture:
            return picture(networks, model, encoded, Target(camera=batch["camera"], **arrays[0]), arrays[1])

        if self.settings.frames_at_once >= len(keys):
            found = jax.vmap(one)((targets, keys))
        else:  # what a part needs for its gradient is computed again
            found = jax.lax.map(jax.checkpoint(one), (targets, keys), batch_size=self.settings.frames_at_once)
        return jax.tree.map(lambda x: jnp.moveaxis(x, 0, 1), found)

    def _known_lips(self, batch: Batch, key: jax.Array) -> Float[Array, "batch frames 4"]:
        """The targets' true shapes, and for which clips they are taken: a picture learns of them what a shape looks
        like, though what is told of speech errs."""
        taken = jax.random.uniform(key, (len(batch["shapes"]), 1, 1)) < self.settings.shape_share
        taken = jnp.broadcast_to(taken, (*batch["shapes"].shape[:2], 1))
        return jnp.concatenate([batch["shapes"], taken], -1)

    def _pixels(self, made: Picture, truth: Truth) -> dict[str, Term]:
        """L2 of both pictures, in [-1, 1]; the mouth may count more."""
        settings, terms = self.settings, {}
        for name in PICTURES:
            image, wanted = getattr(made, name), getattr(truth, name)
            weight = 1 + settings.mouth_weight * truth.mouth(wanted.shape[-3])[..., None]
            error = weight * squared_error(2 * image, 2 * wanted)
            terms[f"pix_{name}"] = Term(
                error.sum((-3, -2, -1)) if settings.pix_reduction == "sum" else error, settings.w_pix
            )
        return terms

    def _listening(self, listened: Float[Array, "batch frames side side"], step: jax.Array) -> Term:
        """The root of each place's attention to speech: to listen here and not there costs less than a little all over,
        which networks that scale what they hear would else prefer."""
        counts = step >= self.settings.listen_start
        return Term(jnp.sqrt(listened + _QUIET) * counts, self.settings.w_listen)

    def _shape(self, networks: Networks, batch: Batch) -> Term:
        speech = networks["speech"]
        assert isinstance(speech, SpeechTokens)
        return Term(squared_error(speech.told(batch["told_windows"]), batch["told_shapes"]), self.settings.w_shape)

    def _adversarial(self, networks: Networks, made: Picture, step: jax.Array) -> dict[str, Term]:
        chosen = self._judged()

        def judged() -> tuple[jax.Array, ...]:
            fakes = (_flat(made.coarse[:, chosen]), _flat(made.fine[:, chosen]))
            return tuple(generator_loss(networks[n](x)) for n, x in zip(DISCRIMINATORS, fakes, strict=True))

        count = len(_flat(made.fine[:, chosen]))
        found = self._from(self.settings.adv_start, step, judged, (jnp.zeros(count), jnp.zeros(count)))
        return {f"adv_{n}": Term(x, self.settings.w_adv) for n, x in zip(PICTURES, found, strict=True)}

    def _sync(self, networks: Networks, made: Picture, batch: Batch, step: jax.Array) -> dict[str, Term]:
        network = networks["sync"]
        assert isinstance(network, SyncNetwork)
        names = ("fine", "coarse") if self.settings.sync_on == "both" else ("fine",)

        def judged(pictures: jax.Array) -> jax.Array:
            boxes = batch["face_box"] * (pictures.shape[-2] / self.config.size)
            return sync_loss(judge(network, pictures, boxes, batch["mel"]))

        def heard() -> tuple[jax.Array, ...]:
            return tuple(judged(getattr(made, name)) for name in names)

        nothing = tuple(jnp.zeros(len(batch["mel"])) for _ in names)
        found = self._from(self.settings.sync_start, step, heard, nothing)
        return {f"sync_{n}": Term(x, self.settings.w_sync) for n, x in zip(names, found, strict=True)}

    def _from(
        self,
        start: int,
        step: jax.Array,
        make: Callable[[], tuple[jax.Array, ...]],
        nothing: tuple[jax.Array, ...],
    ) -> tuple[jax.Array, ...]:
        """What `make` gives from step `start` on; before, `nothing`, at no cost."""
        return make() if start <= 0 else jax.lax.cond(step >= start, make, lambda: nothing)

    def example_spec(self) -> dict[str, jax.ShapeDtypeStruct]:
        return example_spec(self.config)

    def examples(self, clips: Sequence[ClipView], seed: int) -> grain.MapDataset:
        return endless(len(clips), FieldExamples(self.config, clips), seed)

    def preview_batch(self, clips: Sequence[ClipView]) -> Batch:
        """One example of each of the first clips."""
        make = FieldExamples(_plain(self.config), clips[:3])
        found = [make(i, np.random.default_rng(i)) for i in range(len(clips[:3]))]
        return {name: np.stack([example[name] for example in found]) for name in found[0]}

    def preview(self, networks: Networks, batch: Batch) -> dict[str, np.ndarray]:
        """A row a clip: source, truth, fine and coarse picture of its last target."""
        made = _previewed(self, networks, {name: jnp.asarray(array) for name, array in batch.items()})
        coarse = jax.image.resize(made.coarse, made.fine.shape, "nearest")
        columns = [
            *(np.asarray(pixels) / np.float32(255) for pixels in (batch["source"], batch["frames"][:, -1])),
            *(np.asarray(pixels) for pixels in (made.fine, coarse)),
        ]
        return {"source_truth_fine_coarse": np.concatenate(list(np.concatenate(columns, 2)), 0).clip(0, 1)}


def source_of(batch: Batch) -> Source:
    """The source pictures of a batch."""
    view = View(batch["source_rotation"], batch["source_translation"], batch["camera"])
    return Source(batch["source"].astype(jnp.float32) / 255, batch["source_face"].astype(jnp.float32) / 255, view)


def optimizer(settings: FieldStageConfig, rate: float) -> optax.GradientTransformation:
    """Adam at `rate` * 0.1^(step / decay_steps)."""
    schedule: optax.ScalarOrSchedule = rate
    if settings.decay_steps:
        schedule = optax.exponential_decay(rate, settings.decay_steps, 0.1)
    return optax.adam(schedule, b1=settings.adam_b1, b2=settings.adam_b2)


def _previewed(stage: FieldStage, networks: Networks, arrays: Batch) -> Picture:
    """The last target of each example, without jitter."""
    encoded = encode(networks, stage.config.model, source_of(arrays))
    last = {name: arrays[name][:, -1] for name in _PER_FRAME}
    return picture(networks, stage.config.model, encoded, Target(camera=arrays["camera"], **last), None)


def _plain(config: S3DConfig) -> S3DConfig:
    """The config without augmentation."""
    field = dataclasses.replace(config.stages.field, augment=False)
    return dataclasses.replace(config, stages=dataclasses.replace(config.stages, field=field))


def _flat(pictures: jax.Array) -> jax.Array:
    """[batch, T, ...] in [0, 1] to [batch T, ...] in [-1, 1]."""
    return 2 * pictures.reshape(-1, *pictures.shape[2:]) - 1
