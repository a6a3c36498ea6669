"""Settings of S3D-NeRF: the card's sizes, every ablation by its argument, and mistakes in one line."""

from __future__ import annotations

import functools

import jax
import pytest
from flax import nnx

from configs.s3d_nerf import get_config
from jaxtalk.errors import JaxtalkError
from jaxtalk.methods import s3d_nerf
from jaxtalk.methods.api import Stage
from jaxtalk.methods.s3d_nerf.config import S3DConfig, read
from jaxtalk.methods.s3d_nerf.networks import DISCRIMINATORS, GENERATOR


def _read(argument: str) -> S3DConfig:
    return read(get_config(argument))


@functools.cache
def _networks(argument: str) -> dict[str, nnx.Module]:
    """Those of the stage `field`; shapes alone."""
    stage = s3d_nerf.stages(get_config(argument))[-1]
    return nnx.eval_shape(lambda: stage.networks(jax.random.key(0)))


def _parameters(module: nnx.Module) -> int:
    return sum(leaf.size for leaf in jax.tree.leaves(nnx.state(module, nnx.Param)))


def _sizes(argument: str) -> dict[str, int]:
    return {name: _parameters(module) for name, module in _networks(argument).items()}


def test_paper_has_the_card_s_sizes() -> None:
    config = _read("paper")
    model = config.model
    assert config.size == 256 and model.coarse_size == 64 and model.face_rays == 0
    encoder = model.encoder
    assert (encoder.widths, encoder.plane_channels, encoder.merged) == ((64, 128, 256, 96), 32, False)  # 2.1
    assert (model.slots.grid**2, model.slots.width, model.slots.iterations) == (1024, 256, 3)  # 2.3
    assert model.slots.slot_init == "input" and encoder.plane_proj == "orthographic"
    speech = model.speech
    assert (speech.feature, speech.audio_tokens, speech.heads) == ("wav2vec2", 16, 8)  # 2.4, 2.5
    assert speech.widths == (256, 256, 256) and not speech.placed
    deform = model.deform
    assert (deform.kind, deform.arch, deform.widths) == ("full", "maps", (128, 256, 256))  # 2.6
    assert (deform.plane_channels, deform.hidden, deform.frequencies) == (32, 128, 4)
    decoder = model.decoder
    assert decoder.hidden == (128, 64) and not decoder.hears and not decoder.source_color  # 2.7
    assert model.sampling.kind == "hierarchical" and model.sampling.passes == (48, 48)
    superres = model.superres
    assert (superres.sr, superres.widths, superres.residual_blocks) == ("unet", (64, 128, 256, 512), 4)  # 2.8
    assert not superres.blend
    assert (model.discriminator.base, model.discriminator.limit) == (32768, 512)  # 2.10
    sync = model.sync
    assert (sync.divisor, sync.frames, sync.lip_size, sync.motion_gain) == (1, 5, (48, 96), 1.0)  # 2.9


def test_paper_has_the_card_s_losses_and_schedule() -> None:
    """Card 2.9, 2.10 and 4."""
    field = _read("paper").stages.field
    weights = (field.w_pix, field.w_per, field.w_adv, field.w_sync, field.w_deform, field.w_shape)
    assert weights == (1.0, 0.01, 1.0, 0.5, 0.001, 0.0)
    assert (field.per_start, field.adv_start, field.sync_start) == (0, 30_000, 50_000)
    assert (field.learning_rate, field.discriminator_rate, field.decay_steps) == (1e-4, 2e-4, 0)
    assert (field.adam_b1, field.adam_b2, field.ema_decay) == (0.0, 0.99, 0.999)
    assert (field.clips_per_step, field.frames, field.gap_seconds, field.steps) == (8, 5, 1.0, 400_000)
    assert (field.r1_gamma, field.r1_every, field.critic_frames) == (5.0, 16, 0)
    assert (field.pix_reduction, field.mouth_weight, field.sync_on, field.augment) == ("mean", 0.0, "fine", False)
    sync = _read("paper").stages.sync
    assert (sync.learning_rate, sync.batch_size, sync.margin, sync.windows) == (1e-4, 64, 0.5, 2)
    assert (sync.share_other, sync.triplet, sync.contrast, sync.articulation) == (0.5, 1.0, 0.0, 0.0)


def test_parameters_of_paper() -> None:
    """Those that are short by hand, the others written down as they are."""
    conv = [3 * 3 * a * b + b for a, b in ((5, 64), (64, 128), (128, 256), (256, 96))]
    blocks = [4 * (9 * width**2 + width + 2 * width) for width in (64, 128, 256, 96)]
    ups, joins = 3 * (9 * 96**2 + 96), sum((96 + width) * 96 + 96 for width in (64, 128, 256))
    points = (27 + 32 + 256) * 128 + 128 + 128**2 + 128 + 128 * 3 + 3
    assert _sizes("paper") == {
        "encoder": sum(conv) + sum(blocks) + ups + joins,
        "slots": 1_282_304,
        "speech": 3 * 768 * 256 + 256 + 2 * (3 * 256**2 + 256),
        "attention": 4 * 256**2 + 256,  # queries, keys, values; and the output, which has a bias
        "deformation": points + 3_210_336,  # the U-Net over maps
        "decoder": 128 * 128 + 128 + 128 * 64 + 64 + 64 * 4 + 4,
        "refinement": 22_755_779,
        "coarse_critic": 26_488_833,
        "fine_critic": 28_864_129,
    }
    sync, field = s3d_nerf.stages(get_config("paper"))
    assert _parameters(nnx.eval_shape(lambda: sync.networks(jax.random.key(0)))["sync"]) == 16_435_072
    assert (field.batch_size, field.images_per_step, field.rays_per_step) == (8, 40, 40 * 64 * 64)  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("argument", "without", "deformation"),
    [
        # Card 2.11: gamma_4 of the point and the mean token, four layers; tri-planes in place of F_cm; nothing moves.
        ("deform=nd", {"slots", "attention"}, (27 + 256) * 128 + 128 + 3 * (128**2 + 128) + 128 * 3 + 3),
        ("deform=fcd", {"slots", "attention"}, (27 + 128 + 256) * 128 + 128 + 128**2 + 128 + 128 * 3 + 3),
        ("deform=none", {"slots", "attention", "deformation"}, None),
        ("w_sync=0", set(), None),
        ("w_adv=0", set(DISCRIMINATORS), None),
    ],
)
def test_ablations_by_their_arguments(argument: str, without: set[str], deformation: int | None) -> None:
    sizes = _sizes(f"paper,{argument}")
    assert set(sizes) == {*GENERATOR, *DISCRIMINATORS} - without
    if deformation is not None:
        assert sizes["deformation"] == deformation
    heard = 256 if argument == "deform=none" else 0  # the decoder hears, since nothing else does
    assert sizes["decoder"] == (128 + heard) * 128 + 128 + 128 * 64 + 64 + 64 * 4 + 4
    names = [stage.name for stage in s3d_nerf.stages(get_config(f"paper,{argument}"))]
    assert names == (["field"] if argument == "w_sync=0" else ["sync", "field"])


def test_the_card_s_other_choices() -> None:
    """2.11: guesses that stay switches."""
    config = _read("paper,deform_arch=point_unet,slot_init=gaussian,plane_proj=perspective,sr=hybrid4x,w_adv=0.002")
    model = config.model
    assert (model.deform.arch, model.slots.slot_init, model.encoder.plane_proj) == (
        "point_unet",
        "gaussian",
        "perspective",
    )
    assert model.superres.sr == "hybrid4x" and config.stages.field.w_adv == 0.002
    config = _read("tiny,coarse_size=64,size=128,sampling=hierarchical,hears=True,sync_steps=7,field_steps=9")
    assert (config.model.coarse_size, config.size, config.model.sampling.kind) == (64, 128, "hierarchical")
    assert config.model.decoder.hears and (config.stages.sync.steps, config.stages.field.steps) == (7, 9)
    hears = _sizes("paper,hears=True")["decoder"]
    assert hears == _sizes("paper")["decoder"] + 32 * 128  # the maps' planes at the point


def test_what_speech_looks_like() -> None:
    spec = s3d_nerf.audio_feature(get_config("paper"))
    assert (spec.name, spec.num_channels, spec.window) == ("wav2vec2", 768, 16)
    spec = s3d_nerf.audio_feature(get_config("paper,feature=mel,model.speech.audio_tokens=12"))
    assert (spec.name, spec.num_channels, spec.window) == ("mel", 80, 12)


def test_without_lip_sync_nothing_is_needed_of_it() -> None:
    def keys(stage: Stage) -> set[str]:
        return {"mel", "face_box"} & set(stage.example_spec())

    for argument in ("tiny,w_sync=0", "paper,w_sync=0.0"):
        (field,) = s3d_nerf.stages(get_config(argument))
        assert field.needs == () and keys(field) == set()
    sync, field = s3d_nerf.stages(get_config("tiny"))
    assert field.needs == ("sync",) == (sync.name,) and keys(field) == {"mel", "face_box"}


def test_tiny_is_small() -> None:
    sizes = _sizes("tiny,w_adv=0")
    assert sum(sizes.values()) < 1_000_000
    config = _read("tiny")
    assert config.size == 64 and config.feature.name == "mel" and config.model.sampling.evaluations_per_ray < 16


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("size=40", "config.data.size: 40 cannot be halved 4 times, as the networks do; choose a multiple of 16"),
        (
            "model.encoder.plane_channels=4",
            "config.model.encoder.widths: the last level is the coarsest planes, "
            "3 x plane_channels = 12 channels, not 24",
        ),
        ("coarse_size=24", "config.model.coarse_size: 24 does not divide the frames' 64 pixels"),
        ("sr=hybrid4x,model.superres.blend=False", r"four times as wide.*config.model.coarse_size=16"),
        ("sr=hybrid4x,coarse_size=16,model.superres.blend=True", "config.model.superres.blend: only with sr=unet"),
        ("model.speech.audio_tokens=1", "config.model.speech.audio_tokens: .* at least 2"),
        (
            "stages.field.w_listen=0.1,model.speech.null_token=False",
            "config.stages.field.w_listen: .*config.model.speech.null_token=True",
        ),
        ("model.deform.planes=4", "config.model.deform.planes: 4; 1"),
        ("model.speech.heads=7", "config.model.speech.heads: 7 do not divide the 48 channels"),
        ("stages.field.frames=4", "config.stages.field.frames: 4, .* reads 5 consecutive frames"),
        ("deform=some", "config.model.deform.kind: 'some' is not one of"),
        ("deform_arch=some", "config.model.deform.arch"),
        ("plane_proj=some", "config.model.encoder.plane_proj"),
        ("slot_init=some", "config.model.slots.slot_init"),
        ("sr=some", "config.model.superres.sr"),
        ("sampling=some", "config.model.sampling.kind"),
        ("feature=mfcc", "config.model.speech.feature"),
        ("stages.field.pix_reduction=some", "config.stages.field.pix_reduction"),
        ("stages.field.sync_on=some", "config.stages.field.sync_on"),
    ],
)
def test_impossible_settings_are_told_in_one_line(setting: str, message: str) -> None:
    with pytest.raises(JaxtalkError, match=message) as caught:
        _read(f"tiny,{setting}")
    assert "\n" not in str(caught.value)


def test_frames_are_the_discriminator_s_only_where_it_judges() -> None:
    assert _read("tiny,w_sync=0,stages.field.frames=3").stages.field.frames == 3


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("huge", "no variant 'huge'; known are tiny, paper"),
        ("tiny,deformm=nd", "deformm"),
        ("tiny,deform", "key=value"),
    ],
)
def test_mistakes_in_the_argument_are_named(argument: str, message: str) -> None:
    with pytest.raises(JaxtalkError, match=message):
        get_config(argument)
