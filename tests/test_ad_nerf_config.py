"""The settings: the reference's sizes, both variants, and every mistake named."""

from __future__ import annotations

import jax
import pytest
from flax import nnx

from configs.ad_nerf import get_config
from jaxtalk.errors import JaxtalkError
from jaxtalk.methods import ad_nerf
from jaxtalk.methods.ad_nerf.config import read


def _sizes(stage: ad_nerf.FieldStage) -> dict[str, int]:
    networks = nnx.eval_shape(lambda: stage.networks(jax.random.key(0)))
    return {name: sum(leaf.size for leaf in jax.tree.leaves(nnx.state(module))) for name, module in networks.items()}


def test_paper_has_the_reference_s_sizes() -> None:
    """Card gdrf A.1 and B; the torso's condition has 106 numbers instead of 64."""
    head, torso = ad_nerf.stages(get_config("paper"))
    assert _sizes(head) == {"audio": 32_800, "attention": 2_149, "head_coarse": 595_844, "head": 595_844}
    assert _sizes(torso) == dict.fromkeys(("torso_coarse", "torso"), 595_844 + 2 * 256 * (106 - 64))
    assert torso.needs == ("head",) and head.needs == ()


def test_paper_has_the_reference_s_schedule() -> None:
    head, torso = ad_nerf.stages(get_config("paper"))
    assert (head.rays_per_step, torso.rays_per_step) == (2048, 1024)
    assert head.evaluations_per_step == {"head": 2048 * (64 + 64 + 128)}
    assert head.flops_per_evaluation == {"head": 2 * (595_844 - 2_436)}  # two a weight, none a bias
    settings = head.settings
    assert (head.steps, settings.learning_rate, settings.decay_steps) == (400_000, 5e-4, 250_000)
    assert (settings.attention_start, settings.attention_factor, settings.face_share) == (200_000, 5.0, 0.95)
    assert (settings.weight_decay, settings.ema_decay, settings.mouth_share) == (0.0, None, 0.0)


def test_tiny_is_one_stage_of_2000_steps() -> None:
    (stage,) = ad_nerf.stages(get_config("tiny"))
    assert stage.steps == 2000 and stage.ema_decay is not None
    assert sum(_sizes(stage).values()) < 100_000


def test_settings_after_the_variant() -> None:
    config = get_config("paper,clip=a,clip=b,size=128,sampling=mesh_bounded,steps=1000,model.eye_condition=True")
    assert config.data.clips == ("a", "b") and config.data.size == 128
    assert config.model.sampling.kind == "mesh_bounded" and config.model.eye_condition is True
    assert config.stages.head.steps == config.stages.torso.steps == 1000
    assert config.stages.head.decay_steps == 625  # stretched with the steps


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("huge", "no variant 'huge'"),
        ("tiny,sizee=3", "sizee"),
        ("tiny,size", "not key=value"),
        ("tiny,model.head.widht=3", "widht"),
    ],
)
def test_mistakes_in_the_argument_are_named(argument: str, message: str) -> None:
    with pytest.raises(JaxtalkError, match=message):
        get_config(argument)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("model.sampling.kind=uniform", "config.model.sampling.kind: 'uniform' is not one of"),
        ("model.head.dtype=float16", "config.model.head.dtype"),
        ("stages.portrait.rect_order=yx", "config.stages.portrait.rect_order"),
        ("stages.portrait.face_share=0.9", "mouth_share and face_share"),
        ("stages.portrait.splits_per_frame=7", "does not divide"),
        ("model.torso=None", "stages.portrait trains head and torso"),
    ],
)
def test_impossible_settings_are_named(setting: str, message: str) -> None:
    with pytest.raises(JaxtalkError, match=message):
        read(get_config(f"tiny,{setting}"))


def test_the_feature_is_long_enough_for_the_attention_s_neighbours() -> None:
    assert ad_nerf.audio_feature(get_config("paper")).window == 32
    assert ad_nerf.audio_feature(get_config("tiny,model.audio.attention_windows=0")).window == 16
