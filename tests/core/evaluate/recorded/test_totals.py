"""Counters for logs of any size."""

from typing import Any

import pytest

from sidecar.core.evaluate.evaluator import Evaluator
from sidecar.core.evaluate.recorded.finding import BoundedTally, ComparedRecord, RecordTotals, find
from sidecar.core.evaluate.recorded.follow_up import Entry, with_follow_ups
from tests.building import entry, settings
from tests.core.evaluate.recorded.samples import entry_of, ours, record, rejection

EVALUATOR = Evaluator(settings([entry("a.example", relay_to=True), entry("b.example", log_oob="LogThenDrop")]))


def totals(*made: dict[str, Any]) -> RecordTotals:
    counted = RecordTotals()
    for it in with_follow_ups([entry_of(one) for one in made]):
        counted.add(find(it, EVALUATOR))
    return counted


def found(**more: Any) -> ComparedRecord:
    it = find(entry_of(record(**more)), EVALUATOR)
    assert it is not None
    return it


def numbers(counted: Any) -> tuple[int, int, int, int]:
    return (counted.accepted, counted.rejected, counted.tempfailed, counted.differ)


def test_what_is_counted() -> None:
    """Each record counts by what it says, as often as it stands for; a message with two records counts once."""
    counted = totals(
        record(),
        record(recipient="x@nowhere.test", id="2"),
        rejection("rcpt", code=451, content="later"),
        ours("Rejection", recipient="", answer=(550, "relaying not permitted", None), meta={"count": 7}),
        record(recipient="x@b.example", id="3", session_id="s"),
        rejection("end", session_id="s"),
        record("Delivery"),
    )
    assert numbers(counted.all) == (2, 8, 1, 1)
    assert counted.outgoing == 1
    rulings = {ruling: numbers(count) for ruling, count in counted.rulings.top(9)}
    assert rulings == {
        ("relayed", 'domains.toml:2 "a.example".relay_to'): (1, 0, 1, 0),
        ("rejected at RCPT", "no listener domain matches"): (1, 0, 0, 1),
        ("recipients unknown", "sidecar.toml:1 relay_hosts"): (0, 7, 0, 0),
        ("rejected at the end", 'domains.toml:2 "b.example".log_oob'): (0, 1, 0, 0),
    }
    assert {domain: count.total for (domain,), count in counted.domains.top(9)} == {
        "a.example": 2,
        "nowhere.test": 1,
        "b.example": 1,
    }


@pytest.mark.parametrize("make", [record, ours])
def test_a_report_counts_once(make: Any) -> None:
    """A report with two failures is one answer, in every table, and its Reception is judged as the report that it was."""
    one = {"recipient": "x@b.example", "sender": ""}
    counted = totals(make(**one), make("OOB", sender="x@b.example", recipient="y@c.test"), make("OOB", sender="x@b.example"))
    assert numbers(counted.all) == (1, 0, 0, 0)
    assert counted.all.unknown == 0
    for tally in (counted.rulings, counted.peers, counted.domains):
        assert [count.total for _, count in tally.top(9)] == [1]
    assert [outcome for (outcome, _), _ in counted.rulings.top(9)] == ["logged and dropped"]


def test_what_cannot_be_compared() -> None:
    """Records that cannot be compared are counted as such."""
    counted = totals(record(recipient="x@b.example"), rejection("rcpt", code=451, content="later"), record(id="2"))
    assert (counted.all.total, counted.all.unknown, counted.all.differ) == (3, 2, 0)


def test_the_most_frequent_is_first() -> None:
    """The most frequent is first, and equal ones are in the order of their names."""
    tally = BoundedTally()
    for key in "dbcbda":
        tally.add(found(), key)
    assert [(key, count.total) for key, count in tally.top(3)] == [(("b",), 2), (("d",), 2), (("a",), 1)]


def test_equally_frequent_domains_are_sorted() -> None:
    """The order of equally frequent domains is that of their names, in whatever order the records have them."""
    domains = [f"{name}.example" for name in "hgfedcba"]
    counted = totals(record(recipient=[f"x@{domain}" for domain in domains]))
    assert [domain for (domain,), _ in counted.domains.top(9)] == sorted(domains)


@pytest.mark.parametrize("keys", [4, 64])
def test_memory_is_bounded(keys: int) -> None:
    """However many keys come, so many are kept at most; what is frequent keeps its right number, and no event is lost."""
    tally = BoundedTally(keys)
    one = found()
    for number in range(1000):
        tally.add(one, f"rare {number}")
        tally.add(one, "frequent")
        assert len(tally) <= keys
    (top, count), *_ = tally.top(1)
    assert (top, count.total) == (("frequent",), 1000)
    assert tally.others + sum(count.total for _, count in tally.top(keys)) == 2000


def test_a_line_that_is_none() -> None:
    """What cannot be read raises what is wrong with it, for the caller to count."""
    with pytest.raises(ValueError, match="half a line"):
        find(Entry(file="log", line=1, size=0, fault="half a line"), EVALUATOR)
