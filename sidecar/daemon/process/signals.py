"""Signals as something to read: the handlers do nothing but wake the supervisor's loop.

Owns the handlers and the pipe behind them. Never acts on a signal.
"""

import os
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
        """Give what can be waited for."""
        return self._reader

    def read(self) -> list[signal.Signals]:
        """Give the signals that came since the last call, in order."""
        try:
            return [signal.Signals(number) for number in os.read(self._reader, 512)]
        except BlockingIOError:
            return []

    def forget(self) -> None:
        """Let go of the pipe, in a forked child."""
        signal.set_wakeup_fd(-1)
        os.close(self._reader)
        os.close(self._writer)


@contextmanager
def held_back() -> Iterator[None]:
    """Hold the watched signals back: one that came between a fork and the child's own handlers would wake the parent."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, WATCHED)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
