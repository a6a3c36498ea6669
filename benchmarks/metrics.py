"""Frames a second of the metrics that are measured frame by frame, as an evaluation measures them.

    uv run benchmarks/metrics.py --out benchmarks/metrics_cpu.json
    uv run benchmarks/metrics.py --landmarker face_landmarker.task --video talk.mp4

Pictures are 256 x 256, the truth and a render of it, drawn unless `--video` gives frames of one with a face. LPIPS has
random weights, which take as long as the published ones; landmarks need the landmarker's file and a video.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import functools
import importlib.metadata
import itertools
import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import scipy.ndimage
from flax import nnx
from PIL import Image

from jaxtalk.faces.landmarks import from_mediapipe
from jaxtalk.media.video import read_frames
from jaxtalk.metrics import Material, Pictures, Suite
from jaxtalk.metrics.lpips import LpipsMetric
from jaxtalk.nn.pretrained.lpips import Lpips
from jaxtalk.preparation.landmarks import Landmarker

FPS = 25.0
PACKAGES = ("jaxtalk", "jax", "numpy", "scipy", "scikit-image", "mediapipe")


def drawn_frames(count: int, size: int) -> np.ndarray:
    """Smooth shapes under fine grain, [F, H, W, 3] uint8: as many edges as footage has, or more."""
    rng = np.random.default_rng(0)
    texture = scipy.ndimage.gaussian_filter(rng.normal(size=(2 * size, 2 * size, 3)), (size / 32, size / 32, 0))
    texture = 128 + 60 * texture / texture.std()
    frames = [texture[i : i + size, :size] + rng.normal(scale=2, size=(size, size, 3)) for i in range(count)]
    return np.clip(frames, 0, 255).astype(np.uint8)


def filmed_frames(path: Path, count: int, size: int) -> np.ndarray:
    """The first frames of a video, resized, [F, H, W, 3] uint8."""
    frames = itertools.islice((frame for _, frame in read_frames(path)), count)
    return np.stack([np.asarray(Image.fromarray(f).resize((size, size), Image.Resampling.BOX)) for f in frames])


def suite_call(metric: str, truth: np.ndarray, image: np.ndarray) -> Callable[[], Any]:
    """A metric as an evaluation calls it, with nothing kept from the last time."""
    suite = Suite([metric])
    times = np.arange(len(truth)) / FPS
    return lambda: suite.measure(Material(Pictures(image), Pictures(truth), {"frame": None}, times, FPS))


def lpips_call(net: str, truth: np.ndarray, image: np.ndarray) -> Callable[[], Any]:
    metric = LpipsMetric(Lpips(net, rngs=nnx.Rngs(0)), net)
    return lambda: metric(truth, image)


def landmark_call(landmarker: Landmarker, image: np.ndarray) -> Callable[[], Any]:
    def find() -> int:
        faces = [landmarker.faces(frame) for frame in image]
        return sum(len(from_mediapipe(found[0].points)) > 0 for found in faces if found)

    if not find():
        raise SystemExit("no face was found in the video, so landmarks cannot be timed; give another --video")
    return find


def measure(call: Callable[[], Any], frames: int, repeats: int) -> dict[str, float]:
    """Frames/s by the median time of `repeats` calls, after a first one that compiles."""
    started = time.perf_counter()
    call()
    first, times = time.perf_counter() - started, []
    for _ in range(repeats):
        started = time.perf_counter()
        call()
        times.append(time.perf_counter() - started)
    return {
        "frames_per_s": round(frames / statistics.median(times), 1),
        "slowest": round(frames / max(times), 1),
        "fastest": round(frames / min(times), 1),
        "first_call_s": round(first, 2),
    }


def run(options: argparse.Namespace, stack: contextlib.ExitStack) -> dict[str, Any]:
    size, count = options.size, options.frames
    truth = filmed_frames(options.video, count, size) if options.video else drawn_frames(count, size)
    image = scipy.ndimage.gaussian_filter(truth, (0, 1, 1, 0))
    calls: dict[str, Callable[[], Callable[[], Any]]] = {
        metric: functools.partial(suite_call, metric, truth, image)
        for metric in ("psnr/rgb", "ssim/gauss11", "ssim/skimage7", "cpbd/python")
    }
    calls["lpips/alex"] = functools.partial(lpips_call, "alex", truth, image)
    calls["lpips/vgg"] = functools.partial(lpips_call, "vgg", truth[:8], image[:8])
    if options.landmarker and options.video:
        landmarker = stack.enter_context(Landmarker(options.landmarker))
        calls["landmarks"] = functools.partial(landmark_call, landmarker, image)
    results = {}
    for name, make in calls.items():
        results[name] = measure(make(), 8 if name == "lpips/vgg" else len(truth), options.repeats)
        print(f"{name:15} {results[name]['frames_per_s']:8,.1f} frames/s", flush=True)
    return {
        "size": size,
        "frames": len(truth),
        "repeats": options.repeats,
        "pictures": "filmed" if options.video else "drawn",
        "device": str(jax.devices()[0].device_kind),
        "devices": len(jax.devices()),
        "processor": platform.machine(),
        "cores": os.cpu_count(),
        "load_average_before": round(options.load, 1),
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "versions": {"python": platform.python_version(), **_versions()},
        "notes": "lpips with random weights; landmarks by MediaPipe's CPU kernels, one frame at a time",
        "results": results,
    }


def _versions() -> dict[str, str]:
    installed = {distribution.metadata["Name"].lower() for distribution in importlib.metadata.distributions()}
    return {name: importlib.metadata.version(name) for name in PACKAGES if name in installed}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--frames", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--video", type=Path, help="Frames of this video in place of drawn ones.")
    parser.add_argument("--landmarker", type=Path, help="face_landmarker.task; times landmarks, too (needs --video).")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    options.load = os.getloadavg()[0]
    with contextlib.ExitStack() as stack:
        result = run(options, stack)
    if options.out is not None:
        options.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
