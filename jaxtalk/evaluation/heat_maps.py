"""Where in a picture speech acts: how much each place of a face hears (card s3d_nerf 2.5)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from jaxtalk.clip import ClipView
from jaxtalk.errors import JaxtalkError
from jaxtalk.evaluation import controls
from jaxtalk.evaluation.rendering import drive_of
from jaxtalk.evaluation.results import write_text
from jaxtalk.input.clips import select_frames, strangers
from jaxtalk.input.inner_face import inner_face
from jaxtalk.methods.api import Run, load_method

WHERE = ("in_face", "below_nose")  # of the whole map, and of the face
FRAMES = 100  # of a clip, at most, from its first on
_UNDER_NOSE = 33  # landmark
_SCALE = 4  # pixels of the drawn map for one of the picture's


def heat_maps(
    workdir: str | Path, out: str | Path, folders: Sequence[Path] = (), *, allow_seen: bool = False
) -> dict[str, Any]:
    """Measures and draws the maps of a run's held-out clips, or of clips named by their folders.

    Writes OUT/heat_maps.json, OUT/NAME.png (the source and its map), prints a table, and returns what the first holds:
    {clip: `measured`}.

    Raises:
        JaxtalkError: no run there, nobody held out and no folder named, somebody the run was trained on unless
            `allow_seen`, or a system whose places hear nothing of their own.
    """
    from jaxtalk.training.run import open_run

    run = open_run(Path(workdir))
    clips = strangers(run.config, run.workdir, folders, allow_seen=allow_seen)
    out, results = Path(out), {}
    out.mkdir(parents=True, exist_ok=True)
    print(f"{'clip':32} {'in the face':>16} {'of it below the nose':>24}")
    for clip in clips:
        heat, source = heat_of(run, clip)
        results[clip.name] = found = measured(heat, source.track.landmarks[0], source.meta.size)
        draw(source.frame(0), heat, out / f"{clip.name}.png")
        shares = (f"{found[f'heat_{where}']:.2f} (even {found[f'area_{where}']:.2f})" for where in WHERE)
        print("{:32} {:>16} {:>24}".format(clip.name, *shares))
    write_text(out / "heat_maps.json", json.dumps(results, indent=1) + "\n")
    print(f"wrote {out}")
    return results


def heat_of(run: Run, clip: ClipView) -> tuple[np.ndarray, ClipView]:
    """How much each place of the clip's first measured frame hears, [side, side], and that frame as a clip."""
    method = load_method(run.config.method)
    source = select_frames(clip, np.array([int(np.argmax(clip.track.valid))]))
    avatar = method.fit(run, source)
    if not hasattr(avatar, "heat"):
        raise JaxtalkError(f"{run.workdir}: places of a picture hear nothing of their own in {run.config.method}")
    spec = method.audio_feature(run.config)
    index = np.arange(min(FRAMES, clip.track.num_frames))
    return avatar.heat(drive_of(avatar, clip, index, controls.true_speech(clip, spec), spec)), source


def measured(heat: np.ndarray, landmarks: np.ndarray, size: tuple[int, int]) -> Mapping[str, float]:
    """The share of heat in the inner face, and of that the share below the nose; and of area, as even heat would have.

    Args:
        heat: [side, side] over the picture.
        landmarks: [68, 2] of the picture of `size`, pixels.
    """
    side = len(heat)
    face = np.asarray(Image.fromarray(inner_face(landmarks, size)).resize((side, side), Image.Resampling.BOX)) / 255
    below = (np.arange(side) + 0.5) * (size[0] / side) > landmarks[_UNDER_NOSE, 1]
    shares = {}
    for name, mass in (("heat", heat), ("area", np.ones_like(heat))):
        inside, least = mass * face, 1e-12  # of a map without any heat
        shares[f"{name}_in_face"] = float(inside.sum() / max(mass.sum(), least))
        shares[f"{name}_below_nose"] = float((inside * below[:, None]).sum() / max(inside.sum(), least))
    return shares


def draw(picture: np.ndarray, heat: np.ndarray, path: Path) -> None:
    """A PNG of the picture, and of its map over it: dark is little, bright is much."""
    height, width = (side * _SCALE for side in picture.shape[:2])
    shown = Image.fromarray(picture).resize((width, height), Image.Resampling.BILINEAR)
    level = (heat - heat.min()) / max(float(np.ptp(heat)), 1e-12)
    mask = Image.fromarray((255 * level).astype(np.uint8)).resize((width, height), Image.Resampling.BILINEAR)
    bright = Image.new("RGB", (width, height), (255, 96, 0))
    dim = Image.blend(shown.convert("L").convert("RGB"), Image.new("RGB", (width, height)), 0.3)
    both = Image.new("RGB", (2 * width, height))
    both.paste(shown, (0, 0))
    both.paste(Image.composite(bright, dim, mask.point(lambda value: value * 0.8)), (width, 0))
    both.save(path)
