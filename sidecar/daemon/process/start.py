"""The start: from settings to a serving supervisor.

Owns what is opened and locked before that, as root and without. Never waits for a message; the supervisor does.
"""

import errno
import fcntl
import os
import resource
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Final

from msgspec.structs import replace

from sidecar import log
from sidecar.core.settings.settings import Settings
from sidecar.core.settings.values import Source
from sidecar.daemon.milter import Listener, listen
from sidecar.daemon.process.admin import ListAccess, open_admin_socket
from sidecar.daemon.process.loader import Loader
from sidecar.daemon.process.plan import Plan, make_plan
from sidecar.daemon.process.privileges import SetupError, become, check_readable, create_for, new_identity, warn_of_user
from sidecar.daemon.process.reload import freeze_memory
from sidecar.daemon.process.side_task import SideTask
from sidecar.daemon.process.signals import Terminal, blocked
from sidecar.daemon.process.status import LOCK_NAME, read_status
from sidecar.daemon.process.supervisor import Supervisor
from sidecar.daemon.process.workers import KILL_AFTER, STOP_GRACE
from sidecar.daemon.sockets import ListenError

# A sidecar that stops gives its sessions this time. The next one waits for it, as `systemctl restart` does.
WAIT_WITHIN = STOP_GRACE + KILL_AFTER + 8.0
_LOOK_SECONDS: Final = 0.05
_LOCK_FLAGS: Final = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_LOCK_MODE: Final = 0o640
_HELD: Final = frozenset({errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES})

_LOG = log.get("supervisor")


def run(  # noqa: PLR0913 - each is a part of it
    settings: Settings,
    sources: Sequence[Source],
    loader: Loader,
    terminal: Terminal,
    *,
    side_tasks: Sequence[SideTask],
    suppression: ListAccess,
) -> int:
    """Serve with these settings until stopped. Return the exit status.

    `loader` has loaded them from these files, and has yet to pass its warnings. `terminal` is the one of the start.
    Each of the `side_tasks` runs in a process of its own.
    """
    try:
        with ExitStack() as stack:
            admin_socket = None if settings.admin is None else stack.enter_context(open_admin_socket(settings.admin))
            # The socket is removed also after a signal that arrives before the supervisor has its handlers.
            with blocked():
                listener, plan, lock = _prepare(settings, sources, stack)
                freeze_memory()
                # Each connection takes a file, and libmilter uses a whole CPU when there are no more.
                _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
                resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
                supervisor = Supervisor(
                    listener=listener,
                    plan=plan,
                    sources=sources,
                    loader=loader,
                    admin_socket=admin_socket,
                    side_tasks=side_tasks,
                    suppression=suppression,
                    lock=lock,
                    terminal=terminal,
                )
            return supervisor.run()
    except (SetupError, ListenError) as error:
        _LOG.error(str(error))
    except Exception as error:  # noqa: BLE001 - the log is the place for it: the terminal may be closed
        _LOG.error("cannot start: an unexpected fault", exc_info=error)
    loader.abandon()
    return 1


def _prepare(settings: Settings, sources: Sequence[Source], stack: ExitStack) -> tuple[Listener, Plan, IO[bytes]]:
    """Open everything that serving needs. As root, open what only root can, and then give up root's rights."""
    warn_of_user(settings)
    identity = new_identity(settings)
    if identity is None:
        plan = make_plan(settings, sources)
        lock = stack.enter_context(lock_state(settings.state_directory))
        return listen(settings.milter), plan, lock
    for folder in (settings.state_directory, *settings.journal.directories, *settings.list_directories):
        create_for(identity, folder)
    # The owner may connect whatever the mode is, and the supervisor must: it checks whether the socket answers.
    owner = settings.milter.socket_owner or identity.user
    listener = listen(replace(settings.milter, socket_owner=owner))
    try:
        become(identity)
        check_readable(identity, sources)
        # The default depends on the user, and must not change at the next reload.
        os.environ["STATE_DIRECTORY"] = str(settings.state_directory)
        _LOG.info(f"gave up root's rights for those of user {identity.user}")
        plan = make_plan(settings, sources)
        return listener, plan, stack.enter_context(lock_state(settings.state_directory))
    except BaseException:
        listener.close()
        raise


# --- one sidecar at a time for each state directory


def lock_state(directory: Path) -> IO[bytes]:
    """Lock a state directory. Return the open file `lock` in it. Raise SetupError if another sidecar has it and does not stop.

    The lock is the kernel's. It ends when the last process has closed the file, so a forked child closes it.
    """
    path = directory / LOCK_NAME
    try:
        file = os.fdopen(os.open(path, _LOCK_FLAGS, _LOCK_MODE), "rb")
    except OSError as error:
        raise SetupError(f"cannot open {path}: {error.strerror}; fix its rights, or remove it while no sidecar runs") from error
    try:
        _wait_for_lock(file, directory)
    except BaseException:
        file.close()
        raise
    return file


def _wait_for_lock(file: IO[bytes], directory: Path) -> None:
    until = time.monotonic() + WAIT_WITHIN
    waited = False
    while not _is_locked(file, directory):
        try:
            holder = read_status(directory)
        except (OSError, ValueError):
            holder = None
        if holder is None or holder.state not in {"stopping", "stopped"} or time.monotonic() >= until:
            which = "another sidecar" if holder is None else f"another sidecar, process {holder.pid},"
            fix = "stop it first, or name another state_directory in the settings of one of the two"
            raise SetupError(f"{which} keeps its state in {directory}: {fix}")
        if not waited:
            _LOG.info("another sidecar with this state directory is stopping: waiting for its end", pid=holder.pid)
            waited = True
        time.sleep(_LOOK_SECONDS)


def _is_locked(file: IO[bytes], directory: Path) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in _HELD:
            return False
        _LOG.warning(f"{directory} cannot be locked: {error.strerror}; check that no other sidecar keeps its state there")
    return True
