"""The stages `field` and `adapt`: whose gradients reach whom, rates, statistics, and that references are used."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.extend.core import Literal

from configs import dfrf, gdrf
from jaxtalk.clip import Clip, ClipView
from jaxtalk.few_shot.config import StageConfig, read
from jaxtalk.few_shot.stages import FieldStage, _offset_penalty, adapt_stage, optimizer, smooths, windowed
from jaxtalk.input.views import DerivedView
from jaxtalk.methods.api import Networks
from jaxtalk.ops.compositing import Composite
from jaxtalk.training.state import Modules
from jaxtalk.training.step import batch_shapes, make_plan, make_step, reduce_term
from tests.fake_clip import write_fake_clip
from tests.few_shot_case import SIZE, batch_of, compile_quickly, field_stage, made, small_config

__all__ = ["compile_quickly"]
TINTS = ((1.0, 0.25, 0.25), (0.25, 1.0, 0.25), (0.25, 0.25, 1.0), (1.0, 1.0, 0.2))


class Tinted(DerivedView):
    """A ball in a colour of its own, which nothing but its pictures tells."""

    def __init__(self, clip: ClipView, tint: tuple[float, ...]) -> None:
        super().__init__(clip)
        self._clip, self._tint = clip, tint

    def frame(self, index: int) -> np.ndarray:
        head = (self._clip.mask(index) == 1)[..., None]
        frame = self._clip.frame(index)
        return np.where(head, np.round(frame * np.array(self._tint)), frame).astype(np.uint8)

    def mask(self, index: int) -> np.ndarray:
        return self._clip.mask(index)


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> list[ClipView]:
    folder = tmp_path_factory.mktemp("balls")
    plain = [write_fake_clip(folder / f"p{i}", seconds=0.8, size=SIZE, seed=i, identity=f"p{i}") for i in range(4)]
    return [Tinted(clip, tint) for clip, tint in zip(plain, TINTS, strict=True)]


def _taught(stage: FieldStage) -> tuple[set[str], set[str]]:
    """The networks that have a gradient from the speech's losses, and those that have one from the pictures'.

    Read off the traced gradients, where what no loss reaches is a constant zero: nothing is compiled.
    """
    modules = Modules.of(stage)

    def gradients(params: dict, stats: dict, batch: dict) -> list[dict]:
        def losses(params: dict) -> list[jax.Array]:
            networks = modules.merge(params, stats)
            terms, _ = stage.losses(networks, batch, jax.random.key(1), jnp.int32(0))
            reduced = {name: reduce_term(term) for name, term in terms.items()}
            pictures = sum(reduced.pop(name) for name in ("picture", "coarse", "offset") if name in reduced)
            return [sum(reduced.values(), jnp.float32(0)), pictures]

        return [jax.grad(lambda params, index=index: losses(params)[index])(params) for index in range(2)]

    shapes = modules.params, modules.stats, batch_shapes(stage)
    traced, found = jax.make_jaxpr(gradients, return_shape=True)(*shapes)
    live = set(traced.jaxpr.invars)
    for equation in traced.jaxpr.eqns:
        if any(not isinstance(value, Literal) and value in live for value in equation.invars):
            live |= set(equation.outvars)
    reached = [not isinstance(value, Literal) and value in live for value in traced.jaxpr.outvars]
    by_network = jax.tree.unflatten(jax.tree.structure(found), reached)
    speech, pictures = ({name for name, part in each.items() if any(jax.tree.leaves(part))} for each in by_network)
    return speech, pictures


def test_speech_losses_never_touch_the_field_and_pictures_teach_the_ears() -> None:
    """Card gdrf 5.9, and equation 14 end to end unless `stop_grad_z_to_lstm`."""
    stage = field_stage(small_config("tiny,motion=lstm_id,sampling=hierarchical"))
    everything = {"speech", "mapping", "encoder", "references", "warp", "field", "coarse"}
    assert _taught(stage) == ({"speech"}, everything)
    stage = field_stage(small_config("tiny,sampling=hierarchical,model.stop_grad_z_to_lstm=True"))
    assert _taught(stage) == ({"speech"}, everything - {"speech"})


def test_pictures_teach_dfrf_s_code_and_offsets() -> None:
    stage = field_stage(small_config("tiny,model.audio.attention_windows=8", "dfrf"))
    assert _taught(stage) == (set(), {"audio", "attention", "encoder", "references", "warp", "field"})


def test_equation_14_s_weights_and_masks() -> None:
    """lambda_l, 0.2 of the pose, 0.01 and 0.001 of the continuity (card gdrf 2.1, 2.10)."""
    config = small_config("tiny,sampling=hierarchical,model.speech.expression_continuity=0.01,"
                          "stages.field.speech_weight=3,warp=dfrf_point,stages.field.offset_weight=7")  # fmt: skip
    stage, weights = field_stage(config), {}

    def losses(batch: dict) -> list[jax.Array]:
        terms, _ = stage.losses(stage.networks(jax.random.key(0)), batch, jax.random.key(1), jnp.int32(0))
        weights.update({name: float(term.weight) for name, term in terms.items()})
        return [term.values for term in terms.values()]

    jax.eval_shape(losses, batch_shapes(stage))
    assert weights == pytest.approx(
        {
            "coarse": 1.0,
            "picture": 1.0,
            "offset": 7.0,
            "expression": 3.0,
            "pose": 0.6,
            "expression_continuity": 0.03,
            "pose_continuity": 0.003,
        }
    )


def test_offsets_count_less_the_farther_the_surface_is() -> None:
    """Card gdrf A.2: mean(offset^2) (1 - min(depth, 1))."""
    depth = jnp.array([0.25, 0.75, 2.0])
    picture = Composite(*(jnp.zeros(3) for _ in range(4)), depth=depth)
    found = _offset_penalty(jnp.full((3, 5), 2.0), picture)
    np.testing.assert_allclose(found, np.repeat([[1.5], [0.5], [0.0]], 5, 1))


def test_rates_of_attention_speech_and_warping_are_their_own() -> None:
    settings = StageConfig(
        learning_rate=1e-3, decay_steps=10, attention_start=3, attention_factor=5.0, speech_factor=0.1, warp_factor=0.5
    )
    transform = optimizer(settings)
    parameters = {name: {"w": jnp.ones(1)} for name in ("attention", "speech", "warp", "field")}
    gradients, moves = jax.tree.map(jnp.ones_like, parameters), []
    state = transform.init(parameters)
    for _ in range(5):
        updates, state = transform.update(gradients, state, parameters)
        moves.append([float(updates[name]["w"][0]) for name in parameters])
    # With constant gradients Adam moves by exactly the learning rate.
    rates = 1e-3 * 0.1 ** (np.arange(5) / 10)
    expected = -np.stack([[0, 0, 0, *(5 * rates[3:])], 0.1 * rates, 0.5 * rates, rates], 1)
    np.testing.assert_allclose(moves, expected, rtol=1e-4, atol=1e-12)


def test_a_constant_rate_knows_no_length() -> None:
    """Adaptation for 200 steps and then to 1,000 must be 1,000."""
    for method in (gdrf, dfrf):
        for variant in ("tiny", "paper"):
            config = read(method.get_config(variant))
            short, long = (adapt_stage(config, steps, variant == "paper") for steps in (200, 1000))
            assert short.settings.decay_steps == long.settings.decay_steps == 0
            assert dataclasses.replace(short.settings, steps=1000) == long.settings


@pytest.mark.parametrize(("steps", "smooth"), [(600_000, True), (100_001, True), (100_000, False), (10, False)])
def test_adaptation_smooths_codes_as_rendering_does(steps: int, smooth: bool) -> None:
    config = read(dfrf.get_config(f"paper,base_steps={steps}"))
    assert smooths(config) == smooth
    for from_scratch in (False, True):
        start = adapt_stage(config, 10_000, from_scratch).settings.attention_start
        assert start == 0 if smooth else start > 10_000


def test_adaptation_begins_with_everything_or_with_nothing() -> None:
    config = read(gdrf.get_config("tiny"))
    stage, scratch = adapt_stage(config, 5, False), adapt_stage(config, 5, True)
    names = set(Modules.of(stage).graphs)
    assert stage.init_from == dict.fromkeys(names, "field") and not stage.own_statistics
    assert scratch.init_from == {} and scratch.own_statistics and scratch.needs == ()
    assert stage.steps == 5 and set(stage.phases()[0].trains) == names - {"normaliser"}


def test_windows_of_values_repeat_the_ends() -> None:
    values = np.arange(10)[:, None]
    np.testing.assert_array_equal(windowed(values, np.array([0, 5, 9]), 0), values[[0, 5, 9]])
    expected = [[0, 0, 0, 1, 2], [3, 4, 5, 6, 7], [7, 8, 9, 9, 9]]
    np.testing.assert_array_equal(windowed(values, np.array([0, 5, 9]), 5)[..., 0], expected)


def _trained(stage: FieldStage, clips: list[Clip], steps: int) -> tuple[Networks, list[float]]:
    """Networks after some steps of the one training step there is, and the picture's loss on the way."""
    plan = make_plan(stage, Modules({}, {}, {}))
    modules = Modules.of(stage)
    networks = made(stage.networks)
    params, stats = {}, {}
    for name, module in networks.items():
        _, *parts = nnx.split(module, nnx.Param, ...)
        params[name], stats[name] = map(nnx.to_pure_dict, parts)
    (phase,) = plan.phases
    values = len(plan.names)
    state = {
        "step": jnp.int32(0),
        "params": params,
        "stats": stats,
        "ema": {},
        "opt": {phase.name: phase.optimizer.init({name: params[name] for name in phase.trains})},
        "log": {"sum": jnp.zeros(values), "count": jnp.zeros(1, jnp.int32)},
        "bad": {"step": jnp.int32(-1), "term": jnp.int32(-1), "values": jnp.zeros(values)},
    }
    step, source, losses = jax.jit(make_step(plan, 1)), stage.examples(clips, 0), []
    place = plan.names.index(f"{phase.name}/picture")
    for number in range(steps):
        batch = batch_of(source, number * stage.batch_size, stage.batch_size)
        state, report = step(state, {"params": {}, "stats": {}}, jax.random.key(0), batch)
        losses.append(float(report["mean"][place]))
    assert int(state["bad"]["step"]) == -1
    return modules.merge(state["params"], state["stats"]), losses


@pytest.mark.parametrize("arguments", ["motion=audio64,warp=none", pytest.param("", marks=pytest.mark.slow)])
def test_a_few_steps_learn_to_read_the_references(clips: list[Clip], arguments: str) -> None:
    """Overfit: nothing but the references tells the colour, so without them, or with another person's, it is lost."""
    config = small_config(",".join(["tiny", *arguments.split(",")] if arguments else ["tiny"]))
    config.stages.field.update(learning_rate=1e-2, weight_decay=0.0)
    config.stages.field.update(ema_decay=None, rays_per_frame=48, frames_per_step=8, decay_steps=0)
    config.model.references.update(channels=(6, 6), width=12)
    stage = dataclasses.replace(field_stage(config), init_from={}, own_statistics=True)
    networks, losses = _trained(stage, clips, 40)
    assert np.mean(losses[-5:]) < 0.3 * np.mean(losses[:2])
    batch = batch_of(stage.examples(clips, 99), 0, 8)
    split = {name: nnx.split(module) for name, module in networks.items()}
    states = {name: state for name, (_, state) in split.items()}

    @jax.jit
    def head_error(states: dict, batch: dict) -> jax.Array:
        merged = {name: nnx.merge(graph, states[name]) for name, (graph, _) in split.items()}
        terms, _ = stage.losses(merged, batch, jax.random.key(1), jnp.int32(0))
        head = batch["is_head"]
        return (terms["picture"].values * head).sum() / (3 * head.sum())

    own = float(head_error(states, batch))
    images = batch["reference_images"]
    zeroed = float(head_error(states, batch | {"reference_images": np.zeros_like(images)}))
    swapped = float(head_error(states, batch | {"reference_images": np.roll(images, 1, 0)}))
    assert zeroed > 2 * own and swapped > 2 * own
