"""A plan: settings, the policy compiled from them, and what else workers need, ready and checked.

Owns what must work before anything starts. Never starts anything.
"""

import hashlib
import os
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from uuid import UUID, uuid4

from msgspec import Struct

from sidecar.core.policy import Policy, compile_policy
from sidecar.core.settings.values import Settings, Source
from sidecar.daemon.process.folders import UntrustedError, see_that_it_is_roots
from sidecar.daemon.process.handover import Handover

_REVISION_LENGTH = 12
# Bytes of a file with a UUID, with room for what an editor leaves around it.
_ID_SIZE = 256


class PlanError(Exception):
    """The plan cannot work: one plain sentence, and what to do."""


class Plan(Struct, frozen=True, kw_only=True, eq=False):
    """What a generation of workers serves with. Two plans are the same only if they are one object.

    `revision` is short for the bytes of the files of the settings; `made` is in seconds since 1970. `needs_restart` names
    the settings in the files that take effect only at the next start. `handover` is the memory that the settings came in, for
    workers that have an earlier plan; call `drop` when it is not needed any more.
    """

    settings: Settings
    policy: Policy
    node_id: str
    revision: str
    made: float
    needs_restart: tuple[str, ...] = ()
    handover: Handover | None = None

    def drop(self) -> None:
        """Close the handover."""
        if self.handover is not None:
            self.handover.close()


class Replanned(Struct, frozen=True, kw_only=True):
    """A plan, or else the problems. `folders` are those that a plan needs, if one of them cannot be used."""

    plan: Plan | None
    problems: tuple[str, ...] = ()
    folders: tuple[Path, ...] = ()


def make_plan(settings: Settings, sources: Sequence[Source]) -> Plan:
    """Compile the policy of settings that came from these files, and try the folders. Raises PlanError."""
    if os.geteuid() == 0:
        for folder in (*settings.journal.directories, settings.state_directory, settings.state_directory / "quarantine"):
            _see_that_it_is_roots(folder)
    for directory in settings.journal.directories:
        _try_folder(directory, "records")
    _try_folder(settings.state_directory, "state")
    return Plan(
        settings=settings,
        policy=compile_policy(settings),
        node_id=settings.node_id or _node_id(settings.state_directory),
        revision=_revision(sources),
        made=time.time(),
    )


def _revision(sources: Sequence[Source]) -> str:
    together = hashlib.sha256(b"".join(bytes.fromhex(source.digest or "") for source in sources))
    return together.hexdigest()[:_REVISION_LENGTH] if sources else "built-in"


def _see_that_it_is_roots(folder: Path) -> None:
    """As root write nothing where another user could make it land in any file of the system."""
    fix = 'name that user with user = "..." in the settings, or choose a folder that only root may change'
    try:
        see_that_it_is_roots(folder)
    except NotADirectoryError:
        return  # nothing can be written there, which the next step reports
    except UntrustedError as error:
        raise PlanError(f"root does not write into {folder}: {error}; {fix}") from error
    except OSError as error:
        raise PlanError(f"cannot look into {folder}: {error.strerror}; {fix}") from error


def _try_folder(folder: Path, what: str) -> None:
    """Make sure that a file can be created there: found out now it is a sentence, found out later it is refused mail."""
    try:
        folder.mkdir(mode=0o750, parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        fix = "give the sidecar's user the right to write there, or choose another folder"
        raise PlanError(f"cannot write {what} into {folder}: {error.strerror}; {fix}") from error


def _node_id(state: Path) -> str:
    """Read this installation's id, or make one up for ever."""
    path = state / "node_id"
    try:
        if not path.exists():
            _create(path, f"{uuid4()}\n")
        return str(UUID(_read(path).decode("ascii").strip()))
    except OSError as error:
        raise PlanError(f"cannot read {path}: {error.strerror}; fix its rights, or remove it to get a new id") from error
    except ValueError as error:
        raise PlanError(f"{path} holds no UUID: fix it, or remove it to get a new id") from error


def _read(path: Path) -> bytes:
    """Read the beginning of a regular file that is no link. Raises OSError."""
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
        return file.read(_ID_SIZE)


def _create(path: Path, text: str) -> None:
    """Write a whole file or none; a file that is there by now is left alone."""
    with tempfile.NamedTemporaryFile("w", dir=path.parent) as draft:
        draft.write(text)
        draft.flush()
        os.fsync(draft.fileno())
        try:
            os.link(draft.name, path)
        except FileExistsError:
            return
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
