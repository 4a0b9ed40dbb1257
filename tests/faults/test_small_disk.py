"""A journal on a small disk: old segments make room, none that a reader needs is lost, and a full disk costs no report."""

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Self

import pytest

from sidecar.journal.read import Checkpoint, Checkpoints, Follower, Line, SegmentMark
from tests.faults.disk import Disk, mounts_permitted, small_disk
from tests.mta.processes import wait_until
from tests.wire.client import CONTINUE, DISCARD, TROUBLE, Mta, Reply
from tests.wire.program import Program
from tests.wire.test_program import OOB

MEGABYTES = 6
SETTINGS = """\
workers = 2
[limits]
reports_per_second = 1000000
record_bytes_per_byte = 0
[journal]
directory = "{journal}"
segment_size = 65536
segment_age = 1
minimum_free = 2097152
"""
# Makes a record larger.
PADDING = b"x" * 6000


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    if not mounts_permitted():
        pytest.skip("this test mounts a file system, which is not permitted here")
    with small_disk(tmp_path, megabytes=MEGABYTES) as disk:
        yield disk


@pytest.fixture
def program(disk: Disk) -> Iterator[Program]:
    with Program(milter=SETTINGS.format(journal=disk.path / "journal")) as program:
        yield program


class Senders:
    """Two MTAs that send reports until the end of the block, each with its own sender. `taken` names those answered 250."""

    def __init__(self, program: Program) -> None:
        self._program = program
        self._end = threading.Event()
        self.taken: list[str] = []
        self.deferred = 0
        self._threads = [threading.Thread(target=self._send, args=(number,)) for number in range(2)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        for thread in self._threads:
            thread.join()

    def _send(self, number: int) -> None:
        count = 0
        while not self._end.is_set():
            # After trouble an MTA's next session is a new connection.
            with self._program.mta() as mta:
                mta.begin()
                reply = DISCARD
                while reply == DISCARD and not self._end.is_set():
                    count += 1
                    if (reply := report(mta, name := f"r{number}-{count}")) == DISCARD:
                        self.taken.append(name)
            if reply == TROUBLE:
                self.deferred += 1
                self._end.wait(0.05)


def report(mta: Mta, name: str) -> Reply:
    (reply,) = mta.envelope(b"<>", f"<{name}@bounce.example>".encode())
    if reply == TROUBLE:
        return reply
    return mta.content(OOB.replace(b"no such user", PADDING))[0]


def relayed(program: Program) -> Reply:
    """Return the answer to a relay host's mail."""
    with program.mta() as mta:
        mta.begin(peer="192.0.2.7")
        (reply,) = mta.envelope(b"<s@x.example>", b"<a@gmail.example>")
        return mta.data("4QUEUE") if reply == CONTINUE else reply


def reported(line: Line) -> str | None:
    """Return the name of a report from its OOB record."""
    record = json.loads(line.text)
    return str(record["sender"]).partition("@")[0] if record["type"] == "OOB" else None


class Reader:
    """A program that must read every record: it follows the journal, and saves how far it is."""

    def __init__(self, program: Program, disk: Disk) -> None:
        self.reported: set[str] = set()
        self._checkpoints = Checkpoints(program.directory / "state" / "checkpoints")
        self._follower = Follower(disk.path / "journal")
        self._segments: dict[str, SegmentMark] = {}
        self.save()

    def read(self) -> None:
        """Read all that is new; what a finished segment had is noted as read."""
        for file in self._follower.look():
            lines = [line for line in file.lines() if isinstance(line, Line)]
            self.reported |= {name for line in lines if (name := reported(line)) is not None}
            self._segments[str(file.path)] = SegmentMark(lines=len(lines), done=file.done)

    def save(self) -> None:
        """Save how far it has read."""
        self._checkpoints.save("reader", Checkpoint(segments=self._segments))

    def close(self) -> None:
        """Close all files."""
        self._follower.close()


def status(program: Program) -> tuple[int, str]:
    """Return the exit status of `sidecar status`, and what it prints."""
    command = [sys.executable, "-m", "sidecar", "status", "--config", str(program.directory / "sidecar.toml")]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    return done.returncode, done.stdout


def test_old_segments_make_room_and_no_report_is_missed(program: Program, disk: Disk) -> None:
    """Three times as many records as the disk can hold are taken, and a reader that keeps up misses none of them."""
    reader = Reader(program, disk)
    with Senders(program) as senders:
        wanted = 3 * MEGABYTES * 1024 * 1024 // len(PADDING)

        def enough() -> bool:
            reader.read()
            reader.save()
            return len(senders.taken) > wanted

        wait_until(enough, "the records of three disks were taken")
    program.stop()
    reader.read()
    reader.close()
    assert reader.reported == set(senders.taken)
    assert any("journal.minimum_free" in line["event"] for line in program.lines())
    left = sum(path.stat().st_size for path in (disk.path / "journal").iterdir())
    assert left < wanted * len(PADDING) / 2


def test_a_full_disk_defers_everything_and_recovers_by_itself(program: Program, disk: Disk) -> None:
    """A reader that has stopped keeps all segments: the disk fills, all that needs a record gets 451, a relay host's mail too.

    Nothing that was answered 250 is lost. When the reader goes on, space is made and mail is taken again, by the same workers.
    """
    reader = Reader(program, disk)
    workers = program.workers()
    with Senders(program) as senders:
        wait_until(lambda: senders.deferred > 0, "the disk is full")
        wait_until(lambda: relayed(program) == TROUBLE, "a relay host's mail is deferred")
        wait_until(lambda: program.says("cannot be deleted, because not all was read: reader"), "the log names the reader")
        wait_until(lambda: status(program)[0] == 1, "the status is not fine")
        assert "Degraded: " in status(program)[1]
        reader.read()
        reader.save()
        before = len(senders.taken)
        wait_until(lambda: len(senders.taken) > before + 10, "mail is taken again")
    assert program.workers() == workers
    program.stop()
    reader.read()
    reader.close()
    assert set(senders.taken) <= reader.reported
