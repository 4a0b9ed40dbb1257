"""The list in the database is the one that the journal says, whatever is killed or damaged."""

import os
import random
import shutil
import signal
import sqlite3
import time
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from sidecar.core.settings.settings import Settings
from sidecar.core.settings.suppression import SuppressionRule
from sidecar.core.suppressed import ListQuery
from sidecar.journal.database import StoreError
from sidecar.journal.read import Checkpoints
from sidecar.suppression import READER, segments
from sidecar.suppression import consumer as module
from sidecar.suppression.building import Builder
from sidecar.suppression.consumer import Consumer, follow
from sidecar.suppression.locking import BusyError, locked
from sidecar.suppression.opening import open_reader, open_store
from sidecar.suppression.store import Database
from tests.suppression.journals import NOW, computed, consume, in_child, list_of, stored, sweep, with_list, write_segment
from tests.suppression.records import BEGIN, DAY, change, feedback, oob

WORDS = ("abuse", "InvalidRecipient", "QuotaIssues", "QuotaIssues", "InactiveMailbox", "SpamBlock")


def some_records(number: int, seed: int) -> list[dict[str, Any]]:
    """Return reports and changes for few addresses."""
    chance = random.Random(seed)  # noqa: S311 - repeatable
    made = []
    for index in range(number):
        address, day, word = f"u{chance.randrange(number // 2)}@example.net", chance.randrange(60) / 4, chance.choice(WORDS)
        if index % 11 == 0:
            made.append(change(address, chance.choice(["add", "remove"]), day=day, reason="by hand", expires=0))
        elif word == "abuse":
            made.append(feedback(address, day=day))
        else:
            made.append(oob(address, word, day=day))
    return made


def filled(folder: Path, segments: int = 3, size: int = 60, **more: Any) -> Settings:
    """Return settings with a journal; the last segment is still being written."""
    made = with_list(folder, **more)
    for number in range(segments):
        write_segment(made, number, some_records(size, number), finished=number < segments - 1)
    return made


def done_of(store: Database) -> set[str]:
    return {path for path, mark in store.marks().items() if mark.done}


def test_equal_to_the_journal(tmp_path: Path) -> None:
    made = filled(tmp_path)
    consume(made)
    assert stored(made) == computed(made)
    assert len(stored(made)) > 10
    # Read again, with what was written meanwhile.
    write_segment(made, 2, some_records(40, 9), finished=True)
    consume(made)
    assert stored(made) == computed(made)
    with open_reader(list_of(made)) as store:
        assert len(done_of(store)) == 3
        counted = store.counters()
        assert counted["reports"] + counted["changes"] + counted["no_rule"] == 220


def test_killed_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SIGKILL at any statement of any run: no report is lost, and none counts twice."""
    made = filled(tmp_path)
    monkeypatch.setattr(segments, "_BATCH", 20)
    kills = 0
    checkpoints = Checkpoints(tmp_path / "checkpoints")
    for at in [*range(1, 60, 4), *range(60, 400, 20)]:
        if kills % 4 == 3:  # a new one, because little is left to read
            checkpoints.remove(READER)
            for ending in ("", "-wal", "-shm"):
                Path(f"{list_of(made).database}{ending}").unlink(missing_ok=True)
        died = in_child(partial(consume_and_die, made, at))
        assert died in {0, -signal.SIGKILL}
        kills += died == -signal.SIGKILL
        with open_store(list_of(made)) as store:
            # Retention deletes only what is in the list.
            assert {path for path, mark in checkpoints.load(READER).segments.items() if mark.done} <= done_of(store)
    assert kills > 14
    consume(made)
    assert stored(made) == computed(made)
    with open_reader(list_of(made)) as store:
        assert sum(store.counters().values()) == 180


def consume_and_die(made: Settings, statements: int) -> None:
    """Read the journal until so many statements of SQL have begun."""

    def opened(settings: Any) -> Database:
        store = open_store(settings)
        left = statements

        def count(_: str) -> None:
            nonlocal left
            left -= 1
            if not left:
                os.kill(os.getpid(), signal.SIGKILL)

        store._database.set_trace_callback(count)
        return store

    vars(module)["open_store"] = opened  # in the child
    consume(made)


def test_torn_write_ahead_log(tmp_path: Path) -> None:
    """A power cut can leave any part of the log behind the last sync: the list follows from the rest."""
    made = with_list(tmp_path / "a")
    consume(made)  # a new list has no log
    filled(tmp_path / "a")
    crashed = tmp_path / "crashed"

    def copy(_: Consumer) -> None:
        crashed.mkdir()
        for ending in ("", "-wal"):
            shutil.copy(f"{list_of(made).database}{ending}", crashed / f"list.db{ending}")

    consume(made, then=copy)
    wal = (crashed / "list.db-wal").read_bytes()
    assert len(wal) > 10_000
    chance = random.Random(1)  # noqa: S311 - repeatable
    for length in [0, 31, *(chance.randrange(len(wal)) for _ in range(10)), len(wal)]:
        listed = replace(list_of(made), database=tmp_path / f"{length}" / "list.db")
        listed.database.parent.mkdir(exist_ok=True)
        shutil.copy(crashed / "list.db", listed.database)
        torn = bytearray(wal[:length])
        if length > 5000:
            torn[-300:-200] = bytes(100)
        Path(f"{listed.database}-wal").write_bytes(torn)
        again = replace(made, suppression=listed)
        consume(again)
        assert stored(again) == computed(again)


@pytest.mark.parametrize("damage", ["garbage", "truncated", "entry", "property", "empty"])
def test_damaged_database(tmp_path: Path, damage: str) -> None:
    """It is set aside, and a new one is made of the journal and of what can be read."""
    made = filled(tmp_path)
    old = write_segment(made, 50, [feedback("old@example.net")])
    consume(made)
    expected = stored(made)
    old.unlink()
    path = list_of(made).database
    content = bytearray(path.read_bytes())
    # A reader leaves an empty one.
    assert not Path(f"{path}-wal").stat().st_size
    match damage:
        case "garbage":
            content[:] = b"no database" * 1000
        case "truncated":
            del content[len(content) // 2 :]
        case "entry" | "property":
            # The root page of a table; the events can be read.
            with closing(sqlite3.connect(path)) as database:
                (root,) = database.execute("SELECT rootpage FROM sqlite_schema WHERE name = ?", (damage,)).fetchone()
            content[(root - 1) * 4096 : root * 4096] = bytes(range(256)) * 16
        case _:
            content.clear()
    path.write_bytes(content)
    consume(made)
    found = stored(made)
    if damage == "entry":
        assert found == expected
    assert {**found, "old@example.net": expected["old@example.net"]} == expected
    assert (len(list(tmp_path.glob("list.db.damaged-*[0-9]"))) == 1) == (damage != "empty")


def test_each_damaged_page(tmp_path: Path) -> None:
    """Whatever page is damaged, the process makes the list again."""
    made, now = filled(tmp_path), int(time.time())
    follow(made, lambda seconds: seconds > 0)
    expected, path = stored(made, now), list_of(made).database
    whole = path.read_bytes()
    for at in range(0, len(whole), 4096):
        path.write_bytes(whole[:at] + bytes(range(255, -1, -1)) * 16 + whole[at + 4096 :])
        follow(made, lambda seconds: seconds > 0)
        assert stored(made, now) == expected, at
    assert list(tmp_path.glob("list.db.damaged-*[0-9]"))


def test_damage_found_in_use(tmp_path: Path) -> None:
    """The process makes a new list, and continues."""
    made = filled(tmp_path)
    consume(made)
    looks = 0

    def wait(_: float) -> bool:
        nonlocal looks
        looks += 1
        if looks == 3:
            database = list_of(made).database
            with closing(sqlite3.connect(database)) as other:
                other.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            database.write_bytes(b"x" * database.stat().st_size)
            write_segment(made, 51, [feedback("new@example.net")])
        return looks > 12

    follow(made, wait)
    now = int(time.time())
    assert stored(made, now) == computed(made, now)
    assert "new@example.net" in stored(made, now)
    assert len(list(tmp_path.glob("list.db.damaged-*[0-9]"))) == 1


def test_one_process_writes(tmp_path: Path) -> None:
    made = filled(tmp_path)
    with locked(list_of(made)), pytest.raises(BusyError), locked(list_of(made)):
        pass
    with locked(list_of(made)):
        follow(made, lambda _: True)  # ends without the lock
    assert not list_of(made).database.exists()


def test_new_rules(tmp_path: Path) -> None:
    """Other rules decide on what is stored, and on the whole journal."""
    made = filled(tmp_path)
    consume(made)
    rules = (SuppressionRule(when=("SpamBlock", "InvalidRecipient"), expire=15 * DAY),)
    other = replace(made, suppression=replace(list_of(made), rule=rules))
    consume(other)
    assert stored(other) == computed(other) != computed(made)
    consume(made)
    assert stored(made) == computed(made)


def test_kept_without_its_journal(tmp_path: Path) -> None:
    """An entry stays when retention has deleted its segment, and when the rules have changed since."""
    made = with_list(tmp_path)
    segment = write_segment(made, 0, [feedback("a@example.net"), oob("b@example.net", "BadDomain")])
    consume(made)
    segment.unlink()
    consume(made)
    consume(replace(made, suppression=replace(list_of(made), rule=(SuppressionRule(when=("abuse",), expire=99 * DAY),))))
    with open_reader(list_of(made)) as store:
        assert [(one.address, one.expires) for one in store.entries(NOW)] == [("a@example.net", BEGIN + 99 * DAY)]
        assert not store.marks()
    assert not Checkpoints(tmp_path / "checkpoints").load(READER).segments


def test_expiry_deletes(tmp_path: Path) -> None:
    """Nothing of an address stays in the database, its log and a new copy when its entry and its changes have ended."""
    made = with_list(tmp_path, rule=(SuppressionRule(when=("BadDomain", "QuotaIssues"), count=1, within=DAY, expire=30 * DAY),))
    now = int(time.time())
    today = (now - BEGIN) / DAY
    write_segment(
        made, 0, [oob("gone@example.net", "BadDomain", day=today), oob("stays@example.net", "BadDomain", day=today + 15)]
    )
    copy = tmp_path / "copy.db"
    times = [now]

    def holds(later: int) -> list[bool]:
        for hours in (30, 10, 0):  # longer than the pause after the clock was set forward
            times.append(now + later - hours * 3600)
            consumer._sweep_at = 0.0
            consumer._tidy()
        consumer.database.backup(copy)
        files = [list_of(made).database, Path(f"{list_of(made).database}-wal"), copy]
        content = b"".join(path.read_bytes() for path in files)
        copy.unlink()
        return [b"gone@example.net" in content, b"stays@example.net" in content]

    with locked(list_of(made)), Consumer(made, clock=lambda: times[-1]) as consumer:
        consumer.read_new()
        # Other programs can ask for a change for a week.
        assert holds(31 * DAY) == [True, True]
        assert holds(39 * DAY) == [False, True]


def test_a_clock_that_was_wrong(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """A clock that is a year ahead for some hours deletes nothing, and the log warns once."""
    made = with_list(tmp_path)
    write_segment(made, 0, some_records(60, 0))
    consume(made, then=Consumer._tidy)
    expected = stored(made)
    for hours in (0, 1, 20):
        consume(made, now=NOW + 365 * DAY + hours * 3600, then=Consumer._tidy)
    assert stored(made, NOW + 365 * DAY) != expected
    assert capfd.readouterr().err.count("the clock was set forward") == 1
    consume(made, then=Consumer._tidy)
    assert stored(made) == expected
    sweep(made, NOW + 365 * DAY)
    assert stored(made) != expected


def test_hashed(tmp_path: Path) -> None:
    """No address is in the file, and each can be found; with another key the list is not used."""
    made = filled(tmp_path, store="hashed")
    consume(made)
    expected = computed(made)
    with open_reader(list_of(made)) as store:
        assert all(store.find(address, NOW) for address in expected)
        assert store.find("free@example.net", NOW) is None
        assert len(list(store.entries(NOW))) == len(expected)
    assert b"@example" not in list_of(made).database.read_bytes()
    key = Path(f"{list_of(made).database}.key")
    assert key.stat().st_mode & 0o777 == 0o600
    key.write_bytes(bytes(32))
    with pytest.raises(StoreError, match="another key"):
        consume(made)
    with pytest.raises(StoreError, match="another key"):
        open_reader(list_of(made))  # it would say of each address that it is not on the list
    with pytest.raises(StoreError, match="another `store`"):
        consume(replace(made, suppression=replace(list_of(made), store="plain")))
    key.unlink()
    with pytest.raises(StoreError, match="is missing"):
        consume(made)
    with pytest.raises(StoreError, match="is missing"):
        open_reader(list_of(made))
    assert not key.exists()  # another one would hide that it has to be restored


def test_no_page_is_mapped(tmp_path: Path) -> None:
    """A mapped file that is cut off while it is read kills the process (SIGBUS)."""
    made = filled(tmp_path)
    consume(made)
    for opened in (open_store, open_reader):
        with opened(list_of(made)) as store:
            assert list(store.entries(NOW))
            maps = Path("/proc/self/maps").read_text()
            assert "list.db-shm\n" in maps
            assert "list.db\n" not in maps


def test_search(tmp_path: Path) -> None:
    """By pages, by the beginning of an address, and by domain."""
    made = with_list(tmp_path)
    addresses = [f"{name}{number}@{domain}" for name in "ab" for number in range(300) for domain in ("x.test", "y.x.test")]
    write_segment(made, 0, map(feedback, addresses))
    consume(made)
    with open_reader(list_of(made)) as store:
        assert [one.address for one in store.entries(NOW)] == sorted(addresses)
        assert [one.address for one in store.entries(NOW, ListQuery(prefix="a1"))] == sorted(
            one for one in addresses if one.startswith("a1")
        )
        assert len(list(store.entries(NOW, ListQuery(domain="x.test")))) == 600
        first = [one.address for one in store.page(NOW, ListQuery(), 7).entries]
        assert first == sorted(addresses)[:7]
        assert [one.address for one in store.page(NOW, ListQuery(after=first[-1]), 2).entries] == sorted(addresses)[7:9]
        assert store.counts(NOW) == {("reports", "abuse"): 1200}


def test_backup_in_use(tmp_path: Path) -> None:
    """A copy of a list that is being written is whole, and can take its place."""
    made = filled(tmp_path)

    def back_up(consumer: Consumer) -> None:
        consumer.database._database.execute("BEGIN IMMEDIATE")
        consumer.database._database.execute("DELETE FROM entry")
        with open_reader(list_of(made)) as store:
            store.backup(tmp_path / "copy.db")
        consumer.database._database.execute("ROLLBACK")

    consume(made, then=back_up)
    for path in tmp_path.glob("list.db-*"):
        path.unlink()
    (tmp_path / "copy.db").rename(list_of(made).database)
    consume(made)
    assert stored(made) == computed(made)


def as_version_1(path: Path) -> None:
    """Make a database as the first version had it."""
    with closing(sqlite3.connect(path)) as database:
        database.executescript("""
            CREATE TABLE old (
              address TEXT NOT NULL, time INTEGER NOT NULL, id TEXT NOT NULL, kind TEXT NOT NULL, word TEXT NOT NULL,
              expires INTEGER NOT NULL, PRIMARY KEY (address, time, id, kind, word, expires)
            ) WITHOUT ROWID;
            INSERT INTO old SELECT address, time, id, kind, word, expires FROM event;
            DROP TABLE event;
            ALTER TABLE old RENAME TO event;
            DROP TABLE change;
            DROP TABLE node_state;
            DROP TABLE unpublished;
            ALTER TABLE entry DROP COLUMN nodes;
            DELETE FROM property WHERE name = 'changes_from';
            PRAGMA user_version = 1;
        """)


@pytest.mark.parametrize("work", ["use", "damaged", "rebuild"])
def test_version_1(tmp_path: Path, work: str) -> None:
    """A list without the ids of proofs becomes one with them, and loses nothing. New reports count once."""
    made = with_list(tmp_path)
    old = write_segment(made, 0, [oob("old@example.net", "BadDomain"), change("hand@example.net", "add", reason="by hand")])
    consume(made)
    expected = stored(made)
    assert len(expected) == 2
    as_version_1(list_of(made).database)
    old.unlink()
    with pytest.raises(StoreError, match="older version"):
        open_reader(list_of(made))
    repeats = [oob("full@example.net", "QuotaIssues", day=day, verified_ids=["message:a"]) for day in (0, 0.1, 1, 1.1, 2)]
    write_segment(made, 1, repeats)
    if work == "damaged":
        with locked(list_of(made)), Consumer(made, damaged="it is damaged", clock=lambda: NOW) as consumer:
            consumer.read_new()
    elif work == "rebuild":
        with locked(list_of(made)):
            assert Builder(made, clock=lambda: NOW).build("old").copied == 2
    else:
        consume(made)
    assert stored(made) == expected
    with open_reader(list_of(made)) as store:
        (event,) = store.history("full@example.net")
    assert event.verified_ids == ("message:a",)


def test_newer_version(tmp_path: Path) -> None:
    made = filled(tmp_path)
    consume(made)
    with closing(sqlite3.connect(list_of(made).database)) as database:
        database.execute("PRAGMA user_version = 99")
    with pytest.raises(StoreError, match="newer version"):
        consume(made)
    with pytest.raises(StoreError, match="does not exist yet"):
        open_reader(replace(list_of(made), database=tmp_path / "none.db"))


def test_the_fault_in_the_status(tmp_path: Path) -> None:
    """`sidecar status` has the reason from the first failure until the list follows the journal again."""
    made = filled(tmp_path)
    follow(made, lambda seconds: seconds > 0)

    def faults() -> list[str]:
        return [one.fault for one in Checkpoints(made.checkpoints_directory).all_known()]

    assert faults() == [""]
    with pytest.raises(StoreError):
        follow(replace(made, suppression=replace(list_of(made), store="hashed")), lambda seconds: seconds > 0)
    assert "another `store`" in faults()[0]
    follow(made, lambda seconds: seconds > 0)
    assert faults() == [""]
