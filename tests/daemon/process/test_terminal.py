"""SIGHUP: of an operator it is a reload, of a terminal that is closed the end."""

import os
import pty
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest

from sidecar.daemon.process import signals
from sidecar.daemon.process.signals import Terminal
from tests.daemon.process.test_running import unstarted
from tests.mta.processes import wait_until
from tests.wire.program import Program


@contextmanager
def in_terminal(program: Program, *, ignoring: bool = False) -> Iterator[tuple[int, int]]:
    """Start a program in a terminal, as the leader of its session. Yield its process id and the other end."""
    command = [sys.executable, "-m", "sidecar", "run", "--config", str(program.directory / "sidecar.toml")]
    pid, end = pty.fork()
    if pid == 0:
        try:
            log = os.open(program.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            os.dup2(log, 1)
            os.dup2(log, 2)
            # The tests themselves can run under nohup(1).
            signal.signal(signal.SIGHUP, signal.SIG_IGN if ignoring else signal.SIG_DFL)
            os.execv(command[0], command)  # noqa: S606 - this very interpreter
        finally:
            os._exit(1)
    try:
        wait_until(lambda: program.log.exists() and program.count("ready") == 1, "it is ready")
        yield pid, end
    finally:
        with suppress(OSError):
            os.close(end)
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        with suppress(ChildProcessError):
            os.waitpid(pid, 0)


def test_a_closed_terminal_stops_the_program() -> None:
    """In order: an open session is finished, and nothing listens any more."""
    with unstarted() as program, in_terminal(program) as (pid, end), program.mta() as mta:
        mta.begin()
        os.kill(pid, signal.SIGHUP)
        wait_until(lambda: program.count("reloaded") == 1, "an operator's SIGHUP is a reload")
        os.close(end)
        wait_until(lambda: program.says("the terminal is closed: stopping"), "it stops")
        assert not program.path.exists()
        mta.quit()
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def test_under_nohup_it_outlives_its_terminal() -> None:
    """It has SIGHUP ignored, by which an operator says so. SIGHUP is a reload all the time."""
    with unstarted() as program, in_terminal(program, ignoring=True) as (pid, end):
        os.close(end)
        wait_until(lambda: program.count("reloaded") == 1, "the end of the terminal is no more than a SIGHUP")
        assert program.answers()
        os.kill(pid, signal.SIGTERM)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[bool]]:
    """Whether this process has a terminal, as the last item says."""
    has = [True]
    monkeypatch.setattr(signals, "_has_terminal", lambda: has[-1])
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield has
    signal.signal(signal.SIGHUP, before)


def test_a_terminal_that_went_without_sighup_is_forgotten(terminal: list[bool]) -> None:
    """As that of a job in the background, when its shell ends: a later SIGHUP is an operator's. One look is not enough."""
    it = Terminal()
    it.look()
    assert not it.is_gone()
    terminal.append(False)
    assert it.is_gone()
    it.look()
    assert it.is_gone()
    it.look()
    assert not it.is_gone()


def test_without_a_terminal_there_is_none_to_be_closed(terminal: list[bool]) -> None:
    terminal.append(False)
    assert not Terminal().is_gone()
    terminal.append(True)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    it = Terminal()
    terminal.append(False)
    assert not it.is_gone()
