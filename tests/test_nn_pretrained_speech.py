"""Networks that hear and read lips: equal to their torch declarations, and their published files readable."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxtalk.errors import JaxtalkError
from jaxtalk.nn.pretrained.syncnet import SyncNet
from jaxtalk.nn.pretrained.wav2lip_expert import Wav2LipExpert
from jaxtalk.nn.pretrained.wav2vec2 import Wav2Vec2, Wav2Vec2Config, token_count
from jaxtalk.weights import layouts
from jaxtalk.weights.convert import Layout, convert, full_shapes
from jaxtalk.weights.converted import put
from jaxtalk.weights.layouts import syncnet, wav2lip_expert, wav2vec2
from tests.goldens.drawn import relative_error, uniform, weights

GOLDEN = np.load(Path(__file__).parent / "goldens" / "speech_networks.npz")
MANIFESTS = {
    name: {key: tuple(shape) for key, shape in shapes.items()}
    for name, shapes in json.loads(str(GOLDEN["manifests"])).items()
}
GAINS = json.loads(str(GOLDEN["gains"]))
SMALL = Wav2Vec2Config(32, 48, 96, heads=4, layers=2, position_groups=4)
TOLERANCE = 1e-4


def _empty(name: str) -> dict[str, np.ndarray]:
    """A state dict of the published shapes that takes no memory."""
    return {key: np.broadcast_to(np.float32(0), shape) for key, shape in MANIFESTS[name].items()}


def _loaded(build: Callable[[nnx.Rngs], nnx.Module], state: Mapping[str, np.ndarray], layout: Layout) -> nnx.Module:
    network = nnx.eval_shape(lambda: build(nnx.Rngs(0)))
    put(network, convert(network, state, layout, "golden"), "golden")
    return network


@nnx.jit
def _syncnet(network: SyncNet, frames: jax.Array, cepstra: jax.Array) -> dict[str, jax.Array]:
    taps = {f"lips{index}": tap for index, tap in enumerate(network.lip_taps(frames))}
    taps |= {f"audio{index}": tap for index, tap in enumerate(network.audio_taps(cepstra))}
    return taps | {"lips": network.lips(frames), "audio": network.audio(cepstra)}


@nnx.jit
def _expert(network: Wav2LipExpert, frames: jax.Array, mel: jax.Array) -> dict[str, jax.Array]:
    taps = {f"face{index}": tap for index, tap in enumerate(network.face_taps(frames))}
    taps |= {f"audio{index}": tap for index, tap in enumerate(network.audio_taps(mel))}
    return taps | {"face": network.faces(frames), "audio": network.audio(mel)}


def _compare(name: str, taps: Mapping[str, object]) -> None:
    keys = [key for key in GOLDEN.files if key.startswith(f"{name}/")]
    assert {f"{name}/{tap}" for tap in taps} == set(keys)
    errors = {tap: relative_error(np.asarray(value), GOLDEN[f"{name}/{tap}"]) for tap, value in taps.items()}
    print(name, max(errors.values()))
    assert max(errors.values()) < TOLERANCE, errors


def test_syncnet_equals_torch() -> None:
    network = _loaded(syncnet.SYNCNET.network, weights(MANIFESTS["syncnet"], GAINS["syncnet"]), syncnet.SYNCNET)
    frames = uniform("syncnet frames", (1, 6, 224, 224, 3), 0, 255)
    taps = _syncnet(network, frames, uniform("syncnet cepstra", (3, 13, 20), -20, 20))
    sides = [taps[f"lips{index}"].shape[2] for index in range(6)]
    assert sides == [54, 13, 13, 13, 6, 1], "the card's 109, 54, 26, 13, 13, 6, 1 after pooling"
    assert taps["lips"].shape == (1, 2, 1024) and taps["audio"].shape == (3, 1024)
    _compare("syncnet", taps)


def test_expert_equals_torch() -> None:
    layout = wav2lip_expert.WAV2LIP_EXPERT
    network = _loaded(layout.network, weights(MANIFESTS["wav2lip_expert"]), layout)
    frames, mel = uniform("expert frames", (2, 48, 96, 15)), uniform("expert mel", (2, 80, 16), -4, 4)
    taps = _expert(network, frames, mel)
    # Card s3d_nerf 2.9: 48x96, 46x47, 23x24, 12, 6, 3, 1 and 80x16, 27x16, 9x6, 3, 1.
    assert [taps[f"face{index}"].shape[1:3] for index in (0, 1, 4, 8, 11, 14, 15)] == [
        *((48, 96), (46, 47), (23, 24), (12, 12), (6, 6), (3, 3), (1, 1))
    ]
    assert [taps[f"audio{index}"].shape[1:3] for index in (0, 3, 6, 9, 12)] == [
        *((80, 16), (27, 16), (9, 6), (3, 3), (1, 1))
    ]
    np.testing.assert_allclose(jnp.linalg.norm(taps["face"], axis=1), 1, rtol=1e-5)
    _compare("wav2lip_expert", taps)


def _small_wav2vec2(rngs: nnx.Rngs) -> Wav2Vec2:
    return Wav2Vec2(SMALL, rngs=rngs)


def test_wav2vec2_equals_torch() -> None:
    network = _loaded(_small_wav2vec2, weights(MANIFESTS["wav2vec2_small"]), wav2vec2.WAV2VEC2_BASE)
    samples = uniform("wav2vec2 samples", (2, 4000), -1.7, 1.7)
    taps = nnx.jit(lambda network, samples: network.taps(samples))(network, samples)
    assert taps[-1].shape == (2, 12, 48)
    _compare("wav2vec2_small", {f"tap{index}": tap for index, tap in enumerate(taps)})


def test_filling_behind_the_sound_changes_nothing() -> None:
    network = _loaded(_small_wav2vec2, weights(MANIFESTS["wav2vec2_small"]), wav2vec2.WAV2VEC2_BASE)
    samples = uniform("wav2vec2 samples", (2, 4000), -1.7, 1.7)
    filled = np.stack([samples[0], np.r_[samples[1, :2500], np.full(1500, 9.0, np.float32)]])
    taps = nnx.jit(lambda network, samples, lengths: network.taps(samples, lengths))
    together = taps(network, filled, np.array([4000, 2500]))
    alone = [taps(network, samples[:1], np.array([4000])), taps(network, samples[1:, :2500], np.array([2500]))]
    for index, value in enumerate(together):
        for row, tokens in ((0, 12), (1, 7)):
            expected = alone[row][index][0]
            assert len(expected) == tokens
            np.testing.assert_allclose(value[row, :tokens], expected, atol=1e-5 * float(jnp.abs(expected).max()))


@pytest.mark.parametrize(("samples", "tokens"), [(16000, 49), (3200, 9), (3280, 10), (400, 1), (719, 1), (720, 2)])
def test_wav2vec2_tokens(samples: int, tokens: int) -> None:
    """Metrics card, section 5, and card s3d_nerf 5.3: 640 N samples give 2 N - 1 tokens, 80 more give 2 N."""
    shape = nnx.eval_shape(lambda: _small_wav2vec2(nnx.Rngs(0))(jnp.zeros((1, samples)))).shape
    assert shape == (1, tokens, 48) and tokens == token_count(samples)


def test_wav2vec2_files_in_all_their_spellings() -> None:
    network, state = nnx.eval_shape(lambda: _small_wav2vec2(nnx.Rngs(0))), weights(MANIFESTS["wav2vec2_small"])
    expected = convert(network, state, wav2vec2.WAV2VEC2_BASE, "golden")
    position = "encoder.pos_conv_embed.conv"
    old = {
        key.replace("parametrizations.weight.original0", "weight_g")
        .replace("parametrizations.weight.original1", "weight_v"): array
        for key, array in state.items()
    }  # fmt: skip
    assert f"{position}.weight_g" in old and f"{position}.weight_g" not in state
    ctc = {f"wav2vec2.{key}": array for key, array in old.items()}
    ctc |= {"lm_head.weight": np.zeros((32, 48)), "lm_head.bias": np.zeros(32)}
    for spelling in (old, ctc):
        converted = convert(network, spelling, wav2vec2.WAV2VEC2_BASE, "golden")
        assert converted.keys() == expected.keys()
        assert all(np.array_equal(converted[path], expected[path]) for path in expected)
    del old[f"{position}.weight_g"]
    with pytest.raises(JaxtalkError, match=r"model\.bin: .* 1 missing: encoder\.pos_conv_embed\.conv\.weight_g"):
        convert(network, old, wav2vec2.WAV2VEC2_BASE, "model.bin")


@pytest.mark.parametrize(
    ("layout", "keys", "parameters"),
    [
        (syncnet.SYNCNET, 102, 13_631_616),
        (wav2lip_expert.WAV2LIP_EXPERT, 217, 16_435_072),
        (wav2vec2.WAV2VEC2_BASE, 211, 94_371_712),
    ],
    ids=lambda value: getattr(value, "name", value),
)
def test_published_files_fit(layout: Layout, keys: int, parameters: int) -> None:
    """Every array of the torch network has its place; a file that lost one does not pass."""
    assert layouts.find(layout.name) is layout
    state, shapes = _empty(layout.name), full_shapes(layout)
    assert len(state) == keys
    learnt = {path: shape for path, shape in shapes.items() if not path.endswith(("mean", "var"))}
    assert sum(int(np.prod(shape)) for shape in learnt.values()) == parameters
    buffers = ("running_mean", "running_var", "num_batches_tracked")
    assert sum(array.size for key, array in state.items() if not key.endswith(buffers)) == parameters
    converted = convert(shapes, state, layout, "file")
    assert {path: array.shape for path, array in converted.items()} == shapes
    lost = next(key for key in state if key.endswith("bias"))
    with pytest.raises(JaxtalkError, match=f"1 missing: {lost}"):
        convert(shapes, {key: array for key, array in state.items() if key != lost}, layout, "file")
