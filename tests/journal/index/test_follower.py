"""Following the journal: each record is in the index once, whatever is killed, cut off, packed, deleted or damaged."""

import json
import os
import signal
from collections import Counter
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path

import pytest
import zstandard
from msgspec.structs import replace

from sidecar import log
from sidecar.core.settings.settings import Settings
from sidecar.journal.database import file_of
from sidecar.journal.index import IndexUnavailableError, Search, open_index
from sidecar.journal.index import follower as following
from sidecar.journal.index.follower import CutOffError, IndexFollower
from sidecar.journal.index.keeping import IndexBusyError, follow, locked
from sidecar.journal.index.row import SECOND
from sidecar.journal.index.store import BY_OPERATOR, ask_for_rebuild
from tests.journal.index.records import BEGIN, NOW, indexed, read_journal, record, write_segment

EVERYTHING = Search()


def ids(made: Settings, wanted: Search = EVERYTHING) -> list[str]:
    """Return the ids of all records in the index, the oldest first; one that is indexed twice is returned twice."""
    with closing(open_index(made)) as index:
        return [row.id for row in reversed(index.search(wanted, limit=10_000).rows)]


def total(made: Settings) -> int:
    """Return how many records the totals count."""
    with closing(open_index(made)) as index:
        return index.top("type", since=BEGIN - 86400, until=NOW, limit=10).total


def numbered(first: int, count: int) -> list[dict[str, object]]:
    return [record(id=f"{number:032x}", at=number) for number in range(first, first + count)]


def names(first: int, count: int) -> list[str]:
    return [f"{number:032x}" for number in range(first, first + count)]


def killed_in(work: Callable[[], object]) -> bool:
    """Do something in a child process. Return True if it was killed."""
    if (pid := os.fork()) == 0:
        try:
            work()
        finally:
            os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL


STATEMENTS = ("INSERT INTO record", "INSERT INTO word", "INSERT INTO total", "UPDATE segment", "COMMIT")


@pytest.mark.parametrize("statement", STATEMENTS)
def test_killed_in_a_transaction(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, statement: str) -> None:
    """A process that is killed at some statement of some transaction leaves whole transactions: the next one continues."""
    made = indexed(tmp_path)
    write_segment(made, 1, numbered(0, 30))
    write_segment(made, 2, numbered(30, 25), finished=False)
    monkeypatch.setattr(following, "_BATCH", 7)
    for transaction in range(12):

        def work(transaction: int = transaction) -> None:
            seen = 0

            def kill(text: str) -> None:
                nonlocal seen
                seen += text.startswith(statement)
                if seen > transaction:
                    os.kill(os.getpid(), signal.SIGKILL)

            with locked(made), IndexFollower(made, clock=lambda: NOW) as follower:
                follower.database.connection.set_trace_callback(kill)
                follower.read_new()

        if not killed_in(work):
            break
    assert transaction > 3
    read_journal(made)
    assert ids(made) == names(0, 55)
    assert total(made) == 55
    write_segment(made, 2, numbered(55, 5))
    read_journal(made)
    assert ids(made) == names(0, 60)


def test_a_segment_that_was_cut_off(tmp_path: Path) -> None:
    """Its rows are replaced by those of its lines now, and the totals with them."""
    made = indexed(tmp_path)
    path = write_segment(made, 1, numbered(0, 10), finished=False)
    read_journal(made)
    whole = path.read_bytes()
    path.write_bytes(whole[: whole.index(b"\n") + 1])
    with pytest.raises(CutOffError):
        read_journal(made)
    read_journal(made)
    assert ids(made) == names(0, 1)
    assert total(made) == 1
    with locked(made), IndexFollower(made, clock=lambda: NOW) as follower:
        follower.read_new()
        path.write_bytes(b"")
        follower.read_new()
        write_segment(made, 1, numbered(20, 3), finished=False)
        with suppress(CutOffError):
            follower.read_new()
    read_journal(made)
    assert ids(made) == names(20, 3)
    assert total(made) == 3


def test_another_file_of_the_same_name(tmp_path: Path) -> None:
    made = indexed(tmp_path)
    path = write_segment(made, 1, numbered(0, 10), finished=False)
    read_journal(made)
    path.rename(tmp_path / "kept")  # so that the other one has another inode
    write_segment(made, 1, numbered(20, 12))
    read_journal(made)
    assert ids(made) == names(20, 12)
    assert total(made) == 12


def test_a_segment_that_was_packed(tmp_path: Path) -> None:
    """It is not read again, and its records are found in the packed file."""
    made = indexed(tmp_path)
    path = write_segment(made, 1, numbered(0, 40))
    read_journal(made)
    packed = path.with_name(f"{path.name}.zst")
    packed.write_bytes(zstandard.compress(path.read_bytes()))
    packed.chmod(0o440)
    path.unlink()
    read_journal(made)
    assert ids(made) == names(0, 40)
    with closing(open_index(made)) as index:
        for row in index.search(EVERYTHING, limit=100).rows:
            found = index.record(row.key)
            assert found is not None
            assert found.line is not None
            assert json.loads(found.line)["id"] == row.id


def test_what_is_deleted(tmp_path: Path) -> None:
    """Rows go with their segment and with their age; what cannot be found any more is not in the words either."""
    made = indexed(tmp_path, age=7200)
    first = write_segment(made, 1, numbered(0, 10))
    write_segment(made, 2, [record(id="old", at=-8000), *numbered(3000, 10)])
    read_journal(made, now=BEGIN + 3100)
    assert ids(made) == names(0, 10) + names(3000, 10)
    with closing(open_index(made)) as index:
        gone, (newest, *_) = index.search(EVERYTHING, limit=30).rows[-1], index.search(EVERYTHING, limit=1).rows
        first.unlink()
        found = index.record(gone.key)
        assert found is not None
        assert (found.row, found.line) == (gone, None)
        read_journal(made, now=BEGIN + 3100)
        assert index.record(gone.key) is None
        assert ids(made) == ids(made, Search(address="a@sender.example")) == names(3000, 10)
        assert total(made) == 20

        read_journal(made, now=BEGIN + 3005 + 7200)
        assert ids(made) == ids(made, Search(address="a@sender.example")) == names(3005, 5)
        # Another segment has its path.
        write_segment(made, 1, numbered(5000, 1))
        read_journal(made, now=BEGIN + 5000)
        found = index.record(newest.key)
        assert found is not None
        assert found.line is not None


def test_records_of_one_instant(tmp_path: Path) -> None:
    """A microsecond has 1,024 keys, and the next one those that are too many."""
    made = indexed(tmp_path)
    write_segment(made, 1, [record(id=f"{number:032x}", at=0) for number in range(1500)])
    write_segment(made, 2, [record(id=f"{number:032x}", at=0) for number in range(1500, 2600)] + [record(at=0.000001)])
    read_journal(made)
    with closing(open_index(made)) as index:
        rows = index.search(EVERYTHING, limit=3000).rows
    assert len({row.key for row in rows}) == len(rows) == 2601
    assert {row.id for row in rows} == {"", *names(0, 2600)}
    assert max(row.time for row in rows) - BEGIN * SECOND < 10


def until(condition: Callable[[], bool]) -> Callable[[float], bool]:
    """Return a function to wait with, which ends the work when the condition is true, and fails if it never is."""
    left = 100

    def wait(seconds: float) -> bool:
        nonlocal left
        left -= bool(seconds)
        assert left
        return bool(seconds) and condition()

    return wait


@pytest.mark.parametrize("place", [0, 40, 4096 * 3, -4096])
def test_a_damaged_database(tmp_path: Path, place: int) -> None:
    """It is set aside, and made again from the journal, if its writer or a reader finds the damage."""
    made = indexed(tmp_path)
    write_segment(made, 1, numbered(0, 300))
    read_journal(made)
    content = bytearray(made.index_file.read_bytes())
    place %= len(content)
    content[place : place + 64] = b"\xa5" * 64
    made.index_file.write_bytes(content)
    own = replace(made, limits=replace(made.limits, index_age=10**9))

    def is_whole() -> bool:
        with suppress(IndexUnavailableError):
            return ids(made) == names(0, 300) and len(ids(made, Search(address="a@sender.example"))) == 300
        return False

    follow(own, until(is_whole))
    assert is_whole()


def test_a_database_of_another_version(tmp_path: Path) -> None:
    made = indexed(tmp_path, age=10**9)
    write_segment(made, 1, numbered(0, 3))
    read_journal(made)
    with locked(made), IndexFollower(made) as follower:
        follower.database.connection.execute("PRAGMA user_version = 99")
    with pytest.raises(IndexUnavailableError, match=r"is of another version of the sidecar \(99, and not 1\)"):
        ids(made)
    follow(made, until(lambda: made.index_file.with_name("index.db.damaged").exists() and ids(made) == names(0, 3)))
    assert ids(made) == names(0, 3)


def test_an_operator_wants_a_new_index(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It is made again. Nothing is logged as an error, and nothing is set aside."""
    made = indexed(tmp_path, age=10**9)
    write_segment(made, 1, numbered(0, 3))
    read_journal(made)
    before = file_of(made.index_file)
    ask_for_rebuild(made.index_file, BY_OPERATOR)
    log.configure(level="info", format="json")
    try:
        with made.index_file.open("rb"):  # the new file has another inode
            follow(made, until(lambda: file_of(made.index_file) not in {None, before} and ids(made) == names(0, 3)))
    finally:
        log.configure(level="warning")
    assert ids(made) == names(0, 3)
    (line,) = map(json.loads, capsys.readouterr().err.splitlines())
    assert (line["level"], line["event"]) == ("info", f"{BY_OPERATOR}: a new index is made of the journal")
    assert not made.index_file.with_name("index.db.damaged").exists()


def test_one_process_writes(tmp_path: Path) -> None:
    made = indexed(tmp_path)
    with locked(made), pytest.raises(IndexBusyError), locked(made):
        pass


def test_the_words_of_an_error(tmp_path: Path) -> None:
    """A page shows a sentence, and not an exception of SQLite."""
    made = indexed(tmp_path)
    with pytest.raises(IndexUnavailableError, match=r"index\.db does not exist yet; the sidecar makes it$"):
        ids(made)
    made.index_file.write_text("this is no database, and it has no version")
    with pytest.raises(IndexUnavailableError, match=r"cannot be read: .*index\.db is damaged \(file is not a database\)$"):
        ids(made)


def test_a_record_is_read_once_from_an_open_segment(tmp_path: Path) -> None:
    """Lines are added, half a line is written, and the same process and another one continue."""
    made = indexed(tmp_path)
    path = write_segment(made, 1, numbered(0, 5), finished=False)
    with locked(made), IndexFollower(made, clock=lambda: NOW) as follower:
        follower.read_new()
        whole = json.dumps(numbered(5, 1)[0]).encode()
        with path.open("ab") as file:
            file.write(whole[:50])
            file.flush()
            follower.read_new()
            file.write(whole[50:] + b"\n")
        follower.read_new()
    assert ids(made) == names(0, 6)
    write_segment(made, 1, numbered(6, 5))
    read_journal(made)
    assert ids(made) == names(0, 11)
    assert Counter(ids(made)).most_common(1)[0][1] == 1
