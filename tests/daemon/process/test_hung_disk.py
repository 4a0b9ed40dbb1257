"""A disk that hangs: the supervisor continues, and `sidecar status` says that its status is old."""

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from sidecar.core.policy import compile_policy
from sidecar.core.settings.values import JournalSettings
from sidecar.daemon.process import plan as planning
from sidecar.daemon.process import publisher as module
from sidecar.daemon.process.aside import Aside, HungError
from sidecar.daemon.process.plan import Plan, make_plan
from sidecar.daemon.process.privileges import SetupError
from sidecar.daemon.process.publisher import LAST_WITHIN, StatusPublisher
from sidecar.daemon.process.status import RENEW_SECONDS, DiskSpace, is_fine, is_stale, read_status, ticks_now, write_status
from tests.building import settings
from tests.daemon.process.test_status import SERVING, ask, config, shown
from tests.mta.processes import wait_until
from tests.wire.program import Program

PATIENCE = 60.0


class Disk:
    """A disk that hangs while `works` is not set, and what was begun on it."""

    def __init__(self) -> None:
        self.works = threading.Event()
        self.begun = 0

    def wait(self) -> None:
        """Wait for the disk."""
        self.begun += 1
        assert self.works.wait(PATIENCE)


@pytest.fixture
def disk() -> Iterator[Disk]:
    disk = Disk()
    yield disk
    disk.works.set()


def test_the_loop_waits_for_a_moment_only(disk: Disk) -> None:
    """While the disk hangs nothing else begins. Afterwards all is as before."""
    aside = Aside()
    for _ in range(2):
        with pytest.raises(HungError):
            aside.do(disk.wait)
    assert disk.begun == 1
    disk.works.set()

    def is_done() -> bool:
        with suppress(HungError):
            return aside.do(lambda: True)
        return False

    wait_until(is_done, "the next work is done")


def test_an_error_is_that_of_the_work() -> None:
    """It is raised once, for the work that had it."""
    aside = Aside()
    with pytest.raises(FileNotFoundError):
        aside.do(lambda: Path("/missing").stat(), within=PATIENCE)
    assert aside.do(lambda: "done", within=PATIENCE) == "done"


def test_without_a_thread_it_is_a_shortage(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    aside = Aside()
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", refuse)
        with pytest.raises(OSError, match="no more threads"):
            aside.do(lambda: None)
    assert aside.do(lambda: "done", within=PATIENCE) == "done"


# --- the status


class Publishing:
    """A publisher with a clock of the test, and its log."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        made = replace(settings(), state_directory=folder)
        plan = Plan(settings=made, policy=compile_policy(made), node_id="", revision="", made=0.0)
        self.now = 1000.0
        self.lines: list[str] = []
        monkeypatch.setattr(module._LOG, "warning", self.lines.append)
        self.it = StatusPublisher(plan, socket="unix:/s", clock=lambda: self.now)

    def publish(self) -> None:
        """Publish without a plan."""
        self.it.publish(None, ())


def test_a_status_that_cannot_be_written_now_is_written_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, disk: Disk
) -> None:
    """The supervisor does not wait, logs it once, and writes the newest status when the disk answers."""

    def write(*given: Any) -> None:
        disk.wait()
        write_status(*given)

    monkeypatch.setattr(module, "write_status", write)
    publishing = Publishing(tmp_path, monkeypatch)
    for _ in range(3):
        publishing.it.count_restart()
        publishing.publish()
    path = tmp_path / "status.json"
    assert publishing.lines == [f"cannot write {path}: its disk does not answer; sidecar status shows what was there before"]
    assert disk.begun == 1
    disk.works.set()

    def is_newest() -> bool:
        publishing.publish()
        return path.exists() and read_status(tmp_path).restarts == 3

    wait_until(is_newest, "the newest status is written")


def test_a_status_is_renewed_without_a_change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    publishing = Publishing(tmp_path, monkeypatch)
    inodes = []
    for _ in range(4):
        publishing.publish()
        inodes.append((tmp_path / "status.json").stat().st_ino)
        publishing.now += RENEW_SECONDS / 2
    assert inodes[0] == inodes[1] != inodes[2] == inodes[3]
    status = read_status(tmp_path)
    assert status.renewed is not None
    assert status.renewed_ticks is not None
    assert 0 <= ticks_now() - status.renewed_ticks < PATIENCE * os.sysconf("SC_CLK_TCK")


def test_an_old_status_is_stale() -> None:
    """By the time since boot: a changed clock makes no difference. A version without renewals has none."""
    second = os.sysconf("SC_CLK_TCK")
    for seconds, stale in ((0, False), (3 * RENEW_SECONDS - 5, False), (3 * RENEW_SECONDS + 1, True)):
        status = replace(SERVING, renewed="2026-01-02T03:04:05Z", renewed_ticks=ticks_now() - int(seconds * second))
        assert (is_stale(status), is_fine(status)) == (stale, not stale)
    assert not is_stale(SERVING)


# --- the free space


def test_a_disk_that_hangs_is_logged_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, disk: Disk) -> None:
    """The last figures stay, and the next look is not at once."""
    lines: list[str] = []
    now = [1000.0]
    for level in ("error", "info"):
        monkeypatch.setattr(
            "sidecar.daemon.process.status._LOG." + level, lambda line, **_: lines.append(line.partition(":")[0])
        )
    space = DiskSpace(lambda: now[0])
    journal = JournalSettings(directory=tmp_path, minimum_free=0)
    first = space.look(journal)
    assert first is not None

    def hang(_directory: Path) -> int:
        disk.wait()
        return 1 << 40

    monkeypatch.setattr("sidecar.daemon.process.status.free_bytes", hang)
    for _ in range(3):
        now[0] += 100
        assert space.look(journal) == first
        assert space.look_at > now[0]
    assert lines == ["the disk of the journal does not answer"]
    disk.works.set()

    def recovers() -> bool:
        now[0] += 100
        found = space.look(journal)
        return found is not None and found.free == 1 << 40

    wait_until(recovers, "the disk answers")
    assert lines == ["the disk of the journal does not answer", "recovered"]


# --- the whole program

_HANGING = """\
import sys
from sidecar.cli import main
from sidecar.daemon.process import publisher, reload, status
def hang(*_):
    open({fifo!r}).read()
if "run" in sys.argv:
    status.free_bytes = publisher.write_status = reload.FileWatch._look = hang
main()
"""


@contextmanager
def on_a_hung_disk() -> Iterator[Program]:
    """Yield a program whose state directory is on a disk that hangs, after its start: a pipe that no process writes to."""
    program = Program()
    fifo = program.directory / "fifo"
    os.mkfifo(fifo)
    program.python = ["-c", _HANGING.format(fifo=str(fifo))]
    try:
        yield program
    finally:
        program.__exit__(None, None, None)


def test_the_program_serves_and_stops_on_a_hung_disk() -> None:
    """A worker that dies is replaced, a signal ends the program, and the status from before is called old."""
    with on_a_hung_disk() as program:
        state = program.directory / "state"
        state.mkdir()
        program.__enter__()
        before = program.workers()
        os.kill(min(before), signal.SIGKILL)
        wait_until(lambda: len(program.workers() - before) == 1, "the worker is replaced")
        old = replace(SERVING, pid=program.pid, start_ticks=None, renewed="2026-01-02T03:04:05Z", renewed_ticks=0)
        write_status(state, old)
        status, said = ask(*config(program))
        assert status == 1
        assert (
            "The service does not renew its status since 2026-01-02T03:04:05Z: the disk of the state directory may hang."
            in said
        )
        answer = shown(program)
        assert (answer["running"], answer["fine"], answer["stale"]) == (True, False, True)
        began = time.monotonic()
        assert program.stop() == 0
        assert time.monotonic() - began < LAST_WITHIN + PATIENCE


def test_a_reload_on_a_hung_disk_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, disk: Disk) -> None:
    """The folders of the new settings are tried for some seconds only, by one thread. A start ends with the same sentence."""
    monkeypatch.setattr(planning, "FOLDERS_WITHIN", 0.05)
    monkeypatch.setattr(planning, "_try_folder", lambda *_: disk.wait())
    made = replace(settings(), state_directory=tmp_path, journal=JournalSettings(directory=tmp_path / "journal"))
    for _ in range(2):
        with pytest.raises(SetupError, match=f"a disk does not answer: that of {tmp_path}/journal or {tmp_path}; "):
            make_plan(made, ())
    assert disk.begun == 1
    disk.works.set()

    def is_made() -> bool:
        try:
            make_plan(made, ())
        except SetupError:
            return False
        return True

    wait_until(is_made, "the disk answers")


def test_the_command_does_not_wait_for_a_hung_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, disk: Disk) -> None:
    monkeypatch.setattr("sidecar.commands.status.READ_WITHIN", 0.1)
    monkeypatch.setattr("sidecar.commands.status.read_status", lambda _: disk.wait())
    (tmp_path / "sidecar.toml").write_text('state_directory = "state"\n')
    status, said = ask("--config", str(tmp_path / "sidecar.toml"))
    assert (status, said) == (1, f"{tmp_path}/state/status.json cannot be read: its disk does not answer within 0 seconds.\n")
