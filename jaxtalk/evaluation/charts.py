"""Line charts for the report: matplotlib SVG whose colours are CSS variables, so that they follow light and dark."""

from __future__ import annotations

import html
import io
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

# Colours that stand for CSS variables while matplotlib draws.
_INK, _MUTED, _RULE = "#010101", "#020202", "#030303"
_SERIES = ("#040404", "#050505", "#060606", "#070707")
_VARIABLES = {_INK: "--ink", _MUTED: "--muted", _RULE: "--rule",
              **{color: f"--series-{i}" for i, color in enumerate(_SERIES)}}  # fmt: skip


def line_chart(
    series: Mapping[str, tuple[Sequence[float], Sequence[float | None]]],
    xlabel: str,
    ylabel: str,
    *,
    logarithmic: bool = False,
    markers: bool = False,
    names: Sequence[str] = (),
) -> dict[str, str]:
    """Inline SVGs of curves {label: (x, y)}, "wide" for a page and "narrow" for a phone, with text of one size.

    A y of None is a gap. At most four curves. `names`: x counts them, and their values are dots without a line.
    """
    if len(series) > len(_SERIES):
        raise ValueError(f"a chart holds {len(_SERIES)} curves, not {len(series)}")
    sizes = {"wide": (7.6, 2.7), "narrow": (3.7, 2.7)}
    return {name: _draw(series, xlabel, ylabel, size, logarithmic, markers, names) for name, size in sizes.items()}


def dot_chart(names: Sequence[str], series: Mapping[str, Sequence[float | None]], ylabel: str) -> dict[str, str]:
    """Inline SVGs with a dot for each name and each of at most four series {label: a value a name}."""
    places = list(map(float, range(len(names))))
    lines = {label: (places, values) for label, values in series.items()}
    return line_chart(lines, "", ylabel, markers=True, names=names)


def _draw(
    series: Mapping[str, tuple[Sequence[float], Sequence[float | None]]],
    xlabel: str,
    ylabel: str,
    size: tuple[float, float],
    logarithmic: bool,
    markers: bool,
    names: Sequence[str],
) -> str:
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, layout="constrained")
    axes = figure.add_subplot()
    for (label, (x, y)), color in zip(series.items(), _SERIES, strict=False):
        values = np.array([np.nan if value is None else value for value in y], np.float64)
        width, dot = (0.0, 5.0) if names else (1.6, 3.2)
        marker = "o" if markers else ""
        axes.plot(x, values, color=color, label=label, linewidth=width, marker=marker, markersize=dot)
    if names:
        axes.set_xticks(
            range(len(names)), names, rotation=30 if len(names) > 4 else 0, ha="right" if len(names) > 4 else "center"
        )
    if logarithmic:
        axes.set_yscale("log")
    _style(axes, xlabel, ylabel)
    if len(series) > 1:
        legend = axes.legend(
            frameon=False, fontsize=8, ncols=len(series), loc="lower left", bbox_to_anchor=(-0.02, 1.0),
            handlelength=1.2, columnspacing=1.0, borderpad=0,
        )  # fmt: skip
        for text in legend.get_texts():
            text.set_color(_INK)
    return _svg(figure, FigureCanvasSVG, f"{ylabel} over {xlabel}: {', '.join(series)}", f"{size}{dict(series)}")


def _style(axes: Any, xlabel: str, ylabel: str) -> None:
    axes.set_xlabel(xlabel, color=_MUTED, fontsize=8)
    axes.set_ylabel(ylabel, color=_MUTED, fontsize=8)
    axes.tick_params(which="both", colors=_MUTED, labelsize=8, length=0)
    axes.grid(axis="y", which="both", color=_RULE, linewidth=0.8)
    axes.margins(x=0.02)
    for side, spine in axes.spines.items():
        spine.set_visible(side == "bottom")
        spine.set_color(_RULE)


def _svg(figure: Any, canvas: Any, label: str, salt: str) -> str:
    import matplotlib

    buffer = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": salt, "font.family": "sans-serif"}):
        canvas(figure).print_svg(buffer, metadata={"Date": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    words = html.escape(label)
    opening = r'<svg [^>]*?viewBox="([^"]*)"[^>]*>'
    text = re.sub(opening, lambda found: f'<svg viewBox="{found[1]}" role="img" aria-label="{words}">', text, count=1)
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'<g id="patch_1">.*?</g>', "", text, count=1, flags=re.DOTALL)  # the figure's white background
    text = re.sub(r'<g id="patch_2">.*?</g>', "", text, count=1, flags=re.DOTALL)  # and the axes'
    text = re.sub(r"font: ([\d.]+px) [^;\"]*", r"font-size: \1", text)  # the page's typeface
    for color, variable in _VARIABLES.items():
        text = text.replace(color, f"var({variable})")
    return text
