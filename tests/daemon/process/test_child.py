"""Children: whatever happens in one, it ends; messages to and from it; the waits before it is started again."""

import os
import signal
from pathlib import Path
from socket import socket
from typing import NoReturn

import pytest

from sidecar.daemon.process import child
from sidecar.daemon.process.child import Backoff, control_pair, receive_order, receive_word, send, start


def status_of(work: child.Work) -> int:
    ours, theirs = control_pair()
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
        child.ignore_signals()
        os.kill(os.getpid(), signal.SIGTERM)
        (tmp_path / "it").write_text(str(control.fileno()), encoding="ascii")
        return 7

    assert status_of(work) == 7
    assert (tmp_path / "it").exists()
    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == set()


# --- messages


def test_messages_arrive_one_by_one() -> None:
    """Two words sent at once are two words received."""
    supervisor, worker = control_pair()
    with supervisor, worker:
        send(worker, "ready")
        send(worker, "alive")
        send(worker, "left")
        assert [receive_word(supervisor) for _ in range(3)] == ["ready", "alive", "left"]
        send(supervisor, "ping")
        send(supervisor, 600.0)
        send(supervisor, 0.0)
        assert [receive_order(worker) for _ in range(3)] == ["ping", 600.0, 0.0]


def test_to_send_to_a_child_that_reads_nothing_never_waits() -> None:
    """As one that is stopped: its supervisor has others."""
    supervisor, worker = control_pair()
    with supervisor, worker:
        for _ in range(10_000):
            send(supervisor, "ping")
        assert receive_order(worker) == "ping"


@pytest.mark.parametrize("unread", [False, True])
def test_the_death_of_either_is_received_and_to_send_to_the_dead_is_no_error(unread: bool) -> None:
    """Also if something was left unread, which the kernel reports as a reset."""
    supervisor, worker = control_pair()
    with supervisor:
        if unread:
            send(supervisor, 1.0)
        worker.close()
        assert receive_word(supervisor) is None
        send(supervisor, 1.0)
    supervisor, worker = control_pair()
    with worker:
        if unread:
            send(worker, "ready")
        supervisor.close()
        assert receive_order(worker) is None
        send(worker, "ready")


# --- the wait before the next start


@pytest.mark.parametrize(
    ("lives", "waits"),
    [
        ([0] * 7, [1, 2, 4, 5, 5, 5, 5]),
        ([3600] * 3, [1, 1, 1]),
        ([0, 0, 0, 60, 0], [1, 2, 4, 1, 2]),
    ],
)
def test_the_wait_doubles_up_to_five_seconds_and_starts_again_after_a_steady_worker(lives: list[int], waits: list[int]) -> None:
    backoff = Backoff()
    assert [backoff.after(lived) for lived in lives] == waits
