"""The filter never denies an address that is on the list, and workers see each change."""

import os
import random
import sqlite3
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis.strategies import from_regex, text
from msgspec.structs import replace

from sidecar.core.session.suppressing import UnreadableListError
from sidecar.core.settings.settings import Settings
from sidecar.core.settings.suppression import SuppressionSettings
from sidecar.suppression import filter as module
from sidecar.suppression import opened, opening
from sidecar.suppression.consumer import Consumer
from sidecar.suppression.filter import AddressFilter, FilterWriter
from sidecar.suppression.filtering import filter_of
from sidecar.suppression.locking import locked
from sidecar.suppression.lookup import _PLAIN, Lookup, key_of
from sidecar.suppression.reading import normal_key
from sidecar.suppression.store import Database
from tests.mta.processes import wait_until
from tests.suppression.journals import NOW, computed, consume, in_child, list_of, with_list, write_segment
from tests.suppression.records import change, feedback

NUMBER = 5


def filled(shared: AddressFilter, keys: list[str], *, entries: int = 0) -> FilterWriter:
    """Build a filter of these addresses, and put it in use."""
    writer = FilterWriter(shared, NUMBER)
    writer.build(entries)
    for key in keys:
        writer.copy(key)
    writer.finish(NUMBER)
    return writer


def test_no_address_is_denied() -> None:
    """All that were added can be there; of 20,000 others at most a handful."""
    shared = AddressFilter()
    keys = [f"user{number}@example.net" for number in range(20_000)]
    assert shared.may_have("unknown@example.net", NUMBER)  # nothing is known yet
    writer = filled(shared, keys[:-1])
    assert not writer.is_full
    assert not shared.may_have("late@example.net", NUMBER)
    writer.add("late@example.net")
    assert shared.may_have("late@example.net", NUMBER)
    assert all(shared.may_have(key, NUMBER) for key in keys[:-1])
    assert sum(shared.may_have(f"other{number}@example.net", NUMBER) for number in range(20_000)) < 40
    assert shared.may_have("other1@example.net", NUMBER + 1)  # another database


def test_too_small() -> None:
    """A filter with too many addresses is full; one that is being built is given up."""
    shared = AddressFilter()
    many = [str(number) for number in range(40_000)]
    writer = filled(shared, many[:30_000])
    for key in many[30_000:]:
        writer.add(key)
    assert writer.is_full
    writer.build(0)
    for key in many:
        writer.copy(key)
    is_building = writer.is_building
    assert not is_building
    writer.build(len(many))
    for key in many:
        writer.copy(key)
    writer.finish(NUMBER + 1)
    assert not FilterWriter(shared, NUMBER + 1).is_full
    assert all(shared.may_have(key, NUMBER + 1) for key in many)


def test_added_while_another_is_built() -> None:
    shared = AddressFilter()
    writer = filled(shared, ["old"])
    writer.build(0)
    writer.add("new")
    assert shared.may_have("new", NUMBER)
    writer.copy("old")
    writer.finish(NUMBER + 1)
    assert all(shared.may_have(key, NUMBER + 1) for key in ("old", "new"))
    assert not shared.may_have("none", NUMBER + 1)


def test_replaced_while_it_is_read() -> None:
    """A reader is between two filters at any moment: it never denies an address that both have."""
    shared = AddressFilter()
    keys = [str(number) for number in range(50)]
    writer, denied, end = filled(shared, keys), list[str](), threading.Event()

    def read() -> None:
        while not end.is_set():
            denied.extend(key for key in keys if not shared.may_have(key, NUMBER))

    reader = threading.Thread(target=read)
    reader.start()
    for _ in range(300):
        writer.build(0)
        for key in keys:
            writer.copy(key)
        writer.finish(NUMBER)
    end.set()
    reader.join()
    assert not denied


def test_a_writer_that_was_killed() -> None:
    """What it has built is not used; what was in use stays, unless it was being replaced."""
    shared = AddressFilter()
    filled(shared, ["a"])

    def half(during: bool) -> None:
        writer = FilterWriter(shared, NUMBER)
        writer.build(0)
        writer.add("b")
        if during:
            writer._header[module._CHANGES] += 1

    assert in_child(partial(half, False)) == 0
    assert FilterWriter(shared, NUMBER).is_ready
    assert [shared.may_have(key, NUMBER) for key in "abc"] == [True, True, False]
    assert in_child(partial(half, True)) == 0
    assert all(shared.may_have(key, NUMBER) for key in "abc")
    assert not FilterWriter(shared, NUMBER).is_ready
    assert all(shared.may_have(key, NUMBER) for key in "abc")


# --- the filter of a database


def kept(made: Settings, shared: AddressFilter, *, build: bool = True) -> None:
    """Read the journal, and keep the filter, as the process of the list does."""
    with locked(list_of(made)), Consumer(made, clock=lambda: NOW, shared=shared) as consumer:
        consumer.read_new()
        while build and consumer.step_filter():
            pass


def asked(lookup: Lookup, made: Settings, *addresses: str) -> list[bool]:
    """Return what is found; the filter's answer must agree with it."""
    listed = list_of(made)
    found = [lookup.find(listed, address, NOW) is not None for address in addresses]
    assert all(lookup.may_have(listed, address) for address, one in zip(addresses, found, strict=True) if one)
    return found


@pytest.mark.parametrize("store", ["plain", "hashed"])
def test_the_list_by_its_filter(tmp_path: Path, store: Any) -> None:
    """Before it is built, while the list changes, after a restart, and for another file in its place."""
    made, shared = with_list(tmp_path, store=store), AddressFilter()
    lookup = Lookup(shared)
    with pytest.raises(UnreadableListError, match="does not exist yet"):
        lookup.find(list_of(made), "a@x.test", NOW)
    write_segment(made, 0, [feedback(f"a{number}@x.test") for number in range(3000)])
    kept(made, shared, build=False)
    assert asked(lookup, made, "a1@x.test", "A1@X.test.", "b1@x.test", "no address") == [True, True, False, False]
    assert lookup.may_have(list_of(made), "b1@x.test")
    kept(made, shared)
    assert asked(lookup, made, "a1@x.test", "b1@x.test") == [True, False]
    assert not lookup.may_have(list_of(made), "b1@x.test")
    write_segment(made, 1, [feedback("b1@x.test"), change("a1@x.test", "remove", day=5)])
    kept(made, shared, build=False)
    assert asked(lookup, made, "a1@x.test", "b1@x.test", "a2@x.test", "b2@x.test") == [False, True, True, False]
    assert not lookup.may_have(list_of(made), "b2@x.test")

    # Another list of the same name.
    for path in tmp_path.glob("list.db*"):
        if path.suffix != ".key":
            path.unlink()
    write_segment(made, 2, [feedback("b2@x.test")])
    kept(made, shared, build=False)
    assert asked(lookup, made, "a1@x.test", "b1@x.test", "b2@x.test", "b3@x.test") == [False, True, True, False]


@given(from_regex(_PLAIN, fullmatch=True) | text(alphabet='aA1.+_=-@\u212a\u00e9"<>[]:%', max_size=90))
def test_the_key_of_an_address(address: str) -> None:
    """The short way gives the same key, in any case."""
    for spelled in (address, address.upper(), f"<{address}>", f"{address}."):
        assert key_of(spelled) == normal_key(spelled)


def test_other_settings(tmp_path: Path) -> None:
    """A reload can name another database, or another `store`: the filter of the first one answers for no other."""
    made, shared = with_list(tmp_path), AddressFilter()
    write_segment(made, 0, [feedback("a@x.test")])
    kept(made, shared)
    lookup = Lookup(shared)
    assert asked(lookup, made, "a@x.test", "b@x.test") == [True, False]
    other = replace(made, suppression=replace(list_of(made), database=tmp_path / "other.db"))
    write_segment(made, 1, [feedback("b@x.test")])
    consume(other)
    assert lookup.may_have(list_of(other), "b@x.test")
    assert asked(lookup, other, "b@x.test") == [True]
    assert lookup.may_have(list_of(other), "c@x.test")
    hashed = replace(made, suppression=replace(list_of(made), store="hashed"))
    with pytest.raises(UnreadableListError, match="is missing"):
        lookup.find(list_of(hashed), "a@x.test", NOW)
    Path(f"{list_of(hashed).database}.key").write_bytes(bytes(32))
    with pytest.raises(UnreadableListError, match="another `store`"):
        lookup.find(list_of(hashed), "a@x.test", NOW)
    assert asked(lookup, made, "a@x.test") == [True]


def test_a_copy_is_in_the_filter_of_its_name(tmp_path: Path) -> None:
    """A restored copy can have entries that were removed since. Its filter has them, or is another one."""
    made, shared = with_list(tmp_path), AddressFilter()
    write_segment(made, 0, [feedback("a@x.test")])
    kept(made, shared)
    copy = list_of(made).database.read_bytes()
    write_segment(made, 1, [change("a@x.test", "remove", day=5)])
    kept(made, shared)
    lookup = Lookup(shared)
    assert asked(lookup, made, "a@x.test") == [False]
    with locked(list_of(made)), Consumer(made, clock=lambda: NOW, shared=shared) as consumer:
        before = filter_of(consumer.database)
        keeper = consumer._filter
        assert keeper is not None
        keeper._writer.build(10)
        while consumer.step_filter():
            pass
        assert filter_of(consumer.database) != before
    for path in tmp_path.glob("list.db-*"):
        path.unlink()
    fresh = tmp_path / "fresh"
    fresh.write_bytes(copy)
    fresh.rename(list_of(made).database)
    assert asked(Lookup(shared), made, "a@x.test") == [True]


def test_entries_of_a_command(tmp_path: Path) -> None:
    """A command does the work of the process of the list while that starts again: the filter has none of these entries."""
    made, shared = with_list(tmp_path), AddressFilter()
    write_segment(made, 0, [feedback("a@x.test")])
    kept(made, shared)
    lookup = Lookup(shared)
    assert asked(lookup, made, "a@x.test") == [True]
    write_segment(made, 1, [feedback("b@x.test")])
    consume(made)
    kept(made, shared, build=False)
    assert asked(lookup, made, "a@x.test", "b@x.test", "c@x.test") == [True, True, False]


def test_a_list_that_another_program_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Recipients that ask together wait once, and for a short time."""
    made, asking, waits = with_list(tmp_path), list[str](), list[float]()

    class Counted(Lookup):
        def may_have(self, settings: SuppressionSettings, address: str) -> bool:
            asking.append(address)
            return super().may_have(settings, address)

    def open_reader(settings: SuppressionSettings, *, wait: float) -> Database:
        waits.append(wait)
        wait_until(lambda: len(asking) == 20, "all others wait for this look-up")
        return opening.open_reader(settings, wait=0.01)

    def ask(number: int) -> str:
        with pytest.raises(UnreadableListError) as caught:
            lookup.find(list_of(made), f"{number}@x.test", NOW)
        return str(caught.value)

    lookup = Counted()
    write_segment(made, 0, [feedback("a@x.test")])
    consume(made)
    with closing(sqlite3.connect(list_of(made).database, isolation_level=None)) as other, ThreadPoolExecutor(20) as threads:
        other.execute("PRAGMA locking_mode = EXCLUSIVE")
        other.execute("BEGIN EXCLUSIVE")
        monkeypatch.setattr(opened, "open_reader", open_reader)
        assert all("database is locked" in why for why in threads.map(ask, range(20)))
    monkeypatch.undo()
    assert waits == [opening.ASKING_SECONDS]
    assert lookup.find(list_of(made), "a@x.test", NOW) is not None


def test_growth_while_the_list_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At any time each address of the list can be there, also in the filter that replaces a full one."""
    monkeypatch.setattr(module, "_SMALLEST", 64)
    made, shared, chance = with_list(tmp_path), AddressFilter(), random.Random(3)  # noqa: S311 - repeatable
    lookup = Lookup(shared)
    with locked(list_of(made)), Consumer(made, clock=lambda: NOW, shared=shared) as consumer:
        sizes = set()
        for number in range(12):
            addresses = [f"{chance.randrange(10**9)}@x.test" for _ in range(40 * (number + 1))]
            write_segment(made, number, map(feedback, addresses))
            consumer.read_new()
            consumer.step_filter()
            assert all(lookup.may_have(list_of(made), address) for address in computed(made))
            sizes.add(shared.header[module._MASK])
        while consumer.step_filter():
            pass
        assert asked(lookup, made, *computed(made)) == [True] * len(computed(made))
    assert len(sizes) > 3


def test_faults_are_logged_once_a_minute(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """A damaged list is unreadable, and used again after that; each minute has one line."""
    made, times = with_list(tmp_path), iter([0.0, 1.0, 59.0, 61.0])
    lookup = Lookup(clock=lambda: next(times))
    write_segment(made, 0, [feedback("a@x.test")])
    consume(made)
    database = list_of(made).database
    good = database.read_bytes()
    for ending in ("-wal", "-shm"):
        Path(f"{database}{ending}").unlink(missing_ok=True)
    for _ in range(4):
        database.write_bytes(os.urandom(len(good)))
        with pytest.raises(UnreadableListError, match=r"list\.db"):
            lookup.find(list_of(made), "a@x.test", NOW)
    assert capfd.readouterr().err.count("the suppression list cannot be read") == 2
    database.write_bytes(good)
    assert asked(lookup, made, "a@x.test") == [True]
