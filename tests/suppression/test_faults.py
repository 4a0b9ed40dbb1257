"""A short form of what `make soak` does at length."""

from pathlib import Path

from tests.suppression.faults import attack


def test_killed_and_torn(tmp_path: Path) -> None:
    """The list is the journal's after each kill, and in each torn copy; the filter denies no address of it."""
    found = attack(tmp_path, 8, 3, seed=1)
    assert not found.wrong
    assert (found.kills, found.torn) == (8, 24)
