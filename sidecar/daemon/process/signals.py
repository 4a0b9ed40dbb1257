"""Signals as data to read: the handlers do nothing, and a pipe wakes the supervisor's loop.

Owns the handlers and the pipe, and what a SIGHUP means. Never acts on a signal.
"""

import os
import select
import signal
from collections.abc import Iterator
from contextlib import contextmanager

WATCHED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class SignalReader:
    """The watched signals, from the moment it is made."""

    def __init__(self) -> None:
        self._reader, self._writer = os.pipe()
        os.set_blocking(self._reader, False)
        os.set_blocking(self._writer, False)
        signal.set_wakeup_fd(self._writer, warn_on_full_buffer=False)
        for number in WATCHED:
            signal.signal(number, lambda *_: None)

    def fileno(self) -> int:
        """Return the descriptor for a selector."""
        return self._reader

    def read(self) -> list[signal.Signals]:
        """Return the signals since the last call, in order."""
        try:
            return [signal.Signals(number) for number in os.read(self._reader, 512)]
        except BlockingIOError:
            return []

    def wait(self, seconds: float) -> None:
        """Wait until a signal arrives, so many seconds at most."""
        select.select([self._reader], [], [], seconds)

    def close(self) -> None:
        """Close the pipe, in a forked child."""
        signal.set_wakeup_fd(-1)
        os.close(self._reader)
        os.close(self._writer)


@contextmanager
def blocked() -> Iterator[None]:
    """Block the watched signals: one between a fork and the child's own handlers would wake the parent."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, WATCHED)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class Terminal:
    """The terminal that the program was started from, if there is one. Make it before SIGHUP gets another handler.

    SIGHUP loads the settings again. But the kernel also sends it when the terminal is closed, and then the program must stop.
    """

    def __init__(self) -> None:
        # nohup(1) sets the signal to be ignored: the program must outlive its terminal.
        self._is_ours = signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN and _has_terminal()
        self._was_gone = False

    def is_gone(self) -> bool:
        """Return True if a SIGHUP that arrives now is due to the terminal's end."""
        return self._is_ours and not _has_terminal()

    def look(self) -> None:
        """Forget a terminal that is gone at two looks: it ended without SIGHUP, and a later one is an operator's."""
        gone = self.is_gone()
        self._is_ours = self._is_ours and not (gone and self._was_gone)
        self._was_gone = gone


def _has_terminal() -> bool:
    """Return True if this process has a controlling terminal (tty(4))."""
    try:
        os.close(os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY | os.O_NONBLOCK | os.O_CLOEXEC))
    except OSError:
        return False
    return True
