"""The numbers that papers print for a protocol, as data with their source: to stand beside ours, never to compare."""

from __future__ import annotations

import functools
import importlib.resources
import json
from typing import Any

NOTE = (
    "Published numbers, not comparable with ours: other clips, sizes, detectors and weights. The papers disagree on "
    "the ground truth itself: its Sync on MEAD is 7.702 in one and 4.295 in another."
)


@functools.cache
def _tables() -> tuple[dict[str, Any], ...]:
    folder = importlib.resources.files("jaxtalk.evaluation") / "published"
    return tuple(json.loads((folder / "tables.json").read_text()))


def published_tables(protocol: str) -> list[dict[str, Any]]:
    """[{"source", "conditions", "columns", "rows": [{"method", "values"}]}] of a protocol; a dash is None."""
    return [table for table in _tables() if protocol in table["protocols"]]
