"""A picture of coefficients over time: measured and predicted from speech."""

from __future__ import annotations

import numpy as np

from jaxtalk.losses.sequences import POSE_SIZE

_SHOWN = 4  # coefficients of the expression: those that speech moves most, which blinks and brows are not
_POSE_SHOWN = (0, 1)  # of the pose: rotation about x (nodding) and about y (turning)


def draw_curves(measured: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """[H, W, 3] float32 in [0, 1] from two sequences [F, E + 6] of raw coefficients; measured is grey, ours orange."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    size = measured.shape[1] - POSE_SIZE
    liveliest = np.argsort(-predicted[:, :size].std(0), kind="stable")[:_SHOWN]
    rows = {f"expression {i}": int(i) for i in liveliest}
    rows |= {f"rotation {'xyz'[i]}": size + i for i in _POSE_SHOWN}
    figure = Figure(figsize=(7, 1.1 * len(rows)), dpi=100, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    panels = figure.subplots(len(rows), sharex=True)
    for panel, (name, column) in zip(panels, rows.items(), strict=True):
        panel.plot(measured[:, column], color="0.55", linewidth=1.5, label="measured")
        panel.plot(predicted[:, column], color="#d55e00", linewidth=1.5, label="from speech")
        panel.set_ylabel(name, fontsize=8)
        panel.tick_params(labelsize=7)
    panels[-1].set_xlabel("frame", fontsize=8)
    panels[0].legend(loc="upper right", fontsize=7, frameon=False, ncols=2)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].astype(np.float32) / 255
