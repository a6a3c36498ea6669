"""Settings of the few-shot systems: the card's sizes, every ablation by its argument, and mistakes in one line."""

from __future__ import annotations

import functools
from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import dfrf, gdrf
from jaxtalk.errors import JaxtalkError
from jaxtalk.few_shot.config import FewShotConfig, ModelConfig, read
from jaxtalk.few_shot.frames import all_networks
from jaxtalk.few_shot.stages import make_stages
from jaxtalk.methods import dfrf as dfrf_method
from jaxtalk.methods import gdrf as gdrf_method
from jaxtalk.methods.api import Stage
from jaxtalk.nn.feature_encoders import FREQUENCIES
from jaxtalk.rays.parameters import abstract_parameters
from jaxtalk.training.step import batch_shapes, reduce_term
from tests.few_shot_case import small_config


@functools.cache
def _sizes(model: ModelConfig) -> dict[str, int]:
    return {
        name: sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(tree))
        for name, tree in abstract_parameters(all_networks, model).items()
    }


def test_dfrf_has_the_reference_code_s_parameters() -> None:
    """Card gdrf A.2 and B: counts seen by running it."""
    assert _sizes(read(dfrf.get_config("paper")).model) == {
        "audio": 32_800,
        "attention": 2_149,
        "encoder": 83_328,
        "references": 216_832,
        "warp": 36_962,
        "coarse": 726_916,
        "field": 726_916,
    }


def test_gdrf_has_the_card_s_fields() -> None:
    """Card gdrf 2.8; the slots' own layers are DFRF's and a linear layer 512 -> 128 before them (2.7)."""
    config = read(gdrf.get_config("paper"))
    sizes = _sizes(config.model)
    assert set(sizes) == {"speech", "normaliser", "mapping", "encoder", "warp", "references", "coarse", "field"}
    assert sizes["coarse"] == sizes["field"] == 825_220
    assert sizes["references"] == 216_832 + 512 * 128 + 128
    # Card 2.3: 150 inputs (80 + 64 + 6) -> 256, and two blocks.
    assert sizes["mapping"] == 150 * 256 + 256 + 2 * (256 * 256 + 256)
    assert config.model.motion_size == 150 and config.model.sampling.passes == (64, 128)
    assert (config.model.references.count, config.size, config.stages.field.steps) == (4, 512, 300_000)
    assert config.stages.field.learning_rate == config.stages.adapt.learning_rate == 1e-4
    assert config.stages.adapt.decay_steps == 0  # a constant rate


def _abstract_losses(stage: Stage) -> dict[str, Any]:
    """Shapes of the stage's reduced terms on its own batch; nothing is computed."""

    def losses(batch: dict[str, jax.Array]) -> dict[str, jax.Array]:
        networks = stage.networks(jax.random.key(0))
        terms, scalars = stage.phases()[0].losses(networks, batch, jax.random.key(1), jnp.int32(0))
        assert not set(terms) & set(scalars)
        return {name: reduce_term(term) * term.weight for name, term in terms.items()} | scalars

    return jax.eval_shape(losses, batch_shapes(stage))


SPEECH_TERMS = {"expression", "pose", "expression_continuity", "pose_continuity"}
ABLATIONS = [
    *(f"num_refs={count}" for count in (2, 4, 6, 8)),
    *(f"motion={motion}" for motion in ("audio64", "lstm", "lstm_id")),
    *(f"warp={warp}" for warp in ("none", "dfrf_point", "feature")),
    "flow_cond=target",
    "flow_cond=source_target",
    "lstm_stateful=True",
    "rect_order=legacy",
    "sampling=mesh_bounded",
    "sampling=hierarchical",
    "model.semantic_window=27",
    "model.semantic_window=27,flow_cond=source_target,motion=lstm_id",
    "model.stop_grad_z_to_lstm=True",
    "model.references.feature_scale=0.5",
    "model.mapping=0,warp=none",
]


@pytest.mark.parametrize("arguments", ABLATIONS)
def test_every_ablation_builds_and_its_losses_trace(arguments: str) -> None:
    config = small_config(f"tiny,{arguments}")
    stages = gdrf_method.stages(config)
    model = read(config).model
    assert [stage.name for stage in stages] == (["audio", "field"] if model.listens else ["field"])
    terms = [set(_abstract_losses(stage)) for stage in stages]
    expected = {"picture", "psnr"}
    expected |= SPEECH_TERMS if model.listens else set()
    expected |= {"coarse"} if len(model.sampling.passes) == 2 else set()
    expected |= {"offset"} if model.references.warp == "dfrf_point" else set()
    assert terms[-1] == expected
    trained = set(stages[-1].phases()[0].trains)
    assert trained == set(abstract_parameters(all_networks, model)) - {"normaliser"}
    assert ("warp" in trained) == (model.references.warp != "none")
    assert ("coarse" in trained) == (len(model.sampling.passes) == 2)


@pytest.mark.parametrize(
    "arguments", ["paper", "paper,sampling=mesh_bounded,model.field.dtype=bfloat16,num_refs=8", "dfrf"]
)
def test_the_paper_s_sizes_trace(arguments: str) -> None:
    config = dfrf.get_config("paper") if arguments == "dfrf" else gdrf.get_config(arguments)
    found = _abstract_losses(make_stages(read(config))[-1])
    assert {leaf.shape for leaf in found.values()} == {()} and {"coarse", "picture"} < set(found)
    assert {leaf.dtype for leaf in found.values()} == {jnp.dtype("float32")}


def _read(arguments: str) -> FewShotConfig:
    return read(gdrf.get_config(arguments))


def test_ablation_arguments_reach_what_they_name() -> None:
    """A short name that set another key would train something else under the name of the ablation."""
    for variant in ("tiny", "paper"):
        for count in (2, 4, 6, 8):
            (stage,) = make_stages(_read(f"{variant},num_refs={count}"))[1:]
            assert stage.example_spec()["reference_images"].shape[0] == count
    paper, identity = _read("paper").model, 80
    assert _read("paper,motion=lstm").model.motion_size == paper.motion_size - identity == 70
    assert _read("paper,motion=audio64").model.motion_size == 64
    assert [_read(f"paper,warp={warp}").model.references.warp for warp in ("none", "dfrf_point")] == [
        "none",
        "dfrf_point",
    ]
    assert _read("tiny,flow_cond=source_target").model.references.flow_cond == "source_target"
    assert _read("tiny,lstm_stateful=True").model.lstm_stateful is True
    assert _read("paper,sampling=mesh_bounded").model.sampling.passes == (16, 16)
    assert _read("paper,rect_order=legacy").stages.field.rect_order == "legacy"
    assert _read("tiny,model.stop_grad_z_to_lstm=True").model.stop_grad_z_to_lstm is True
    # The steering code of source_target is twice as long.
    kernels = [_sizes(_read(f"tiny,flow_cond={condition}").model)["warp"] for condition in ("target", "source_target")]
    assert kernels[1] > kernels[0]


def test_face_models_by_name_or_by_their_sizes() -> None:
    faces = [_read(f"tiny,face_model={name}").model.face for name in ("ict", "deep3d", "procedural", "flame:100:50")]
    assert [(f.name, f.num_identity, f.num_expression) for f in faces] == [
        ("ict", 100, 57),
        ("deep3d", 80, 64),
        ("procedural", 22, 27),
        ("flame", 100, 50),
    ]


def test_known_face_models_have_the_sizes_that_clips_say() -> None:
    from jaxtalk.faces.procedural import procedural_face_model
    from jaxtalk.few_shot.config import FACE_MODELS

    model = procedural_face_model()
    assert FACE_MODELS["procedural"] == (len(model.identity_basis), len(model.expression_basis))


def test_steps_stretch_the_decay_and_leave_adaptation_alone() -> None:
    before, after = _read("tiny").stages, _read("tiny,steps=100").stages
    assert after.field.steps == after.field.decay_steps == 100
    assert after.adapt == before.adapt and _read("tiny,adapt_steps=7").stages.adapt.steps == 7


@pytest.mark.parametrize("config", [gdrf, dfrf])
def test_clips_and_people_held_out_may_come_again(config: ModuleType) -> None:
    data = config.get_config("tiny,clip=a,held_out=b,clip=007,held_out=007").data
    assert (data.clips, data.held_out) == (("a", "007"), ("b", "007"))


MISTAKES = {
    "medium": "no variant 'medium'; known are tiny, paper",
    "tiny,num_ref=4": "no such setting",
    "tiny,clips": "not key=value",
    "tiny,model.reference.count=3": "no such setting",
    "tiny,num_refs=many": "num_refs=many",
    "tiny,num_refs=0": "at least one reference",
    "tiny,motion=lips": "'lips' is not one of audio64, lstm, lstm_id",
    "tiny,warp=optical": "'optical' is not one of feature, dfrf_point, none",
    "tiny,flow_cond=both": "'both' is not one of target, source_target",
    "tiny,rect_order=yx": "'yx' is not one of xy_fixed, legacy",
    "tiny,sampling=uniform": "'uniform' is not one of hierarchical, mesh_bounded",
    "tiny,face_model=flame": "'flame' is not one of ict, deep3d, procedural, nor NAME:IDENTITY:EXPRESSION",
    "tiny,face_model=flame:100": "nor NAME:IDENTITY:EXPRESSION",
    "tiny,model.references.encoder=vgg": "'vgg' is not one of resnet34, dfrf_conv, small",
    "tiny,model.references.imagenet=weights.npz": "needs encoder=resnet34 and norm=frozen_batch",
    "paper,model.references.imagenet=weights.npz": "needs encoder=resnet34 and norm=frozen_batch",
    "tiny,model.references.project=False": "55 channels of encoder=small must equal width=24",
    "tiny,model.semantic_window=9": "9 frames are too few",
    "tiny,motion=audio64,model.semantic_window=27": "only with model.motion=lstm",
    "tiny,motion=audio64,flow_cond=source_target": "needs coefficients",
    "tiny,model.mapping=0": "warp=feature is steered by the mapping",
    "tiny,size=100": "feature maps of 100 x 100, and the warping needs sides that 16 divides",
    "paper,size=400": "feature maps of 200 x 200, and the warping needs sides that 32 divides",
    "tiny,stages.field.face_share=0.7": "mouth_share and face_share must add up to at most 1",
}


@pytest.mark.parametrize("arguments", MISTAKES)
def test_a_mistake_is_one_clear_line(arguments: str) -> None:
    with pytest.raises(JaxtalkError) as caught:
        _read(arguments)
    message = str(caught.value)
    assert MISTAKES[arguments] in message and "\n" not in message
    assert message.startswith(("configs/gdrf.py: ", "config."))


def test_both_systems_hear_what_their_networks_read() -> None:
    assert gdrf_method.audio_feature(gdrf.get_config("tiny")).name == "atc"
    feature = dfrf_method.audio_feature(dfrf.get_config("paper"))
    spec = make_stages(read(dfrf.get_config("paper")))[0].example_spec()["audio"]
    assert (feature.name, (feature.window, feature.num_channels)) == ("mfcc", spec.shape)
    assert [stage.name for stage in dfrf_method.stages(dfrf.get_config("tiny"))] == ["field"]


def test_dfrf_s_widths_are_the_card_s() -> None:
    """Card gdrf A.2: 66 inputs of the encoder, 255 of the warping, 383 of the field and 27 of the direction."""
    model = abstract_parameters(all_networks, read(dfrf.get_config("paper")).model)
    assert 2 * (3 + 6 * FREQUENCIES) == 66
    assert model["encoder"]["convolutions"][0]["kernel"].shape == (3, 3, 66, 64)
    assert model["warp"]["layers"][0]["kernel"].shape == (255, 128)
    assert model["field"]["mlp"]["trunk"][0]["kernel"].shape == (383, 256)
