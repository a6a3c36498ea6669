"""Published numbers as data: what can be checked of them without the papers."""

from __future__ import annotations

import pytest

from jaxtalk.evaluation.protocols import PROTOCOLS
from jaxtalk.evaluation.published_tables import published_tables


@pytest.mark.parametrize("protocol", ["self", "heldout", "cross", "flip"])
def test_every_row_has_a_value_for_every_column(protocol: str) -> None:
    tables = published_tables(protocol)
    assert tables
    for table in tables:
        assert set(table["protocols"]) <= set(PROTOCOLS)
        assert all(len(row["values"]) == len(table["columns"]) for row in table["rows"]), table["source"]
        assert len({row["method"] for row in table["rows"]}) == len(table["rows"])


def test_the_truth_is_perfect_where_it_is_compared_with_itself() -> None:
    perfect = {"SSIM": 1, "LPIPS": 0, "FID": 0, "CSIM": 1, "M-LMD": 0, "F-LMD": 0, "LMD": 0}
    for protocol in PROTOCOLS:
        for table in published_tables(protocol):
            for row in table["rows"]:
                if row["method"] == "Ground truth":
                    values = dict(zip(table["columns"], row["values"], strict=True))
                    assert all(values[name] == perfect[name] for name in values.keys() & perfect.keys())


def test_flipped_rows_cost_identity() -> None:
    """The card's claim about this table: every system loses CSIM at the mirrored pose."""
    for table in published_tables("flip"):
        column = table["columns"].index("CSIM")
        values = {row["method"]: row["values"][column] for row in table["rows"]}
        for method in ("NeRFFaceSpeech", "PC-AVS", "SadTalker"):
            assert values[f"{method}, flipped"] < values[method]
