"""A talking head from one picture, that renders from its own folder alone."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxtalk.clip import Camera, ClipView, Track
from jaxtalk.errors import JaxtalkError
from jaxtalk.methods.api import Drive, Networks
from jaxtalk.methods.s3d_nerf.config import S3DConfig
from jaxtalk.methods.s3d_nerf.frames import Person, encode_person, person_of, render_frames
from jaxtalk.methods.s3d_nerf.networks import generator
from jaxtalk.methods.s3d_nerf.picture import Encoded
from jaxtalk.rays import avatar_folder
from jaxtalk.rays.avatar_folder import Saved
from jaxtalk.rays.bounds import camera_vector
from jaxtalk.rays.parameters import abstract_parameters, parameters_of

METHOD = "s3d_nerf"
_ARRAYS = "person.npz"


@dataclasses.dataclass(frozen=True)
class S3DAvatar:
    """One person's head; see `jaxtalk.methods.api.Avatar`."""

    name: str
    fps: float
    camera: Camera
    track: Track
    person: Person
    parameters: dict[str, Any]
    config: S3DConfig

    @property
    def size(self) -> tuple[int, int]:
        height, width = self.person.picture.shape[:2]
        return height, width

    @functools.cached_property
    def _encoded(self) -> Encoded:
        return encode_person(self.config, self.parameters, self.person)

    def listen(self, windows: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
        """The windows themselves: each frame hears its own."""
        return windows

    def render(self, drive: Drive) -> np.ndarray:
        """Frames [F, H, W, 3] float32 in [0, 1]; compiled once per F.

        `drive.camera` moves the head's camera; hair and background stay about where the picture has them.
        """
        return np.clip(self.parts(drive, ("fine",))[0], 0, 1)

    def parts(self, drive: Drive, names: tuple[str, ...]) -> list[np.ndarray]:
        """What `names` of `picture.Picture` say, for each frame: "coarse" inner faces, what places heard, ..."""
        found = render_frames(self.config, *self._arguments(drive), parts=names)
        return [np.asarray(part) for part in found]

    def trace(self, drive: Drive) -> Any:
        """The traced program of `render`, whose FLOPs `jaxtalk bench` counts."""
        return jax.make_jaxpr(functools.partial(render_frames, self.config))(*self._arguments(drive))

    def _arguments(self, drive: Drive) -> tuple[Any, ...]:
        """What `render_frames` takes behind the settings."""
        windows = np.asarray(drive.audio, np.float32)
        feature = self.config.feature
        if windows.shape[1:] != (feature.window, feature.num_channels):
            raise JaxtalkError(
                f"avatar {self.name}: what it hears is {windows.shape[1:]} a frame, it was trained on "
                f"{(feature.window, feature.num_channels)}; give it windows of the run's own audio feature"
            )
        camera = camera_vector(self.camera if drive.camera is None else drive.camera)
        poses = (np.asarray(x, np.float32) for x in (drive.rotation, drive.translation))
        return self.parameters, self.person, self._encoded, windows, *poses, camera

    def heat(self, drive: Drive) -> np.ndarray:
        """How much what each place of the picture hears changes with the speech of a drive, [side, side].

        The mean over frames of the length, over channels, of F_cm less its mean over frames. (The paper draws the mean
        over channels, whose sign and level mean nothing.) Raises `JaxtalkError` where no place hears for itself.
        """
        if self.config.model.deform.kind != "full":
            raise JaxtalkError(f"avatar {self.name}: no place hears for itself with model.deform.kind="
                               f"{self.config.model.deform.kind}")  # fmt: skip
        (heard,) = self.parts(drive, ("heard",))
        return np.linalg.norm(heard - heard.mean(0), axis=-1).mean(0)

    def save(self, folder: Path) -> None:
        saved = Saved(self.name, self.fps, self.camera, self.track, self.config, self.person._asdict())
        avatar_folder.save(folder, METHOD, saved, self.parameters, _ARRAYS)

    @classmethod
    def load(cls, folder: Path) -> S3DAvatar:
        """Reads what `save` wrote. Raises `JaxtalkError` when a file is missing or is another system's."""
        saved = avatar_folder.load(folder, METHOD, S3DConfig, _ARRAYS, Person._fields)
        parameters = avatar_folder.load_parameters(folder, abstract_parameters(generator, saved.config))
        return cls(saved.name, saved.fps, saved.camera, saved.track, Person(**saved.arrays), parameters, saved.config)


def avatar_of(config: S3DConfig, networks: Networks, clip: ClipView) -> S3DAvatar:
    """The person of `clip`. Raises `JaxtalkError` for a clip of another size."""
    if clip.meta.size != (config.size, config.size):
        raise JaxtalkError(
            f"clip {clip.name}: {clip.meta.size} pixels, and sources are squares of {config.size}; "
            "prepare it as a square (the default of `jaxtalk prepare`)"
        )
    return S3DAvatar(
        name=clip.name,
        fps=clip.meta.fps,
        camera=clip.meta.camera,
        track=clip.track,
        person=person_of(clip),
        parameters=parameters_of({name: networks[name] for name in abstract_parameters(generator, config)}),
        config=config,
    )
