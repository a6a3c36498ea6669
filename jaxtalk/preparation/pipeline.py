"""Runs the stages of preparation: crop, frames, landmarks, fit, coefficients, masks, plate; then writes the clip."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
from collections.abc import Callable
from functools import cached_property
from pathlib import Path

import numpy as np
from PIL import Image

from jaxtalk import progress
from jaxtalk.clip import Clip, ClipWriter, Track, write_image
from jaxtalk.errors import JaxtalkError
from jaxtalk.faces.landmarks import from_mediapipe
from jaxtalk.preparation import assemble, crop, decode, gaps, landmarks, masks, plate, preflight, preview
from jaxtalk.preparation.importers import placement
from jaxtalk.preparation.job import PLATE_FRAMES, Job
from jaxtalk.preparation.silhouette import PosedHead
from jaxtalk.preparation.stages import Arrays, StageStore

STAGES_FOLDER = "stages"
LEAST_SECONDS = 1.0
PREVIEW_FRAMES = 8
FITTED = ("identity", "expression", "rotation", "translation", "projected")


class Run:
    """The stages' results, made or read in order."""

    frame_format = "jpg"  # footage was lossy already

    def __init__(self, job: Job) -> None:
        self.job, self.options = job, job.options
        self.writer = ClipWriter(job.out, frame_format=self.frame_format)
        self.store = StageStore(self.writer.folder / STAGES_FOLDER)
        self.decoded = self.store.folder / "frames"

    def _stage(self, name: str, make: Callable[[], Arrays]) -> Arrays:
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
        return dataclasses.replace(sound, start=sound.start - self.options.audio_offset)

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
                               f"{LEAST_SECONDS:g} s are needed: give more of the video")  # fmt: skip

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
        table = np.array(rows)
        self._check_length(table[-1, 1] - table[0, 1] + 1 / self.options.fps)
        time = decode.frame_times(table[:, 0], table[:, 1], table[:, 2])
        return {"number": table[:, 0], "time": time, "origin": time[:1], "thumbnails": np.stack(small)}

    def _decoded(self, index: int) -> Path:
        return self.decoded / f"{index:06d}.{self.frame_format}"

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
                               f"{LEAST_SECONDS:g} s are needed: give more of the video")  # fmt: skip
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
        """identity, and expression, rotation, translation, projected of the kept frames.

        Dropped frames take part in the fit as frames without landmarks, so that it stays smooth in true time.
        """

        def make() -> Arrays:
            from jaxtalk.preparation.fit import fit_face

            kept = self.selection.kept
            span = slice(int(kept[0]), int(kept[-1]) + 1)
            points = from_mediapipe(self.face.points[span])[..., :2]
            fitted = fit_face(self.job.model, points, self.face.found[span], self.job.camera)
            arrays = {name: np.asarray(getattr(fitted, name)) for name in FITTED}
            return {name: a if name == "identity" else a[kept - kept[0]] for name, a in arrays.items()}

        return self._stage("fit", make)

    @cached_property
    def coefficients(self) -> Arrays:
        """identity [I] and expression [F, E] of the clip: the fit's, or those of a file, with lead and degrees then."""
        imported = self.job.imported
        if imported is None:
            return self.fit

        def make() -> Arrays:
            rows, fps, time = imported.rows, imported.fps, self.time + self.frames["origin"][0] - self.job.info.start
            found = placement.place(rows.rotation, fps, imported.spare, self.fit["rotation"], time)
            placement.check(found, imported.file, self.job.video)
            expression = placement.at_times(rows.expression, fps, found.lead, time)
            numbers = {"lead": np.array(found.lead), "degrees": np.array(found.degrees)}
            return {"identity": rows.identity, "expression": expression, **numbers}

        return self._stage("coefficients", make)

    @cached_property
    def head(self) -> PosedHead:
        fit = self.fit
        return PosedHead.of(self.job.model, fit["identity"], fit["expression"], fit["rotation"], fit["translation"],
                            self.job.camera)  # fmt: skip

    # --- masks and plate

    def frame(self, index: int) -> np.ndarray:
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

    def mask(self, index: int) -> np.ndarray:
        return masks.enlarge(self.shares[index], self.options.size)

    def _free(self, index: int) -> np.ndarray:
        return masks.surely_background(self.mask(index))

    @cached_property
    def plate(self) -> Arrays:
        def make() -> Arrays:
            count, size = len(self.time), self.options.size
            indices = np.unique(np.linspace(0, count - 1, min(count, PLATE_FRAMES)).round().astype(int))
            image, seen = plate.background_plate(self.frame, self._free, indices.tolist(), (size, size))
            return {"plate": image, "seen": seen}

        return self._stage("plate", make)

    # --- the clip

    def clip(self) -> Clip:
        """Runs the stages that are not done yet, writes everything into the partial folder, then gives it its name."""
        # In order: unsuitable sound is told before any work, and each stage's bar is its own.
        _ = self.interval, self.face, self.fit, self.coefficients, self.shares, self.plate
        self._write_pictures()
        self.writer.background(self.plate["plate"])
        origin, last = float(self.frames["origin"][0]), float(self.frames["time"][-1])
        samples = decode.cut_sound(self.sound, origin, last + 1 / self.options.fps)
        self.writer.audio(samples, self.sound.rate)
        track = assemble.track(self)
        tell = self.looked_at(track, samples)
        sheet = preview.contact_sheet(
            self.frame, self.mask, self.plate["plate"], self.head, track,
            landmarks.sparse_indices(track.num_frames, PREVIEW_FRAMES),
        )  # fmt: skip
        write_image(self.writer.folder / "preview.png", sheet)
        clip = self.writer.finish(assemble.meta(self, track), track)
        tell()
        return clip

    def looked_at(self, track: Track, samples: np.ndarray) -> Callable[[], None]:
        """Writes what preflight finds, and gives what tells the user of it when the clip is whole."""
        report = preflight.report(assemble.measurements(self, track, samples))
        (self.writer.folder / "preflight.json").write_text(json.dumps(report, indent=1))
        return lambda: preflight.print_table(report)

    def _write_pictures(self) -> None:
        count = len(self.time)
        for name in ("frames", "masks"):  # of an interrupted run that kept more frames
            for path in (self.writer.folder / name).iterdir():
                path.unlink()
        for i in progress.track(range(count), "writing", count):
            target = self.writer.folder / "frames" / f"{i:06d}.{self.frame_format}"
            try:
                os.link(self._decoded(int(self.selection.kept[i])), target)
            except OSError:  # a file system without hard links
                shutil.copyfile(self._decoded(int(self.selection.kept[i])), target)
            self.writer.mask(i, self.mask(i))


def _read(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))
