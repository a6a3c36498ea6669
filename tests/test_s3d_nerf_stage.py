"""The stage `field`: what an example is, whom each term teaches, from when on, and that speech moves mouths."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from jax.extend.core import Literal

from jaxtalk.clip import ClipView
from jaxtalk.errors import JaxtalkError
from jaxtalk.input.clips import select_frames
from jaxtalk.methods.api import LossFn, Networks
from jaxtalk.methods.s3d_nerf import field_stage, perceptual, stages
from jaxtalk.methods.s3d_nerf.examples import FieldExamples, mirrored
from jaxtalk.methods.s3d_nerf.field_stage import FieldStage, _previewed
from jaxtalk.methods.s3d_nerf.frames import person_of
from jaxtalk.methods.s3d_nerf.networks import DISCRIMINATORS, GENERATOR
from jaxtalk.methods.s3d_nerf.picture import Picture, Source, Target, encode, picture
from jaxtalk.methods.s3d_nerf.truth import Truth, shrunk
from jaxtalk.nn.pretrained.vgg import Vgg
from jaxtalk.ops.cameras import project
from jaxtalk.ops.triplane import View
from jaxtalk.training.state import Modules, split_networks
from jaxtalk.training.step import batch_shapes, make_plan, reduce_term
from jaxtalk.weights import WeightsAbsent
from tests.few_shot_case import compile_quickly, made
from tests.s3d_case import SIZE, ball, settings, small_config

__all__ = ["compile_quickly"]
PLAIN = "tiny,stages.field.augment=False"
ND = "w_adv=0,w_sync=0,deform=nd"
STEPS = 250
ALL = "stages.field.adv_start=3,stages.field.sync_start=4"


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> ClipView:
    return ball(tmp_path_factory.mktemp("clips") / "ball")


def _batch(stage: FieldStage, clip: ClipView, count: int = 2) -> dict[str, jax.Array]:
    make = FieldExamples(stage.config, [clip])
    found = [make(0, np.random.default_rng(i)) for i in range(count)]
    return {name: jnp.asarray(np.stack([example[name] for example in found])) for name in found[0]}


def _networks(stage: FieldStage) -> Networks:
    """This stage's own, and those that it needs."""
    found = made(stage.networks)
    if stage.needs:
        found |= made(stages(small_config())[0].networks)
    return found


def test_examples_are_consecutive_targets_far_from_their_source(clip: ClipView) -> None:
    """Card 5.16: a source near the targets would show the answer."""
    stage = FieldStage(settings(PLAIN))
    make, fps = FieldExamples(stage.config, [clip]), clip.meta.fps
    track, sides = clip.track, set()
    for seed in range(40):
        example = make(0, np.random.default_rng(seed))
        frames = [int(np.argmin(np.abs(track.rotation - r).max((1, 2)))) for r in example["rotation"]]
        source = int(np.argmin(np.abs(track.rotation - example["source_rotation"]).max((1, 2))))
        assert np.diff(frames).tolist() == [1] * (stage.settings.frames - 1)
        assert min(abs(source - frame) for frame in frames) >= fps * stage.settings.gap_seconds
        sides.add(source < frames[0])
    assert sides == {True, False}
    np.testing.assert_array_equal(example["source"], clip.frame(source))


@pytest.mark.parametrize("arguments", ["", "w_sync=0", "stages.field.w_shape=0.1,model.speech.lips=True"])
def test_an_example_is_what_its_spec_says(clip: ClipView, arguments: str) -> None:
    stage = FieldStage(settings(",".join(filter(None, ["tiny", arguments]))))
    example, spec = stage.examples([clip], 0)[3], stage.example_spec()
    assert {name: (x.shape, x.dtype) for name, x in example.items()} == {n: (s.shape, s.dtype) for n, s in spec.items()}


def test_a_clip_that_is_too_short_for_a_source_is_told(clip: ClipView) -> None:
    with pytest.raises(JaxtalkError, match="one 1 s away"):
        FieldExamples(settings(), [select_frames(clip, np.arange(20))])


def test_a_mirrored_example_shows_mirrored_points(clip: ClipView) -> None:
    """A point on the head's left, mirrored, is projected where the mirrored picture shows it; twice is nothing."""
    make = FieldExamples(settings(PLAIN), [clip])
    example = make(0, np.random.default_rng(0))
    found = mirrored(example)
    points = jnp.array([[0.03, 0.02, 0.08], [-0.05, 0.04, 0.06]])
    for name in ("rotation", "source_rotation"):
        poses = [
            (e[name].reshape(-1, 3, 3)[0], e[name.replace("rotation", "translation")].reshape(-1, 3)[0], e["camera"])
            for e in (example, found)
        ]
        one = project(points, *(jnp.asarray(x) for x in poses[0]))[0]
        other = project(points * jnp.array([-1, 1, 1]), *(jnp.asarray(x) for x in poses[1]))[0]
        np.testing.assert_allclose(SIZE - one[:, 0], other[:, 0], atol=1e-4)
        np.testing.assert_allclose(one[:, 1], other[:, 1], atol=1e-4)
    np.testing.assert_array_equal(found["frames"], example["frames"][:, :, ::-1])
    np.testing.assert_allclose(found["mouth_box"][:, 0], SIZE - example["mouth_box"][:, 2], atol=1e-5)
    for name, array in mirrored(found).items():
        np.testing.assert_allclose(array, example[name], atol=1e-5, err_msg=name)


def test_coarse_truth_is_the_masked_face_made_smaller_and_fine_truth_the_frame(clip: ClipView) -> None:
    """Card 5.17: swapping them trains silently."""
    stage = FieldStage(settings())
    batch = _batch(stage, clip)
    truth = Truth.of(batch, 8)
    frames, faces = np.asarray(batch["frames"]) / 255, np.asarray(batch["faces"]) / 255
    np.testing.assert_allclose(truth.fine, frames, atol=1e-6)
    blocks = (frames * faces[..., None]).reshape(*frames.shape[:2], 8, 2, 8, 2, 3).mean((3, 5))
    np.testing.assert_allclose(truth.coarse, blocks, atol=1e-6)
    assert float(truth.coarse[:, :, 0].max()) == 0 and float(truth.fine[:, :, 0].min()) > 0  # the plate above the ball
    np.testing.assert_allclose(shrunk(truth.fine, 1)[0, 0, 0, 0], frames[0, 0].mean((0, 1)), atol=1e-5)
    box = np.asarray(batch["mouth_box"])[0, 0]
    inside = np.argwhere(np.asarray(truth.mouth(SIZE)[0, 0]))
    assert inside[:, 1].min() == np.ceil(box[0] - 0.5) and inside[:, 0].min() == np.ceil(box[1] - 0.5)


def _nearly_true(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pictures are the truth made brighter by 0.1, so that the terms alone are compiled."""

    def pictures(stage: FieldStage, networks: Networks, batch: Any, key: jax.Array, chosen: slice) -> Picture:
        truth = Truth.of(batch, stage.config.model.coarse_size)
        fine, coarse = truth.fine[:, chosen] + 0.1, truth.coarse[:, chosen] + 0.1
        count = fine.shape[:2]
        return Picture(
            coarse, fine, jnp.ones((*count, 8, 8)), jnp.full((*count, 7), 0.25), None, jnp.full((*count, 4, 4), 0.75)
        )

    monkeypatch.setattr(FieldStage, "_pictures", pictures)


def test_terms_begin_at_their_steps_with_the_weights_of_equation_9(
    clip: ClipView, monkeypatch: pytest.MonkeyPatch
) -> None:
    _nearly_true(monkeypatch)
    stage = FieldStage(settings(f"tiny,{ALL},w_adv=0.25,w_sync=0.125,stages.field.sync_on=both"))
    networks, batch = _networks(stage), _batch(stage, clip)
    weights: dict[str, float] = {}

    @jax.jit
    def terms(step: jax.Array) -> dict[str, jax.Array]:
        found, _ = stage.losses(networks, batch, jax.random.key(0), step)
        weights.update({name: float(term.weight) for name, term in found.items()})
        return {name: reduce_term(term) for name, term in found.items()}

    early, middle, late = ({n: float(x) for n, x in terms(jnp.int32(step)).items()} for step in (2, 3, 4))
    own = {"pix_coarse": 1.0, "pix_fine": 1.0, "deform": 0.001}
    own |= {"adv_coarse": 0.25, "adv_fine": 0.25, "sync_fine": 0.125, "sync_coarse": 0.125}
    assert weights == own and set(early) == set(own)
    assert [late[name] for name in ("deform", "pix_fine")] == [early[name] for name in ("deform", "pix_fine")]
    assert early["deform"] == pytest.approx(0.25)
    for name in ("adv_coarse", "adv_fine"):
        assert early[name] == 0 < middle[name]
    for name in ("sync_coarse", "sync_fine"):
        assert early[name] == middle[name] == 0 < late[name] <= 2
    off = FieldStage(settings("tiny,w_adv=0,w_sync=0,deform=none"))
    found, _ = off.losses({}, batch, jax.random.key(0), jnp.int32(9))
    assert set(found) == {"pix_coarse", "pix_fine"}


def test_listening_costs_from_its_start_and_only_where_places_listen(
    clip: ClipView, monkeypatch: pytest.MonkeyPatch
) -> None:
    quiet = "tiny,w_adv=0,w_sync=0,model.speech.null_token=True,stages.field.w_listen=0.5,stages.field.listen_start=3"
    stage = FieldStage(settings(quiet))
    (taught,) = _taught(dataclasses.replace(stage, config=settings(f"{quiet},stages.field.listen_start=0")),
                        stage.losses, "listen")  # fmt: skip
    assert taught == {"encoder", "slots", "speech", "attention"}
    _nearly_true(monkeypatch)
    batch = _batch(stage, clip)
    for step, expected in ((2, 0.0), (3, 0.75**0.5)):
        term = stage.losses({}, batch, jax.random.key(0), jnp.int32(step))[0]["listen"]
        assert term.weight == 0.5 and float(reduce_term(term)) == pytest.approx(expected, abs=1e-3)
    some, all_over = jnp.array([[1.0, 0.0], [0.0, 0.0]]), jnp.full((2, 2), 0.25)
    few, even = (float(reduce_term(stage._listening(x[None, None], jnp.int32(3)))) for x in (some, all_over))
    assert few < 0.6 * even


def test_pixels_count_as_means_or_sums_and_in_the_mouth_more(clip: ClipView, monkeypatch: pytest.MonkeyPatch) -> None:
    """On pictures in [-1, 1]: an error of 0.1 of [0, 1] counts 0.04."""
    _nearly_true(monkeypatch)

    def term(setting: str) -> tuple[float, float]:
        stage = FieldStage(settings(f"tiny,w_adv=0,w_sync=0,stages.field.mouth_weight=0.0,{setting}"))
        found, scalars = stage.losses({}, _batch(stage, clip), jax.random.key(0), jnp.int32(0))
        assert float(scalars["psnr"]) == pytest.approx(20, abs=1e-3) == float(scalars["psnr_mouth"])
        return float(reduce_term(found["pix_coarse"])), float(reduce_term(found["pix_fine"]))

    assert term("stages.field.pix_reduction=mean") == pytest.approx((0.04, 0.04), rel=1e-4)
    assert term("stages.field.pix_reduction=sum") == pytest.approx((0.04 * 192, 0.04 * 768), rel=1e-4)
    stage = FieldStage(settings())
    share = float(Truth.of(_batch(stage, clip), 8).mouth(SIZE).mean())
    assert 0.02 < share < 0.5
    assert term("stages.field.mouth_weight=3.0")[1] == pytest.approx(0.04 * (1 + 3 * share), rel=1e-4)


def _taught(stage: FieldStage, losses: LossFn, *terms: str) -> list[set[str]]:
    """For each beginning of names, the networks that have a gradient from the terms that are called so.

    Read off the traced gradients, where what no loss reaches is a constant zero: nothing is compiled.
    """
    modules = Modules.of(stages(small_config())[0]) | Modules.of(stage)

    def gradients(params: Any, stats: Any, batch: Any) -> Any:
        def totals(params: Any) -> list[jax.Array]:
            found, _ = losses(modules.merge(params, stats), batch, jax.random.key(0), jnp.int32(0))
            return [
                sum((reduce_term(t) for n, t in found.items() if n.startswith(term)), jnp.float32(0)) for term in terms
            ]

        return [jax.grad(lambda params, index=index: totals(params)[index])(params) for index in range(len(terms))]

    traced, found = jax.make_jaxpr(gradients, return_shape=True)(modules.params, modules.stats, batch_shapes(stage))
    live = set(traced.jaxpr.invars)
    for equation in traced.jaxpr.eqns:
        if any(not isinstance(value, Literal) and value in live for value in equation.invars):
            live |= set(equation.outvars)
    reached = [not isinstance(value, Literal) and value in live for value in traced.jaxpr.outvars]
    by_network = jax.tree.unflatten(jax.tree.structure(found), reached)
    return [{name for name, part in each.items() if any(jax.tree.leaves(part))} for each in by_network]


def test_each_phase_teaches_its_own_networks() -> None:
    """The generator learns from the frozen judges (card 5.11), the critics from pictures whose making is left alone."""
    stage = FieldStage(settings("tiny,stages.field.adv_start=0,stages.field.sync_start=0"))
    sync, deform = _taught(stage, stage.losses, "sync", "deform")
    assert sync == set(GENERATOR) and deform == {"encoder", "slots", "speech", "attention", "deformation"}
    assert _taught(stage, stage.critic_losses, "") == [set(DISCRIMINATORS)]
    told = FieldStage(settings("tiny,w_sync=0,w_adv=0,stages.field.w_shape=0.1,model.speech.lips=True"))
    assert _taught(told, told.losses, "shape") == [{"speech"}]
    plan = make_plan(FieldStage(settings(f"tiny,{ALL}")), Modules.of(stages(small_config())[0]))
    generator, critic = plan.phases
    assert set(generator.trains) == set(GENERATOR) and set(critic.trains) == set(DISCRIMINATORS)
    assert (generator.start, critic.start) == (0, 3)
    assert {name.split("/")[0] for name in plan.names} == {"generator", "critic"}


def test_critics_learn_to_tell_and_pay_r1_every_so_many_steps(clip: ClipView, monkeypatch: pytest.MonkeyPatch) -> None:
    _nearly_true(monkeypatch)
    stage = FieldStage(settings(f"tiny,{ALL},stages.field.r1_every=4,stages.field.r1_gamma=5.0"))
    networks, batch = _networks(stage), _batch(stage, clip)
    seen = [2 * stage.settings.clips_per_step // 2]

    @jax.jit
    def terms(step: jax.Array) -> dict[str, jax.Array]:
        found, scalars = stage.critic_losses(networks, batch, jax.random.key(0), step)
        seen.append(len(found["r1_fine"].values))
        return {n: t.values for n, t in found.items()} | scalars | {"weight": jnp.float32(found["r1_fine"].weight)}

    found = {step: terms(jnp.int32(step)) for step in (3, 4, 7)}
    assert [float(jnp.abs(found[step]["r1_fine"]).max()) > 0 for step in (3, 4, 7)] == [True, False, True]
    assert seen[1] == stage.settings.clips_per_step * stage.settings.critic_frames and float(found[3]["weight"]) == 10
    for name in ("coarse", "fine"):
        real, fake = found[3][f"real_{name}"], found[3][f"fake_{name}"]
        expected = jax.nn.softplus(-real) + jax.nn.softplus(fake)
        np.testing.assert_allclose(found[3][f"judged_{name}"], expected, rtol=1e-5)


def test_without_judges_there_is_one_phase_and_without_sync_one_stage() -> None:
    assert [stage.name for stage in stages(small_config())] == ["sync", "field"]
    (stage,) = stages(small_config("tiny,w_sync=0,w_adv=0"))
    assert [phase.name for phase in stage.phases()] == ["generator"] and stage.needs == ()
    assert "mel" not in stage.example_spec() and not set(DISCRIMINATORS) & set(nnx.eval_shape(
        lambda: stage.networks(jax.random.key(0))))  # fmt: skip


def test_planes_are_made_once_a_clip(clip: ClipView, monkeypatch: pytest.MonkeyPatch) -> None:
    """Card 5.20: T frames share their clip's planes; clips do not mix; frames in parts are the same frames."""
    stage, parts = (FieldStage(settings(f"tiny,{ND},stages.field.frames_at_once={n}")) for n in (5, 2))
    networks, batch, key = _networks(stage), _batch(stage, clip), jax.random.key(0)
    seen: list[tuple[int, ...]] = []
    call = type(networks["encoder"]).__call__
    monkeypatch.setattr(type(networks["encoder"]), "__call__", lambda self, x: (seen.append(x.shape), call(self, x))[1])
    draw = jax.jit(lambda batch: stage._pictures(networks, batch, key, slice(None)).fine)
    fine = draw(batch)
    assert seen == [(2, SIZE, SIZE, 3)] and fine.shape[:2] == (2, stage.settings.frames)
    changed = draw(batch | {"source": batch["source"].at[1].set(255 - batch["source"][1])})
    np.testing.assert_allclose(changed[0], fine[0], atol=1e-6)
    assert float(jnp.abs(changed[1] - fine[1]).max()) > 1e-2
    some = jax.jit(lambda batch: parts._pictures(networks, batch, key, slice(None)).fine)(batch)
    np.testing.assert_allclose(some, fine, atol=1e-5)
    assert float(jnp.abs(fine[:, 0] - fine[:, 4]).max()) > 1e-3


def test_perceptual_terms_appear_with_the_weights_and_otherwise_it_says_so(
    clip: ClipView, monkeypatch: pytest.MonkeyPatch
) -> None:
    def absent() -> Vgg:
        raise WeightsAbsent("vgg19 is not here")

    _nearly_true(monkeypatch)
    said: list[str] = []
    monkeypatch.setattr(perceptual, "console", SimpleNamespace(print=said.append))
    stage = FieldStage(settings("tiny,w_adv=0,w_sync=0,stages.field.w_per=0.01,stages.field.per_start=1"))
    batch = _batch(stage, clip)
    monkeypatch.setattr(perceptual, "load_vgg19", absent)
    perceptual._vgg19.cache_clear()
    for _ in range(2):
        terms, _ = stage.losses({}, batch, jax.random.key(0), jnp.int32(1))
        assert "per_fine" not in terms
    assert len(said) == 1 and "w_per" in said[0] and "vgg19 is not here" in said[0]
    perceptual._vgg19.cache_clear()
    seen = []
    monkeypatch.setattr(perceptual, "_vgg19", lambda: "network")

    def distance(network: str, image: jax.Array, target: jax.Array) -> jax.Array:
        seen.append((image.shape, target.shape))
        return (image - target).mean((1, 2, 3))

    monkeypatch.setattr(perceptual, "perceptual", distance)
    terms, _ = stage.losses({}, batch, jax.random.key(0), jnp.int32(1))
    for name in ("per_coarse", "per_fine"):
        np.testing.assert_allclose(terms[name].values, 0.1, atol=1e-5)
        assert terms[name].weight == 0.01
    assert seen[0] == ((10, 8, 8, 3),) * 2 and seen[1] == ((10, SIZE, SIZE, 3),) * 2  # like against like
    terms, _ = stage.losses({}, batch, jax.random.key(0), jnp.int32(0))
    assert float(terms["per_fine"].values.max()) == 0


def test_one_clip_is_learnt_with_its_speech(clip: ClipView) -> None:
    """Card 5.15, 5.16: the error falls; from a source of closed lips, mouths open as the truth's; wrong speech spoils
    them and leaves what no place heard."""
    chosen = ["learning_rate=1e-2", "adam_b1=0.9", "clips_per_step=6", "frames=2", "frames_at_once=2", "augment=False"]
    stage = FieldStage(settings(",".join(["tiny,w_adv=0,w_sync=0,hears=True", *(f"stages.field.{c}" for c in chosen)])))
    (phase,) = stage.phases()
    networks = made(stage.networks)
    out: Any = networks["deformation"].out  # type: ignore[attr-defined]
    out.kernel[...] = jnp.zeros_like(out.kernel[...])
    parameters, _ = split_networks(networks)
    modules = Modules.of(stage)
    make, moments = FieldExamples(stage.config, [clip]), phase.optimizer.init(parameters)

    @jax.jit
    def step(parameters: Any, moments: Any, batch: dict[str, jax.Array], key: jax.Array) -> tuple[Any, Any, jax.Array]:
        def loss(parameters: Any) -> tuple[jax.Array, jax.Array]:
            networks = modules.merge(parameters, modules.stats)
            terms, scalars = stage.losses(networks, batch, key, jnp.int32(0))
            total = sum((term.weight * reduce_term(term) for term in terms.values()), jnp.float32(0))
            return total, jnp.stack([scalars["psnr"], scalars["psnr_mouth"]])

        gradient, psnr = jax.grad(loss, has_aux=True)(parameters)
        updates, moments = phase.optimizer.update(gradient, moments, parameters)
        return optax.apply_updates(parameters, updates), moments, psnr

    curve = []
    for i in range(STEPS):
        found = [make(0, np.random.default_rng((i, j))) for j in range(stage.batch_size)]
        batch = {name: jnp.asarray(np.stack([example[name] for example in found])) for name in found[0]}
        parameters, moments, psnr = step(parameters, moments, batch, jax.random.key(i))
        curve.append(np.asarray(psnr))
    early, late = np.mean(curve[5:15], 0), np.mean(curve[-10:], 0)
    gained = late - early  # dB: of frames, and of mouths
    assert gained.min() > 2, gained
    _speech_matters(stage, modules.merge(parameters, modules.stats), clip, make)


def _speech_matters(stage: FieldStage, networks: Networks, clip: ClipView, make: FieldExamples) -> None:
    config, opening = stage.config, clip.track.expression[:, 0]
    closed, wide = int(np.argmin(opening[:25])), 50 + int(np.argmax(opening[50:70]))
    shut = 50 + int(np.argmin(opening[50:70]))
    example = _example(make, clip, closed, wide)

    @jax.jit
    def drawn(windows: jax.Array) -> jax.Array:
        source = encode(networks, config.model, example.source)
        return picture(networks, config.model, source, example.target._replace(windows=windows[None]), None).fine[0]

    right, wrong = (np.asarray(drawn(example.windows[i])) for i in (wide, shut))
    truth = clip.frame(wide) / 255
    x0, y0, x1, y1 = (int(v) for v in np.round(clip.track.mouth_box[wide]))
    errors = [
        float(np.square(image - truth)[y0:y1, x0:x1].mean()) for image in (right, wrong, clip.frame(closed) / 255)
    ]
    assert errors[0] < 0.8 * errors[1] and errors[0] < 0.5 * errors[2]
    change = np.abs(right - wrong).mean(-1)
    mouth = np.zeros_like(change, bool)
    mouth[y0:y1, x0:x1] = True
    assert change[mouth].mean() > 3 * change[~mouth].mean()


@dataclasses.dataclass
class _Example:
    source: Any
    target: Target
    windows: jax.Array


def _example(make: FieldExamples, clip: ClipView, source: int, target: int) -> _Example:
    person = person_of(select_frames(clip, np.array([source])))
    view = View(*(jnp.asarray(x)[None] for x in (person.rotation, person.translation, person.camera)))
    shown = Source(jnp.asarray(person.picture)[None] / 255, jnp.asarray(person.face)[None] / 255, view)
    windows = jnp.asarray(make._windows[0])
    arrays = (clip.track.rotation[target], clip.track.translation[target], person.camera, make._bounds[0][target])
    return _Example(shown, Target(windows[target][None], *(jnp.asarray(x, jnp.float32)[None] for x in arrays)), windows)


def test_previews_have_a_row_for_each_clip(clip: ClipView, monkeypatch: pytest.MonkeyPatch) -> None:
    stage = FieldStage(settings())
    batch = stage.preview_batch([clip, clip, clip, clip])
    assert len(batch["source"]) == 3
    arrays = {name: jnp.asarray(array[:2]) for name, array in batch.items()}
    networks, modules = {}, Modules.of(stage)
    made_of = jax.eval_shape(
        lambda params, stats: _previewed(stage, modules.merge(params, stats), arrays), modules.params, modules.stats
    )
    assert made_of.fine.shape == (2, SIZE, SIZE, 3)

    def drawn(stage: FieldStage, networks: Networks, arrays: Any) -> Picture:
        shapes = jnp.full((2, 8, 8, 3), 0.75), jnp.full((2, SIZE, SIZE, 3), 0.25)
        return Picture(*shapes, jnp.ones((2, 8, 8)), jnp.zeros((2, 7)), None, None)

    monkeypatch.setattr(field_stage, "_previewed", drawn)
    (image,) = stage.preview(networks, {name: np.asarray(array) for name, array in arrays.items()}).values()
    assert image.shape == (2 * SIZE, 4 * SIZE, 3) and image.min() >= 0 and image.max() <= 1
    source, truth, fine, coarse = np.split(image[SIZE:], 4, 1)
    np.testing.assert_allclose(source, np.asarray(batch["source"][1]) / 255, atol=1e-6)
    np.testing.assert_allclose(truth, np.asarray(batch["frames"][1, -1]) / 255, atol=1e-6)
    assert np.ptp(fine) == np.ptp(coarse) == 0 and fine[0, 0, 0] == 0.25 and coarse[0, 0, 0] == 0.75


def test_the_folder_of_a_clip_is_not_needed_twice(tmp_path: Path) -> None:
    """Examples depend on the seed and the position alone."""
    stage, clip = FieldStage(settings()), ball(tmp_path / "ball")
    one, other = (stage.examples([clip], 3)[7] for _ in range(2))
    for name, array in one.items():
        np.testing.assert_array_equal(array, other[name])
