"""A picture of how well lips and sound agree at each offset."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np


def draw_offsets(curves: Mapping[str, np.ndarray]) -> np.ndarray:
    """Mean cosines at offsets -reach .. reach, {name: [2 reach + 1]}, as [H, W, 3] uint8.

    0 is marked, and each curve's greatest value. NaN leaves a gap.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), dpi=120, layout="constrained")
    axes = figure.add_subplot()
    for name, curve in curves.items():
        offsets = np.arange(len(curve)) - len(curve) // 2
        (line,) = axes.plot(offsets, curve, label=name, linewidth=1.6)
        peak = np.nanargmax(curve)
        axes.plot(offsets[peak], curve[peak], "o", color=line.get_color(), markersize=5)
    axes.axvline(0, color="0.6", linewidth=1, linestyle="--")
    axes.set_xlabel("sound later than lips, frames")
    axes.set_ylabel("mean cosine of lips and speech")
    axes.legend(frameon=False, fontsize=8)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()
