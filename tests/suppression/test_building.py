"""A new list that is made at once is the one that is made record by record, and takes the place of the old one as a whole."""

import errno
import os
import resource
import signal
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.core.settings.settings import Settings
from sidecar.core.suppressed import RevisionGoneError
from sidecar.journal.database import StoreError
from sidecar.journal.read import Checkpoints
from sidecar.suppression import READER, building, opening, segments, sorting, store
from sidecar.suppression.building import Builder, EndedError, ProgressBar
from sidecar.suppression.consumer import follow
from sidecar.suppression.locking import locked
from sidecar.suppression.opening import open_reader, open_store
from sidecar.suppression.reading import Reader
from tests.suppression.journals import NOW, computed, consume, in_child, list_of, stored, with_list, write_segment
from tests.suppression.records import DAY, change, feedback, oob
from tests.suppression.test_consumer import filled, some_records

ADDRESSES = st.sampled_from(["a@x.test", "b@x.test", "B@x.test", "\u00fc@x.test", "~@x.test", "no address"])
DAYS = st.integers(0, 60).map(lambda quarter: quarter / 4)
IDS = st.lists(st.sampled_from(["message:a", "message:b", "address:a"]), max_size=2, unique=True)
REPORTS = st.builds(
    lambda address, word, day, ids: oob(address, word, day=day, verified_ids=ids),
    ADDRESSES,
    st.sampled_from(["InvalidRecipient", "QuotaIssues", "SpamBlock"]),
    DAYS,
    IDS,
)
COMPLAINTS = st.builds(lambda address, day: feedback(address, day=day), ADDRESSES, DAYS)
CHANGES = st.builds(
    lambda address, action, day, expires: change(address, action, day=day, reason="x", expires=expires),
    ADDRESSES,
    st.sampled_from(["add", "remove"]),
    DAYS,
    st.sampled_from([0, NOW - DAY, NOW + DAY]),
)
JOURNALS = st.lists(st.lists(st.one_of(REPORTS, COMPLAINTS, CHANGES), max_size=25), min_size=1, max_size=3)


def build(made: Settings, *, copy: bool = True, **more: Any) -> building.Built:
    """Make a new list of the journal and of the present list."""
    with locked(list_of(made)):
        return Builder(made, clock=lambda: NOW, **more).build("old", copy=copy)


def tables(path: Path) -> dict[str, list[tuple[Any, ...]]]:
    """Return the rows of a database that do not depend on when it was made, and the names of its indexes."""
    with closing(sqlite3.connect(path)) as database:
        assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        queries = {name: f"SELECT * FROM {name}" for name in ("event", "entry", "segment", "node_state")}  # noqa: S608 - constant
        queries["sqlite_schema"] = "SELECT type, name, sql FROM sqlite_schema ORDER BY name"
        queries["property"] = "SELECT * FROM property WHERE name NOT IN ('changes_from', 'filter')"
        return {name: database.execute(query).fetchall() for name, query in queries.items()}


def left(made: Settings) -> set[str]:
    """Return the endings of the files beside the list, without those of a database in use."""
    path = list_of(made).database
    return {one.name.removeprefix(path.name) for one in path.parent.glob(f"{path.name}.*")} - {".lock", ".key", ".sweep"}


@settings(deadline=None, max_examples=60)
@given(journal=JOURNALS, together=st.integers(1, 4), hashed=st.booleans())
def test_as_record_by_record(
    journal: list[list[dict[str, Any]]], together: int, hashed: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """The same events, entries, counts and marks; also if the list is made of itself and of the journal."""
    folder = tmp_path_factory.mktemp("lists")
    made = with_list(folder, store="hashed" if hashed else "plain")
    database = list_of(made).database
    for number, records in enumerate(journal):
        write_segment(made, number, records, finished=number % 2 == 0)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(segments, "_BATCH", 1)
        open_store(list_of(made)).close()
        consume(made)
        expected = tables(database)
        patched.setattr(building, "_TOGETHER", together)
        patched.setattr(segments, "_BATCH", together)
        build(made, copy=False)
        assert tables(database) == expected
        build(made)
        assert tables(database) == expected
    if not hashed:
        assert stored(made) == computed(made)


def test_what_only_the_old_list_has(tmp_path: Path) -> None:
    """Its events stay if the journal has lost them, unless the new list is of the journal alone."""
    made = with_list(tmp_path)
    gone = write_segment(made, 0, [feedback("old@x.test"), change("hand@x.test", "add", reason="x"), *some_records(30, 1)])
    write_segment(made, 1, some_records(30, 2))
    consume(made)
    expected = stored(made)
    gone.unlink()
    assert build(made).copied > 20
    assert stored(made) == expected
    aside = build(made, copy=False).aside
    assert stored(made) == computed(made) != expected
    assert aside is not None
    assert tables(aside)["entry"]
    # Two new lists within a second: both old ones have names.
    assert len([one for one in left(made) if one.startswith(".old-") and one[-1].isdigit()]) == 2


def test_readers_have_the_old_list_meanwhile(tmp_path: Path) -> None:
    """Until the new list is complete, also if its database is damaged; retention deletes no segment before."""
    made = filled(tmp_path)
    consume(made)
    expected = stored(made)
    write_segment(made, 7, [feedback("new@x.test")])
    seen = []

    @contextmanager
    def show(things: str, total: int) -> Iterator[ProgressBar]:
        class Shown:
            def set(self, size: int, count: int) -> None:
                assert count <= size <= total
                assert stored(made) == expected
                assert not Checkpoints(made.checkpoints_directory).load(READER).segments
                seen.append((things, size == total))

        yield Shown()

    build(made, show=show)
    assert stored(made).keys() - expected.keys() == {"new@x.test"}
    assert {("reports", True), ("events", True)} <= {*seen}
    consume(made)
    assert len(Checkpoints(made.checkpoints_directory).load(READER).segments) == 4


def test_copies_read_all_again(tmp_path: Path) -> None:
    """Revisions of the old list are not those of the new one, also if the clock was set back meanwhile."""
    made = filled(tmp_path)
    consume(made, now=int(time.time()) + 3600)
    write_segment(made, 8, [feedback("later@x.test")])
    consume(made, now=int(time.time()) + 7200)
    with open_reader(list_of(made)) as database:
        revision = database.revision
    build(made)
    with open_reader(list_of(made)) as database:
        assert database.revision > revision
        with pytest.raises(RevisionGoneError):
            database.changes(revision, NOW, 10)
        assert not database.changes(database.revision, NOW, 10).changes


def test_ended_before_it_is_complete(tmp_path: Path) -> None:
    """The old list stays, and nothing else is left."""
    made = filled(tmp_path)
    consume(made)
    expected, calls = tables(list_of(made).database), 0

    def wait(_: float) -> bool:
        nonlocal calls
        calls += 1
        return calls > ends

    ends = 0
    with pytest.raises(EndedError):
        build(made, wait=wait)
    assert (tables(list_of(made).database), left(made)) == (expected, set())
    list_of(made).database.unlink()
    for some in (1, 2, 3):
        calls, ends = 0, some
        follow(made, wait)
        assert not list_of(made).database.exists()
    calls, ends = 0, 9
    follow(made, wait)
    assert stored(made, int(time.time())) == computed(made, int(time.time()))


@pytest.mark.parametrize("limit", [4096, 20_000, 60_000])
def test_a_full_disk(tmp_path: Path, limit: int) -> None:
    """The old list stays, nothing else is left, and the error has one sentence."""
    made = filled(tmp_path, segments=4, size=400)
    write_segment(made, 9, [feedback("first@x.test")])
    consume(made)
    expected = stored(made)

    def fill() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        vars(sorting)["_MEMORY"] = 16  # so that the events do not stay in memory
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
        try:
            build(made)
        except StoreError as error:
            assert str(list_of(made).database) in str(error)  # noqa: PT017 - in a child
        except OSError as error:
            assert error.errno == errno.EFBIG  # noqa: PT017 - in a child
        else:
            raise AssertionError("there was no limit")

    assert in_child(fill) == 0
    assert (stored(made), left(made)) == (expected, set())


def kill_at(number: int, work: Callable[[], object]) -> int:
    """Do work in a child, and kill it before a step: a statement of SQL, or a change of a file. Return its status."""
    steps = 0

    def step(statement: object = "", *_: object) -> None:
        nonlocal steps
        # Rows of one table are alike.
        steps += not str(statement).startswith(("INSERT INTO e", "SELECT"))
        if steps == number:
            os.kill(os.getpid(), signal.SIGKILL)

    def counting(call: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*arguments: Any, **named: Any) -> Any:
            step(arguments[0])
            return call(*arguments, **named)

        return counted

    def child() -> None:
        connect = sqlite3.connect

        def connected(*arguments: Any, **named: Any) -> sqlite3.Connection:
            database: sqlite3.Connection = connect(*arguments, **named)
            database.set_trace_callback(step)
            return database

        for module in (store, opening, sorting):
            vars(module)["sqlite3"] = type("Traced", (), {**vars(sqlite3), "connect": staticmethod(connected)})
        for name in ("rename", "unlink"):
            setattr(Path, name, counting(getattr(Path, name)))
        for name in ("link", "fsync"):
            setattr(os, name, counting(getattr(os, name)))
        work()

    return in_child(child)


@pytest.mark.parametrize("present", ["old", "damaged", "none"])
def test_killed_anywhere(tmp_path: Path, present: str) -> None:
    """At any step of the work: readers have the old list or the new one, and the next start completes it."""
    made = with_list(tmp_path)
    database = list_of(made).database
    gone = write_segment(made, 0, [feedback("old@x.test"), *some_records(20, 1)])
    consume(made)
    gone.unlink()
    write_segment(made, 1, [feedback("new@x.test"), *some_records(20, 2)])
    old, content = stored(made), database.read_bytes()
    build(made, copy=present != "none")
    new = stored(made)
    assert old.keys() - new.keys() if present == "none" else new.keys() > {"old@x.test"}
    kills = 0
    # Those of the readers of a damaged database, and without one, are nearly the same.
    for number in range(1, 200, 1 if present == "old" else 4):
        for path in tmp_path.glob("list.db*"):
            path.unlink()
        if present != "none":
            database.write_bytes(content)
        if present == "damaged":
            damage(database)
        work = partial(build, made) if present == "old" else partial(consume, made)
        if (died := kill_at(number, work)) == 0:
            break
        assert died == -signal.SIGKILL
        kills += 1
        if present == "old":
            assert stored(made) in (old, new)
        consume(made)
        assert stored(made) == new, number
        assert all(one.startswith((".old-", ".damaged-")) for one in left(made)), number
    assert 8 < kills < 150, kills


def damage(path: Path) -> None:
    """Destroy the root page of the table of entries; the events can be read."""
    with closing(sqlite3.connect(path)) as database:
        (root,) = database.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'entry'").fetchone()
    content = bytearray(path.read_bytes())
    content[(root - 1) * 4096 : root * 4096] = bytes(range(256)) * 16
    path.write_bytes(content)


def test_many_reports_of_one_address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those in memory at once are few, however many there are."""
    made, most = with_list(tmp_path), 0
    write_segment(made, 0, [oob("a@x.test", "QuotaIssues", day=number / 1000) for number in range(5000)])
    reader = Builder(made)._reader
    kept = reader.rules.kept

    def watched(events: set[Any], now: int) -> set[Any]:
        nonlocal most
        most = max(most, len(events))
        return kept(events, now)

    monkeypatch.setattr(reader.rules, "kept", watched)
    monkeypatch.setattr(building, "_TOGETHER", 100)
    monkeypatch.setattr(Reader, "of", lambda _: reader)
    build(made)
    assert most < 200
    assert stored(made) == computed(made)
