"""How well a run's lip-sync discriminator tells in-sync from shifted speech on clips it never saw."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxtalk.clip import ClipView, write_image
from jaxtalk.errors import JaxtalkError
from jaxtalk.evaluation.results import write_text
from jaxtalk.evaluation.statistics import clip_weights, over_clips
from jaxtalk.methods.api import Run, load_method
from jaxtalk.metrics.offset_plot import draw_offsets
from jaxtalk.metrics.sync_windows import LEAST_SHIFT, REACH, mean_and_error, offset_curve, peak_offset, told_apart

LENGTHS = {"single": 1, "1s": 25, "2s": 50}  # windows, one at each frame, whose cosines are averaged
_BLOCK = 25  # frames at least of the blocks that a standard error is taken of


def sync_offsets(
    workdir: str | Path, out: str | Path, folders: Sequence[Path] = (), *, allow_seen: bool = False
) -> dict[str, Any]:
    """Measures a run's sync network on its held-out clips, or on clips named by their folders, and prints a table.

    Writes OUT/sync_offsets.json and OUT/sync_offsets.png, and returns what the first holds (`measure_offsets`).

    Raises:
        JaxtalkError: no run there or its stage `sync` is not finished; a system without one; nobody held out and no
            folder named; somebody the run was trained on unless `allow_seen`.
    """
    from jaxtalk.input.clips import strangers
    from jaxtalk.training.run import open_run

    run = open_run(Path(workdir))
    results = measure_offsets(run, strangers(run.config, run.workdir, folders, allow_seen=allow_seen))
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    write_text(out / "sync_offsets.json", json.dumps(results, indent=1) + "\n")
    draw(results, out / "sync_offsets.png")
    print(table(results))
    print(f"wrote {out / 'sync_offsets.png'}")
    return results


def measure_offsets(run: Run, clips: Sequence[ClipView]) -> dict[str, Any]:
    """Similarity over offsets and accuracy of each clip, and their means over clips, then identities.

    {"offsets" [31], "clips": {name: {"identity", "windows", "similarity" [31], "peak", "accuracy"}}, and the means'
    "similarity", "peak" and "accuracy"}:
    `similarity` is the mean cosine at each offset, lips against sound so many frames later, and `peak` the offset at
    which it is greatest, between frames (`peak_offset`). `accuracy` {"single", "1s", "2s"} is how often in-sync beats
    speech shifted by 5 to 15 frames (chance 0.5), for one window and for means over as many as begin within 1 and 2
    seconds: {"mean", "standard_error"}, of a clip from the means of blocks of neighbours. What a clip is too short for
    is None.

    Raises:
        JaxtalkError: a system without a sync network, or a clip that it cannot judge.
    """
    method = load_method(run.config.method)
    if not hasattr(method, "sync_embeddings"):
        raise JaxtalkError(f"{run.workdir}: {run.config.method} trains no lip-sync discriminator; use a run that does")
    found = {clip.name: _measure(method.sync_embeddings(run, clip), clip.meta.identity) for clip in clips}
    identities = {name: clip["identity"] for name, clip in found.items()}
    columns = zip(*(clip["similarity"] for clip in found.values()), strict=True)
    curve = [over_clips(dict(zip(found, map(_float, column), strict=True)), identities)["mean"] for column in columns]
    return {
        "offsets": list(range(-REACH, REACH + 1)),
        "least_shift": LEAST_SHIFT,
        "clips": found,
        **_curve(np.array(curve)),
        "accuracy": {length: _over_clips(found, identities, length) for length in LENGTHS},
    }


def _measure(embeddings: tuple[np.ndarray, np.ndarray], identity: str) -> dict[str, Any]:
    lips, speech = embeddings
    curve = offset_curve(lips, speech)
    accuracy = {}
    for name, frames in LENGTHS.items():
        told = told_apart(lips, speech, frames)
        mean, error = mean_and_error(told, max(_BLOCK, frames))
        accuracy[name] = {
            "mean": _number(mean),
            "standard_error": _number(error),
            "places": int(np.isfinite(told).sum()),
        }
    return {
        "identity": identity,
        "windows": int(np.isfinite(lips).all(-1).sum()),
        **_curve(curve),
        "accuracy": accuracy,
    }


def _curve(curve: np.ndarray) -> dict[str, Any]:
    return {"similarity": [_number(value) for value in curve], "peak": round(peak_offset(curve), 2)}


def _over_clips(found: Mapping[str, Any], identities: Mapping[str, str], length: str) -> dict[str, float | None]:
    """The mean over clips, then identities; its error is for these clips."""
    means = {name: _float(clip["accuracy"][length]["mean"]) for name, clip in found.items()}
    weights = clip_weights({name: identities[name] for name, value in means.items() if np.isfinite(value)})
    errors = {name: _float(found[name]["accuracy"][length]["standard_error"]) for name in weights}
    error = np.sqrt(sum((weights[name] * errors[name]) ** 2 for name in weights)) if weights else float("nan")
    return {"mean": _number(over_clips(means, identities)["mean"]), "standard_error": _number(float(error))}


def table(results: Mapping[str, Any]) -> str:
    """Lines of text: a clip each, and the mean."""
    lines = [f"{'clip':32} {'peak':>5}  " + "".join(f"{length:>16}" for length in LENGTHS)]
    for name, row in {**results["clips"], "mean": results}.items():
        cells = (_cell(row["accuracy"][length]) for length in LENGTHS)
        lines.append(f"{name:32} {row['peak']:>+5.1f}  " + "".join(f"{cell:>16}" for cell in cells))
    return "\n".join(lines)


def draw(results: Mapping[str, Any], path: Path) -> None:
    """A PNG of the mean cosine over offsets of each clip, and of several clips the mean."""
    rows = {**results["clips"], **({"mean": results} if len(results["clips"]) > 1 else {})}
    curves = {name: np.array(row["similarity"], float) for name, row in rows.items()}  # None is NaN
    write_image(path, draw_offsets(curves))


def _cell(accuracy: Mapping[str, float | None]) -> str:
    if accuracy["mean"] is None:
        return "-"
    error = accuracy["standard_error"]
    return f"{accuracy['mean']:.3f}" + ("" if error is None else f" ± {error:.3f}")


def _number(value: float) -> float | None:
    """JSON has no NaN."""
    return float(value) if np.isfinite(value) else None


def _float(value: float | None) -> float:
    return float("nan") if value is None else value
