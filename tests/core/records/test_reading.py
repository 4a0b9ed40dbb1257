"""Records read back from a log."""

import json

import pytest

from sidecar.core.records import Logged, Messages, decode


@pytest.mark.parametrize(
    ("count", "expected"),
    [("7", 7), ("1000000000", 10**9), ("1000000001", 10**9), ("9" * 300, 10**9), ("0", 1), ("-1", 1), ('"7"', 1), ("null", 1)],
)
def test_count_has_a_bound(count: str, expected: int) -> None:
    """A record counts one event at least, and never an impossible number."""
    assert decode(b'{"type": "Rejection", "meta": {"count": %s}}' % count.encode()).count == expected


def logged(**more: object) -> Logged:
    """Return a record of a log."""
    return decode(json.dumps({"type": "Reception"} | more).encode())


@pytest.mark.parametrize(
    ("record", "message_id"),
    [
        (logged(id="1", meta={"message_id": "m"}), "m"),
        (logged(id="1"), "1"),
        (logged(id="1", recipient=["a", "b"], meta={"message_id": 5}), "1"),
        (logged(type="Rejection"), ""),
    ],
)
def test_the_message_of_a_record(record: Logged, message_id: str) -> None:
    """Ours have it in meta; KumoMTA's, and our older ones with all recipients in one record, have the id."""
    assert record.message_id == message_id


def test_each_message_begins_once() -> None:
    """The records of its recipients follow each other; so many other messages can be between them."""
    messages = Messages(remembered=2)
    one, two, three = (logged(id=name, meta={"message_id": name}) for name in "abc")
    assert [messages.begins(record) for record in (one, one, two, one, three, one)] == [True, False, True, False, True, True]
    assert [messages.begins(logged(type=kind)) for kind in ("Reception", "Rejection")] == [True, False]
