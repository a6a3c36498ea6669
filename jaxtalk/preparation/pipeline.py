"""The stages of preparation and what each one needs: source, crop, frames, landmarks, fit, masks, plate."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import shutil
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from jaxtalk import progress, weights
from jaxtalk.clip import MASK_BACKGROUND, Camera, Clip, ClipMeta, ClipWriter, Track
from jaxtalk.errors import JaxtalkError
from jaxtalk.faces.landmarks import INNER, eye_openness, face_box, from_mediapipe, lip_gap, mouth_box
from jaxtalk.faces.model import FaceModel, load_face_model
from jaxtalk.preparation import crop, decode, gaps, gaze, landmarks, masks, plate, preflight, preview
from jaxtalk.preparation.silhouette import PosedHead, spread_points
from jaxtalk.preparation.stages import Arrays, Stage, StageStore

if TYPE_CHECKING:
    from jaxtalk.preparation.prepare import PrepareOptions

STAGES_FOLDER = "stages"
LEAST_SECONDS = 1.0
FOCAL = 1200 / 512  # over the clip's size; not observable from a face, so fixed and stored
NEAR, FAR = 0.82, 1.09  # times the head's distance: enclose the visible head with its hair
NUM_PROXY_POINTS = 1000
PLATE_FRAMES = 40


@dataclasses.dataclass(frozen=True)
class Job:
    """One preparation: the files, the choices, and the models they need."""

    video: Path
    out: Path
    options: PrepareOptions
    audio: Path
    info: decode.VideoInfo
    landmarker: Path

    @classmethod
    def of(cls, video: Path, out: Path, options: PrepareOptions) -> Job:
        """Checks, before any work, that everything needed is there."""
        info = decode.probe(video)
        if options.audio is None and not info.has_audio:
            raise JaxtalkError(f"{video}: no audio stream; give the speech as a file of its own with --audio")
        landmarker = _weights("face_landmarker", options.landmarker)
        audio = Path(options.audio) if options.audio is not None else video
        return cls(video, out, options, audio, info, landmarker)

    @property
    def identity(self) -> str:
        return self.options.identity or self.out.name

    @cached_property
    def model(self) -> FaceModel:
        name, file = self.options.face_model, self.options.face_model_file
        return load_face_model(name, _weights("ict_facekit", file) if name == "ict" else file)

    @property
    def camera(self) -> Camera:
        size = self.options.size
        return Camera(FOCAL * size, size / 2, size / 2)

    @cached_property
    def stages(self) -> dict[str, Stage]:
        """Every stage with all that its result depends on."""
        options = self.options
        source = Stage("source", 1, {
            "video": _sha256(self.video),
            "audio": None if options.audio is None else _sha256(self.audio),
            "start": options.start,
            "end": options.end,
        })  # fmt: skip
        detector = {"landmarker": _sha256(self.landmarker)}
        crop_ = Stage("crop", 1, detector, (source,))
        frames = Stage("frames", 1, {"size": options.size, "fps": float(options.fps)}, (crop_,))
        points = Stage("landmarks", 1, detector, (frames,))
        fit = Stage("fit", 1, {"face_model": options.face_model, "focal": self.camera.focal}, (points,))
        mask = Stage("masks", 2, {"working_size": masks.WORKING_SIZE}, (fit,))
        background = Stage("plate", 1, {"frames": PLATE_FRAMES}, (mask,))
        return {stage.name: stage for stage in (source, crop_, frames, points, fit, mask, background)}

    def records(self) -> dict[str, Any]:
        """What clip.json keeps of the stages."""
        return {name: stage.record() for name, stage in self.stages.items()}

    def run(self) -> Clip:
        """Runs the stages that are not done yet and writes the clip."""
        _ = self.model  # a missing file is told before any work
        return _Run(self).clip()


class _Run:
    """The stages' results, made or read in order."""

    def __init__(self, job: Job) -> None:
        self.job, self.options = job, job.options
        self.writer = ClipWriter(job.out, frame_format="jpg")
        self.store = StageStore(self.writer.folder / STAGES_FOLDER)
        self.decoded = self.store.folder / "frames"

    def _stage(self, name: str, make: Any) -> Arrays:
        return self.store.run(self.job.stages[name], make)

    # --- source: one interval of time that both streams cover

    @cached_property
    def sound(self) -> decode.Sound:
        sound = decode.load_sound(self.job.audio)
        level = preflight.speech_report(sound.samples, sound.rate)["peak_db"]
        if level < preflight.SILENCE_DB:
            raise JaxtalkError(
                f"{self.job.audio}: the sound is silence (peak {level:.0f} dB); give the speech with --audio"
            )
        if self.job.audio != self.job.video:  # a file of its own begins with the video
            sound = dataclasses.replace(sound, start=self.job.info.start)
        return sound

    @cached_property
    def interval(self) -> tuple[float, float]:
        info, sound, options = self.job.info, self.sound, self.options
        video_end = info.start + info.duration if info.duration else np.inf
        start, end = max(info.start, sound.start), min(video_end, sound.end)
        if options.start is not None:
            start = max(start, info.start + options.start)
        if options.end is not None:
            end = min(end, info.start + options.end)
        self._check_length(end - start)
        return start, end

    def _check_length(self, seconds: float) -> None:
        if seconds < LEAST_SECONDS - 1e-6:
            raise JaxtalkError(f"{self.job.video}: {max(seconds, 0):.2f} s of picture with sound; at least "
                               f"{LEAST_SECONDS:g} s are needed")  # fmt: skip

    # --- crop, frames, landmarks

    @cached_property
    def crop(self) -> crop.Crop:
        def make() -> Arrays:
            with landmarks.Landmarker(self.job.landmarker, num_faces=4) as landmarker:
                region = crop.find_crop(self.job.video, self.job.info, landmarker, *self.interval)
            return {"crop": crop.as_numbers(region)}

        return crop.from_numbers(self._stage("crop", make)["crop"])

    @cached_property
    def frames(self) -> Arrays:
        """number, grid, time [N], thumbnails [N, L, L, 3]; the pictures lie in the folder `decoded`."""
        return self._stage("frames", self._decode)

    def _decode(self) -> Arrays:
        region, size, (start, end) = self.crop, self.options.size, self.interval
        self.decoded.mkdir(exist_ok=True)
        rows: list[tuple[int, float, float]] = []
        small: list[np.ndarray] = []
        expected = max(1, round((end - start) * self.options.fps))
        with progress.bar("decoding", expected) as bar:
            pairs = decode.at_constant_rate(decode.pictures(self.job.video), self.options.fps, start, end)
            for index, (number, grid, picture) in enumerate(pairs):
                image = region.apply(picture.rgb(), size)
                Image.fromarray(image).save(self._decoded(index), quality=95, subsampling=0)
                small.append(masks.shrink(image))
                rows.append((number, grid, picture.time))
                bar.advance()
        if not rows:
            raise JaxtalkError(f"{self.job.video}: no picture between {start:.2f} and {end:.2f} s; re-encode the video")
        number, grid, actual = (np.array(column) for column in zip(*rows, strict=True))
        self._check_length(float(grid[-1] - grid[0] + 1 / self.options.fps))
        time = decode.frame_times(number, grid, actual)
        return {"number": number, "time": time, "origin": time[:1], "thumbnails": np.stack(small)}

    def _decoded(self, index: int) -> Path:
        return self.decoded / f"{index:06d}.jpg"

    @cached_property
    def face(self) -> landmarks.FaceTrack:
        return landmarks.FaceTrack(**self._stage("landmarks", self._detect))

    def _detect(self) -> Arrays:
        time = self.frames["time"]
        pictures = ((float(time[i] - time[0]), _read(self._decoded(i))) for i in range(len(time)))
        faces = 1 if self.crop.num_faces <= 1 else min(self.crop.num_faces, 4)
        with landmarks.Landmarker(self.job.landmarker, video=True, num_faces=faces) as landmarker:
            followed = landmarks.follow(progress.track(pictures, "landmarks", len(time)), landmarker)
        return {field.name: getattr(followed, field.name) for field in dataclasses.fields(followed)}

    # --- frames that stay, and what is measured in them

    @cached_property
    def selection(self) -> gaps.Selection:
        if not self.face.found.any():
            raise JaxtalkError(f"{self.job.video}: no face was followed; give a video of a head that faces the camera")
        selection = gaps.select(self.face.found, self.options.fps)
        if len(selection.kept) / self.options.fps < LEAST_SECONDS - 1e-6:
            raise JaxtalkError(f"{self.job.video}: a face in only {len(selection.kept)} frames; at least "
                               f"{LEAST_SECONDS:g} s are needed")  # fmt: skip
        return selection

    @cached_property
    def time(self) -> np.ndarray:
        """[F] seconds on the axis of audio.wav, which begins with the first decoded frame."""
        return self.frames["time"][self.selection.kept] - self.frames["origin"][0]

    @cached_property
    def bridged(self) -> landmarks.FaceTrack:
        return gaps.bridge(self.face, self.selection, self.time)

    @cached_property
    def landmarks68(self) -> np.ndarray:
        return from_mediapipe(self.bridged.points)[..., :2].astype(np.float32)

    @cached_property
    def fit(self) -> Arrays:
        def make() -> Arrays:
            from jaxtalk.preparation.fit import fit_face

            fitted = fit_face(self.job.model, self.landmarks68, self.selection.measured, self.job.camera)
            names = ("identity", "expression", "rotation", "translation", "projected")
            return {name: np.asarray(getattr(fitted, name)) for name in names}

        return self._stage("fit", make)

    @cached_property
    def head(self) -> PosedHead:
        fit = self.fit
        return PosedHead.of(self.job.model, fit["identity"], fit["expression"], fit["rotation"], fit["translation"],
                            self.job.camera)  # fmt: skip

    # --- masks and plate

    def _frame(self, index: int) -> np.ndarray:
        return _read(self._decoded(int(self.selection.kept[index])))

    @cached_property
    def shares(self) -> np.ndarray:
        """[F, 2, L, L] uint8: how much of a pixel is head and torso, at the working size."""

        def make() -> Arrays:
            size, count = masks.WORKING_SIZE, len(self.time)
            scale = size / self.options.size
            frames = progress.track(range(count), "silhouettes", count)
            parts = np.stack([self.head.draw(i, scale, size) for i in frames])
            return {"shares": masks.segment(self.frames["thumbnails"][self.selection.kept], parts)}

        return self._stage("masks", make)["shares"]

    def _mask(self, index: int) -> np.ndarray:
        return masks.enlarge(self.shares[index], self.options.size)

    @cached_property
    def plate(self) -> Arrays:
        def make() -> Arrays:
            count, size = len(self.time), self.options.size
            indices = np.unique(np.linspace(0, count - 1, min(count, PLATE_FRAMES)).round().astype(int))
            free = lambda i: masks.surely_background(self._mask(i))  # noqa: E731
            image, seen = plate.background_plate(self._frame, free, indices, (size, size))
            return {"plate": image, "seen": seen}

        return self._stage("plate", make)

    # --- the clip

    def clip(self) -> Clip:
        """Writes everything into the partial folder, then gives it its name."""
        _ = self.face, self.fit, self.shares, self.plate  # in order, so that each one's bar is its own
        self._write_pictures()
        self.writer.background(self.plate["plate"])
        origin, last = float(self.frames["origin"][0]), float(self.frames["time"][-1])
        samples = decode.cut_sound(self.sound, origin, last + 1 / self.options.fps)
        self.writer.audio(samples, self.sound.rate)
        track = self._track()
        report = preflight.report(self._measurements(track, samples))
        (self.writer.folder / "preflight.json").write_text(json.dumps(report, indent=1))
        sheet = preview.contact_sheet(
            self._frame, self._mask, self.plate["plate"], self.head.vertices, self.head.model.triangles,
            self.job.camera, track, list(landmarks.sparse_indices(track.num_frames, 8)),
        )  # fmt: skip
        Image.fromarray(sheet).save(self.writer.folder / "preview.png")
        clip = self.writer.finish(self._meta(track), track)
        preflight.print_table(report)
        return clip

    def _write_pictures(self) -> None:
        count = len(self.time)
        for name in ("frames", "masks"):  # of an interrupted run that kept more frames
            for path in (self.writer.folder / name).iterdir():
                path.unlink()
        for i in progress.track(range(count), "writing", count):
            target = self.writer.folder / "frames" / f"{i:06d}.jpg"
            try:
                os.link(self._decoded(int(self.selection.kept[i])), target)
            except OSError:  # a file system without hard links
                shutil.copyfile(self._decoded(int(self.selection.kept[i])), target)
            self.writer.mask(i, self._mask(i))

    def _track(self) -> Track:
        fit, size = self.fit, (self.options.size, self.options.size)
        points = self.landmarks68
        return Track(
            time=self.time.astype(np.float64),
            rotation=fit["rotation"].astype(np.float32),
            translation=fit["translation"].astype(np.float32),
            expression=fit["expression"].astype(np.float32),
            blendshapes=self.bridged.blendshapes,
            landmarks=points,
            face_box=face_box(points, size),
            mouth_box=mouth_box(points, size),
            gaze=gaze.gaze_angles(self.bridged.points, self.bridged.rotation),
            eye_openness=eye_openness(points),
            valid=self.selection.measured,
            identity=fit["identity"].astype(np.float32),
            proxy_points=spread_points(self.head.neutral, NUM_PROXY_POINTS).astype(np.float32),
        )

    def _meta(self, track: Track) -> ClipMeta:
        distance = -track.translation[:, 2]
        size = self.options.size
        source = {"file": self.job.video.name, "sha256": self.job.stages["source"].parameters["video"],
                  "crop": [self.crop.x, self.crop.y, self.crop.side],
                  "seconds": [float(self.frames["time"][0]), float(self.frames["time"][-1])]}  # fmt: skip
        return ClipMeta(
            identity=self.job.identity,
            fps=float(self.options.fps),
            num_frames=track.num_frames,
            size=(size, size),
            camera=self.job.camera,
            near=float(NEAR * distance.min()),
            far=float(FAR * distance.max()),
            face_model=self.job.model.info,
            sample_rate=self.sound.rate,
            frame_format="jpg",
            language=self.options.language,
            emotion=self.options.emotion,
            source=source,
            consent=dict(self.options.consent),
            stages=self.job.records(),
        )

    def _measurements(self, track: Track, samples: np.ndarray) -> preflight.Measurements:
        measured, size = self.selection.measured, self.options.size
        gap = lip_gap(track.landmarks)
        points = self.landmarks68
        return preflight.Measurements(
            fps=float(self.options.fps),
            seconds=track.num_frames / self.options.fps,
            face_pixels=self.crop.face_pixels,
            clip_face_pixels=float(np.median(np.ptp(points[..., 1], axis=1))),
            num_faces=max(self.crop.num_faces, int(self.face.num_faces.max())),
            interpolated=self.selection.interpolated,
            dropped=self.selection.dropped,
            repeated=int(np.sum(np.diff(self.frames["number"]) == 0)),
            cuts=preflight.find_cuts(self.frames["thumbnails"][:, ::8, ::8]),
            speech=preflight.speech_report(samples, self.sound.rate),
            offset=preflight.audio_offset(gap, track.time, samples, self.sound.rate),
            pose=preflight.pose_report(track.rotation, track.translation),
            lip_gap=[round(float(v), 4) for v in np.percentile(gap, [5, 50, 95])],
            fit=preflight.fit_report(
                points, self.fit["projected"], track.rotation, self.bridged.rotation, measured, size
            ),
        )


def _weights(name: str, file: str | Path | None) -> Path:
    """The user's file where one is given, else the cached one, downloaded if need be."""
    return weights.get(name) if file is None else weights.find(name, file)


def _read(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


__all__ = ["INNER", "MASK_BACKGROUND", "STAGES_FOLDER", "Job"]
