"""A flood of rejections, counted."""

from collections.abc import Sequence
from typing import Any

import pytest
from msgspec.structs import replace

from sidecar.core.names import network_of
from sidecar.core.records import Facts, PeerAddress, Record, Response, encode, rejections
from sidecar.journal.write import limits
from sidecar.journal.write.limits import RejectionLimiter
from tests.core.records.making import reception, refusal_of

NOON = 1_790_000_000.25


def facts(now: float = NOON, peer: str = "203.0.113.9") -> Facts:
    return Facts(
        node_id="n",
        session_id="s",
        message_id="m",
        now=now,
        created=now,
        peer=peer,
        helo="peer.example",
        sender="a@b.example",
        listener="10.1.1.1:25",
        authz_id=None,
        queue_id="Q",
        headers={"subject": "x"},
    )


def refusal(now: float = NOON, peer: str = "203.0.113.9") -> Record:
    """Make a Rejection of a recipient."""
    response = Response(code=550, content="no", command="RCPT TO:<x@y.example>")
    return refusal_of(facts(now, peer), "x@y.example", response=response, why="it is so")


def let_through(it: RejectionLimiter, count: int, **values: Any) -> int:
    """Send so many refusals; count those that are to be written one by one."""
    record = refusal(**values)
    return sum(len(limit(it, [record])) for _ in range(count))


def limit(it: RejectionLimiter, records: Sequence[Record]) -> Sequence[Record]:
    return it.limit(records, network_of(records[0].peer_address.addr), limited=True)


def test_below_the_rate_nothing_is_counted() -> None:
    """So many refusals of one peer in each second have records of their own."""
    it = RejectionLimiter(10)
    assert [let_through(it, 10, now=NOON + second) for second in range(3)] == [10, 10, 10]
    assert it.take() == []


def test_above_the_rate_a_peer_is_counted() -> None:
    """The rest of a second is counted, for each peer on its own, and given once."""
    it = RejectionLimiter(10)
    assert let_through(it, 25) == 10
    assert let_through(it, 11, peer="203.0.113.8") == 10
    assert let_through(it, 15, now=NOON + 1) == 10
    assert [(one.first.peer_address.addr, one.count) for one in it.take()] == [("203.0.113.9", 20), ("203.0.113.8", 1)]
    assert it.take() == []


@pytest.mark.parametrize(
    ("first", "second", "together"),
    [
        ("2001:db8:1:2::1", "2001:db8:1:2:ffff::", True),
        ("2001:db8:1:2::1", "2001:db8:1:3::1", False),
        ("203.0.113.9", "203.0.113.8", False),
        ("::1", "0.0.0.0", False),  # noqa: S104 - an address with the number of the other's network
    ],
)
def test_an_ipv6_network_is_one_peer(first: str, second: str, together: bool) -> None:
    """A host that has an IPv6 address has 2^64 of them, and one rate, as in the quota."""
    it = RejectionLimiter(10)
    let_through(it, 10, peer=first)
    assert let_through(it, 1, peer=second) == (not together)


def test_nothing_but_refusals_is_counted() -> None:
    """Whatever else a peer's records are, each is written."""
    it = RejectionLimiter(1)
    let_through(it, 5)
    taken = reception(facts(), "x@y.example", why="it is so")
    records = [taken, replace(taken, type="OOB"), refusal(), replace(taken, type="Feedback")]
    written = [record.type for record in records for _ in limit(it, [record])]
    assert written == ["Reception", "OOB", "Feedback"]


def test_a_refusal_is_counted_with_all_its_records() -> None:
    """KumoMTA's Reception before a refusal is not left alone when the Rejection is counted."""
    it = RejectionLimiter(1)
    taken = reception(facts(), "x@y.example", why="it is so")
    assert [len(limit(it, (taken, refusal()))) for _ in range(3)] == [2, 0, 0]
    assert [one.count for one in it.take()] == [2]


def test_what_could_not_be_written_is_not_forgotten() -> None:
    """It is counted together with what came since, and its first stays the first."""
    it = RejectionLimiter(1)
    let_through(it, 4)
    counted = it.take()
    let_through(it, 3, now=NOON + 1)
    it.put_back(counted)
    (one,) = it.take()
    assert (one.count, one.first.timestamp) == (5, int(NOON))


def test_the_table_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """When too many peers are counted, one more has records of its own instead."""
    monkeypatch.setattr(limits, "NETWORKS_LIMIT", 3)
    it = RejectionLimiter(1)
    assert [let_through(it, 5, peer=f"203.0.113.{number}") for number in range(5)] == [1, 1, 1, 5, 5]
    assert len(it.take()) == 3


def test_a_counted_rejection_is_small() -> None:
    """A rejection of a thousand long addresses keeps none of them: a network above its limit may wait for hours."""
    it = RejectionLimiter(0)
    addresses = tuple(f"{'x' * 300}{number}@y.example" for number in range(1000))
    record = refusal_of(facts(), *addresses, response=Response(code=550, content="no", command="DATA"))
    assert len(encode(record)) > 300_000
    assert it.limit([record], "cb007109", limited=True) == ()
    (one,) = it.take()
    assert len(encode(one.first)) < 2048


def test_after_the_end_nothing_is_counted() -> None:
    """No flush would write it any more."""
    it = RejectionLimiter(1)
    it.end()
    assert let_through(it, 5) == 5
    assert it.take() == []


def test_the_record_of_many() -> None:
    """It has the peer, the count, the answer, and the first time; and nothing that only the first of them had."""
    record = rejections(refusal(), count=7, now=NOON + 1.5, why="seven")
    assert (record.type, record.id, record.sender, record.recipient, record.headers) == ("Rejection", "", "", "", {})
    assert record.meta == {"why": "seven", "disposition": "relayed", "count": 7}
    assert record.response == Response(code=550, content="no", command=None)
    assert record.peer_address == PeerAddress(name="peer.example", addr="203.0.113.9")
    assert (record.created_time, record.event_time) == ("2026-09-21T14:13:20.250000Z", "2026-09-21T14:13:21.750000Z")
