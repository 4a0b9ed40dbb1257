"""Crashes: what was acknowledged is there afterwards, and the next start tidies up without touching the living."""

import errno
import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from sidecar import log
from sidecar.journal.read import Skipped, read
from sidecar.journal.write.leftovers import finish_leftovers
from tests.journal.conftest import OpenJournal, is_finished, segments, texts

NAME = "20260101-000000.000000.jsonl"

WRITER = """
import sys, threading
from pathlib import Path
from sidecar.journal.write import Journal

journal = Journal(Path(sys.argv[1]), segment_size=4000, segment_age=3600)

def write(thread):
    number = 0
    while True:
        text = f"{sys.argv[2]}-{thread}-{number}"
        journal.write(('{"n":"' + text + '","pad":"' + "x" * (number % 300) + '"}\\n').encode(), durable=number % 10 == 0)
        sys.stdout.write(text + "\\n")
        sys.stdout.flush()
        number += 1

for thread in range(4):
    threading.Thread(target=write, args=(thread,)).start()
"""


def _writer(folder: Path, tag: object) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", WRITER, str(folder), str(tag)], stdout=subprocess.PIPE)


def test_kill(folder: Path, open_journal: OpenJournal) -> None:
    """Killed at any moment, a process loses no line that it acknowledged, and no reader stumbles over what it left."""
    chance = random.Random(5321)  # noqa: S311 - the same moments each time, as far as a scheduler allows
    acknowledged: set[bytes] = set()
    for tag in range(6):
        with _writer(folder, tag) as process:
            assert process.stdout is not None
            acknowledged.update(process.stdout.readline().strip() for _ in range(chance.randrange(1, 600)))
            process.send_signal(signal.SIGKILL)
            # What is still in the pipe was acknowledged too; a last line without its end may be half a number.
            acknowledged.update(
                line.strip() for line in process.stdout.read().splitlines(keepends=True) if line.endswith(b"\n")
            )
        before = texts(folder)
        open_journal(folder).close()
        assert texts(folder) == before
        assert all(map(is_finished, segments(folder)))
        found = {text.split(b'"')[3] for text in before}
        assert acknowledged <= found
        assert len(found) == len(before)
    assert len(acknowledged) > 500


def test_two_processes_at_once(folder: Path) -> None:
    """Two processes on one directory never share a segment, and a third that starts disturbs neither."""
    with _writer(folder, "a") as one, _writer(folder, "b") as two:
        for process in (one, two):
            assert process.stdout is not None
            for number in range(200):
                process.stdout.readline()
                if number % 50 == 0:
                    finish_leftovers(folder)
        one.kill()
        two.kill()
    finish_leftovers(folder)
    assert not [line for line in read(folder) if isinstance(line, Skipped)]
    owners = [{text.split(b'"')[3][:1] for text in texts(path)} for path in segments(folder)]
    assert all(len(owner) == 1 for owner in owners)
    assert {b"a", b"b"} == set().union(*owners)


@pytest.mark.parametrize(
    ("left", "kept"),
    [
        (b'{"n":1}\n', b'{"n":1}\n'),
        (b'{"n":1}\n{"n":', b'{"n":1}\n'),
        (b'{"n":1}\n' + b"x" * 70_000, b'{"n":1}\n'),
        (b"y" * 65_536 + b"\n" + b"x" * 65_535, b"y" * 65_536 + b"\n"),
        (b'{"n":1}\n\0\0\0\0', b'{"n":1}\n'),
        (b'{"n":', None),
        (b"x" * 140_000, None),
        (b"", None),
    ],
)
def test_leftover(folder: Path, left: bytes, kept: bytes | None, capsys: pytest.CaptureFixture[str]) -> None:
    """A segment that a crash left is cut back to its last whole line and made read-only; one without any is removed."""
    folder.mkdir(parents=True)
    (folder / NAME).write_bytes(left)
    log.configure(level="info", format="json")
    finish_leftovers(folder)
    log.configure(level="warning")
    found = segments(folder)
    assert [path.read_bytes() for path in found] == ([] if kept is None else [kept])
    assert all(map(is_finished, found))
    assert f'"bytes_cut":{len(left) - len(kept or b"")}' in capsys.readouterr().err


def test_leftover_on_a_failing_disk(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """A segment counts as finished only once it is on disk; until then the next start tries again."""
    folder.mkdir(parents=True)
    (folder / NAME).write_bytes(b"{}\n")

    def fail(_descriptor: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fail)
        finish_leftovers(folder)
    assert "could not be finished" in capsys.readouterr().err
    assert not is_finished(folder / NAME)
    finish_leftovers(folder)
    assert is_finished(folder / NAME)


def test_what_is_left_alone(folder: Path, open_journal: OpenJournal, capsys: pytest.CaptureFixture[str]) -> None:
    """A start touches neither finished segments, nor other files, nor what a link points to."""
    folder.mkdir(parents=True)
    finished = folder / NAME
    finished.write_bytes(b"{}\n{")
    finished.chmod(0o440)
    other = folder / "notes.jsonl"
    other.write_bytes(b"{}\n{")
    (folder / NAME.replace("2026", "2027")).symlink_to(other)
    (folder / NAME.replace("2026", "2028")).mkdir()
    open_journal(folder)
    assert finished.read_bytes() == other.read_bytes() == b"{}\n{"
    assert len(list(folder.iterdir())) == 4
    assert capsys.readouterr().err == ""


def test_live_segment_of_another_journal(folder: Path, open_journal: OpenJournal) -> None:
    """A segment that a process writes is not touched, however often others start."""
    first = open_journal(folder)
    first.write(b"1\n", durable=False)
    open_journal(folder)
    assert not is_finished(segments(folder)[0])
    first.write(b"2\n", durable=False)
    assert texts(folder) == [b"1", b"2"]


def test_segment_taken_away_at_birth(folder: Path, open_journal: OpenJournal, monkeypatch: pytest.MonkeyPatch) -> None:
    """A start that removes a segment between its creation and its locking costs a name, no line."""
    plain_open = os.open
    intrusions = 3

    def open_and_be_late(path: Path, flags: int, mode: int = 0o777) -> int:
        nonlocal intrusions
        descriptor = plain_open(path, flags, mode)
        if flags & os.O_EXCL and intrusions:
            intrusions -= 1
            finish_leftovers(folder)
        return descriptor

    before = _descriptors()
    monkeypatch.setattr(os, "open", open_and_be_late)
    open_journal(folder, clock=lambda: 0.0).write(b"1\n", durable=False)
    assert intrusions == 0
    assert _descriptors() == before + 1
    assert [path.name for path in segments(folder)] == ["19700101-000000.000003.jsonl"]
    assert texts(folder) == [b"1"]


def test_leftover_that_cannot_be_finished(
    read_only: Path, open_journal: OpenJournal, capsys: pytest.CaptureFixture[str]
) -> None:
    """A repair that fails is logged and stops no process; the whole lines can be read all the same."""
    subprocess.run(["mount", "-o", "remount,bind,rw", read_only], check=True)
    (read_only / NAME).write_bytes(b"{}\n{")
    subprocess.run(["mount", "-o", "remount,bind,ro", read_only], check=True)
    open_journal(read_only)
    assert "could not be finished" in capsys.readouterr().err
    assert texts(read_only) == [b"{}"]


def _descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))
