"""The start and its rights, in this process: what the system calls answer is a test's own."""

import errno
import os
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from msgspec.structs import replace

from sidecar.core.settings.settings import Settings
from sidecar.core.settings.values import AdminSettings, JournalSettings, MilterSettings, Source
from sidecar.daemon.milter import Listener
from sidecar.daemon.process import privileges, start
from sidecar.daemon.process.admin import ListAccess
from sidecar.daemon.process.loader import Loader
from sidecar.daemon.process.privileges import Identity, SetupError, become, check_readable, new_identity, warn_of_user
from sidecar.daemon.process.signals import Terminal
from sidecar.daemon.sockets import ListenError
from tests.building import settings

IDENTITY = Identity(user="daemon", uid=1, gid=1)
DENIED = PermissionError(errno.EPERM, os.strerror(errno.EPERM))


class System:
    """The system calls of this process, and the lines of its log. `fails` has what a call raises."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.uid, self.prctl = 0, 0
        self.fails: dict[str, Exception] = {}
        self.calls: list[tuple[Any, ...]] = []
        self.lines: list[str] = []
        for name in ("initgroups", "setresgid", "setresuid"):
            monkeypatch.setattr(f"os.{name}", self._call(name))
        monkeypatch.setattr("os.geteuid", lambda: self.uid)
        monkeypatch.setattr("ctypes.CDLL", lambda _: SimpleNamespace(prctl=lambda *_: self.prctl))
        for module in (privileges, start):
            for level in ("info", "warning", "error"):
                monkeypatch.setattr(module._LOG, level, lambda line, **_: self.lines.append(line))

    def _call(self, name: str) -> Callable[..., None]:
        def call(*given: Any) -> None:
            self.calls.append((name, *given))
            if (error := self.fails.get(f"{name}{given}", self.fails.get(name))) is not None:
                raise error

        return call


@pytest.fixture
def system(monkeypatch: pytest.MonkeyPatch) -> System:
    return System(monkeypatch)


# --- rights


def test_all_ids_are_given_up_and_that_is_proved(system: System) -> None:
    """Groups first: without root's rights they could not be changed."""
    system.fails["setresuid(0, 0, 0)"] = DENIED
    become(IDENTITY)
    assert system.calls == [
        ("initgroups", "daemon", 1),
        ("setresgid", 1, 1, 1),
        ("setresuid", 1, 1, 1),
        ("setresuid", 0, 0, 0),
    ]


@pytest.mark.parametrize(
    ("fails", "prctl", "text"),
    [
        ({"initgroups": DENIED}, 0, "cannot become user daemon: Operation not permitted; start the program with root's rights"),
        ({"setresuid": DENIED}, 0, "cannot become user daemon"),
        ({}, -1, "the kernel does not permit to give up rights for good"),
        ({}, 0, "user daemon can become root again: start the program without file capabilities"),
    ],
)
def test_rights_that_cannot_be_given_up_are_a_sentence(
    system: System, fails: dict[str, Exception], prctl: int, text: str
) -> None:
    system.fails, system.prctl = fails, prctl
    with pytest.raises(SetupError, match=text):
        become(IDENTITY)


def test_root_that_stays_root_need_not_prove_anything(system: System) -> None:
    """With user = "root"."""
    become(replace(IDENTITY, user="root", uid=0))
    assert system.calls[-1] == ("setresuid", 0, 0, 0)


def test_files_that_the_user_cannot_read_are_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sources = [Source(path=tmp_path / name, stamp=None, digest="00") for name in ("a", "b")]
    monkeypatch.setattr("os.access", lambda path, _: path.name == "a")
    missing = Source(path=tmp_path / "policy/active", stamp=None, digest=None)
    check_readable(IDENTITY, [missing, *sources[:1]])
    with pytest.raises(SetupError, match=f"user daemon is not permitted to read {tmp_path}/b, so that every reload would fail"):
        check_readable(IDENTITY, sources)


@pytest.mark.parametrize(
    ("uid", "named", "line"),
    [
        (0, settings(), "everything here runs as root"),
        (0, settings(user="daemon"), None),
        (1, settings(), None),
        (1, settings(user="daemon"), None),
        (1, settings(user="bin"), 'user = "bin" has no effect: only root can become that user, and this is user daemon'),
        (1 << 30, settings(user="bin"), f"and this is user {1 << 30}"),
    ],
)
def test_a_user_that_is_not_the_one_of_the_settings_is_a_warning(
    system: System, uid: int, named: Settings, line: str | None
) -> None:
    system.uid = uid
    warn_of_user(named)
    assert len(system.lines) == (line is not None)
    assert line is None or line in system.lines[0]
    assert (new_identity(named) is None) == (uid != 0 or named.user is None)


@pytest.mark.parametrize(
    ("named", "text"),
    [
        (settings(user="no-such-user"), "there is no user 'no-such-user' on this machine: create it"),
        (settings(user="daemon", group="no-such-group"), "there is no group 'no-such-group' on this machine"),
    ],
)
def test_an_account_that_does_not_exist_is_a_sentence(system: System, named: Settings, text: str) -> None:
    with pytest.raises(SetupError, match=text):
        new_identity(named)
    assert system.calls == []


# --- the start


class Started:
    """A start whose supervisor notes that it serves. `closed` counts the listeners that are closed."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.settings = replace(
            settings(user="daemon"),
            state_directory=folder,
            journal=JournalSettings(directory=folder / "journal"),
            milter=MilterSettings(workers=1),
        )
        self.order: list[str] = []
        self.abandoned = 0
        monkeypatch.setattr(start, "listen", self._listen)
        monkeypatch.setattr(start, "Supervisor", self._supervisor)
        for name in ("create_for", "become", "check_readable", "make_plan", "freeze_memory"):
            monkeypatch.setattr(start, name, self._noting(name))

    def _noting(self, name: str) -> Callable[..., Any]:
        return lambda *_: self.order.append(name)

    def _listen(self, milter: MilterSettings) -> Listener:
        self.order.append(f"listen for {milter.socket_owner}")
        return cast("Listener", self)

    def close(self) -> None:
        """Close the listener."""
        self.order.append("close")

    def abandon(self) -> int:
        """Abandon the loader."""
        self.abandoned += 1
        return 0

    def _supervisor(self, *, lock: Any, **_: Any) -> "Started":
        assert not lock.closed
        return self

    def run(self) -> int:
        """Serve."""
        self.order.append("serve")
        return 7

    def status(self) -> int:
        """Start, and return the exit status."""
        return start.run(
            self.settings, (), cast("Loader", self), cast("Terminal", None), side_tasks=(), suppression=ListAccess()
        )


@pytest.fixture
def started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, system: System) -> Started:
    assert system.uid == 0
    monkeypatch.setenv("STATE_DIRECTORY", "")
    return Started(tmp_path, monkeypatch)


def test_as_root_it_listens_before_and_locks_after_it_gives_up_its_rights(started: Started, system: System) -> None:
    assert started.status() == 7
    assert started.order == [
        "create_for",
        "create_for",
        "listen for daemon",
        "become",
        "check_readable",
        "make_plan",
        "freeze_memory",
        "serve",
    ]
    assert os.environ["STATE_DIRECTORY"] == str(started.settings.state_directory)
    assert system.lines == ["gave up root's rights for those of user daemon"]
    assert started.abandoned == 0


def test_without_root_it_locks_before_it_listens(started: Started, system: System) -> None:
    """So a second sidecar leaves the socket of the first one alone."""
    system.uid = 1
    started.settings = replace(started.settings, admin=AdminSettings(socket=f"unix:{started.settings.state_directory}/a"))
    assert started.status() == 7
    assert started.order == ["make_plan", "listen for None", "freeze_memory", "serve"]
    assert not (started.settings.state_directory / "a").exists()


@pytest.mark.parametrize(
    ("where", "error", "line"),
    [
        ("become", SetupError("cannot become user daemon"), "cannot become user daemon"),
        ("check_readable", SetupError("may not read"), "may not read"),
        ("make_plan", MemoryError(), "cannot start: an unexpected fault"),
        ("freeze_memory", MemoryError(), "cannot start: an unexpected fault"),
        ("listen", ListenError("cannot listen"), "cannot listen"),
    ],
)
def test_a_start_that_fails_logs_why_and_leaves_nothing(
    started: Started, system: System, monkeypatch: pytest.MonkeyPatch, where: str, error: Exception, line: str
) -> None:
    """Its last line is the reason, and its loader is not waited for."""

    def fail(*_: Any) -> None:
        raise error

    monkeypatch.setattr(start, where, fail)
    assert started.status() == 1
    assert system.lines[-1] == line
    assert started.abandoned == 1
    assert ("close" in started.order) == (where in {"become", "check_readable", "make_plan"})
