"""What a node reports of itself, for `sidecar fleet status`. Its fields are permanent (deploy/docs/fleet.md, Reports)."""

import time
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import msgspec
from msgspec import Struct

from sidecar.core.fleet_view import CanaryHealth
from sidecar.core.settings.settings import Settings
from sidecar.fleet import READER
from sidecar.journal.read import Checkpoints, Skipped, followers


class NodeReport(Struct, frozen=True, kw_only=True):
    """A node: its program, the revision that serves (0: its own settings), and the latest that it has to take.

    `error` is why it has not taken that one, `held` why it has left the canary revision `held_revision`. `lag` is the age in
    seconds of the oldest record that is not shipped; 0 if there is none. `health` is None while no canary is on trial.
    """

    node: str
    program: str
    revision: int = 0
    latest: int = 0
    error: str = ""
    held: str = ""
    held_revision: int = 0
    lag: int = 0
    health: CanaryHealth | None = None


class _Answer(Struct, frozen=True):
    code: int = 0


class _Meta(Struct, frozen=True):
    count: int = 1


class _Decision(Struct, frozen=True):
    type: str = ""
    response: _Answer = _Answer()
    meta: _Meta = _Meta()


class LastReload(Struct, frozen=True):
    """The last reload of the supervisor: when it was over (RFC 3339), and what went wrong."""

    time: str = ""
    problems: tuple[str, ...] = ()


class SupervisorStatus(Struct, frozen=True):
    """What the supervisor counts, and its last reload, in its status file."""

    restarts: int = 0
    faults: int = 0
    last_reload: LastReload | None = None


_DECISION: Final = msgspec.json.Decoder(_Decision)
_TEMPFAIL: Final = range(400, 500)
# The other types come besides a Reception.
_DECISIONS: Final = ("Reception", "Rejection", "Feedback")


class HealthMeter:
    """Counts from now on, until it is closed."""

    def __init__(self, settings: Settings) -> None:
        self._state_directory = settings.state_directory
        self._opened = ExitStack()
        self._followers = self._opened.enter_context(followers(settings.journal.directories))
        self._messages = self._tempfailed = 0
        self._before = supervisor_status(self._state_directory)
        for follower in self._followers:
            for file in follower.look():
                file.skip()

    def look(self) -> CanaryHealth:
        """Return the health up to now. Raise JournalError."""
        for follower in self._followers:
            for file in follower.look():
                for line in file.lines():
                    if not isinstance(line, Skipped):
                        self._count(line.text)
        failures, before = supervisor_status(self._state_directory), self._before
        return CanaryHealth(
            messages=self._messages,
            tempfailed=self._tempfailed,
            faults=max(0, failures.faults - before.faults),
            restarts=max(0, failures.restarts - before.restarts),
        )

    def close(self) -> None:
        """Close the files of the journal."""
        self._opened.close()

    def _count(self, record: bytes | str) -> None:
        try:
            head = _DECISION.decode(record)
        except ValueError:
            return
        if head.type in _DECISIONS:
            self._messages += head.meta.count
        if head.type == "Rejection" and head.response.code in _TEMPFAIL:
            self._tempfailed += head.meta.count


def supervisor_status(state_directory: Path) -> SupervisorStatus:
    """Return what the supervisor has published; an empty status if that cannot be read."""
    try:
        return msgspec.json.decode((state_directory / "status.json").read_bytes(), type=SupervisorStatus)
    except (OSError, ValueError):
        return SupervisorStatus()


def lag_of(settings: Settings) -> int:
    """Return the age in seconds of the oldest record that is not shipped; 0 if there is none."""
    oldest = max(
        (one.oldest for one in Checkpoints(settings.checkpoints_directory).all_known() if one.name == READER), default=0
    )
    return max(0, int(time.time()) - oldest) if oldest else 0
