"""The figures of a bench as tables for people."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from jaxtalk.bench.runner import Figures


def print_table(figures: Figures) -> None:
    """Prints what was measured on which device."""
    console = Console()
    console.print(
        f"{figures.config} at {figures.size} x {figures.size} on {figures.devices} x {figures.device} "
        f"({figures.backend}, {figures.host_cpus} host CPUs), jax {figures.jax_version}",
        highlight=False,
    )
    console.print(_training(figures))
    console.print(_rendering(figures))
    for rate in figures.matrix_rates:
        source = f"data sheet {si(rate.data_sheet)}FLOP/s" if rate.data_sheet else "no data sheet known: the peak"
        console.print(f"matrix products in {rate.dtype}: measured {si(rate.measured)}FLOP/s, {source}", highlight=False)
    console.print(
        f"peak memory of the {figures.peak_memory_of}: {si(figures.peak_memory_bytes, 1024)}B", highlight=False
    )


def _training(figures: Figures) -> Table:
    table = Table(title="training, warm, all phases and terms begun, random weights")
    table.add_column("")
    for stage in figures.training:
        table.add_column(stage.stage, justify="right")
    stages = figures.training
    rows = {
        "phases": [", ".join(stage.phases) for stage in stages],
        "frozen networks": [", ".join(stage.frozen) or "–" for stage in stages],
        "images/s": [si(stage.images_per_second) for stage in stages],
        "rays/s": [si(stage.rays_per_second) for stage in stages],
        "evaluations/s": [si(stage.evaluations_per_second) for stage in stages],
        "steps/s": [f"{stage.steps_per_second:.3g}" for stage in stages],
        "steps/s with input": [f"{stage.steps_per_second_with_input:.3g}" for stage in stages],
        "FLOPs per step": [si(stage.flops_per_step) for stage in stages],
        "FLOPs per image": [si(stage.flops_per_image) for stage in stages],
        "FLOPs per evaluation": [si(stage.flops_per_evaluation) for stage in stages],
        "of them forward": [si(stage.forward_flops_per_evaluation) for stage in stages],
        "FLOP/s": [si(stage.flops_per_second) for stage in stages],
        "utilisation": [f"{stage.utilisation:.1%} of {stage.dtype}" for stage in stages],
        "memory of a step": [f"{si(stage.step_bytes, 1024)}B" for stage in stages],
        "compiled in": [f"{stage.compile_seconds:.1f} s" for stage in stages],
    }
    for title, cells in rows.items():
        table.add_row(title, *cells)
    return table


def _rendering(figures: Figures) -> Table:
    speed = figures.rendering
    height, width = speed.size
    table = Table(title=f"rendering {width} x {height}, warm, one device")
    table.add_column("")
    table.add_column(f"{speed.chunk} frames at once", justify="right")
    rows = {
        "frames/s": f"{speed.frames_per_second:.3g}",
        "frames/s, sound file to mp4": f"{speed.frames_per_second_with_io:.3g}",
        "rays/s": si(speed.rays_per_second),
        "evaluations/s": si(speed.evaluations_per_second),
        "FLOPs per frame": si(speed.flops_per_frame),
        "utilisation": "–" if speed.utilisation is None else f"{speed.utilisation:.1%}",
        "compiled in": f"{speed.compile_seconds:.1f} s",
    }
    for title, cell in rows.items():
        table.add_row(title, cell)
    return table


def si(number: float | None, base: int = 1000) -> str:
    """A number in three digits with its prefix: 12345 -> '12.3 k'; a dash for None."""
    if number is None:
        return "–"
    prefixes = ("", "k", "M", "G", "T", "P") if base == 1000 else ("", "Ki", "Mi", "Gi", "Ti", "Pi")
    index = 0
    while abs(number) >= 0.9995 * base and index < len(prefixes) - 1:
        number /= base
        index += 1
    return f"{number:.3g} {prefixes[index]}"
