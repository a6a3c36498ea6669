"""A talking head that renders from its own folder alone: networks, reference frames, torsos."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from jaxtalk.clip import Camera, ClipView, Track
from jaxtalk.errors import JaxtalkError
from jaxtalk.few_shot.coefficients import check_face_model, coefficients, pose_of
from jaxtalk.few_shot.config import FewShotConfig
from jaxtalk.few_shot.frames import all_networks, encode_person, render_frames
from jaxtalk.few_shot.listening import listen
from jaxtalk.few_shot.person import Person, check_size, person_of
from jaxtalk.few_shot.references import Views
from jaxtalk.few_shot.stages import smooths, windowed
from jaxtalk.losses.sequences import POSE_SIZE
from jaxtalk.methods.api import Drive, Networks
from jaxtalk.rays import avatar_folder
from jaxtalk.rays.avatar_folder import Saved
from jaxtalk.rays.bounds import camera_vector
from jaxtalk.rays.parameters import abstract_parameters, networks_of, parameters_of

_ARRAYS = "person.npz"


@dataclasses.dataclass(frozen=True)
class FewShotAvatar:
    """One person's head; see `jaxtalk.methods.api.Avatar`."""

    name: str
    fps: float
    camera: Camera
    track: Track
    person: Person
    parameters: dict[str, Any]
    config: FewShotConfig

    @property
    def size(self) -> tuple[int, int]:
        return self.person.size

    @functools.cached_property
    def _views(self) -> Views:
        return encode_person(self.config.model, self.parameters, self.person)

    def listen(self, windows: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
        """Raw expression and pose [n, E + 6] of each part of an utterance; for audio64 the windows themselves."""
        model = self.config.model
        if not model.listens:
            return windows
        heard = listen(networks_of(self.parameters, all_networks, model), windows, stateful=model.lstm_stateful)
        return _in_windows(heard, model.semantic_window) if model.semantic_window else heard

    def tracked_motion(self, clip: ClipView) -> np.ndarray:
        """What `listen` would give of a perfect ear: the tracked coefficients of all frames of a clip of this person.

        Raises `JaxtalkError` for audio64, which hears speech alone, and for a clip of another face model.
        """
        model = self.config.model
        if not model.listens:
            raise JaxtalkError(f"avatar {self.name}: model.motion={model.motion} is moved by speech alone")
        check_face_model([clip], model.num_coefficients - POSE_SIZE)
        motion = coefficients(clip) - self.person.mean_coefficients
        return windowed(motion, np.arange(len(motion)), model.semantic_window) if model.semantic_window else motion

    def predicted_pose(self, heard: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Rotation [F, 3, 3] and translation [F, 3] heard in the speech. Raises `JaxtalkError` for audio64."""
        model = self.config.model
        if not model.listens:
            raise JaxtalkError(f"avatar {self.name}: model.motion={model.motion} predicts no pose; use hold or mirror")
        heard = heard[:, model.semantic_window // 2] if model.semantic_window else heard
        return pose_of(heard + self.person.mean_coefficients)

    def render(self, drive: Drive) -> np.ndarray:
        """Frames [F, H, W, 3] float32 in [0, 1]; compiled once per F.

        `drive.camera` moves the head's camera; references, torso and background stay the clip's.
        """
        person = self.person if drive.camera is None else self.person._replace(camera=camera_vector(drive.camera))
        arrays = [
            np.asarray(array, np.float32)
            for array in (drive.audio, drive.eye_openness, drive.rotation, drive.translation)
        ]
        self._check(arrays[0])
        frames = render_frames(
            self.config.model, self.parameters, person, self._views, *arrays, smooth=smooths(self.config)
        )
        return np.asarray(frames)

    def _check(self, heard: np.ndarray) -> None:
        model = self.config.model
        expected: tuple[int, ...] = (model.audio.rows, model.audio.channels)
        if model.listens:
            expected = (model.num_coefficients,)
            expected = (model.semantic_window, *expected) if model.semantic_window else expected
        if heard.shape[1:] != expected:
            raise JaxtalkError(
                f"avatar {self.name}: what it hears is {heard.shape[1:]} a frame, it was trained on {expected}; "
                "give it windows of the run's own audio feature through `listen`"
            )

    def save(self, folder: Path) -> None:
        saved = Saved(self.name, self.fps, self.camera, self.track, self.config, self.person._asdict())
        avatar_folder.save(folder, self.config.method, saved, self.parameters, _ARRAYS)

    @classmethod
    def load(cls, folder: Path, method: str) -> FewShotAvatar:
        """Reads what `save` wrote. Raises `JaxtalkError` when a file is missing or is another system's."""
        saved = avatar_folder.load(folder, method, FewShotConfig, _ARRAYS, Person._fields)
        parameters = avatar_folder.load_parameters(folder, abstract_parameters(all_networks, saved.config.model))
        person = Person(**saved.arrays)
        return cls(saved.name, saved.fps, saved.camera, saved.track, person, parameters, saved.config)


def avatar_of(config: FewShotConfig, networks: Networks, clip: ClipView) -> FewShotAvatar:
    """The person of `clip`, seen through `networks`. Raises `JaxtalkError` for a clip of another size or face model."""
    check_size(clip, config.size)
    return FewShotAvatar(
        name=clip.name,
        fps=clip.meta.fps,
        camera=clip.meta.camera,
        track=clip.track,
        person=person_of(clip, config.model),
        parameters=parameters_of(networks),
        config=config,
    )


def _in_windows(heard: Iterator[np.ndarray], window: int) -> Iterator[np.ndarray]:
    """The values of the `window` frames around each frame, the ends repeated; given when all is heard."""
    values = np.concatenate(list(heard))
    yield windowed(values, np.arange(len(values)), window)
