"""The disk thread: few writes and fsyncs for many messages, and no message is answered for records that are lost."""

import errno
import os
import stat
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from sidecar.core.settings.values import JournalSettings
from sidecar.journal import JournalError
from sidecar.journal.write import Journal, Routes, disk_thread
from sidecar.journal.write.routes import Batch
from tests.journal.conftest import OpenJournal, is_finished, segments, texts
from tests.mta.processes import wait_until

WRITERS = 40


class Disk:
    """An fsync that waits at a gate, and raises `failure` once; `synced` has True for each file, False for each directory."""

    def __init__(self) -> None:
        self.synced: list[bool] = []
        self.entered = threading.Semaphore(0)
        self.gate = threading.Event()
        self.gate.set()
        self.failure: OSError | None = None

    def fsync(self, descriptor: int) -> None:
        """Stand in for os.fsync."""
        self.entered.release()
        assert self.gate.wait(120)
        self.synced.append(stat.S_ISREG(os.fstat(descriptor).st_mode))
        failure, self.failure = self.failure, None
        if failure is not None:
            raise failure

    def close_gate(self) -> None:
        """Let every fsync wait from now on."""
        self.gate.clear()
        self.synced.clear()
        self.entered = threading.Semaphore(0)


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Iterator[Disk]:
    made = Disk()
    monkeypatch.setattr(os, "fsync", made.fsync)
    yield made
    made.gate.set()


class Writer:
    """Routes with one journal. Each line is one batch."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        self.routes = Routes(JournalSettings(directory=folder, **settings))
        assert self.routes._only is not None
        self.journal: Journal = self.routes._only

    def submit(self, line: bytes, *, durable: bool = True) -> "Future[None]":
        """Submit a line; the future is done when the line is reported."""
        future: Future[None] = Future()

        def done(error: JournalError | None) -> None:
            future.set_result(None) if error is None else future.set_exception(error)

        try:
            if self.routes.submit(Batch(lines=((self.journal, line),), size=len(line)), durable=durable, done=done):
                future.set_result(None)
        except JournalError as error:
            future.set_exception(error)
        return future

    def write(self, line: bytes, *, durable: bool) -> None:
        """Write a line and wait for it."""
        self.routes.write(Batch(lines=((self.journal, line),), size=len(line)), durable=durable)


@pytest.fixture
def open_writer(folder: Path) -> Iterator[Callable[..., Writer]]:
    opened: list[Writer] = []

    def open_one(**settings: Any) -> Writer:
        opened.append(Writer(folder, **settings))
        return opened[-1]

    yield open_one
    for writer in opened:
        writer.routes.close()


def test_many_messages_share_a_write_and_an_fsync(
    folder: Path, open_writer: Callable[..., Writer], disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What arrives during an fsync waits for the next, all of it for one; and there is one write for all."""
    writer = open_writer()
    writer.write(b"0\n", durable=True)
    disk.close_gate()
    first = writer.submit(b"1\n")
    assert disk.entered.acquire(timeout=120)
    written: list[int] = []
    whole_write = os.write

    def write(descriptor: int, data: bytes) -> int:
        written.append(len(data))
        return whole_write(descriptor, data)

    monkeypatch.setattr(os, "write", write)
    others = [writer.submit(b"2\n") for _ in range(WRITERS)]
    assert not any(one.done() for one in (first, *others))
    disk.gate.set()
    for one in (first, *others):
        one.result(10)
    assert disk.synced == [True, True]
    assert written == [2 * WRITERS]
    assert texts(folder) == [b"0", b"1"] + [b"2"] * WRITERS


def test_what_needs_no_sync_is_not_held_up_by_one(folder: Path, open_writer: Callable[..., Writer], disk: Disk) -> None:
    """A line that needs none is written at once, by the thread that has it."""
    writer = open_writer()
    writer.write(b"0\n", durable=True)
    disk.close_gate()
    durable = writer.submit(b"1\n")
    assert disk.entered.acquire(timeout=120)
    assert writer.submit(b"2\n", durable=False).done()
    assert not durable.done()
    assert texts(folder) == [b"0", b"1", b"2"]


@pytest.mark.parametrize("durable", [True, False])
def test_no_thread_but_the_disks_waits_for_a_directory(
    folder: Path, open_writer: Callable[..., Writer], disk: Disk, *, durable: bool
) -> None:
    """A new segment is on disk with its name before it is used; whoever submits lines meanwhile is not held up."""
    writer = open_writer(segment_size=4)
    writer.write(b"123\n", durable=True)
    disk.close_gate()
    rolled = writer.submit(b"4\n", durable=durable)
    assert disk.entered.acquire(timeout=120)
    other = writer.submit(b"5\n", durable=False)
    assert not rolled.done()
    assert not other.done()
    disk.gate.set()
    rolled.result(10)
    other.result(10)
    assert texts(folder) == [b"123", b"4", b"5"]
    assert disk.synced[0] is False


def test_a_failed_fsync_is_reported_for_all_its_lines_and_no_other(
    folder: Path, open_writer: Callable[..., Writer], disk: Disk
) -> None:
    """The segment is never written to again, and stays writable for the next start."""
    writer = open_writer()
    writer.write(b"0\n", durable=True)
    disk.close_gate()
    disk.failure = OSError(errno.EIO, os.strerror(errno.EIO))
    first = writer.submit(b"1\n")
    assert disk.entered.acquire(timeout=120)
    others = [writer.submit(b"2\n") for _ in range(WRITERS)]
    unsynced = writer.submit(b"3\n", durable=False)
    unsynced.result(10)
    disk.gate.set()
    with pytest.raises(JournalError, match=r"Input/output error \(EIO\)"):
        first.result(10)
    # Those that were not in the segment by then are written to the next one.
    assert [one.exception(10) for one in others] == [None] * WRITERS
    writer.write(b"4\n", durable=True)
    before, after = segments(folder)
    assert before.read_bytes() == b"0\n1\n3\n"
    assert after.read_bytes() == b"2\n" * WRITERS + b"4\n"
    assert not is_finished(before)


def test_a_write_that_fails_for_all_is_tried_for_each(
    folder: Path, open_writer: Callable[..., Writer], disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a disk that fills up, exactly the messages fail whose lines have no space, and each has an exception of its own."""
    writer = open_writer()
    writer.write(b"0\n", durable=True)
    disk.close_gate()
    first = writer.submit(b"1\n")
    assert disk.entered.acquire(timeout=120)
    whole_write = os.write

    def write(descriptor: int, data: Any) -> int:
        if len(data) > 10:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return whole_write(descriptor, data)

    monkeypatch.setattr(os, "write", write)
    small, large = [writer.submit(b"2\n") for _ in range(5)], [writer.submit(b"x" * 20 + b"\n") for _ in range(2)]
    disk.gate.set()
    first.result(10)
    for one in small:
        one.result(10)
    errors = [one.exception(10) for one in large]
    assert [str(error) for error in errors] == [str(errors[0])] * 2
    assert "ENOSPC" in str(errors[0])
    assert errors[0] is not errors[1]
    assert texts(folder) == [b"0", b"1"] + [b"2"] * 5


def test_a_fault_of_the_program_leaves_no_message_waiting(
    open_writer: Callable[..., Writer], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its messages are tempfailed, it is logged, and the thread continues."""
    writer = open_writer()
    with monkeypatch.context() as patch:
        patch.setattr(Journal, "append", lambda *_: 1 / 0)
        with pytest.raises(JournalError, match="ZeroDivisionError"):
            writer.write(b"1\n", durable=True)
    writer.write(b"2\n", durable=True)
    assert "an unexpected fault while records were written" in capsys.readouterr().err


def test_a_report_that_raises_does_not_end_the_thread(
    open_writer: Callable[..., Writer], capsys: pytest.CaptureFixture[str]
) -> None:
    writer = open_writer()
    writer.routes.submit(Batch(lines=((writer.journal, b"1\n"),), size=2), durable=True, done=lambda _: 1 / 0)  # type: ignore[arg-type]
    writer.write(b"2\n", durable=True)
    assert "an unexpected fault after records were written" in capsys.readouterr().err


def test_the_end_writes_what_waits(folder: Path, open_writer: Callable[..., Writer], disk: Disk) -> None:
    """And later lines are rejected."""
    writer = open_writer()
    writer.write(b"0\n", durable=True)
    disk.close_gate()
    waiting = [writer.submit(b"%d\n" % number) for number in range(1, 4)]
    closing = threading.Thread(target=writer.routes.close)
    closing.start()
    disk.gate.set()
    closing.join(120)
    for one in waiting:
        one.result(10)
    assert texts(folder) == [b"0", b"1", b"2", b"3"]
    assert [is_finished(path) for path in segments(folder)] == [True]
    for durable in (True, False):
        with pytest.raises(JournalError, match="is closed"):
            writer.submit(b"5\n", durable=durable).result(10)


def test_what_waits_for_a_slow_disk_is_bounded(
    folder: Path, open_writer: Callable[..., Writer], disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Above the limit messages are tempfailed, but not one that is alone; when the disk is done, all are accepted again."""
    monkeypatch.setattr(disk_thread, "_WAITING_LIMIT", 10)
    writer = open_writer()
    writer.write(b"0" * 20 + b"\n", durable=True)
    disk.close_gate()
    waiting = [writer.submit(b"1\n") for _ in range(5)]
    with pytest.raises(JournalError, match="the disk is too slow"):
        writer.submit(b"2\n").result(10)
    disk.gate.set()
    for one in waiting:
        one.result(10)
    writer.write(b"3\n", durable=True)
    assert texts(folder) == [b"0" * 20, *[b"1"] * 5, b"3"]


def test_a_roll_is_done_soon(folder: Path, open_writer: Callable[..., Writer]) -> None:
    writer = open_writer(segment_age=0)
    writer.journal.append([b"1\n"])
    writer.routes.roll()
    wait_until(lambda: [is_finished(path) for path in segments(folder)] == [True], "the segment is finished")


def test_finishing_that_fails_is_logged(
    folder: Path, open_journal: OpenJournal, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Lines that no message waits for are not lost in silence either."""
    journal = open_journal(folder)
    journal.write(b"1\n", durable=False)

    def fail(_descriptor: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "fsync", fail)
    journal.close()
    (line,) = capsys.readouterr().err.splitlines()
    assert "the last lines of a segment may not have reached the disk" in line
    assert str(segments(folder)[0]) in line


def test_success_after_failure_is_not_believed(
    folder: Path, open_journal: OpenJournal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After one failure no later fsync of that segment counts: Linux reports a lost page once."""
    journal = open_journal(folder)
    (segment,) = journal.append([b"1\n"])
    assert not isinstance(segment, JournalError)
    outcomes: list[OSError | None] = [OSError(errno.EIO, "broken"), None]

    def fsync(_descriptor: int) -> None:
        if (failure := outcomes.pop(0)) is not None:
            raise failure

    monkeypatch.setattr(os, "fsync", fsync)
    assert journal.sync(segment) is not None
    assert journal.sync(segment) is not None
    assert len(outcomes) == 1
    assert not segment.usable()


def test_threads_and_rolls_lose_nothing(folder: Path, open_writer: Callable[..., Writer]) -> None:
    """Many threads that write, wait and roll at once: no line is missing or written twice, each thread's are in order."""
    writer = open_writer(segment_size=200)

    def write(thread: int) -> None:
        for number in range(25):
            writer.write(b"%d %d\n" % (thread, number), durable=number % 5 == 0)

    with ThreadPoolExecutor(20) as pool:
        list(pool.map(write, range(20)))
    writer.routes.close()
    found = [tuple(map(int, text.split())) for text in texts(folder)]
    assert sorted(found) == [(thread, number) for thread in range(20) for number in range(25)]
    for thread in range(20):
        mine = [number for owner, number in found if owner == thread]
        assert mine == sorted(mine)
    assert all(map(is_finished, segments(folder)))
    assert all(path.stat().st_size <= 200 for path in segments(folder))


def test_an_unexpected_fault_with_the_last_lines_does_not_keep_it_from_closing(
    open_writer: Callable[..., Writer], disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = open_writer()
    writer.write(b"0\n", durable=True)
    disk.close_gate()
    first = writer.submit(b"1\n")
    assert disk.entered.acquire(timeout=120)
    last = writer.submit(b"2\n")
    closing = threading.Thread(target=writer.routes.close, daemon=True)
    closing.start()
    wait_until(lambda: writer.routes._disk._closed and writer.routes._disk._jobs.qsize() == 2, "the end waits in the queue")

    def append(_pieces: object) -> Any:
        raise RuntimeError("a fault")

    with monkeypatch.context() as patch:
        patch.setattr(writer.journal, "append", append)
        disk.gate.set()
        first.result(10)
        with pytest.raises(JournalError, match="a fault"):
            last.result(10)
        closing.join(120)
    assert not closing.is_alive()
