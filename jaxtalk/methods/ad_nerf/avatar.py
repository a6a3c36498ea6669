"""A talking head that renders from its own folder alone."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from jaxtalk.clip import Camera, ClipView, Track
from jaxtalk.errors import JaxtalkError
from jaxtalk.methods.ad_nerf.config import AdNerfConfig
from jaxtalk.methods.ad_nerf.frames import all_networks, render_frames
from jaxtalk.methods.ad_nerf.scene import Scene, scene_of
from jaxtalk.methods.ad_nerf.stages import make_stages, smooths
from jaxtalk.methods.api import Drive, Run
from jaxtalk.rays import avatar_folder
from jaxtalk.rays.avatar_folder import Saved
from jaxtalk.rays.bounds import camera_vector
from jaxtalk.rays.parameters import abstract_parameters, parameters_of

_ARRAYS = "scene.npz"


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
        saved = Saved(self.name, self.fps, self.camera, self.track, self.config, self.scene._asdict())
        avatar_folder.save(folder, "ad_nerf", saved, self.parameters, _ARRAYS)

    @classmethod
    def load(cls, folder: Path) -> FieldAvatar:
        """Reads what `save` wrote. Raises `JaxtalkError` when a file is missing or is another system's."""
        saved = avatar_folder.load(folder, "ad_nerf", AdNerfConfig, _ARRAYS, Scene._fields)
        with_torso = any(name.startswith("torso/") for name in avatar_folder.parameter_names(folder))
        abstract = abstract_parameters(all_networks, saved.config.model, with_torso)
        parameters, scene = avatar_folder.load_parameters(folder, abstract), Scene(**saved.arrays)
        return cls(saved.name, saved.fps, saved.camera, saved.track, scene, parameters, saved.config)


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
