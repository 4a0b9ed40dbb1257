"""Records read back from a log."""

import pytest

from sidecar.core.records import decode


@pytest.mark.parametrize(
    ("count", "expected"),
    [("7", 7), ("1000000000", 10**9), ("1000000001", 10**9), ("9" * 300, 10**9), ("0", 1), ("-1", 1), ('"7"', 1), ("null", 1)],
)
def test_count_has_a_bound(count: str, expected: int) -> None:
    """A record counts one event at least, and never an impossible number."""
    assert decode(b'{"type": "Rejection", "meta": {"count": %s}}' % count.encode()).count == expected
