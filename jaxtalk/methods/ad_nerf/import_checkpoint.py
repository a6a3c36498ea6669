"""AD-NeRF's own checkpoints (`NNNNNN_head.tar`, `NNNNNN_body.tar`) as the stages of a run.

Their positions are in the unit of their folder: the fields multiply ours by `position_scale` before they encode them.
The torso's file holds an AudioNet of its own that their code never asks; head and torso hear the head's.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import cast

import jax
from flax import nnx

from jaxtalk.clip import Clip
from jaxtalk.errors import JaxtalkError
from jaxtalk.methods.ad_nerf.config import ModelConfig, StageConfig, StagesConfig, read
from jaxtalk.methods.ad_nerf.stages import make_stages
from jaxtalk.ops.encodings import encoding_size
from jaxtalk.rays import published
from jaxtalk.rays.field import Field
from jaxtalk.rays.published import ATTENTION, AUDIO, COARSE, FINE, Checkpoint, Imported
from jaxtalk.rays.settings import FieldConfig
from jaxtalk.weights.layouts.ad_nerf import AUDIO_ATT_NET, AUDIO_NET, FIELD

SMOOTHED_FROM = 200_000  # step from which the published code trains on smoothed codes


def import_checkpoint(files: Sequence[Path], clip: Clip, *, smoothed_from: int | None = None) -> Imported:
    """The run of one head file, and a torso's where there is one, on the clip of the folder they were trained on.

    `smoothed_from`: the step from which codes were smoothed, where the training was told another than the code's own.

    Raises:
      JaxtalkError: files that are not AD-NeRF's, that do not fit together or the clip, or that miss a key.
    """
    head, torso = _sorted(files)
    unit, audio = published.metres_per_unit(clip), published.audio_config(head)
    model = ModelConfig(
        audio=audio,
        head=published.field_config(head, FINE, "", audio.code_size, unit),
        torso=None,
    )
    if torso is not None:
        if not audio.attention_windows:
            raise JaxtalkError(f"{head.path}: no entry {ATTENTION!r}, and {torso.path.name} heard smoothed codes; give "
                               "the head's file that lies beside it")  # fmt: skip
        model = _with_torso(model, torso, unit)
    start = SMOOTHED_FROM if smoothed_from is None else smoothed_from
    if torso is not None or _saved_by_torso(head):  # which is only ever trained and rendered on smoothed codes
        start = 0
    stages = StagesConfig(
        head=StageConfig(steps=head.steps, attention_start=start),
        torso=None if torso is None else StageConfig(steps=torso.steps, rays_per_frame=1024, face_share=0.0),
    )
    config = published.config_of("ad_nerf", clip, model, stages)
    networks = {stage.name: nnx.eval_shape(stage.networks, jax.random.key(0)) for stage in make_stages(read(config))}
    published.fill(networks["head"]["audio"], head, AUDIO, AUDIO_NET)
    if audio.attention_windows:
        published.fill(networks["head"]["attention"], head, ATTENTION, AUDIO_ATT_NET)
    for name, file in (("head", head), ("torso", torso)):
        if file is not None:
            for network, entry in ((f"{name}_coarse", COARSE), (name, FINE)):
                published.fill(cast(Field, networks[name][network]).mlp, file, entry, FIELD)
    return Imported(config, networks, _notes(torso))


def _sorted(files: Sequence[Path]) -> tuple[Checkpoint, Checkpoint | None]:
    """The head's file and the torso's, told apart by what their fields hear."""
    read_files = [published.read(file, (COARSE, FINE, AUDIO), (ATTENTION,)) for file in files]
    heads = [file for file in read_files if _is_head(file)]
    torsos = [file for file in read_files if not _is_head(file)]
    if len(heads) != 1 or len(torsos) > 1:
        names = ", ".join(file.path.name for file in read_files)
        raise JaxtalkError(f"{names}: {len(heads)} heads and {len(torsos)} torsos; give one NNNNNN_head.tar, and one "
                           "NNNNNN_body.tar where there is one")  # fmt: skip
    return heads[0], torsos[0] if torsos else None


def _is_head(file: Checkpoint) -> bool:
    """A torso's file has no attention, and its field hears the pose beside the code."""
    code = file.first_kernel(AUDIO, "encoder_fc1.2.weight")[0]
    inputs = file.first_kernel(FINE, "pts_linears.0.weight")[1]
    return ATTENTION in file.states or inputs - code == encoding_size(3, FieldConfig().position_frequencies)


def _saved_by_torso(head: Checkpoint) -> bool:
    """Torso training saves the head again, with its own number of steps and without the attention's optimiser."""
    return ATTENTION in head.states and "optimizer_audatt_state_dict" not in head.others


def _with_torso(model: ModelConfig, torso: Checkpoint, unit: float) -> ModelConfig:
    """The model with the torso's field; the pose is encoded with what remains of its inputs."""
    position = encoding_size(3, model.head.position_frequencies)
    inputs = torso.first_kernel(FINE, "pts_linears.0.weight")[1]
    pose = inputs - position - model.audio.code_size
    where = f"{torso.path}: {FINE}: pts_linears.0.weight"
    if pose % 2:
        raise JaxtalkError(f"{where}: {inputs} inputs are no position {position}, code {model.audio.code_size} and "
                           "pose; give a torso that hears the head's whole code")  # fmt: skip
    field = published.field_config(torso, FINE, "", model.audio.code_size + pose, unit)
    return dataclasses.replace(model, torso=field, torso_pose_frequencies=published.frequencies(pose // 2, where))


def _notes(torso: Checkpoint | None) -> tuple[str, ...]:
    own = "at the ends of a recording ours hears what there is of a window, theirs none of it"
    return (own,) if torso is not None else (own, "no torso's file: the head is rendered before the background alone")
