"""The settings every experiment shares, and how a file of settings becomes a frozen record.

A config file under `configs/` starts from `base()`, sets `method`, `model` and `stages`, and returns it locked.
"""

from __future__ import annotations

import ast
import dataclasses
import hashlib
import json
import types
import typing
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import ml_collections

from jaxtalk.errors import JaxtalkError

T = TypeVar("T")
_ADDED = {
    "clip": "clips",
    "held_out": "held_out",
    "same_person": "same_person",
}  # keys of config.data that may come again


def base() -> ml_collections.ConfigDict:
    """Settings outside any system. Paths are strings; an empty string means "the default place in the run folder"."""
    config = ml_collections.ConfigDict()
    config.method = ""
    config.seed = 0
    config.data = ml_collections.ConfigDict(
        {
            "clips": (),  # folders made by `jaxtalk prepare`; packed into WORKDIR/dataset at the first run
            "dataset": "",  # or an already packed dataset (`jaxtalk pack`)
            "identities": (),  # of a packed dataset, train on these only; empty: all of its training split
            "held_out": (),  # identities that are packed with the others and never trained on: for `fewshot`
            "same_person": (),  # "a=b": two identities that are one person, held out together
            "size": 64,  # frames are resized to this many pixels on their shorter side
            "audio_feature": "mfcc",  # mfcc, mel, atc, wav2vec2 (768 channels), or deepspeech (a file of the user's)
            "test_seconds": 10.0,  # last part of each clip, never trained on
            "guard_seconds": 1.0,  # left out between training and test frames
            "workers": 0,  # processes that make examples; 0: threads of this process
            "cache_bytes": 4 << 30,  # decoded frames are kept in WORKDIR/cache, mapped into memory, up to this size
        }
    )
    config.synthetic = ml_collections.ConfigDict(
        {  # speakers made before training, in WORKDIR/synthetic, and added to data.clips; 0 identities: none
            "identities": 0,
            "held_out": 0,  # so many of them, the last ones, join data.held_out
            "utterances": 1,
            "seconds": 20.0,
            "size": 128,
            "seed": 0,
        }
    )
    config.train = ml_collections.ConfigDict(
        {
            "log_every": 100,
            "preview_every": 1000,
            "checkpoint_every": 1000,
            "keep_checkpoints": 2,
            "fsdp": 1,  # devices over which large parameters are split
            "tensorboard": False,  # needs the extra `tensorboard`
        }
    )
    config.evaluation = ml_collections.ConfigDict(
        {
            "protocols": (),  # run by train.py after training
            "max_frames": 50,  # evenly spaced over the test frames; 0: all
            "metrics": (),  # ids; empty: all that this machine has what they need for
            "source_seconds": 0.0,  # of a stranger's clip, to make the avatar of; 0: its first frame
            "fewshot": {  # what the protocol `fewshot` adapts with, every length with every number of steps
                "seconds": (),  # of a held-out clip, from its start
                "steps": (),  # 0: the base model as it is
                "from_scratch": False,  # the same steps without base training, too
            },
        }
    )
    config.samples = ml_collections.ConfigDict(
        {  # videos that train.py makes after training, in WORKDIR/samples
            "audio": (),  # recordings of speech
            "babble_seconds": 0.0,  # a synthetic utterance of this length
            "avatar": "",  # who speaks: a clip or an identity; empty: the first held-out one, else the first clip's
            "pose": "mirror",  # hold, loop, mirror, or a clip's folder
        }
    )
    return config


def frozen(cls: type[T], settings: Mapping[str, Any], where: str) -> T:
    """Turns a (nested) mapping into the frozen dataclass `cls`. Raises `JaxtalkError` for unknown or missing keys."""
    hints = typing.get_type_hints(cls)
    fields = {field.name: field for field in dataclasses.fields(cls)}  # type: ignore[arg-type]
    unknown = sorted(set(settings) - set(fields))
    if unknown:
        raise JaxtalkError(f"{where}.{unknown[0]}: no such setting; known are {', '.join(sorted(fields))}")
    values: dict[str, Any] = {}
    for name, value in settings.items():
        hint = hints[name]
        record = next((h for h in (hint, *typing.get_args(hint)) if dataclasses.is_dataclass(h)), None)
        if record is not None:  # `Record` or `Record | None`
            value = None if value is None else frozen(typing.cast(type, record), value, f"{where}.{name}")
        elif typing.get_origin(hint) is tuple or isinstance(value, list):
            value = tuple(value)
        values[name] = value
    missing = sorted(
        name
        for name, field in fields.items()
        if name not in values and field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
    )
    if missing:
        raise JaxtalkError(f"{where}.{missing[0]}: this setting is missing")
    return cls(**values)


def as_plain(config: ml_collections.ConfigDict) -> dict[str, Any]:
    """The config as JSON can hold it: tuples become lists, placeholders None."""

    def plain(value: Any) -> Any:
        if isinstance(value, Mapping | ml_collections.ConfigDict):
            return {key: plain(item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [plain(item) for item in value]
        if isinstance(value, types.FunctionType):
            raise TypeError("a config holds data, not functions")
        return value

    return typing.cast(dict[str, Any], plain(config))


def config_sha256(config: ml_collections.ConfigDict) -> str:
    """Hash of the resolved config, with its keys in order."""
    return hashlib.sha256(json.dumps(as_plain(config), sort_keys=True).encode()).hexdigest()


def apply_arguments(
    config: ml_collections.ConfigDict,
    arguments: Sequence[str],
    short: Mapping[str, str | tuple[str, ...]],
    where: str,
) -> None:
    """Applies the `key=value` that follow a config's variant, later ones over earlier ones.

    Keys are `clip` (a folder), `held_out` and `same_person` (each adds to what data has, and may come again), `steps`
    (of every stage whose learning rate decays, which then decays in proportion), those of `short` (-> full key, or
    keys), or any key of the config by its full name. Raises `JaxtalkError` for another key or a value that does not
    fit; `where` names the config's file.
    """
    for argument in arguments:
        key, separator, text = argument.partition("=")
        if not separator:
            raise JaxtalkError(f"{where}: {argument!r} is not key=value")
        try:
            if key in _ADDED:
                config.data[_ADDED[key]] = (*config.data[_ADDED[key]], text)
            elif key == "steps":
                _set_steps(config, int(text))
            else:
                full = short.get(key, key)
                keys = (full,) if isinstance(full, str) else full
                config.update_from_flattened_dict(dict.fromkeys(keys, _value(text)))
        except (KeyError, AttributeError) as error:
            known = ", ".join((*_ADDED, "steps", *short))
            raise JaxtalkError(
                f"{where}: {argument}: no such setting; give its path in the config, or one of {known}"
            ) from error
        except (TypeError, ValueError) as error:
            raise JaxtalkError(f"{where}: {argument}: {' '.join(str(error.args[0]).split())}") from error


def _set_steps(config: ml_collections.ConfigDict, steps: int) -> None:
    """Sets the steps of every stage whose learning rate decays, and stretches the decay with them."""
    for stage in config.stages.values():
        if stage is not None and stage.get("decay_steps"):
            stage.decay_steps = round(stage.decay_steps * steps / stage.steps)
            stage.steps = steps


def _value(text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text
