"""The stages: examples, losses against a slow reference, what is frozen, and when the attention learns."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from configs.ad_nerf import get_config
from jaxtalk.audio import FeatureSpec, audio_windows, clip_windows
from jaxtalk.clip import Clip
from jaxtalk.errors import JaxtalkError
from jaxtalk.methods import ad_nerf
from jaxtalk.methods.ad_nerf.config import StageConfig
from jaxtalk.methods.ad_nerf.rendering import together
from jaxtalk.methods.ad_nerf.stages import FieldStage, optimizer
from jaxtalk.nn.audio import neighbour_windows
from jaxtalk.ops.compositing import composite

SMALL = "model.head.width=16,model.head.depth=2,model.torso.width=16,model.torso.depth=2"
SMOOTHED = "model.audio.attention_windows=8"
SMALL_PAPER = f"{SMALL},model.head.skips=(),model.torso.skips=(),model.sampling.num_coarse=8,model.sampling.num_fine=8"


@functools.cache
def _tiny() -> FieldStage:
    return ad_nerf.stages(get_config(f"tiny,{SMALL},{SMOOTHED},stages.portrait.frames_per_step=4"))[0]


@functools.cache
def _paper() -> tuple[FieldStage, ...]:
    rays = "stages.head.rays_per_frame=64,stages.torso.rays_per_frame=64"
    return ad_nerf.stages(get_config(f"paper,{SMALL_PAPER},{rays}"))


def _batch(stage: FieldStage, clip: Clip) -> dict[str, np.ndarray]:
    source = stage.examples([clip], 0)
    examples = [source[i] for i in range(stage.batch_size)]
    return {name: np.stack([e[name] for e in examples]) for name in examples[0]}


@pytest.mark.parametrize("stage", [_tiny(), *_paper()], ids=lambda stage: stage.name)
def test_examples_are_as_announced_and_depend_on_seed_and_index_alone(stage: FieldStage, fake_clip: Clip) -> None:
    source = stage.examples([fake_clip], 7)
    spec, example = stage.example_spec(), source[123456789]
    assert {n: (a.shape, a.dtype) for n, a in example.items()} == {n: (s.shape, s.dtype) for n, s in spec.items()}
    source[5]
    again = stage.examples([fake_clip], 7)[123456789]
    assert all(np.array_equal(example[name], again[name]) for name in example)
    assert not np.array_equal(example["pixels"], stage.examples([fake_clip], 8)[123456789]["pixels"])


def test_one_frame_s_rays_are_split_over_consecutive_examples(fake_clip: Clip) -> None:
    source = _paper()[0].examples([fake_clip], 0)
    examples = [source[i] for i in range(24)]
    poses = [e["rotation"].tobytes() for e in examples]
    assert len(set(poses[:8])) == len(set(poses[8:16])) == 1 and len(set(poses)) > 1
    assert len({e["pixels"].tobytes() for e in examples}) == 24


def test_an_example_holds_frame_plate_and_mask_of_its_pixels(fake_clip: Clip) -> None:
    example = _tiny().examples([fake_clip], 3)[11]
    column, row = np.floor(example["pixels"]).astype(int).T
    frame = next(i for i in range(50) if np.array_equal(fake_clip.track.rotation[i], example["rotation"]))
    head = fake_clip.mask(frame)[row, column] == 1
    assert 0 < head.mean() < 1
    plate, picture = fake_clip.background() / 255, fake_clip.frame(frame) / 255
    np.testing.assert_array_equal(example["is_head"][:, 0], head)
    np.testing.assert_allclose(example["frame"], picture[row, column])
    np.testing.assert_allclose(example["background"], plate[row, column])


def test_speech_of_an_example_is_its_frame_s_and_the_middle_window_is_centred(fake_clip: Clip) -> None:
    stage = _tiny()
    example = stage.examples([fake_clip], 3)[11]
    frame = next(i for i in range(50) if np.array_equal(fake_clip.track.rotation[i], example["rotation"]))
    wide = ad_nerf.audio_feature(get_config(f"tiny,{SMOOTHED}"))
    own = clip_windows(ad_nerf.audio_feature(get_config("tiny,model.audio.attention_windows=0")), fake_clip)
    np.testing.assert_allclose(example["audio"][8:24], own[frame], atol=1e-5)
    np.testing.assert_allclose(example["audio"], clip_windows(wide, fake_clip)[frame])
    np.testing.assert_allclose(example["audio"][6:22], own[frame - 1], atol=1e-5)  # a frame is two rows


def test_several_clips_are_refused(fake_clip: Clip) -> None:
    with pytest.raises(JaxtalkError, match="learns one person from one clip"):
        _tiny().examples([fake_clip, fake_clip], 0)


def _networks(stage: FieldStage, seed: int = 0) -> dict[str, nnx.Module]:
    """Networks made in one compiled program: made eagerly, they take seconds."""
    graphs = {n: nnx.split(m)[0] for n, m in nnx.eval_shape(lambda: stage.networks(jax.random.key(0))).items()}
    make = jax.jit(lambda key: {n: nnx.to_pure_dict(nnx.state(m)) for n, m in stage.networks(key).items()})
    return {name: nnx.merge(graphs[name], state) for name, state in make(jax.random.key(seed)).items()}


def _loss(stage: FieldStage, batch: dict, step: int, upstream: dict | None = None):
    def loss(networks: dict) -> jax.Array:
        terms, _ = stage.losses(networks | (upstream or {}), batch, jax.random.key(1), jnp.int32(step))
        return sum(term.values.mean() for term in terms.values())

    return loss


def _gradient_sizes(stage: FieldStage, batch: dict, step: int, networks: dict, upstream: dict | None = None) -> dict:
    split = {name: nnx.split(module) for name, module in networks.items()}

    def loss(states: dict) -> jax.Array:
        merged = {name: nnx.merge(graph, states[name]) for name, (graph, _) in split.items()}
        return _loss(stage, batch, step, upstream)(merged)

    gradients = jax.jit(jax.grad(loss))({name: state for name, (_, state) in split.items()})
    return {n: max(float(jnp.abs(leaf).max()) for leaf in jax.tree.leaves(g)) for n, g in gradients.items()}


def test_gradients_reach_every_network_that_is_trained(fake_clip: Clip) -> None:
    stage = _tiny()
    networks = _networks(stage)
    assert set(stage.phases()[0].trains) == set(networks) == {"audio", "attention", "head", "torso"}
    sizes = _gradient_sizes(stage, _batch(stage, fake_clip), 0, networks)
    assert all(size > 0 for size in sizes.values()), sizes


def test_attention_has_no_gradient_before_its_start_and_one_after(fake_clip: Clip) -> None:
    head, _ = _paper()
    networks = _networks(head)
    batch = _batch(head, fake_clip)
    before, after = (_gradient_sizes(head, batch, step, networks) for step in (199_999, 200_000))
    assert before["attention"] == 0 and after["attention"] > 0
    assert min(before[name] for name in ("audio", "head", "head_coarse")) > 0


def test_the_torso_stage_trains_the_torso_alone(fake_clip: Clip) -> None:
    head, torso = _paper()
    assert set(torso.phases()[0].trains) == {"torso", "torso_coarse"}
    upstream, networks = _networks(head), _networks(torso, 1)
    batch = _batch(torso, fake_clip)
    assert min(_gradient_sizes(torso, batch, 0, networks, upstream).values()) > 0
    assert max(_gradient_sizes(torso, batch, 0, upstream, networks).values()) == 0


@pytest.mark.parametrize("behind", [False, True])
def test_head_and_torso_together_against_the_equation(behind: bool) -> None:
    """Card A.1: rgb_head * w_last,torso + rgb_fg,torso; or the torso as background of the head."""
    rng = np.random.default_rng(0)
    depths, direction = jnp.linspace(0.5, 1.0, 5), jnp.array([0.0, 0.0, -1.0])
    fields = [(10 * rng.normal(size=5), rng.uniform(size=(5, 3))) for _ in range(2)]
    plate = jnp.array([0.1, 0.5, 0.9])

    def see(field: tuple[np.ndarray, np.ndarray], background: jax.Array):
        return composite(*(jnp.asarray(a, jnp.float32) for a in field), depths, direction, background)

    head, torso = fields if behind else fields[::-1]
    # Slowly: what is behind is rendered first, and is then the last colour of what is before it.
    expected = see(head, see(torso, plate).color).color
    model = _tiny().config.model
    model = type(model)(**{**vars(model), "torso_behind": behind})
    head_seen, torso_seen = see(fields[0], plate), see(fields[1], plate)
    np.testing.assert_allclose(together(model, head_seen, torso_seen), expected, atol=1e-6)


def test_attention_steps_from_its_start_at_five_times_the_rate() -> None:
    settings = StageConfig(learning_rate=1e-3, decay_steps=10, attention_start=3, attention_factor=5.0)
    transform = optimizer(settings)
    parameters = {"attention": {"w": jnp.ones(2)}, "head": {"w": jnp.ones(2)}}
    gradients = jax.tree.map(jnp.ones_like, parameters)
    state, moves = transform.init(parameters), []
    for _ in range(6):
        updates, state = transform.update(gradients, state, parameters)
        moves.append((float(updates["attention"]["w"][0]), float(updates["head"]["w"][0])))
    # With constant gradients Adam moves by exactly the learning rate, and its moments start with its first step.
    rates = 1e-3 * 0.1 ** (np.arange(6) / 10)
    np.testing.assert_allclose([m[1] for m in moves], -rates, rtol=1e-4)
    np.testing.assert_allclose([m[0] for m in moves], [0, 0, 0, *(-5 * rates[3:])], rtol=1e-4)


def test_a_few_steps_lower_the_loss(fake_clip: Clip) -> None:
    """Overfits one batch: the optimiser, the phases and the losses fit together."""
    stage = _tiny()
    networks = _networks(stage)
    split = {name: nnx.split(module) for name, module in networks.items()}
    parameters = {name: nnx.to_pure_dict(state) for name, (_, state) in split.items()}
    batch, transform = _batch(stage, fake_clip), stage.phases()[0].optimizer

    @jax.jit
    def step(parameters: dict, state: optax.OptState) -> tuple:
        def loss(p: dict) -> jax.Array:
            merged = {name: nnx.merge(graph, p[name]) for name, (graph, _) in split.items()}
            return _loss(stage, batch, 0)(merged)

        value, gradients = jax.value_and_grad(loss)(parameters)
        updates, state = transform.update(gradients, state, parameters)
        return optax.apply_updates(parameters, updates), state, value

    state, values = transform.init(parameters), []
    for _ in range(80):
        parameters, state, value = step(parameters, state)
        values.append(float(value))
    assert values[-1] < 0.35 * values[0]


def test_long_windows_of_a_stored_feature_hold_the_neighbours_windows() -> None:
    """The user's deepspeech.npy has windows of 16 rows; the attention's 32 rows are cut together from them."""
    rows = np.random.default_rng(0).normal(size=(16 + 2 * 20, 29)).astype(np.float32)
    stored = np.stack([rows[2 * i : 2 * i + 16] for i in range(20)])  # 50 rows a second at 25 windows a second
    spec = FeatureSpec("deepspeech", window=32)
    (wide,) = audio_windows(spec, np.zeros(1, np.float32), 16000, np.array([10 / 25]), stored)
    windows = np.asarray(neighbour_windows(jnp.asarray(wide), 8, 2))
    np.testing.assert_array_equal(windows, stored[6:14])
    (first,) = audio_windows(spec, np.zeros(1, np.float32), 16000, np.array([0.0]), stored)
    assert not first[:8].any() and first[16:].any()
