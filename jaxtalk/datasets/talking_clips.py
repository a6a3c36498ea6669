"""The TFDS builder `talking_clips`: clip folders as two ArrayRecord datasets, built and read without TensorFlow.

    talking_clips/frames  one record a frame, clip after clip, frames in order: the picture and its labels as encoded
    talking_clips/clips   one record a clip: clip.json, track.npz, audio.wav, background.png, stored features

Record i of a split is its i-th frame (or clip): `disable_shuffling`. Pictures are stored as the bytes of their files;
TFDS would need TensorFlow to encode arrays. `tfds.builder_from_directory(FOLDER/talking_clips/frames/1.0.0)
.as_data_source('train')` reads a packed dataset without jaxtalk. Importing this module imports TFDS: do it late.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from jaxtalk.clip import Clip


class _LocalInfo(tfds.core.DatasetInfo):
    def initialize_from_bucket(self) -> None:
        """No bucket knows these clips, and TFDS leaves an empty temporary folder behind each time it asks."""


class TalkingClips(tfds.core.GeneratorBasedBuilder):
    """Clips of talking people, split by identity."""

    VERSION = tfds.core.Version("1.0.0")
    BUILDER_CONFIGS = [  # noqa: RUF012 (TFDS reads it by this name)
        tfds.core.BuilderConfig(name="frames", description="One record a frame."),
        tfds.core.BuilderConfig(name="clips", description="One record a clip."),
    ]

    def __init__(
        self,
        *,
        clips: Mapping[str, Sequence[Clip]] | None = None,
        done: Callable[[], None] = lambda: None,
        **options: Any,
    ) -> None:
        """`clips`: split name -> its clips, in order. `done` is called after each record."""
        self._clips, self._done = dict(clips or {}), done
        super().__init__(**options)

    def _info(self) -> tfds.core.DatasetInfo:
        features = tfds.features
        records = {
            "frames": {
                "clip": features.Text(),
                "index": features.Scalar(dtype=np.int64),
                "image": features.Image(shape=(None, None, 3)),
                "mask": features.Image(shape=(None, None, 1)),
            },
            "clips": {
                "name": features.Text(),
                "meta": features.Text(),  # clip.json
                "track": features.Text(),  # track.npz
                "audio": features.Text(),  # audio.wav
                "background": features.Image(shape=(None, None, 3)),
                "features": features.Text(),  # an .npz of features/*.npy
            },
        }[self.builder_config.name]
        return _LocalInfo(builder=self, features=features.FeaturesDict(records), disable_shuffling=True)

    def _split_generators(self, dl_manager: Any) -> dict[str, Iterator[tuple[int, dict[str, Any]]]]:
        return {split: self._generate_examples(clips) for split, clips in self._clips.items() if clips}

    def _generate_examples(self, clips: Sequence[Clip]) -> Iterator[tuple[int, dict[str, Any]]]:
        records = (_frames if self.builder_config.name == "frames" else _clip)(clips)
        for key, record in enumerate(records):
            yield key, record
            self._done()


def _frames(clips: Sequence[Clip]) -> Iterator[dict[str, Any]]:
    for clip in clips:
        for index in range(clip.meta.num_frames):
            yield {
                "clip": clip.name,
                "index": index,
                "image": io.BytesIO(clip.frame_path(index).read_bytes()),
                "mask": io.BytesIO(clip.mask_path(index).read_bytes()),
            }


def _clip(clips: Sequence[Clip]) -> Iterator[dict[str, Any]]:
    for clip in clips:
        features: dict[str, Any] = {path.stem: clip.feature(path.stem) for path in clip.path.glob("features/*.npy")}
        archive = io.BytesIO()
        np.savez(archive, **features)
        yield {
            "name": clip.name,
            "meta": (clip.path / "clip.json").read_bytes(),
            "track": (clip.path / "track.npz").read_bytes(),
            "audio": (clip.path / "audio.wav").read_bytes(),
            "background": io.BytesIO((clip.path / "background.png").read_bytes()),
            "features": archive.getvalue(),
        }
