"""A forked child: whatever happens in it, it ends, and the parent's code never goes on in it."""

import os
import signal
from pathlib import Path
from socket import socket
from typing import NoReturn

import pytest

from sidecar.daemon.process import child
from sidecar.daemon.process.child import start
from sidecar.daemon.process.control import pair


def status_of(work: child.Work) -> int:
    ours, theirs = pair()
    with ours, theirs:
        return os.waitstatus_to_exitcode(os.waitpid(start(theirs, work), 0)[1])


def fail(error: BaseException) -> NoReturn:
    raise error


@pytest.mark.parametrize("error", [RuntimeError("no luck"), MemoryError(), KeyboardInterrupt(), SystemExit(0)])
def test_an_exception_ends_the_child(error: BaseException, capfd: pytest.CaptureFixture[str]) -> None:
    """With its traceback in the log. An exception that left the child would make a second supervisor."""
    assert status_of(lambda _: fail(error)) == 1
    assert "a child process failed" in capfd.readouterr().err


def test_a_log_that_cannot_be_written_ends_the_child_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stderr.flush", lambda: fail(OSError("the terminal is closed")), raising=False)
    assert status_of(lambda _: 0) == 0


def test_it_ends_with_what_its_work_returns(tmp_path: Path) -> None:
    def work(control: socket) -> int:
        child.leave_signals_to_supervisor()
        os.kill(os.getpid(), signal.SIGTERM)
        (tmp_path / "it").write_text(str(control.fileno()), encoding="ascii")
        return 7

    assert status_of(work) == 7
    assert (tmp_path / "it").exists()
    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == set()
