"""The rows of a few-shot evaluation and what each adapted avatar is compared with."""

from __future__ import annotations

from collections.abc import Sequence

from jaxtalk.evaluation.adaptation import Cell
from jaxtalk.evaluation.records import ClipResult, Comparison, Layout, Row, Settings

TRUTH = Row("truth", "Ground truth", "truth", "The test frames against themselves: the best possible value.", "truth")


def row_of(cell: Cell) -> Row:
    """The row of an avatar that hears the true speech."""
    seconds = f"{cell.seconds:g} s"
    if not cell.steps:
        return Row(
            f"before-{cell.seconds:g}s", f"Before adaptation, {seconds}", "method",
            f"The base model as it is, with references from the first {seconds}.", "before", cell.seconds, 0,
        )  # fmt: skip
    kind, label = ("scratch", "From scratch") if cell.from_scratch else ("adapted", "Adapted")
    start = "from random parameters, without base training" if cell.from_scratch else "from the base model"
    return Row(
        f"{kind}-{cell.seconds:g}s-{cell.steps}", f"{label}, {seconds}, {cell.steps:,} steps", "method",
        f"{cell.steps:,} steps on the first {seconds}, {start}.", kind, cell.seconds, cell.steps,
    )  # fmt: skip


def control_row(cell: Cell) -> Row:
    """The row of an adapted avatar that hears speech a second late."""
    return Row(
        f"audio_shifted-{cell.seconds:g}s-{cell.steps}", f"Speech 1 s late, {cell.seconds:g} s, {cell.steps:,} steps",
        "control", "The adapted avatar, hearing what was said one second before each frame.",
        "audio_shifted", cell.seconds, cell.steps,
    )  # fmt: skip


def length_rows(seconds: float) -> tuple[Row, Row]:
    """The baselines of a length: the mean of its frames, and the one of the nearest pose."""
    return (
        Row(f"mean-{seconds:g}s", f"Mean frame, {seconds:g} s", "baseline",
            f"The mean of the frames of the first {seconds:g} s.", "mean", seconds),
        Row(f"copy-{seconds:g}s", f"Nearest frame, {seconds:g} s", "baseline",
            f"The frame of the first {seconds:g} s whose head pose is nearest (rotation angle plus shift over 0.1 m).",
            "copy", seconds),
    )  # fmt: skip


def layout(settings: Settings, clips: Sequence[ClipResult]) -> Layout:
    """Every row that some clip has; each avatar against what it must beat.

    The page speaks of the adapted avatar that most clips have, then of the longest video, then of the most steps.
    """
    assert settings.fewshot is not None
    steps = settings.fewshot.steps
    wanted: list[Row] = []
    for seconds in settings.fewshot.seconds:
        cells = [Cell(seconds, number) for number in steps]
        scratch = [Cell(seconds, number, from_scratch=True) for number in steps if number]
        wanted += [row_of(cell) for cell in (*cells, *scratch)]
        wanted += length_rows(seconds)
        wanted += [control_row(cell) for cell in cells if cell.steps]
    rows = [row for row in (*wanted, TRUTH) if any(row.name in clip.values for clip in clips)]
    ours = [row for row in rows if row.variant in ("adapted", "before")]

    def rank(row: Row) -> tuple[bool, int, float, int]:
        having = sum(row.name in clip.values for clip in clips)
        return row.variant == "adapted", having, row.seconds or 0.0, row.steps or 0

    comparisons = [comparison for row in ours for comparison in _comparisons(row, rows)]
    return Layout(tuple(rows), tuple(comparisons), max(ours, key=rank).name)


def _comparisons(ours: Row, rows: Sequence[Row]) -> list[Comparison]:
    """Ours with every row of its own length, and of its own steps where the row has any."""
    others = ("copy", "mean", "before", "scratch", "audio_shifted") if ours.variant == "adapted" else ("copy", "mean")
    found = {
        row.variant: row
        for row in rows
        if row.variant in others and row.seconds == ours.seconds and row.steps in (None, 0, ours.steps)
    }
    return [Comparison(f"{ours.name}/{name}", ours.name, found[name].name) for name in others if name in found]
