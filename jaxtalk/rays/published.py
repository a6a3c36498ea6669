"""Checkpoints of AD-NeRF and DFRF: the parts that both have, and what their arrays' shapes say of the networks.

Their files are `torch.save`d dicts: `global_step`, one state dict a network, and the optimisers' states.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import ml_collections
import numpy as np
from flax import nnx

from jaxtalk.clip import Clip
from jaxtalk.config import base
from jaxtalk.errors import JaxtalkError
from jaxtalk.rays.settings import FieldConfig
from jaxtalk.rays.speech_code import AudioConfig
from jaxtalk.weights.convert import Layout, convert
from jaxtalk.weights.converted import put
from jaxtalk.weights.readers import read_checkpoint

StateDict = Mapping[str, np.ndarray]
FEATURE = "deepspeech"  # what their speech networks hear
COARSE, FINE = "network_fn_state_dict", "network_fine_state_dict"
AUDIO, ATTENTION = "network_audnet_state_dict", "network_audattnet_state_dict"
OPTIMISERS = ("optimizer_state_dict", "optimizer_aud_state_dict", "optimizer_audatt_state_dict")
STEP = "global_step"


@dataclasses.dataclass(frozen=True)
class Imported:
    """What a run folder is made of: its config, and the networks of each stage."""

    config: ml_collections.ConfigDict
    networks: Mapping[str, Mapping[str, nnx.Module]]  # stage -> name -> module with the file's arrays
    notes: tuple[str, ...] = ()  # for the user: what the file lacks or what is done otherwise


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """One file: the steps that were taken, and state dicts by entry."""

    path: Path
    steps: int
    states: Mapping[str, StateDict]
    others: frozenset[str]  # entries that were passed over

    def first_kernel(self, entry: str, name: str) -> tuple[int, ...]:
        """Shape of the array NAME of an entry. Raises `JaxtalkError` where it is missing."""
        if name not in self.states[entry]:
            raise JaxtalkError(f"{self.path}: {entry} has no {name}; give a checkpoint of the published networks")
        return self.states[entry][name].shape


def read(path: str | Path, wanted: Collection[str], optional: Collection[str] = ()) -> Checkpoint:
    """Reads a checkpoint with the state dicts `wanted`, and those of `optional` that are there.

    Raises:
      JaxtalkError: not a readable file; an entry that is missing, is no state dict, or that nobody knows.
    """
    path = Path(path)
    tree = read_checkpoint(path)
    if not isinstance(tree, dict):
        raise JaxtalkError(f"{path}: not a checkpoint but a {type(tree).__name__}; give the .tar file of a training")
    for entry in (STEP, *wanted):
        if entry not in tree:
            raise JaxtalkError(f"{path}: no entry {entry!r} (it has {', '.join(map(str, tree))}); give the .tar file "
                               "that the published code saved")  # fmt: skip
    unknown = sorted(set(tree) - {STEP, *wanted, *optional, *OPTIMISERS})
    if unknown:
        raise JaxtalkError(f"{path}: entry {unknown[0]!r} has no place in our networks; give a checkpoint of the "
                           "published code")  # fmt: skip
    taken = [entry for entry in (*wanted, *optional) if entry in tree]
    for entry in taken:
        if not isinstance(tree[entry], dict) or any(not isinstance(a, np.ndarray) for a in tree[entry].values()):
            raise JaxtalkError(f"{path}: {entry} is no state dict; give a checkpoint of the published code")
    steps = int(tree[STEP]) + 1  # it counts from 0, and is saved before it is raised
    return Checkpoint(path, steps, {entry: tree[entry] for entry in taken}, frozenset(tree) - set(taken) - {STEP})


def field_config(file: Checkpoint, entry: str, prefix: str, others: int, unit: float) -> FieldConfig:
    """The sizes of a field, from the shapes of its arrays.

    Args:
      entry, prefix: where its arrays are.
      others: inputs beside the encoded position: code and features.
      unit: metres in a unit of the space that it was trained in.

    Raises `JaxtalkError` where inputs are not of these encodings.
    """
    state = file.states[entry]
    width, inputs = file.first_kernel(entry, f"{prefix}pts_linears.0.weight")
    branch_width, branch_inputs = file.first_kernel(entry, f"{prefix}views_linears.0.weight")
    depth, branch_depth = (_count(state, f"{prefix}{name}.") for name in ("pts_linears", "views_linears"))
    skips = tuple(
        i - 1
        for i in range(1, depth)
        if (layer := state.get(f"{prefix}pts_linears.{i}.weight")) is not None and layer.shape[1] == width + inputs
    )
    where = f"{file.path}: {entry}"
    return FieldConfig(
        depth=depth,
        width=width,
        skips=skips,
        branch_depth=branch_depth,
        branch_width=branch_width,
        position_frequencies=frequencies(inputs - others, f"{where}: {prefix}pts_linears.0.weight"),
        view_frequencies=frequencies(branch_inputs - width, f"{where}: {prefix}views_linears.0.weight"),
        position_scale=1 / unit,
        density_scale=1 / unit,
    )


def frequencies(size: int, where: str) -> int:
    """L of an encoding of 3 numbers in 3 (2 L + 1). Raises `JaxtalkError` for a size that is none."""
    number, rest = divmod(size - 3, 6)
    if size < 3 or rest:
        raise JaxtalkError(f"{where}: {size} of its inputs are no encoding of three numbers; give a checkpoint of the "
                           "published networks")  # fmt: skip
    return number


def audio_config(file: Checkpoint) -> AudioConfig:
    """The sizes of the speech networks; no smoothing where the file has none."""
    channels = file.first_kernel(AUDIO, "encoder_conv.0.weight")[1]
    code = file.first_kernel(AUDIO, "encoder_fc1.2.weight")[0]
    windows = file.first_kernel(ATTENTION, "attentionNet.0.weight")[0] if ATTENTION in file.states else 0
    return AudioConfig(channels=channels, code_size=code, attention_windows=windows)


def fill(network: nnx.Module, file: Checkpoint, entry: str, layout: Layout, prefix: str = "") -> None:
    """Writes the arrays of an entry whose names begin with `prefix` into a network, which may be abstract.

    Raises `JaxtalkError` that names keys which are missing, left over or of another shape.
    """
    own = {name.removeprefix(prefix): a for name, a in file.states[entry].items() if name.startswith(prefix)}
    source = f"{file.path}: {entry}"
    put(network, convert(network, own, layout, source), source)


def config_of(method: str, clip: Clip, model: Any, stages: Any) -> ml_collections.ConfigDict:
    """The locked config of a run of `method` with these records of settings, on the clip and its folder's own split.

    Raises `JaxtalkError` for a clip that was not imported, or without the speech feature.
    """
    config = base()
    config.method = method
    config.model = ml_collections.ConfigDict(dataclasses.asdict(model))
    config.stages = ml_collections.ConfigDict(dataclasses.asdict(stages))
    config.data.clips = (str(clip.path),)
    config.data.size = min(clip.meta.size)
    config.data.audio_feature = FEATURE
    config.data.test_seconds, config.data.guard_seconds = _test_seconds(clip), 0.0
    if clip.feature(FEATURE) is None:
        raise JaxtalkError(f"{clip.path}: no features/{FEATURE}.npy, which these networks hear; put aud.npy into the "
                           "folder and import it again")  # fmt: skip
    config.lock()
    return config


def metres_per_unit(clip: Clip) -> float:
    """Metres in a unit of the space in which a folder's networks learn. Raises `JaxtalkError` for other clips."""
    unit = clip.meta.source.get("metres_per_unit")
    if not isinstance(unit, float | int):
        raise JaxtalkError(
            f"{clip.path}: not made of the folder that the networks were trained on, so their space is not the clip's; "
            "make it with `jaxtalk prepare --from ad_nerf FOLDER`"
        )
    return float(unit)


def _test_seconds(clip: Clip) -> float:
    """Length of the part of the clip that its folder keeps for validation, at its end."""
    val = sum(last - first + 1 for first, last in clip.meta.source.get("split", {}).get("val", ()))
    if not val or val >= clip.meta.num_frames:
        return 0.0
    time = clip.track.time
    return float(time[-1] - time[-val] + np.median(np.diff(time)))


def _count(state: StateDict, prefix: str) -> int:
    numbers = [int(name.removeprefix(prefix).split(".")[0]) for name in state if name.startswith(prefix)]
    return max(numbers) + 1
