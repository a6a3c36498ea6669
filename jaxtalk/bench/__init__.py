"""How fast a system trains and renders on this device, through the Stage and Avatar protocols alone."""

from __future__ import annotations

from jaxtalk.bench.runner import Figures, run_bench

__all__ = ["Figures", "run_bench"]
