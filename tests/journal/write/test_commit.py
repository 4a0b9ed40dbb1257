"""Group commit: few fsyncs for many writers, and nobody is told that lost bytes are safe."""

import errno
import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from threading import Event

import pytest

from sidecar.journal import JournalError
from sidecar.journal.write.commit import GroupCommit
from tests.journal.conftest import OpenJournal, is_finished, segments, texts

WRITERS = 40


class Disk:
    """An fsync that waits at a gate and then does as told."""

    def __init__(self) -> None:
        self.count = 0
        self.entered = Event()
        self.gate = Event()
        self.failure: OSError | None = None

    def fsync(self, _descriptor: int) -> None:
        """Stand in for os.fsync."""
        self.count += 1
        self.entered.set()
        assert self.gate.wait(10)
        if self.failure is not None:
            raise self.failure


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Iterator[Disk]:
    """Put a gate before every fsync."""
    made = Disk()
    monkeypatch.setattr(os, "fsync", made.fsync)
    yield made
    made.gate.set()


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    """Enough threads for all writers at once."""
    with ThreadPoolExecutor(WRITERS + 2) as made:
        yield made


def until(condition: Callable[[], bool]) -> None:
    """Wait for a condition, ten seconds at most."""
    end = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.001)


def test_many_writers_share_an_fsync(folder: Path, open_journal: OpenJournal, disk: Disk, pool: ThreadPoolExecutor) -> None:
    """Writers that come during an fsync wait for the next, all of them for one."""
    journal = open_journal(folder)
    disk.gate.set()
    journal.write(b"0\n", durable=False)
    disk.gate.clear()
    disk.entered.clear()
    disk.count = 0
    writes = [pool.submit(journal.write, b"1\n", durable=True)]
    assert disk.entered.wait(10)
    writes += [pool.submit(journal.write, b"1\n", durable=True) for _ in range(WRITERS)]
    until(lambda: segments(folder)[0].stat().st_size == 2 * (WRITERS + 2))
    assert not any(write.done() for write in writes)
    disk.gate.set()
    for write in writes:
        write.result(10)
    assert disk.count == 2


def test_others_write_on_during_an_fsync(folder: Path, open_journal: OpenJournal, disk: Disk, pool: ThreadPoolExecutor) -> None:
    """A slow disk holds up only those who wait for it; even a roll goes on."""
    journal = open_journal(folder, segment_size=6)
    disk.gate.set()
    journal.write(b"1\n", durable=False)
    disk.gate.clear()
    disk.entered.clear()
    durable = pool.submit(journal.write, b"2\n", durable=True)
    assert disk.entered.wait(10)
    pool.submit(journal.write, b"3\n", durable=False).result(10)
    assert not durable.done()
    disk.gate.set()
    rolling = pool.submit(journal.write, b"4\n", durable=True)
    durable.result(10)
    rolling.result(10)
    assert texts(folder) == [b"1", b"2", b"3", b"4"]
    assert [is_finished(path) for path in segments(folder)] == [True, False]


def test_failed_fsync(folder: Path, open_journal: OpenJournal, disk: Disk, pool: ThreadPoolExecutor) -> None:
    """A failed fsync is told to everyone whose lines were in that segment, and the segment is never written to again."""
    journal = open_journal(folder)
    disk.gate.set()
    journal.write(b"0\n", durable=False)
    disk.gate.clear()
    disk.entered.clear()
    disk.failure = OSError(errno.EIO, os.strerror(errno.EIO))
    writes = [pool.submit(journal.write, b"1\n", durable=True)]
    assert disk.entered.wait(10)
    writes += [pool.submit(journal.write, b"1\n", durable=True) for _ in range(WRITERS)]
    until(lambda: segments(folder)[0].stat().st_size == 2 * (WRITERS + 2))
    disk.count = 0
    disk.gate.set()
    for write in writes:
        with pytest.raises(JournalError, match=r"Input/output error \(EIO\)"):
            write.result(10)
    assert disk.count == 0
    disk.failure = None
    journal.write(b"2\n", durable=True)
    first, second = segments(folder)
    assert second.read_bytes() == b"2\n"
    assert not is_finished(first)


def test_finishing_that_fails_is_logged(
    folder: Path,
    open_journal: OpenJournal,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Lines that nobody waits for are not lost in silence either."""
    journal = open_journal(folder)
    journal.write(b"1\n", durable=False)

    def fail(_descriptor: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "fsync", fail)
    journal.close()
    (line,) = capsys.readouterr().err.splitlines()
    assert "the last lines of a segment may not have reached the disk" in line
    assert str(segments(folder)[0]) in line


def test_success_after_failure_is_not_believed() -> None:
    """After one failure no later fsync counts, but what an earlier one put on disk stays safe."""
    outcomes: list[OSError | None] = [None, OSError(errno.EIO, "broken"), None]
    sizes = [10, 20, 30]

    def fsync() -> None:
        if (failure := outcomes.pop(0)) is not None:
            raise failure

    commit = GroupCommit(fsync=fsync, written=lambda: sizes.pop(0))
    commit.reach(10)
    with pytest.raises(OSError, match="broken"):
        commit.reach(20)
    commit.reach(10)
    with pytest.raises(OSError, match="broken"):
        commit.reach(11)
    assert commit.failed
    assert len(outcomes) == 1


def test_interrupted_leader() -> None:
    """A leader that is interrupted leaves nobody waiting, and nobody believing."""

    def fsync() -> None:
        raise KeyboardInterrupt

    commit = GroupCommit(fsync=fsync, written=lambda: 1)
    with pytest.raises(KeyboardInterrupt):
        commit.reach(1)
    with pytest.raises(OSError, match="KeyboardInterrupt"):
        commit.reach(1)


def test_threads_and_rolls_lose_nothing(folder: Path, open_journal: OpenJournal, pool: ThreadPoolExecutor) -> None:
    """Many threads that write, wait and roll at once: each line is there once, each thread's in their order."""
    journal = open_journal(folder, segment_size=200)

    def write(thread: int) -> None:
        for number in range(25):
            journal.write(b"%d %d\n" % (thread, number), durable=number % 5 == 0)

    done, _ = wait([pool.submit(write, thread) for thread in range(20)], timeout=60)
    for future in done:
        future.result()
    journal.close()
    found = [tuple(map(int, text.split())) for text in texts(folder)]
    assert len(done) == 20
    assert sorted(found) == [(thread, number) for thread in range(20) for number in range(25)]
    for thread in range(20):
        mine = [number for owner, number in found if owner == thread]
        assert mine == sorted(mine)
    assert all(map(is_finished, segments(folder)))
