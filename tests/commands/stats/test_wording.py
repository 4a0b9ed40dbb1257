"""Counts as a line of bars."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.commands.stats.wording import sparkline


@pytest.mark.parametrize(
    ("counts", "columns", "expected"),
    [
        ([0, 1, 2, 4, 8], 10, " ▁▂▄█"),
        ([0, 1, 1000], 10, " ▁█"),
        ([1, 1, 2, 2], 2, "▄█"),
        ([1, 1, 2], 2, "██"),
        ([0, 0], 5, "  "),
        ([], 5, ""),
    ],
)
def test_bars(counts: list[int], columns: int, expected: str) -> None:
    """The most fills the line, and anything at all can be seen."""
    assert sparkline(counts, columns) == expected


@given(st.lists(st.integers(0, 10**30), max_size=130), st.integers(0, 130), st.booleans())
def test_fits(counts: list[int], columns: int, ascii_only: bool) -> None:
    """It never takes more columns than there are, shows what is not 0, and on a plain terminal is plain."""
    line = sparkline(counts, columns, ascii_only=ascii_only)
    assert len(line) <= max(1, columns)
    assert bool(line.strip()) == any(counts)
    assert line.isascii() or not ascii_only
