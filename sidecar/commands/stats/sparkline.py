"""Counts as a line of bars, one character each. Owns the characters; never decides what is counted."""

from collections.abc import Sequence

_BARS = " ▁▂▃▄▅▆▇█"
_PLAIN_BARS = " .:-=+*#@"


def sparkline(counts: Sequence[int], columns: int, *, ascii_only: bool = False) -> str:
    """Draw `counts` in `columns` characters at most, neighbours added up where there are more; a blank is exactly 0."""
    bars = _PLAIN_BARS if ascii_only else _BARS
    step = -(-len(counts) // max(1, columns)) or 1
    sums = [sum(counts[at : at + step]) for at in range(0, len(counts), step)]
    most = max(sums, default=0) or 1
    top = len(bars) - 1
    return "".join(bars[-(-count * top // most)] for count in sums)
