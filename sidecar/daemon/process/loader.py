"""A short-lived process that loads the settings, so that the supervisor neither grows by their parsing nor waits for it.

Owns that process, and what it passes: the listener domains as a shared mapping, the rest as values. Never decides what happens
with settings or findings.
"""

import gc
import os
import pickle
import select
import signal
import socket
import time
from contextlib import suppress
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Final

from msgspec.structs import replace

from sidecar import log
from sidecar.config import Loaded, Reading
from sidecar.core.findings import Finding
from sidecar.core.settings.domain_table import DomainTable, table_of
from sidecar.daemon.process.child import FAILED, control_pair, reap, start
from sidecar.daemon.process.plan import Handover
from sidecar.daemon.process.privileges import SetupError, become, new_identity

# A million domains need 20 to 30 s, and a minute on a busy machine. A load that needs longer waits for a disk that does not
# answer: without the limit, no one would see the reason.
LOAD_WITHIN: Final = 300.0
# Warnings get their own time: nothing depends on them.
WARN_WITHIN: Final = 300.0

# Nothing waits for warnings: loaders of other nodes on this machine, and workers, get the CPU first.
_NICENESS: Final = 10

_LOADED: Final = b"loaded"
_WARNINGS: Final = b"warnings"
_SIZE: Final = 16
_DESCRIPTORS: Final = 2
_FIRST_OWN: Final = 3
_ALARM_AFTER: Final = 2.0

_LOG = log.get("supervisor")


class LoaderError(Exception):
    """The settings could not be loaded, whatever is in them: one plain sentence, and what to do."""


class Loader:
    """A process that loads the settings at `config`, from the moment this is made. A selector can wait for `control`.

    It passes what it loaded, then, if there are settings, the warnings. Then it ends. With `candidate` it loads the policy of
    the fleet that a reload has to try. `known` is a table of domains whose files need no parsing while they are the same.
    """

    def __init__(self, config: Path | None, *, candidate: bool = False, known: DomainTable | None = None) -> None:
        self.config = config
        self.control, theirs = control_pair()
        try:
            self.pid = start(theirs, partial(_work, config, candidate=candidate, known=known))
        except BaseException:
            self.control.close()
            raise
        finally:
            theirs.close()
        self.kill_at: float | None = time.monotonic() + LOAD_WITHIN
        self.has_loaded = False
        self._is_reaped = False
        self._handover = Handover()

    def wait(self) -> Loaded:
        """Wait for what it loads. Raise LoaderError."""
        try:
            in_time = bool(select.select([self.control], [], [], LOAD_WITHIN)[0])
            received = self.receive() if in_time else None
        except BaseException:
            self.abandon()
            raise
        if isinstance(received, Loaded):
            return received
        if not in_time:
            # Its end is not waited for: the disk that it waits for may never answer.
            self.abandon()
            raise LoaderError(self.late())
        raise LoaderError(self.reap() or "nothing was loaded")

    def receive(self) -> Loaded | tuple[Finding, ...] | None:
        """Return what it passes next: what was loaded, then the warnings, None at its end. Raise any exception."""
        word, descriptors, _, _ = socket.recv_fds(self.control, _SIZE, _DESCRIPTORS)
        if word == _LOADED:
            self.has_loaded = True
            self.kill_at = time.monotonic() + WARN_WITHIN
            self._handover = Handover(descriptors)
            return self._handover.read()
        if word != _WARNINGS:
            return None
        with os.fdopen(descriptors[0], "rb") as file:
            file.seek(0)
            warnings: tuple[Finding, ...] = pickle.load(file)  # noqa: S301 - written by our own child
            return warnings

    def take_handover(self) -> Handover:
        """Return the memory that the settings were in, for the caller to close."""
        handover, self._handover = self._handover, Handover()
        return handover

    def kill(self) -> None:
        """Kill it. If another user than that of this process runs it by now, it lives until its time is over (see _work)."""
        if not self._is_reaped:
            with suppress(ProcessLookupError, PermissionError):
                os.kill(self.pid, signal.SIGKILL)

    def abandon(self) -> int:
        """Kill it, and close what belongs to it. Return its process id, for the caller to reap without waiting."""
        self.kill()
        self._close()
        return self.pid

    def reap(self) -> str | None:
        """Close what belongs to it, once `receive` has returned None. Return what went wrong, None if nothing did."""
        self._close()
        code, how = reap(self.pid)
        self._is_reaped = True
        if code in {0, -signal.SIGALRM}:
            return self.late() if code else None
        return f"{self._what()} the settings {how}; look whether memory has run out, or what the lines above say"

    def late(self) -> str:
        """Return what to log of a loader whose time is over."""
        within = WARN_WITHIN if self.has_loaded else LOAD_WITHIN
        return f"{self._what()} the settings took longer than {within:.0f} seconds; look whether their files can be read"

    def _what(self) -> str:
        return "the process that looks for warnings in" if self.has_loaded else "the process that loads"

    def _close(self) -> None:
        self.control.close()
        self._handover.close()


def load_again(config: Path | None, known: DomainTable | None) -> Loader:
    """Load for a reload."""
    return Loader(config, candidate=True, known=known)


# --- in the loader itself


def _work(config: Path | None, control: socket.socket, *, candidate: bool, known: DomainTable | None) -> int:
    """Load, and pass it on. Return the exit status."""
    try:
        _leave_parent(control.fileno(), *([] if known is None else [known.descriptor]))
        # A supervisor that has given up root's rights since it started this process cannot kill it: the kernel does.
        signal.setitimer(signal.ITIMER_REAL, LOAD_WITHIN + _ALARM_AFTER)
        reading = Reading(config, candidate=candidate, known=known)
        loaded, settings = reading.loaded, reading.loaded.settings
        if settings is not None:
            # Become the user that the supervisor becomes: it could not kill a process of root later.
            with suppress(SetupError):  # the supervisor reports it
                if (identity := new_identity(settings)) is not None:
                    become(identity)
        table = table_of(() if settings is None else settings.domains)
        if settings is not None:
            loaded = replace(loaded, settings=replace(settings, domains=()))
        memories = [_in_memory("settings", pickle.dumps(loaded)), table.descriptor]
        with suppress(OSError):  # the unit of an earlier version forbids it
            os.nice(_NICENESS)
        socket.send_fds(control, [_LOADED], memories)
        signal.setitimer(signal.ITIMER_REAL, WARN_WITHIN + _ALARM_AFTER)
        if settings is not None:
            socket.send_fds(control, [_WARNINGS], [_in_memory("warnings", pickle.dumps(reading.warnings()))])
    except BrokenPipeError:
        return FAILED  # the supervisor is dead, or has no use for this any more
    except Exception as error:  # noqa: BLE001 - whatever it is, the supervisor keeps its settings
        _LOG.error("loading the settings failed", exc_info=error)
        return FAILED
    return 0


def _leave_parent(*kept: int) -> None:
    """Close all that is the supervisor's but these descriptors.

    A worker's control would hide its end, and the listening socket would stay open.
    """
    # Signals of a terminal or a service manager are not for this process: the supervisor ends it.
    os.setsid()
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGALRM):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    for before, after in pairwise((_FIRST_OWN - 1, *sorted(kept), os.sysconf("SC_OPEN_MAX"))):
        os.closerange(before + 1, after)
    # It needs to its end what it makes.
    gc.disable()


def _in_memory(name: str, content: bytes) -> int:
    """Write content into a file that exists in memory only. Return its descriptor."""
    descriptor = os.memfd_create(f"sidecar-{name}")
    with os.fdopen(descriptor, "wb", closefd=False) as file:
        file.write(content)
    return descriptor
