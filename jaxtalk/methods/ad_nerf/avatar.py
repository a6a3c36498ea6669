"""A talking head that renders from its own folder alone."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxtalk.clip import Camera, ClipView, Track
from jaxtalk.config import frozen
from jaxtalk.errors import JaxtalkError
from jaxtalk.methods.ad_nerf.config import AdNerfConfig
from jaxtalk.methods.ad_nerf.frames import abstract_parameters, parameters_of, render_frames
from jaxtalk.methods.ad_nerf.scene import Scene, scene_of
from jaxtalk.methods.ad_nerf.stages import make_stages, smooths
from jaxtalk.methods.api import Drive, Run
from jaxtalk.rays.bounds import camera_vector

FILES = ("avatar.json", "parameters.npz", "scene.npz", "track.npz")


@dataclasses.dataclass(frozen=True)
class FieldAvatar:
    """One person's head and torso fields; see `jaxtalk.methods.api.Avatar`."""

    name: str
    fps: float
    camera: Camera
    track: Track
    scene: Scene
    parameters: dict[str, Any]
    config: AdNerfConfig

    @property
    def size(self) -> tuple[int, int]:
        height, width = self.scene.plate.shape[:2]
        return height, width

    def listen(self, windows: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
        """The windows themselves: each frame hears its own."""
        return windows

    def render(self, drive: Drive) -> np.ndarray:
        """Frames [F, H, W, 3] float32 in [0, 1]; compiled once per F.

        `drive.camera` moves head and torso; the background stays the clip's.
        """
        scene = self.scene if drive.camera is None else self.scene._replace(camera=camera_vector(drive.camera))
        drives = (drive.audio, drive.eye_openness, drive.rotation, drive.translation)
        arrays = [np.asarray(array, np.float32) for array in drives]
        self._check(arrays[0])
        frames = render_frames(self.config.model, self.parameters, scene, *arrays, smooth=smooths(self.config))
        return np.asarray(frames)

    def _check(self, audio: np.ndarray) -> None:
        settings = self.config.model.audio
        expected = (settings.rows, settings.channels)
        if audio.shape[1:] != expected:
            raise JaxtalkError(
                f"avatar {self.name}: audio windows are {audio.shape[1:]}, it was trained on {expected}; "
                "make them with the run's own audio feature"
            )

    def save(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        arrays = {jax.tree_util.keystr(path, simple=True, separator="/"): np.asarray(leaf)
                  for path, leaf in jax.tree_util.tree_leaves_with_path(self.parameters)}  # fmt: skip
        np.savez(folder / "parameters.npz", **arrays)  # type: ignore[arg-type]
        np.savez_compressed(folder / "scene.npz", **self.scene._asdict())
        self.track.save(folder / "track.npz")
        data = {
            "method": "ad_nerf",
            "name": self.name,
            "fps": self.fps,
            "camera": dataclasses.asdict(self.camera),
            "config": dataclasses.asdict(self.config),
        }
        (folder / "avatar.json").write_text(json.dumps(data, indent=1))

    @classmethod
    def load(cls, folder: Path) -> FieldAvatar:
        """Reads what `save` wrote. Raises `JaxtalkError` when a file is missing or is another system's."""
        for name in FILES:
            if not (folder / name).is_file():
                raise JaxtalkError(f"{folder / name}: missing, so this is no whole avatar; train or fit it again")
        data = json.loads((folder / "avatar.json").read_text())
        if data["method"] != "ad_nerf":
            raise JaxtalkError(f"{folder / 'avatar.json'}: an avatar of {data['method']}, not of ad_nerf")
        config = frozen(AdNerfConfig, data["config"], f"{folder / 'avatar.json'}: config")
        with np.load(folder / "scene.npz") as arrays:
            scene = Scene(**{name: arrays[name] for name in Scene._fields})
        return cls(
            name=data["name"],
            fps=data["fps"],
            camera=Camera(**data["camera"]),
            track=Track.load(folder / "track.npz"),
            scene=scene,
            parameters=_load_parameters(folder / "parameters.npz", config),
            config=config,
        )


def _load_parameters(path: Path, config: AdNerfConfig) -> dict[str, Any]:
    with np.load(path) as arrays:
        abstract = abstract_parameters(config.model, with_torso=any(name.startswith("torso/") for name in arrays))

        def read(key: Any, leaf: jax.ShapeDtypeStruct) -> np.ndarray:
            name = jax.tree_util.keystr(key, simple=True, separator="/")
            if name not in arrays or arrays[name].shape != leaf.shape:
                raise JaxtalkError(f"{path}: {name} is missing or has another shape; train or fit the avatar again")
            return arrays[name]

        return jax.tree_util.tree_map_with_path(read, abstract)


def fit_avatar(config: AdNerfConfig, run: Run, clip: ClipView) -> FieldAvatar:
    """The avatar of the run's person: AD-NeRF is trained on one, so nothing is left to fit."""
    networks = {name: net for stage in make_stages(config) for name, net in run.networks(stage.name).items()}
    return FieldAvatar(
        name=clip.name,
        fps=clip.meta.fps,
        camera=clip.meta.camera,
        track=clip.track,
        scene=scene_of(clip),
        parameters=parameters_of(networks),
        config=config,
    )
