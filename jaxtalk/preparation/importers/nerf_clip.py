"""From the folder of another NeRF system to a clip: its cameras, pictures and sound as they are, the rest measured.

Taken from the folder: pictures, sound, cameras; and where they are there, landmarks, parsing maps, background, near and
far, tracked coefficients, speech features, action units. The rest is measured (`nerf_measured`). What was not found is
said in clip.json (`source.not_found`), with what stands in for it.
"""

from __future__ import annotations

import shutil
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from jaxtalk import progress
from jaxtalk.clip import Clip, ClipMeta, ClipWriter, FaceModelInfo, Track, write_image
from jaxtalk.errors import JaxtalkError
from jaxtalk.faces.landmarks import eye_openness, face_box, mouth_box
from jaxtalk.preparation import decode, gaze, landmarks, masks, plate, preview
from jaxtalk.preparation.assemble import FAR, NEAR, NUM_PROXY_POINTS
from jaxtalk.preparation.importers import nerf_files
from jaxtalk.preparation.importers.nerf_folder import Layout, NerfFolder
from jaxtalk.preparation.importers.nerf_measured import Measured
from jaxtalk.preparation.job import PLATE_FRAMES, PrepareOptions
from jaxtalk.preparation.silhouette import spread_points
from jaxtalk.preparation.stages import StageStore, first_difference

_STAGES = "stages"
_PREVIEW_FRAMES = 8
_MOST_SILENT_SECONDS = 1.0  # of pictures after the sound's end


def import_folder(path: str | Path, out: str | Path, layout: Layout, options: PrepareOptions) -> Clip:
    """Makes the clip `out` of the folder at `path`.

    A clip that is there already and was made from the same folder with the same settings is returned as it is.

    Raises:
      JaxtalkError: one line for whatever the user can mend; no clip is left behind then.
    """
    options.check()
    out = Path(out)
    run = _Import(NerfFolder.open(Path(path), layout, options.audio), out, options)
    if not options.overwrite and _already_there(out, run):
        return Clip.open(out)
    try:
        clip = run.clip()
    except JaxtalkError:  # the input's fault: trying again would find the same
        shutil.rmtree(run.writer.folder, ignore_errors=True)
        raise
    shutil.rmtree(out / _STAGES, ignore_errors=True)
    return clip


def _already_there(out: Path, run: _Import) -> bool:
    if not out.exists():
        return False
    if not (out / "clip.json").is_file():
        if out.is_file() or any(out.iterdir()):
            raise JaxtalkError(f"{out}: exists and is not a clip; choose another folder with --out")
        return False
    clip = Clip.open(out)
    there = {**clip.meta.stages, "identity": clip.meta.identity}
    difference = first_difference(there, {**run.measured.records(), "identity": run.identity})
    if difference is not None:
        name, before, after = difference
        raise JaxtalkError(f"{out}: made with other settings ({name} is {before!r} there, {after!r} asked for); "
                           "choose another folder with --out, or replace the clip with --overwrite")  # fmt: skip
    clip.validate()
    return True


class _Import:
    """One import: what the folder gives and what is measured in it, put together."""

    def __init__(self, folder: NerfFolder, out: Path, options: PrepareOptions) -> None:
        self.folder, self.options, self._out = folder, options, out
        self.identity = options.identity or out.name
        self.not_found: list[str] = []
        self.measured = Measured(folder, options, lambda: self.store, self.not_found.append)

    @cached_property
    def writer(self) -> ClipWriter:
        return ClipWriter(self._out, frame_format=self.folder.pictures[0].suffix.removeprefix("."))

    @cached_property
    def store(self) -> StageStore:
        return StageStore(self.writer.folder / _STAGES)

    def clip(self) -> Clip:
        """Measures what is missing, writes everything, and gives the folder its name."""
        rate = self._write_sound()
        track = self._track()
        background = self._write_pictures()
        source = self._write_features()
        self._write_preview(background, track)
        return self.writer.finish(self._meta(track, rate, source), track)

    # --- sound, pictures, masks, background, features

    def _write_sound(self) -> int:
        """Writes audio.wav and gives its rate: the folder's own file where it is mono and of 16 bits."""
        sound, last = self.folder.sound, float(self.measured.time[-1])
        try:
            info = soundfile.info(sound)
        except soundfile.SoundFileError:
            info = None
        if info is not None and (info.format, info.subtype, info.channels) == ("WAV", "PCM_16", 1):
            shutil.copyfile(sound, self.writer.folder / "audio.wav")
            rate, seconds = info.samplerate, info.duration
        else:
            heard = decode.load_sound(sound)
            self.writer.audio(heard.samples, heard.rate)
            rate, seconds = heard.rate, len(heard.samples) / heard.rate
        if last - seconds > _MOST_SILENT_SECONDS:
            raise JaxtalkError(f"{sound}: {seconds:.1f} s of sound for pictures up to {last:.1f} s; give all of the "
                               "speech with --audio, or the pictures' rate with --fps")  # fmt: skip
        return rate

    @cached_property
    def _parsing(self) -> tuple[Path, ...] | None:
        return nerf_files.parsing_files(self.folder, self.not_found.append)

    def mask(self, index: int) -> np.ndarray:
        """Labels [H, W] uint8 of a frame."""
        if self._parsing is not None:
            return nerf_files.labels(self._parsing[index])
        return masks.enlarge(self.measured.shares[index], self.folder.size[0])

    def _write_pictures(self) -> np.ndarray:
        """Writes frames (the files as they are), masks and background, and gives the background."""
        count = self.measured.count
        for i in progress.track(range(count), "writing", count):
            source = self.folder.pictures[i]
            self.folder.picture(i)  # a damaged one is told now
            shutil.copyfile(source, self.writer.folder / "frames" / f"{i:06d}{source.suffix}")
            self.writer.mask(i, self.mask(i))
        background = nerf_files.plate(self.folder, self.not_found.append)
        background = self._plate() if background is None else background
        self.writer.background(background)
        return background

    def _plate(self) -> np.ndarray:
        count, size = self.measured.count, self.folder.size
        some = np.unique(np.linspace(0, count - 1, min(count, PLATE_FRAMES)).round().astype(int)).tolist()

        def free(index: int) -> np.ndarray:
            return masks.surely_background(self.mask(index))

        return plate.background_plate(self.folder.picture, free, some, size)[0]

    def _write_features(self) -> dict[str, Any]:
        """Writes features/*.npy and gives what clip.json says of them."""
        stored, source = nerf_files.features(self.folder, self.not_found.append), {}
        units = nerf_files.action_units(self.folder, self.not_found.append)
        if units is not None:
            stored["action_units"], source["action_units"] = units
        (self.writer.folder / "features").mkdir(exist_ok=True)
        for name, array in stored.items():
            np.save(self.writer.folder / "features" / f"{name}.npy", array)
        return source

    def _write_preview(self, background: np.ndarray, track: Track) -> None:
        """preview.png of square pictures, with the fitted head where the folder's own poses have it."""
        if self.folder.size[0] != self.folder.size[1]:
            return
        head = self.measured.head(*self.measured.similarity.poses(*self.folder.transforms.pose))
        indices = landmarks.sparse_indices(track.num_frames, _PREVIEW_FRAMES)
        sheet = preview.contact_sheet(self.folder.picture, self.mask, background, head, track, indices)
        write_image(self.writer.folder / "preview.png", sheet)

    # --- track and record

    @cached_property
    def _tracked(self) -> tuple[np.ndarray, np.ndarray] | None:
        return nerf_files.coefficients(self.folder, self.not_found.append)

    def _track(self) -> Track:
        measured, size = self.measured, self.folder.size
        points, found = measured.landmarks68
        points = points.astype(np.float32)
        rotation, translation = self.folder.transforms.pose
        identity, expression = self._tracked or (measured.fit["identity"], measured.fit["expression"])
        proxy = spread_points(measured.fitted_head.neutral, NUM_PROXY_POINTS)
        return Track(
            time=measured.time.astype(np.float64),
            rotation=rotation.astype(np.float32),
            translation=(measured.similarity.unit * translation).astype(np.float32),
            expression=expression.astype(np.float32),
            blendshapes=measured.face.blendshapes,
            landmarks=points,
            face_box=face_box(points, size),
            mouth_box=mouth_box(points, size),
            gaze=gaze.gaze_angles(measured.face.points, measured.face.rotation),
            eye_openness=eye_openness(points),
            valid=found,
            identity=identity.astype(np.float32),
            proxy_points=measured.similarity.place(proxy).astype(np.float32),
        )

    def _face_model(self) -> FaceModelInfo:
        if self._tracked is None:
            return self.measured.model.info
        identity, expression = self._tracked
        return FaceModelInfo(nerf_files.BFM, len(identity), expression.shape[1])

    def _depth_range(self) -> tuple[float, float]:
        similarity = self.measured.similarity
        given = nerf_files.depth_range(self.folder, self.not_found.append)
        if given is not None:
            return similarity.unit * given[0], similarity.unit * given[1]
        distance = -self.measured.fit["translation"][:, 2] * similarity.unit / similarity.metres
        return float(NEAR * distance.min()), float(FAR * distance.max())

    def _meta(self, track: Track, rate: int, source: dict[str, Any]) -> ClipMeta:
        transforms, similarity = self.folder.transforms, self.measured.similarity
        near, far = self._depth_range()
        if not transforms.has_val:
            self.not_found.append("transforms_val.json: all frames count as training frames")
        if not transforms.in_order:
            self.not_found.append("frames in the order of their speech: they were sorted by aud_id")
        source |= {
            "from": self.folder.layout.name,
            "folder": self.folder.path.resolve().name,
            "pictures": self.folder.pictures[0].parent.name,
            "split": transforms.split(),
            "metres_per_unit": similarity.unit,
            "fitted_metres_per_unit": round(similarity.metres, 4),
            "fitted_degrees": round(similarity.degrees, 3),
            "not_found": self.not_found,
        }
        return ClipMeta(
            identity=self.identity,
            fps=float(self.options.fps),
            num_frames=track.num_frames,
            size=self.folder.size,
            camera=self.folder.camera,
            near=near,
            far=far,
            face_model=self._face_model(),
            sample_rate=rate,
            frame_format=self.writer.frame_format,
            language=self.options.language,
            emotion=self.options.emotion,
            source=source,
            consent=dict(self.options.consent),
            stages=self.measured.records(),
        )
