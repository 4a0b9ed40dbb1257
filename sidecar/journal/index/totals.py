"""Totals of records in time buckets, by dimension: what an overview shows without reading the rows.

Of each bucket all values are counted while it is filled. Later the most frequent ones stay, and the others are one value, `""`.
Owns what is counted under which name. The caller owns the transaction.
"""

import sqlite3
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from typing import Final, Literal, get_args

from msgspec import Struct

from sidecar.core.records.reason import INCOMING, NOT_LOGGED, shape_of_why
from sidecar.journal.index.row import SECOND, Row
from sidecar.journal.index.words import domain_of

Dimension = Literal["type", "disposition", "reason", "peer", "domain", "reporter", "bounce_class", "feedback_type", "verified"]
"""What records are counted by. `reason` is that of rejections, without the facts of one record; `domain` is the recipient's."""

STEPS: Final = (300, 3600)
"""The lengths of buckets in seconds."""
SCHEMA: Final = """
CREATE TABLE total (
  dimension INTEGER NOT NULL, step INTEGER NOT NULL, bucket INTEGER NOT NULL, value TEXT NOT NULL, count INTEGER NOT NULL,
  PRIMARY KEY (dimension, step, bucket, value)
) WITHOUT ROWID;
"""
KEPT_VALUES: Final = 100
"""The values of one bucket and dimension that stay."""
FINE_SECONDS: Final = 2 * 86400
"""For so long there are buckets of the shortest step."""
# A bucket that is being filled has more values: a flood can have any number of peers.
_OPEN_VALUES: Final = 10_000
# The longest range that is summed up from the shortest buckets: there are 72 of them in it.
_FINE_RANGE: Final = 6 * 3600
_NUMBERS: Final[Mapping[Dimension, int]] = {name: number for number, name in enumerate(get_args(Dimension))}
_TYPE, _DISPOSITION, _REASON, _PEER, _DOMAIN, _REPORTER, _BOUNCE_CLASS, _FEEDBACK_TYPE, _VERIFIED = _NUMBERS.values()

Key = tuple[int, int, str]
"""A dimension's number, the begin of a bucket of the shortest step, and a value."""


class TopValues(Struct, frozen=True, kw_only=True):
    """The most frequent values with their counts, the count of all others, and of all."""

    values: tuple[tuple[str, int], ...]
    others: int
    total: int


class Bucket(Struct, frozen=True, kw_only=True):
    """The counts by value of the time from `begin` on, in seconds since 1970."""

    begin: int
    counts: Mapping[str, int]


def bucket_of(row: Row) -> int:
    """Return the begin of the shortest bucket with a row."""
    return row.time // SECOND // STEPS[0] * STEPS[0]


def fine_buckets(database: sqlite3.Connection) -> set[int]:
    """Return the begin of all buckets of the shortest step that are stored."""
    query = "SELECT DISTINCT bucket FROM total WHERE dimension = ? AND step = ?"
    return {bucket for (bucket,) in database.execute(query, (_NUMBERS["type"], STEPS[0]))}


def count(rows: Iterable[Row]) -> Counter[Key]:
    """Count rows in their totals."""
    counts = dict[Key, int]()
    for row in rows:
        bucket, number = bucket_of(row), row.count
        for dimension, value in _values(row):
            if value:
                key = dimension, bucket, value
                counts[key] = counts.get(key, 0) + number
    return Counter(counts)


def _values(row: Row) -> list[tuple[int, str]]:
    values = [
        (_TYPE, row.type),
        (_BOUNCE_CLASS, row.bounce_class),
        (_FEEDBACK_TYPE, row.feedback_type),
        (_REPORTER, row.reporter),
    ]
    if row.type != "Reception" or row.disposition in NOT_LOGGED:
        values.append((_VERIFIED, row.verified))
    if row.type == "OOB":
        return values
    values.append((_DISPOSITION, row.disposition))
    if row.type in INCOMING:
        domain = domain_of(row.recipients[0]) if row.recipients else ""
        values += ((_PEER, row.peer), (_DOMAIN, domain))
        if row.type == "Rejection":
            reason = shape_of_why(row.reason, peer=row.peer, domain=domain, is_counted=row.count > 1)
            values.append((_REASON, reason))
    return values


def add(database: sqlite3.Connection, counts: Counter[Key], *, fine_from: int) -> None:
    """Add counts, which can be negative, to the buckets of all steps; before `fine_from` not to those of the shortest."""
    rows = Counter[tuple[int, int, int, str]]()
    for (dimension, bucket, value), count in counts.items():
        for step in STEPS if bucket >= fine_from else STEPS[1:]:
            rows[dimension, step, bucket // step * step, value] += count
    database.executemany(
        "INSERT INTO total VALUES (?, ?, ?, ?, ?) "
        "ON CONFLICT (dimension, step, bucket, value) DO UPDATE SET count = count + excluded.count",
        ((*key, count) for key, count in sorted(rows.items())),
    )


def fold(database: sqlite3.Connection, buckets: Collection[int], *, open_from: int) -> None:
    """Fold the rare values of the buckets in which these of the shortest step are into one value.

    Those that end after `open_from` are being filled, and can have more values.
    """
    for step in STEPS:
        for bucket in sorted({one // step * step for one in buckets}):
            limit = KEPT_VALUES if bucket + step <= open_from else _OPEN_VALUES
            for dimension in _NUMBERS.values():
                _fold_one(database, (dimension, step, bucket), limit)


def _fold_one(database: sqlite3.Connection, key: tuple[int, int, int], limit: int) -> None:
    one = "dimension = ? AND step = ? AND bucket = ?"
    (values,) = database.execute(f"SELECT count(*) FROM total WHERE {one}", key).fetchone()  # noqa: S608 - constant
    if values <= limit + 1:
        return
    query = f"SELECT value, count FROM total WHERE {one} AND value <> '' ORDER BY count DESC, value LIMIT -1 OFFSET ?"  # noqa: S608
    rare = database.execute(query, (*key, KEPT_VALUES)).fetchall()
    database.executemany(f"DELETE FROM total WHERE {one} AND value = ?", [(*key, value) for value, _ in rare])  # noqa: S608
    database.execute(
        "INSERT INTO total VALUES (?, ?, ?, '', ?) "
        "ON CONFLICT (dimension, step, bucket, value) DO UPDATE SET count = count + excluded.count",
        (*key, sum(count for _, count in rare)),
    )


def delete_before(database: sqlite3.Connection, oldest: int, *, newest: int) -> None:
    """Delete the buckets that begin before `oldest`, and those of the shortest step that are not kept until `newest`."""
    for step in STEPS:
        before = max(oldest, newest - FINE_SECONDS) if step == STEPS[0] else oldest
        for dimension in _NUMBERS.values():
            database.execute(
                "DELETE FROM total WHERE dimension = ? AND step = ? AND bucket < ?", (dimension, step, before - step)
            )


SERIES_QUERY: Final = """SELECT bucket, value, count FROM total
    WHERE dimension = ? AND step = ? AND bucket >= ? AND bucket < ? ORDER BY bucket"""
RANKING_QUERY: Final = """SELECT value, sum(count) AS counted FROM total
    WHERE dimension = ? AND step = ? AND bucket >= ? AND bucket < ? AND value <> ''
    GROUP BY value HAVING counted > 0 ORDER BY counted DESC, value LIMIT ?"""
SUM_QUERY: Final = "SELECT coalesce(sum(count), 0) FROM total WHERE dimension = ? AND step = ? AND bucket >= ? AND bucket < ?"


def series(database: sqlite3.Connection, dimension: Dimension, since: int, until: int, step: int) -> tuple[Bucket, ...]:
    """Return the buckets of a length in `STEPS`, or a multiple of one, from `since` to `until`; also those without records."""
    stored = max(one for one in STEPS if step % one == 0)
    first = since // step * step
    counts: dict[int, Counter[str]] = {begin: Counter() for begin in range(first, until, step)}
    for bucket, value, count in database.execute(SERIES_QUERY, (_NUMBERS[dimension], stored, first, until)):
        if count > 0:
            counts[bucket // step * step][value] += count
    return tuple(Bucket(begin=begin, counts=dict(one)) for begin, one in counts.items())


def ranking(database: sqlite3.Connection, dimension: Dimension, since: int, until: int, limit: int) -> TopValues:
    """Return the most frequent values from `since` to `until`, which are rounded to buckets.

    A value that was rare in some bucket is counted too low.
    """
    step = STEPS[0] if until - since <= _FINE_RANGE else STEPS[-1]
    key = (_NUMBERS[dimension], step, since // step * step, until)
    top = tuple(database.execute(RANKING_QUERY, (*key, limit)).fetchall())
    (total,) = database.execute(SUM_QUERY, key).fetchone()
    return TopValues(values=top, others=total - sum(count for _, count in top), total=total)
