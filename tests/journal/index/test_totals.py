"""Totals, and the plans of all queries: none reads a whole table."""

import sqlite3
from collections import Counter
from contextlib import closing
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from sidecar.journal.index import Dimension, Search, open_index, searching, totals
from sidecar.journal.index.searching import BY_TIME, BY_WORDS
from sidecar.journal.index.store import open_reader
from tests.journal.index.records import BEGIN, NOW, indexed, read_journal, record, write_segment


def traffic() -> list[dict[str, Any]]:
    """Return the records of four hours: some of each kind, and many peers in the second hour."""
    made = [
        record(at=60 * number, meta_disposition=("relayed", "rejected_at_rcpt")[number % 2], meta_count=1 + number % 3)
        for number in range(240)
    ]
    made += [
        record(at=3600 + number, peer_address={"name": "x", "addr": f"10.0.{number // 250}.{number % 250}"})
        for number in range(1000)
    ]
    made += [
        record("OOB", at=100, bounce_classification="SpamBlock", meta_verified="none", recipient="x@bounced.example"),
        record("Reception", at=100, meta_verified="none", meta_disposition="logged_and_dropped"),
        record("Feedback", at=100, feedback_report={"feedback_type": "Abuse", "reporting_mta": {"name": "r.example"}}),
        record("Delivery", at=100),
        record("Delivery", at=4.5 * 3600, meta_disposition=None),
    ]
    return made


def top(folder: Path, dimension: Dimension, hours: float = 24) -> tuple[dict[str, int], int]:
    with closing(open_index(indexed(folder))) as index:
        found = index.top(dimension, since=BEGIN, until=BEGIN + hours * 3600, limit=3)
    assert found.total == sum(count for _, count in found.values) + found.others
    return dict(found.values), found.others


def test_top(tmp_path: Path) -> None:
    made = indexed(tmp_path)
    write_segment(made, 1, traffic())
    read_journal(made)
    counted = sum(1 + number % 3 for number in range(240))
    assert top(tmp_path, "type") == ({"Rejection": 1000 + counted, "Delivery": 2, "Feedback": 1}, 2)
    assert top(tmp_path, "bounce_class") == ({"SpamBlock": 1}, 0)
    assert top(tmp_path, "feedback_type") == ({"abuse": 1}, 0)
    assert top(tmp_path, "verified") == ({"none": 1}, 0)
    assert top(tmp_path, "reporter") == ({"mx.peer.example": 1, "r.example": 1}, 0)
    assert top(tmp_path, "domain") == ({"recipient.example": 1000 + counted + 2}, 0)
    assert top(tmp_path, "reason") == ({"<ip> is no relay host": 1000 + counted}, 0)
    peers, others = top(tmp_path, "peer")
    assert next(iter(peers.items())) == ("192.0.2.1", counted + 2)
    assert others == 998
    with closing(sqlite3.connect(made.index_file)) as database:
        query = "SELECT max(values_) FROM (SELECT count(*) AS values_ FROM total GROUP BY dimension, step, bucket)"
        assert database.execute(query).fetchone() == (totals.KEPT_VALUES + 1,)


@pytest.mark.parametrize("step", [300, 900, 3600, 7200])
def test_series(tmp_path: Path, step: int) -> None:
    """Each bucket has the counts of its time, also those without records."""
    made = indexed(tmp_path)
    records = traffic()
    write_segment(made, 1, records)
    read_journal(made)
    expected = dict[int, Counter[str]]()
    for one in records:
        if one["type"] != "OOB" and one["meta"]["disposition"]:
            bucket = expected.setdefault(one["timestamp"] // step * step, Counter())
            bucket[one["meta"]["disposition"]] += one["meta"].get("count", 1)
    with closing(open_index(made)) as index:
        found = index.totals(since=BEGIN, until=NOW, step=step)
    assert [one.begin for one in found] == [*range(BEGIN // step * step, NOW, step)]
    assert {one.begin: one.counts for one in found if one.counts} == expected


def test_what_is_old(tmp_path: Path) -> None:
    """Fine buckets stay for two days, and the others as long as records."""
    made = indexed(tmp_path, age=5 * 86400)
    write_segment(made, 1, traffic())

    def steps(now: int) -> dict[int, int]:
        read_journal(made, now=now)
        with closing(sqlite3.connect(made.index_file)) as database:
            return dict(database.execute("SELECT step, count(DISTINCT bucket) FROM total GROUP BY step").fetchall())

    assert steps(NOW) == {300: 49, 3600: 5}
    assert steps(BEGIN + 3 * 86400) == {3600: 5}
    assert steps(BEGIN + 6 * 86400) == {}


@pytest.mark.parametrize(
    ("query", "values", "steps"),
    [
        (BY_WORDS, ('"tOOB"', 0, 1), ["SCAN word VIRTUAL TABLE INDEX", "SEARCH record USING INTEGER PRIMARY KEY"]),
        (BY_TIME, (0, 1), ["SEARCH record USING INTEGER PRIMARY KEY"]),
        (totals.SERIES_QUERY, (0, 300, 0, 1), ["SEARCH total USING PRIMARY KEY (dimension=? AND step=? AND bucket>?"]),
        (totals.SUM_QUERY, (0, 300, 0, 1), ["SEARCH total USING PRIMARY KEY (dimension=? AND step=? AND bucket>?"]),
        (totals.RANKING_QUERY, (0, 300, 0, 1, 1), ["SEARCH total USING PRIMARY KEY (dimension=? AND step=? AND bucket>?"]),
        ("SELECT max(key) FROM record", (), ["SEARCH record"]),
    ],
)
def test_plans(tmp_path: Path, query: str, values: tuple[object, ...], steps: list[str]) -> None:
    """No query reads a table from its beginning, and no search sorts what it finds."""
    made = indexed(tmp_path)
    write_segment(made, 1, traffic())
    read_journal(made)
    with open_reader(made.index_file) as database:
        plan = [row[3] for row in database.connection.execute(f"EXPLAIN QUERY PLAN {query}", values)]
    assert [one for one, expected in zip(plan, steps, strict=False) if one.startswith(expected)] == plan[: len(steps)]
    sorts = [one for one in plan[len(steps) :] if one.startswith("USE TEMP B-TREE")]
    assert plan[len(steps) :] == sorts
    assert not sorts or query == totals.RANKING_QUERY


def test_a_search_ends_in_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It returns what it has, and the next page continues there."""
    made = indexed(tmp_path)
    write_segment(made, 1, [record(at=number) for number in range(300)])
    read_journal(made)
    monkeypatch.setattr(searching, "_STEPS", 1000)
    # The time is over after some looks at the clock.
    monkeypatch.setattr("time.monotonic", partial(next, count()))
    wanted, before, pages, found = Search(peer_network="192.0.2.0/25"), None, 0, 0
    with open_reader(made.index_file) as database:
        while True:
            page = searching.search(database.connection, wanted, limit=10_000, before=before, seconds=5)
            found, pages = found + len(page.rows), pages + 1
            if page.before is None:
                break
            assert not page.complete
            assert before is None or page.before < before
            before = page.before
    assert (found, pages > 3) == (300, True)
