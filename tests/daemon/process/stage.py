"""A supervisor in this process: its clock, its children and its loader are a test's own.

Owns what the supervisor is given. A child is a process that sleeps: a test sends its messages, and kills it.
"""

import json
import os
import signal
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from socket import socket
from typing import Any, cast

import pytest
from msgspec.structs import replace

from sidecar.config import Loaded
from sidecar.config.files import stamp_of
from sidecar.core.findings import Finding
from sidecar.core.settings.settings import Settings
from sidecar.core.settings.values import JournalSettings, MilterSettings, Source
from sidecar.daemon.milter import Listener
from sidecar.daemon.process import reload, status, supervisor, workers
from sidecar.daemon.process.admin import ListAccess
from sidecar.daemon.process.child import Word, Work, control_pair, send
from sidecar.daemon.process.loader import Loader
from sidecar.daemon.process.plan import Handover, make_plan
from sidecar.daemon.process.signals import WATCHED, Terminal
from sidecar.daemon.process.start import lock_state
from sidecar.daemon.process.supervisor import Supervisor
from tests.building import settings
from tests.mta.processes import wait_until

_KILL = os.kill


class Child:
    """A process that sleeps, with the control socket that the supervisor gave it."""

    def __init__(self, control: socket, work: Work) -> None:
        self.control = control.dup()
        self.work = work
        self.pid = os.posix_spawn("/bin/sleep", ["sleep", "600"], {})
        # Until then it can have copies of the control sockets, which would hide the death of another child (execve(2)).
        wait_until(lambda: Path(f"/proc/{self.pid}/comm").read_text("ascii") == "sleep\n", "it has closed what it inherited")

    def sends(self, *words: Word) -> None:
        """Send words to the supervisor."""
        for word in words:
            send(self.control, word)

    def received(self) -> list[bytes]:
        """Return what the supervisor has sent to it."""
        words = []
        self.control.setblocking(False)
        with suppress(BlockingIOError):
            while word := self.control.recv(64):
                words.append(word)
        return words

    def is_dead(self) -> bool:
        """Return True if the process has ended."""
        try:
            return os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
        except ChildProcessError:
            return True

    def die(self) -> None:
        """Die as the kernel shows it: the control socket is closed."""
        with suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)
        self.control.close()


class FakeLoader:
    """A loader that passes what a test gives it; an exception is raised when it is received."""

    # No child of this process has it.
    PID = 1 << 29

    def __init__(self, config: Path | None = None) -> None:
        self.config = config
        self.control, self.end = control_pair()
        self.has_loaded = False
        self.kill_at: float | None = None
        self.is_killed = False
        self.trouble: str | None = None
        self._passed: deque[Loaded | tuple[Finding, ...] | Exception] = deque()

    def passes(self, passed: Loaded | tuple[Finding, ...] | Exception) -> None:
        """Pass this next."""
        self._passed.append(passed)
        self.end.send(b"passed")

    def ends(self, trouble: str | None = None) -> None:
        """End, with this for the log."""
        self.trouble = trouble
        self.end.close()

    def receive(self) -> Loaded | tuple[Finding, ...] | None:
        """Return what it passes, None at its end."""
        if not self.control.recv(64):
            return None
        passed = self._passed.popleft()
        self.has_loaded |= not isinstance(passed, tuple)
        if isinstance(passed, Exception):
            raise passed
        return passed

    def take_handover(self) -> Handover:
        """Return an empty one: the settings are no memory of a process."""
        return Handover()

    def kill(self) -> None:
        """Note that it was killed."""
        self.is_killed = True

    def abandon(self) -> int:
        """Note that it was killed, and close its control socket."""
        self.kill()
        self.control.close()
        return self.PID

    def late(self) -> str:
        """Return what to log of a loader whose time is over."""
        return "the process that loads the settings took longer than 300 seconds"

    def reap(self) -> str | None:
        """Close its control socket, after its end only."""
        assert self.end.fileno() == -1, "waited for a loader that has not ended"
        self.control.close()
        return self.trouble


class Stage:
    """A supervisor, and what it was given. Nothing moves but by `turn`."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        self.now = 1000.0
        self.children: list[Child] = []
        self.loaders: list[FakeLoader] = [FakeLoader()]
        self.terminal_is_gone = False
        self.start_fails: Exception | None = None
        self.load_fails: Exception | None = None
        self.lines: list[str] = []
        self.tracebacks: list[object] = []
        self.waits: list[float | None] = []
        self.file = folder / "sidecar.toml"
        self.file.write_text("", encoding="ascii")
        self.settings: Settings = replace(
            settings(),
            state_directory=folder,
            journal=JournalSettings(directory=folder / "journal", minimum_free=0),
            milter=MilterSettings(workers=2),
        )
        for module in (supervisor, workers, reload, status):
            for level in ("info", "warning", "error"):
                monkeypatch.setattr(module._LOG, level, self._log)
        # Otherwise the garbage collector looks at all modules and tests after each reload: 0.4 seconds.
        monkeypatch.setattr(reload, "refreeze_memory", lambda: None)
        monkeypatch.setattr(supervisor, "FAULT_PAUSE", 0.0)
        monkeypatch.setattr("os.kill", self._kill)
        self.supervisor = Supervisor(
            listener=cast("Listener", self),
            plan=make_plan(self.settings, self.sources()),
            sources=self.sources(),
            loader=self._next_loader(),
            lock=lock_state(folder),
            terminal=cast("Terminal", self),
            suppression=ListAccess(),
            clock=lambda: self.now,
            start=self._start,
            load=self._load,
        )
        due = self.supervisor._time_to_next

        def now() -> float:
            """Note for how long it would wait, and do not wait."""
            self.waits.append(due())
            return 0.0

        monkeypatch.setattr(self.supervisor, "_time_to_next", now)

    # --- a listener, and a terminal

    name = "unix:/s"
    is_closed = False

    def close(self) -> None:
        """Close the listening socket."""
        self.is_closed = True

    def leave(self) -> None:
        """Leave nothing."""

    def is_gone(self) -> bool:
        """Return what the terminal would."""
        return self.terminal_is_gone

    def look(self) -> None:
        """See nothing."""

    def _log(self, line: str, *, exc_info: object = None, **_: object) -> None:
        self.lines.append(line)
        self.tracebacks += [exc_info] if exc_info is not None else []

    # --- children and loaders

    def _kill(self, pid: int, number: int) -> None:
        """Kill, and wait for the end, which the kernel brings soon."""
        _KILL(pid, number)
        if any(child.pid == pid for child in self.children) and number == signal.SIGKILL:
            os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)

    def _start(self, control: socket, work: Work) -> int:
        if self.start_fails is not None:
            raise self.start_fails
        # Whatever goes wrong after the fork, the supervisor has the process on its list.
        children = [*self.supervisor._workers.children, *self.supervisor._admin.children]
        assert [one.pid for one in children].count(0) == 1
        self.children.append(Child(control, work))
        return self.children[-1].pid

    def _next_loader(self) -> Loader:
        return cast("Loader", self.loaders[-1])

    def _load(self, config: Path | None, _: object) -> Loader:
        if self.load_fails is not None:
            raise self.load_fails
        self.loaders.append(FakeLoader(config))
        return self._next_loader()

    @property
    def loader(self) -> FakeLoader:
        """The loader that was started last."""
        return self.loaders[-1]

    # --- what happens

    def turn(self, times: int = 3, *, after: float = 0.0) -> None:
        """Let it take some turns, so many seconds later. Children that it killed are dead then."""
        self.now += after
        for _ in range(times):
            for child in self.children:
                if child.control.fileno() >= 0 and child.is_dead():
                    child.control.close()
            self.supervisor._turn()

    def begin(self) -> None:
        """Start the first workers."""
        self.supervisor._guarded(self.supervisor._reload.start_coming)

    def serve(self) -> None:
        """Start, and be ready."""
        self.begin()
        self.ready()

    def ready(self, *, since: int = 0) -> None:
        """Have the workers from this number on be ready."""
        for child in self.children[since:]:
            child.sends("ready")
        self.turn()

    def retired(self, children: Sequence[Child]) -> None:
        """Have retiring workers leave the socket."""
        for child in children:
            child.sends("left", "applied")
        self.turn()

    def alive(self) -> None:
        """Have all workers give a sign of life."""
        for child in self.children:
            if child.control.fileno() >= 0:
                child.sends("alive")
        self.turn()

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the supervisor, which is this process."""
        os.kill(os.getpid(), number)
        self.turn()

    def sources(self) -> tuple[Source, ...]:
        """Return the settings file as it is now."""
        return (Source(path=self.file, stamp=stamp_of(self.file), digest="00"),)

    def loaded(self, **changes: Any) -> Loaded:
        """Return settings as a loader passes them."""
        return Loaded(settings=replace(self.settings, **changes), problems=(), sources=self.sources())

    def change_file(self) -> None:
        """Change a file behind the settings, and have that seen."""
        self.file.write_text(self.file.read_text("ascii") + "#\n", encoding="ascii")
        self.turn(after=2.0)
        self.turn(after=2.0)

    def status(self) -> dict[str, Any]:
        """Return what the status file says."""
        found: dict[str, Any] = json.loads((self.folder / "status.json").read_text("utf-8"))
        return found

    def says(self, text: str) -> int:
        """Count the lines of the log with this text."""
        return sum(text in line for line in self.lines)

    def end(self) -> None:
        """End and close all."""
        for child in self.children:
            with suppress(ChildProcessError, ProcessLookupError):
                os.kill(child.pid, signal.SIGKILL)
                os.waitpid(child.pid, 0)
            child.control.close()
        for loader in self.loaders:
            loader.control.close()
            loader.end.close()
        for worker in self.supervisor._workers.children:
            worker.control.close()
        self.supervisor._selector.close()
        self.supervisor._lock.close()
        self.supervisor._signals.close()


@contextmanager
def staged(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stage]:
    """Make a supervisor, and end all that belongs to it."""
    before = {number: signal.getsignal(number) for number in WATCHED}
    stage = Stage(folder, monkeypatch)
    try:
        yield stage
    finally:
        stage.end()
        for number, handler in before.items():
            signal.signal(number, handler)
