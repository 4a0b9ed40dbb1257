"""A plan: settings, the policy compiled from them, and what else workers need, ready and checked.

Owns what must work before workers start. Never starts anything.
"""

import hashlib
import mmap
import os
import pickle
import tempfile
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Final
from uuid import UUID, uuid4

from msgspec import Struct, field
from msgspec.structs import replace

from sidecar.config import Loaded
from sidecar.core.policy import Policy, compile_policy
from sidecar.core.settings.domain_table import DomainTable
from sidecar.core.settings.settings import Settings
from sidecar.core.settings.values import Source
from sidecar.daemon.process.aside import Aside, HungError
from sidecar.daemon.process.privileges import SetupError, check_only_root_writes
from sidecar.journal import create_file
from sidecar.machine import has_package

_REVISION_LENGTH = 12
# Bytes of a file with a UUID, with space for what an editor leaves around it.
_ID_SIZE = 256
# Less than a worker has for an answer: the supervisor waits so long at a reload.
FOLDERS_WITHIN = 10.0
# While a disk hangs, a later reload adds no second thread.
_FOLDERS: Final = Aside()


class Handover:
    """Loaded settings as memory that processes pass to each other: a loader to the supervisor, and that to retiring workers.

    The descriptors are of two files in memory: what was loaded without its domains, pickled, and the table of the domains. The
    owner closes them. Any number of processes may read the same memory at the same time.
    """

    def __init__(self, descriptors: Sequence[int] = ()) -> None:
        self.descriptors = tuple(descriptors)

    def read(self) -> Loaded:
        """Return what was loaded, with the domains as a mapping of the shared table. Raise any exception if that fails."""
        # The kernel passes fewer descriptors if this process may not open as many (recvmsg(2), MSG_CTRUNC).
        values, table = self.descriptors
        # Mapped: to read the file would move its position, which all processes share.
        with mmap.mmap(values, 0, prot=mmap.PROT_READ) as content:
            loaded: Loaded = pickle.loads(content)  # noqa: S301 - written by our own child
        if loaded.settings is None:
            return loaded
        return replace(loaded, settings=replace(loaded.settings, domains=DomainTable(table)))

    def close(self) -> None:
        """Close the descriptors. May be called again."""
        descriptors, self.descriptors = self.descriptors, ()
        for descriptor in descriptors:
            os.close(descriptor)


class Plan(Struct, frozen=True, kw_only=True, eq=False):
    """What a generation of workers serves with. Two plans are the same only if they are one object.

    `revision` is short for the bytes of the files of the settings; `made` is in seconds since 1970. `needs_restart` names
    the settings in the files that take effect only at the next start. `handover` is the memory that the settings were in, for
    workers that have an earlier plan; close it when no worker needs it any more.
    """

    settings: Settings
    policy: Policy
    node_id: str
    revision: str
    made: float
    needs_restart: tuple[str, ...] = ()
    handover: Handover = field(default_factory=Handover)


def make_plan(settings: Settings, sources: Sequence[Source]) -> Plan:
    """Compile the policy of settings that were read from these files, and try the folders. Raise SetupError."""
    if settings.milter.engine == "libmilter" and not has_package("milter"):
        needs = 'engine = "libmilter" needs pymilter, which is not installed'
        extra = "install the extra sidecar[libmilter] (with gcc, python3-dev, libmilter-dev)"
        raise SetupError(f'{needs}; write engine = "direct" below [milter], or {extra}')
    try:
        node_id = _FOLDERS.do(partial(_tried_folders, settings), within=FOLDERS_WITHIN)
    except HungError:
        places = " or ".join(map(str, (*settings.journal.directories, settings.state_directory)))
        fault = f"a disk does not answer: that of {places}; look for its errors in the log of the kernel (dmesg)"
        raise SetupError(fault) from None
    together = hashlib.sha256(b"".join(bytes.fromhex(source.digest or "") for source in sources))
    return Plan(
        settings=settings,
        policy=compile_policy(settings),
        node_id=node_id,
        revision=together.hexdigest()[:_REVISION_LENGTH] if sources else "built-in",
        made=time.time(),
    )


def _tried_folders(settings: Settings) -> str:
    """Try all folders. Return the id of this installation. Raise SetupError."""
    listed = settings.list_directories
    if os.geteuid() == 0:
        for folder in (*settings.journal.directories, settings.state_directory, settings.quarantine_directory, *listed):
            check_only_root_writes(folder)
    for directory in settings.journal.directories:
        _try_folder(directory, "records")
    _try_folder(settings.state_directory, "state")
    for directory in listed:
        _try_folder(directory, "the suppression list")
    return settings.node_id or _node_id(settings.node_id_file)


def _try_folder(folder: Path, what: str) -> None:
    """Create a file there: a fault found now is a sentence, a fault found later is rejected mail."""
    try:
        folder.mkdir(mode=0o750, parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        fix = "give the sidecar's user the right to write there, or choose another folder"
        raise SetupError(f"cannot write {what} into {folder}: {error.strerror}; {fix}") from error


def _node_id(path: Path) -> str:
    """Return this installation's id from its file. Create the file if it does not exist."""
    try:
        if not path.exists():
            create_file(path, f"{uuid4()}\n".encode())
        # A regular file that is no link.
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
            return str(UUID(file.read(_ID_SIZE).decode("ascii").strip()))
    except OSError as error:
        raise SetupError(f"cannot read {path}: {error.strerror}; fix its rights, or remove it to get a new id") from error
    except ValueError as error:
        raise SetupError(f"{path} holds no UUID: fix it, or remove it to get a new id") from error
