"""The sync network: the expert's layers and weights, batch statistics, and what a frozen one lets through."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxtalk.losses.sync import sync_loss
from jaxtalk.nn.pretrained.wav2lip_expert import Wav2LipExpert
from jaxtalk.nn.sync_network import SyncNetwork, enlarge_motion, judge, similarity, unit
from jaxtalk.weights.converted import put
from tests.few_shot_case import compile_quickly  # noqa: F401

DIVISOR = 16


def network(seed: int = 0, **settings: object) -> SyncNetwork:
    return SyncNetwork(DIVISOR, **{"lip_size": (24, 48)} | settings, rngs=nnx.Rngs(seed))  # type: ignore[arg-type]


def drawn(seed: int, *shape: int) -> jax.Array:
    return jax.random.uniform(jax.random.key(seed), shape)


def inputs(batch: int = 3, frames: int = 5, size: tuple[int, int] = (24, 48)) -> tuple[jax.Array, jax.Array]:
    return drawn(1, batch, frames, *size, 3), 8 * drawn(2, batch, 80, round(3.2 * frames)) - 4


def leaves(module: nnx.Module) -> dict[str, np.ndarray]:
    return {str(path): np.asarray(leaf.get_value()) for path, leaf in nnx.to_flat_state(nnx.state(module))}


def test_equals_the_expert_with_its_weights() -> None:
    """Layers, order of the channels and paths of parameters are Wav2Lip's."""
    expert = Wav2LipExpert(DIVISOR, rngs=nnx.Rngs(0))
    random = np.random.default_rng(0)
    state = {path: random.normal(size=leaf.shape) * 0.1 for path, leaf in nnx.to_flat_state(nnx.state(expert))}
    state = {"/".join(map(str, path)): np.abs(a) + 0.5 if path[-1] == "var" else a for path, a in state.items()}
    put(expert, {path: array.astype(np.float32) for path, array in state.items()}, "drawn")
    ours = network(lip_size=(48, 96), final_relu=True)
    put(ours, {path: array.astype(np.float32) for path, array in state.items()}, "drawn")
    crops, mel = inputs(2, size=(48, 96))
    stacked = jnp.concatenate([crops[:, frame] for frame in range(5)], -1)
    np.testing.assert_allclose(ours.faces(crops), expert.faces(stacked), atol=1e-4)
    np.testing.assert_allclose(ours.audio(mel), expert.audio(mel), atol=1e-4)


@pytest.mark.parametrize(("frames", "size"), [(5, (48, 96)), (5, (24, 48)), (9, (24, 48))])
def test_vectors_have_length_one(frames: int, size: tuple[int, int]) -> None:
    net = network(frames=frames, lip_size=size)
    crops, mel = inputs(2, frames, size)
    lips, speech = net.faces(crops), net.audio(mel)
    assert lips.shape == speech.shape == (2, 512 // DIVISOR)
    np.testing.assert_allclose(jnp.linalg.norm(lips, axis=1), 1, rtol=1e-5)
    np.testing.assert_allclose(jnp.linalg.norm(speech, axis=1), 1, rtol=1e-5)
    assert (np.asarray(lips) < 0).any() and (np.asarray(speech) < 0).any(), "no final ReLU"


def test_motion_is_enlarged_and_colour_left_out() -> None:
    """The first of the transformed frames is the mean picture, the others are what changes, `gain` times."""
    crops = drawn(0, 2, 5, 4, 6, 3)
    still = jnp.broadcast_to(crops[:, :1], crops.shape)
    transformed = enlarge_motion(still, 4.0)
    np.testing.assert_allclose(transformed[:, 1:], 0, atol=1e-5)
    np.testing.assert_allclose(
        transformed[:, 0], 5**0.5 * (still - still.mean((1, 2, 3), keepdims=True))[:, 0], atol=1e-5
    )
    centred = crops - crops.mean((1, 2, 3), keepdims=True)
    moving = jnp.square(centred - centred.mean(1, keepdims=True)).sum()
    np.testing.assert_allclose(jnp.square(enlarge_motion(crops, 4.0)[:, 1:]).sum(), 16 * moving, rtol=1e-4)
    np.testing.assert_allclose(
        enlarge_motion(crops + jnp.array([0.1, -0.2, 0.3]), 4.0), enlarge_motion(crops, 4.0), atol=1e-5
    )


def test_no_layer_is_narrower_than_asked() -> None:
    state = nnx.eval_shape(lambda: SyncNetwork(32, least_width=12, rngs=nnx.Rngs(0)))
    widths = [layer.conv.kernel.shape[-1] for layer in (*state.face_layers, *state.audio_layers)]
    assert min(widths) == 12 and max(widths) == 16


def test_published_size() -> None:
    state = nnx.eval_shape(lambda: SyncNetwork(rngs=nnx.Rngs(0)))
    count = sum(leaf.size for leaf in jax.tree.leaves(nnx.state(state, nnx.Param)))
    assert count == 16_435_072


def test_other_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match="lip_size"):
        network(lip_size=(32, 64))
    with pytest.raises(ValueError, match="crops of"):
        network().faces(inputs(size=(48, 96))[0])


def test_zero_vectors_stay_zero() -> None:
    """Card s3d_nerf 5.10: equation 6 without epsilon would give NaN, and so would its gradient."""
    zero = jnp.zeros((2, 4))
    np.testing.assert_array_equal(unit(zero), 0)
    assert np.isfinite(jax.grad(lambda x: unit(x).sum())(zero)).all()
    np.testing.assert_allclose(unit(jnp.array([3.0, 4.0])), [0.6, 0.8], rtol=1e-6)


def test_training_normalises_by_the_batch_and_remembers() -> None:
    net, (crops, mel) = network(), inputs()
    before = leaves(net)
    still = net.faces(crops)
    assert all(np.array_equal(before[name], value) for name, value in leaves(net).items())
    moved = net.faces(crops, train=True)
    assert float(jnp.abs(moved - still).max()) > 1e-3
    net.audio(mel, train=True)
    after = leaves(net)
    changed = {name for name in before if not np.array_equal(before[name], after[name])}
    assert changed and changed == {name for name in before if "'mean'" in name or "'var'" in name}


def test_dropout_needs_training() -> None:
    net, (crops, _) = network(dropout=0.5), inputs()
    np.testing.assert_array_equal(net.faces(crops), net.faces(crops, key=jax.random.key(0)))
    first, second = (net.faces(crops, train=True, key=jax.random.key(seed)) for seed in (0, 1))
    assert float(jnp.abs(first - second).max()) > 1e-3


def test_frozen_gradient_reaches_the_frames_alone() -> None:
    """Card s3d_nerf 5.11: not the parameters, nor the sound, and no statistics move."""
    net, (_, mel) = network(), inputs()
    frames = drawn(3, 3, 5, 32, 32, 3)
    boxes = jnp.tile(jnp.array([6.0, 4, 26, 28]), (3, 5, 1))
    graph, parameters, rest = nnx.split(net, nnx.Param, ...)
    before = leaves(net)

    def loss(frames: jax.Array, mel: jax.Array, parameters: nnx.State) -> jax.Array:
        return sync_loss(judge(nnx.merge(graph, parameters, rest), frames, boxes, mel)).mean()

    to_frames, to_mel, to_parameters = jax.grad(loss, argnums=(0, 1, 2))(frames, mel, parameters)
    assert (np.abs(np.asarray(to_frames)).max((0, 1))[18:26, 8:24] > 0).all()
    assert not np.asarray(to_frames)[:, :, :14].any(), "above the lower half"
    assert not np.asarray(to_mel).any()
    assert not any(np.asarray(leaf).any() for leaf in jax.tree.leaves(to_parameters))
    assert all(np.array_equal(before[name], value) for name, value in leaves(net).items())


def test_following_the_gradient_raises_the_cosine() -> None:
    net, (crops, mel) = network(), inputs(2)

    @jax.jit
    def step(crops: jax.Array) -> tuple[jax.Array, jax.Array]:
        loss, slope = jax.value_and_grad(lambda crops: sync_loss(similarity(net, crops, mel)).sum())(crops)
        return loss, crops - 0.5 * slope / jnp.linalg.norm(slope)

    first, crops = step(crops)
    for _ in range(5):
        loss, crops = step(crops)
    assert loss < first - 0.05
    cosines = similarity(net, crops, mel)
    np.testing.assert_allclose(cosines, (net.faces(crops) * net.audio(mel)).sum(-1), atol=1e-5)
