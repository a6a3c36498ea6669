"""The run folder: its config, its versions, and who may train in it."""

from __future__ import annotations

import contextlib
import fcntl
import importlib.metadata
import json
import os
import platform
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import ml_collections

from jaxtalk.config import as_plain
from jaxtalk.errors import JaxtalkError

# Settings that change neither what is trained nor how: a resumed run may have others. A name covers what is below it.
# Folders of clips may have moved; what they hold is compared when they are opened (`input.clips`).
SAFE_KEYS = (
    "evaluation",
    "samples",
    "train.log_every",
    "train.preview_every",
    "train.checkpoint_every",
    "train.keep_checkpoints",
    "train.tensorboard",
    "train.fsdp",
    "data.clips",
    "data.workers",
    "data.cache_bytes",
)
_PACKAGES = ("jaxtalk", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "numpy", "tensorflow-datasets")


def write_config(workdir: Path, config: ml_collections.ConfigDict) -> None:
    """Writes config.json. Raises `JaxtalkError` naming the first key in which the folder's own config differs."""
    path, new = workdir / "config.json", _flat(as_plain(config))
    old = _flat(_read_json(path)) if path.is_file() else new
    for key in sorted(set(old) | set(new)):
        safe = any(key == name or key.startswith(name + ".") for name in SAFE_KEYS)
        if not safe and old.get(key, "absent") != new.get(key, "absent"):
            raise JaxtalkError(
                f"{path}: {key} is {old.get(key, 'absent')!r} there and {new.get(key, 'absent')!r} now; "
                f"use another --workdir, or give --config.{key} its old value"
            )
    _write_json(path, as_plain(config))


def read_config(workdir: Path) -> ml_collections.ConfigDict:
    """The config of a run, locked. Raises `JaxtalkError` where there is no run."""
    path = workdir / "config.json"
    if not path.is_file():
        raise JaxtalkError(
            f"{workdir}: no run here (config.json is missing); make one with train.py --workdir={workdir}"
        )
    config = ml_collections.ConfigDict(_with_tuples(_read_json(path)))
    config.lock()
    return config


def write_versions(workdir: Path) -> None:
    """Writes versions.json: packages, Python, machine and devices of the latest start."""
    versions = {}
    for name in _PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[name] = importlib.metadata.version(name)
    devices = jax.devices()
    _write_json(
        workdir / "versions.json",
        {
            "packages": versions,
            "python": platform.python_version(),
            "platform": platform.platform(),
            "backend": jax.default_backend(),
            "device": devices[0].device_kind,
            "devices": len(devices),
            "processes": jax.process_count(),
        },
    )


@contextlib.contextmanager
def only_trainer(workdir: Path) -> Iterator[None]:
    """Raises `JaxtalkError` when another process trains in this folder. A killed process leaves no lock behind."""
    with open(workdir / ".lock", "a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise JaxtalkError(f"{workdir}: another process is training here; wait for it or stop it") from error
        yield


def _flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) and value else {f"{prefix}{key}": value}
    return flat


def _with_tuples(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _with_tuples(item) for key, item in value.items()}
    return tuple(map(_with_tuples, value)) if isinstance(value, list) else value


def _read_json(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text())
    except ValueError as error:
        raise JaxtalkError(f"{path}: not JSON ({error}); restore it or use another --workdir") from error


def _write_json(path: Path, value: Any) -> None:
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(json.dumps(value, indent=1) + "\n")
    os.replace(temporary, path)
