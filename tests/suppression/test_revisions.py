"""Changes since a revision: a copy that follows them is the list, and one that cannot gets an error."""

import sqlite3
import time
from contextlib import closing
from pathlib import Path

import pytest
from msgspec.structs import replace

from sidecar.core.settings.settings import Settings
from sidecar.core.suppressed import ListQuery, RevisionGoneError, ShownEntry
from sidecar.suppression.listing import shown
from sidecar.suppression.opening import open_reader, open_store
from sidecar.suppression.schema import MIGRATIONS
from tests.suppression.journals import consume, list_of, sweep, with_list, write_segment
from tests.suppression.records import BEGIN, DAY, change, feedback, oob
from tests.suppression.test_consumer import some_records

NOW = int(time.time())
TODAY = (NOW - BEGIN) / DAY


class Copy:
    """What another program keeps of a list: a page of all, and then the changes."""

    def __init__(self, made: Settings, now: int = NOW) -> None:
        self._list = list_of(made)
        with open_reader(self._list) as store:
            self.revision = store.revision
            self.entries = {one.address: shown(one.address, one) for one in store.entries(now)}

    def update(self, now: int = NOW, limit: int = 7) -> None:
        """Ask for changes until there are no more."""
        more = True
        with open_reader(self._list) as store:
            while more:
                found = store.changes(self.revision, now, limit)
                assert found.revision > self.revision or not found.changes
                assert len({one.address for one in found.changes}) == len(found.changes) <= limit
                for one in found.changes:
                    self.entries.pop(one.address, None)
                    if one.entry is not None:
                        self.entries[one.address] = one.entry
                self.revision, more = found.revision, found.more

    def differs(self, now: int = NOW) -> dict[str, tuple[ShownEntry | None, ShownEntry | None]]:
        """Return the entries of the list and of the copy that differ."""
        with open_reader(self._list) as store:
            stored = {one.address: shown(one.address, one) for one in store.entries(now)}
        both = stored.keys() | self.entries.keys()
        return {one: (stored.get(one), self.entries.get(one)) for one in both if stored.get(one) != self.entries.get(one)}


def test_a_copy_follows(tmp_path: Path) -> None:
    """Additions, removals and expiries reach it, in pages of any size."""
    made = with_list(tmp_path)
    write_segment(made, 0, [])
    consume(made)
    copy = Copy(made)
    for number in range(8):
        write_segment(made, number, some_records(60, seed=number))
        consume(made)
        copy.update(limit=1 + number)
        assert not copy.differs()
    assert copy.entries
    later = NOW + 400 * DAY
    assert copy.differs(later)  # some have ended
    sweep(made, later)
    copy.update(later)
    assert not copy.differs(later)


def test_an_older_list_in_its_place(tmp_path: Path) -> None:
    """A copy reads all again, also if nothing says any more what the older list lacks; the same list is no older one."""
    made = with_list(tmp_path)
    write_segment(made, 0, [feedback("a@x.test", day=TODAY)])
    consume(made)
    backup = tmp_path / "backup"
    with open_reader(list_of(made)) as store:
        store.backup(backup)
    segment = write_segment(made, 1, [feedback("b@x.test", day=TODAY)])
    consume(made, now=NOW)
    segment.unlink()
    consume(made, now=NOW)
    copy = Copy(made)
    copy.update()
    for path in tmp_path.glob("list.db-*"):
        path.unlink()
    backup.rename(list_of(made).database)
    write_segment(made, 2, [feedback("c@x.test", day=TODAY)])
    consume(made, now=NOW + 10)
    with pytest.raises(RevisionGoneError):
        copy.update()
    copy = Copy(made)
    write_segment(made, 3, [feedback("d@x.test", day=TODAY)])
    consume(made, now=NOW + 20)
    copy.update()
    assert not copy.differs()


def test_a_new_list_after_the_clock_was_set_back(tmp_path: Path) -> None:
    """Its revisions are above those of the list before."""
    made = with_list(tmp_path)
    write_segment(made, 0, [feedback("a@x.test", day=TODAY)])
    consume(made, now=NOW + 3600)
    copy = Copy(made)
    for path in tmp_path.glob("list.db*"):
        if path.suffix != ".lock":
            path.unlink()
    consume(made, now=NOW)
    write_segment(made, 1, [feedback("b@x.test", day=TODAY)])
    consume(made, now=NOW + 7200)
    with pytest.raises(RevisionGoneError):
        copy.update()


def test_expiries_and_removals(tmp_path: Path) -> None:
    made = with_list(tmp_path)
    write_segment(made, 0, [feedback("a@x.test", day=TODAY), change("b@x.test", "add", day=TODAY, expires=NOW + DAY)])
    consume(made, now=NOW)
    copy = Copy(made)
    write_segment(made, 1, [change("a@x.test", "remove", day=TODAY)])
    sweep(made, NOW + 2 * DAY)
    copy.update(NOW + 2 * DAY)
    assert not copy.entries
    # A week later nothing of it is known any more, and a copy that is up to date needs no more.
    sweep(made, NOW + 10 * DAY)
    copy.update(NOW + 10 * DAY)
    with open_reader(list_of(made)) as store, pytest.raises(RevisionGoneError):
        store.changes(copy.revision - 1, NOW, 10)
    with closing(sqlite3.connect(list_of(made).database)) as database:
        assert database.execute("SELECT count(*) FROM change").fetchone() == (0,)


def test_a_report_that_changes_nothing_is_no_change(tmp_path: Path) -> None:
    made = with_list(tmp_path)
    write_segment(made, 0, [feedback("a@x.test", day=1), oob("b@x.test", "QuotaIssues", day=1)])
    consume(made)
    copy = Copy(made)
    write_segment(made, 1, [feedback("a@x.test", day=2), oob("b@x.test", "QuotaIssues", day=2)])
    consume(made)
    with open_reader(list_of(made)) as store:
        assert store.revision == copy.revision


def test_other_databases(tmp_path: Path) -> None:
    """A new database knows none of the earlier changes; nor does one that was restored."""
    made = with_list(tmp_path)
    write_segment(made, 0, [change("a@x.test", "add", day=1)])
    consume(made)
    with open_reader(list_of(made)) as store:
        store.backup(tmp_path / "backup.db")
    write_segment(made, 1, [change("a@x.test", "remove", day=2), change("b@x.test", "add", day=1)])
    consume(made)
    copy = Copy(made)
    (tmp_path / "backup.db").rename(list_of(made).database)
    with open_reader(list_of(made)) as store, pytest.raises(RevisionGoneError):
        store.changes(copy.revision, NOW, 10)  # a later one than it has
    with open_reader(list_of(made)) as store, pytest.raises(RevisionGoneError):
        store.changes(10**20, NOW, 10)  # more than a database can have
    old = Copy(made)
    consume(made)
    with pytest.raises(RevisionGoneError):
        old.update()
    assert Copy(made).entries.keys() == {"b@x.test"}
    list_of(made).database.unlink()
    consume(made)
    with open_reader(list_of(made)) as store, pytest.raises(RevisionGoneError):
        store.changes(old.revision, NOW, 10)


def test_a_database_of_the_first_version(tmp_path: Path) -> None:
    """It is converted, and knows the changes from then on."""
    made = with_list(tmp_path)
    path = list_of(made).database
    with closing(sqlite3.connect(path)) as database:
        database.executescript(MIGRATIONS[0])
        database.executescript("PRAGMA user_version = 1; INSERT INTO property VALUES ('store', 'plain')")
        database.execute("INSERT INTO entry VALUES ('a@x.test', 'abuse', 'reports', 1, 0, '[]')")
        database.commit()
    open_store(list_of(made)).close()
    copy = Copy(made)
    assert copy.entries.keys() == {"a@x.test"}
    write_segment(made, 0, [feedback("b@x.test")])
    consume(made)
    copy.update()
    assert copy.entries.keys() == {"a@x.test", "b@x.test"}


def test_pages_of_few_wanted_entries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A page is bounded by the rows that are read: it can be short or empty, and the pages together have all."""
    monkeypatch.setattr("sidecar.suppression.listing._READ_LIMIT", 10)
    made = with_list(tmp_path)
    write_segment(made, 0, [*(feedback(f"a{number:03}@x.test") for number in range(45)), feedback("z@y.test")])
    consume(made)
    wanted, found, pages = ListQuery(domain="y.test", reason="abuse"), list[str](), 0
    after: str | None = ""
    with open_reader(list_of(made)) as store:
        while after is not None:
            page = store.page(NOW, replace(wanted, after=after), 5)
            found += [one.address for one in page.entries]
            after, pages = page.after, pages + 1
        assert (found, pages) == (["z@y.test"], 5)
        found = [one.address for one in store.entries(NOW, ListQuery(prefix="a04"))]
        assert found == [f"a{number:03}@x.test" for number in range(40, 45)]
        assert len(list(store.entries(NOW))) == 46
