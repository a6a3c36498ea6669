"""DFRF's own checkpoints (a base model, or a person's `NNNNNN_head.tar`) as the stage `field` of a run.

Slot attention is saved three times, since coarse and fine field share it; all three must be the same. Pictures, places
and the cameras' unit are those of the folder that the networks were trained on.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax import nnx

from jaxtalk.clip import Clip
from jaxtalk.errors import JaxtalkError
from jaxtalk.few_shot.config import ModelConfig, ReferenceConfig, StageConfig, StagesConfig, read
from jaxtalk.few_shot.stages import make_stages
from jaxtalk.rays import published
from jaxtalk.rays.published import ATTENTION, AUDIO, COARSE, FINE, Checkpoint, Imported
from jaxtalk.weights.layouts import dfrf as layouts
from jaxtalk.weights.layouts.ad_nerf import AUDIO_ATT_NET, AUDIO_NET, FIELD

SMOOTHED_FROM = 100_000  # step from which the published code trains on smoothed codes
SLOTS, ENCODER, WARP = "attention_state_dict", "unet_state_dict", "position_warp_state_dict"
_FIELD, _SLOTS = "nerf_model.", "slot_att."  # of the entries COARSE and FINE


def import_checkpoint(files: Sequence[Path], clip: Clip, *, smoothed_from: int | None = None) -> Imported:
    """The run of one file on a clip of somebody; `smoothed_from` as for AD-NeRF.

    Raises:
      JaxtalkError: a file that is not DFRF's, that does not fit the clip, or that misses a key.
    """
    if len(files) != 1:
        raise JaxtalkError(f"{len(files)} files: DFRF's networks lie in one; give it alone")
    file = published.read(files[0], (COARSE, FINE, AUDIO, ATTENTION, SLOTS, ENCODER, WARP))
    _check_copies(file)
    height, width = clip.meta.size
    if height != width:
        raise JaxtalkError(f"{clip.path}: pictures of {width} x {height}, and DFRF's are square; prepare them so")
    unit, audio = published.metres_per_unit(clip), published.audio_config(file)
    references = ReferenceConfig(encoder="dfrf_conv", warp="dfrf_point", project=False, place_origin=0.5)
    others = audio.code_size + references.slots * references.width
    model = ModelConfig(
        motion="audio64",
        audio=audio,
        mapping=0,
        references=references,
        field=published.field_config(file, FINE, _FIELD, others, unit),
    )
    start = SMOOTHED_FROM if smoothed_from is None else smoothed_from
    field = StageConfig(steps=file.steps, rays_per_frame=850, learning_rate=5e-4, attention_start=start)
    stages = StagesConfig(field=field, adapt=StageConfig(steps=0, decay_steps=0))  # a head is what the file holds
    config = published.config_of("dfrf", clip, model, stages)
    (stage,) = make_stages(read(config))
    networks: dict[str, Any] = nnx.eval_shape(stage.networks, jax.random.key(0))
    published.fill(networks["audio"], file, AUDIO, AUDIO_NET)
    published.fill(networks["attention"], file, ATTENTION, AUDIO_ATT_NET)
    published.fill(networks["encoder"], file, ENCODER, layouts.ENCODER)
    published.fill(networks["warp"], file, WARP, layouts.WARP)
    published.fill(networks["references"], file, SLOTS, layouts.references((height, width)))
    for name, entry in (("coarse", COARSE), ("field", FINE)):
        published.fill(networks[name].mlp, file, entry, FIELD, _FIELD)
    return Imported(config, {stage.name: networks}, _NOTES)


def _check_copies(file: Checkpoint) -> None:
    """Raises `JaxtalkError` unless the slot attention in every entry is the same, and nothing else is in them."""
    own = file.states[SLOTS]
    for entry in (COARSE, FINE):
        state = file.states[entry]
        odd = [name for name in state if not name.startswith((_FIELD, _SLOTS))]
        copy = {name.removeprefix(_SLOTS): array for name, array in state.items() if name.startswith(_SLOTS)}
        differs = sorted(set(copy) ^ set(own)) + [n for n in own if n in copy and not np.array_equal(own[n], copy[n])]
        if odd or differs:
            name = odd[0] if odd else _SLOTS + differs[0]
            raise JaxtalkError(f"{file.path}: {entry}: {name} is not what {SLOTS} has; give a checkpoint of the "
                               "published code")  # fmt: skip


_NOTES = (
    "slots start from one fixed noise for all points and frames; theirs draw anew for every point, which flickers",
    "behind the head stand torsos of the clip's frames in like poses, not the frame's own torso with a stretched neck",
    "references are evenly spaced frames of the clip; theirs are frames 50, 100, 150, 200",
    "at the ends of a recording ours hears what there is of a window, theirs none of it",
)
