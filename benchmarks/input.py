"""How many examples a second the input gives: packing, decoding, and batches of ray examples, cached and not.

    uv run benchmarks/input.py                       a made clip of 512 x 512 textured frames
    uv run benchmarks/input.py --clip clips/anna     a clip of yours
    uv run benchmarks/input.py --out input.json      the numbers as JSON, too

A ray example is what AD-NeRF reads: the colours of 48 pixels of one frame, its speech window, pose and background.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import os
import platform
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np
import scipy.ndimage
from rich.console import Console
from rich.table import Table

from jaxtalk.audio import FeatureSpec, clip_windows
from jaxtalk.clip import Camera, Clip, ClipMeta, ClipView, ClipWriter, FaceModelInfo, Track
from jaxtalk.datasets import open_packed, pack
from jaxtalk.errors import reported_errors
from jaxtalk.input.clips import working_clips
from jaxtalk.input.examples import endless
from jaxtalk.input.pipeline import batches

UNLIMITED = 1 << 60


class RayExamples:
    """Makes a ray example from a frame number."""

    def __init__(self, clip: ClipView, rays: int) -> None:
        self.clip, self.rays, self.size = clip, rays, clip.meta.size
        self.audio, self.plate = clip_windows(FeatureSpec(), clip), clip.background()

    def __call__(self, frame: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
        row, column = np.divmod(rng.integers(self.size[0] * self.size[1], size=self.rays), self.size[1])
        return {
            "pixels": np.stack([column, row], -1).astype(np.float32) + np.float32(0.5),
            "color": self.clip.frame(frame)[row, column] / np.float32(255),
            "background": self.plate[row, column] / np.float32(255),
            "label": self.clip.mask(frame)[row, column],
            "audio": self.audio[frame],
            "rotation": self.clip.track.rotation[frame],
            "translation": self.clip.track.translation[frame],
        }


@dataclasses.dataclass(frozen=True)
class Measurement:
    """One line of the table."""

    what: str
    size: int
    setting: str
    per_second: float
    unit: str
    first_seconds: float  # until the first result


def measure_packing(clip: Path, folder: Path) -> Measurement:
    count, started = Clip.open(clip).meta.num_frames, time.perf_counter()
    pack([clip], folder)
    seconds = time.perf_counter() - started
    return Measurement("pack and hash", Clip.open(clip).meta.size[0], "1 thread", count / seconds, "frames/s", seconds)


def measure_cache(folder: Path, size: int, cache: Path) -> Measurement:
    packed = open_packed(folder)
    started = time.perf_counter()
    working_clips(packed, size, cache, UNLIMITED)
    seconds = time.perf_counter() - started
    threads = f"{min(8, os.cpu_count() or 1)} threads"
    return Measurement("decode and resize", size, threads, packed[0].meta.num_frames / seconds, "frames/s", seconds)


def measure_examples(
    view: ClipView, setting: str, seconds: float, batch_size: int, rays: int, workers: int
) -> Measurement:
    """Batches drawn as fast as they come, for about `seconds`."""
    stream = endless(view.meta.num_frames, RayExamples(view, rays), seed=0)
    started = time.perf_counter()
    with batches(stream, batch_size, workers=workers) as iterator:
        next(iterator)
        first = time.perf_counter() - started
        for _ in range(8):  # what was made ahead while the first was waited for
            next(iterator)
        count, started = 0, time.perf_counter()
        while time.perf_counter() - started < seconds:
            next(iterator)
            count += batch_size
        rate = count / (time.perf_counter() - started)
    return Measurement("ray examples", view.meta.size[0], setting, rate, "examples/s", first)


def run(clip: Path, sizes: Sequence[int], seconds: float, batch_size: int, rays: int) -> list[Measurement]:
    with tempfile.TemporaryDirectory() as scratch:
        folder, cache = Path(scratch) / "dataset", Path(scratch) / "cache"
        results = [measure_packing(clip, folder)]
        for size in sizes:
            results.append(measure_cache(folder, size, cache))
            for (kept, budget), workers in itertools.product((("cached", UNLIMITED), ("not cached", 0)), (0, 2)):
                (view,) = working_clips(open_packed(folder), size, cache, budget)
                setting = f"{kept}, {f'{workers} processes' if workers else 'threads'}"
                results.append(measure_examples(view, setting, seconds, batch_size, rays, workers))
    return results


def write_textured_clip(path: Path, frames: int, size: int) -> Path:
    """A clip whose pictures cost as much to decode as footage: smooth shapes under fine grain."""
    rng = np.random.default_rng(0)
    texture = scipy.ndimage.gaussian_filter(rng.normal(size=(2 * size, 2 * size, 3)), (size / 32, size / 32, 0))
    texture = 128 + 60 * texture / texture.std()
    writer = ClipWriter(path)
    labels = np.zeros((size, size), np.uint8)
    labels[size // 4 :, size // 4 : -size // 4] = 1
    for i in range(frames):
        moved = texture[i % size : i % size + size, :size] + rng.normal(scale=2, size=(size, size, 3))
        writer.frame(i, np.clip(moved, 0, 255).astype(np.uint8))
        writer.mask(i, np.roll(labels, i, 1))
    writer.background(np.clip(texture[:size, size:], 0, 255).astype(np.uint8))
    writer.audio(0.1 * rng.normal(size=16000 * frames // 25), 16000)
    shapes: dict[str, Any] = {
        "rotation": (3, 3), "translation": (3,), "expression": (1,), "blendshapes": (52,), "landmarks": (68, 2),
        "face_box": (4,), "mouth_box": (4,), "gaze": (2,), "eye_openness": (2,),
    }  # fmt: skip
    arrays = {name: np.zeros((frames, *shape), np.float32) for name, shape in shapes.items()}
    track = Track(
        time=np.arange(frames) / 25, valid=np.ones(frames, bool), identity=np.zeros(1), proxy_points=np.zeros((1, 3)),
        **arrays,
    )  # fmt: skip
    camera, model = Camera(2.3 * size, size / 2, size / 2), FaceModelInfo("none", 1, 1)
    writer.finish(ClipMeta("nobody", 25.0, frames, (size, size), camera, 0.6, 1.0, model), track)
    return path


def show(results: Sequence[Measurement]) -> None:
    table = Table(title=f"input on {os.cpu_count()} CPU cores, {platform.machine()}")
    for column in ("what", "size", "setting", "per second", "first after"):
        table.add_column(column, justify="left" if column in ("what", "setting") else "right")
    for line in results:
        rate = f"{line.per_second:,.0f} {line.unit}"
        table.add_row(line.what, str(line.size), line.setting, rate, f"{line.first_seconds:.2f} s")
    Console().print(table)


@click.command()
@click.option("--clip", type=click.Path(path_type=Path), help="A prepared clip; without it one is made.")
@click.option("--size", "sizes", type=int, multiple=True, default=(64, 512), show_default=True, help="Working size.")
@click.option("--seconds", type=float, default=2.0, show_default=True, help="Length of each measurement.")
@click.option("--batch-size", type=int, default=16, show_default=True)
@click.option("--rays", type=int, default=48, show_default=True, help="Rays of one example.")
@click.option("--frames", type=int, default=100, show_default=True, help="Length of the made clip.")
@click.option("--out", type=click.Path(path_type=Path), help="Write the numbers here as JSON.")
def main(
    clip: Path | None, sizes: tuple[int, ...], seconds: float, batch_size: int, rays: int, frames: int, out: Path | None
) -> None:
    """Measures the input pipeline and prints a table."""
    with reported_errors(), tempfile.TemporaryDirectory() as scratch:
        clip = clip or write_textured_clip(Path(scratch) / "made", frames, max(sizes))
        results = run(clip, sizes, seconds, batch_size, rays)
        show(results)
        if out:
            out.write_text(json.dumps([dataclasses.asdict(line) for line in results], indent=1) + "\n")


if __name__ == "__main__":
    main()
