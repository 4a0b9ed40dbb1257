"""The way into this package: from settings to a serving supervisor.

Owns the start. Never waits for anything; the supervisor does.
"""

import os
import resource
from collections.abc import Sequence
from contextlib import ExitStack

import msgspec

from sidecar import log
from sidecar.core.settings.values import Settings, Source
from sidecar.daemon.milter import Listener, ListenError, listen
from sidecar.daemon.process.admin_socket import open_admin_socket
from sidecar.daemon.process.loader import Loader
from sidecar.daemon.process.lock import StateLock
from sidecar.daemon.process.plan import Plan, PlanError, make_plan
from sidecar.daemon.process.privileges import (
    Identity,
    PrivilegeError,
    become,
    give_folder,
    see_that_it_may_read,
    whom_to_become,
)
from sidecar.daemon.process.reload import settle_memory
from sidecar.daemon.process.signals import Terminal
from sidecar.daemon.process.supervisor import Supervisor

_LOG = log.get("supervisor")


def run(settings: Settings, sources: Sequence[Source], loader: Loader, terminal: Terminal) -> int:
    """Serve with these settings until told to stop. Return the exit status.

    `loader` has loaded them from these files, and has yet to pass its warnings. `terminal` is the one of the start.
    """
    try:
        with ExitStack() as stack:
            admin_socket = None if settings.admin is None else stack.enter_context(open_admin_socket(settings.admin))
            listener, plan, lock = _prepare(settings, sources, stack)
            settle_memory()
            _allow_many_files()
            supervisor = Supervisor(
                listener=listener,
                plan=plan,
                sources=sources,
                loader=loader,
                admin_socket=admin_socket,
                lock=lock,
                terminal=terminal,
            )
            return supervisor.run()
    except (PlanError, ListenError, PrivilegeError) as error:
        _LOG.error(str(error))
    except Exception as error:  # noqa: BLE001 - the log is the place for it: the terminal may be gone
        _LOG.error("cannot start: an unexpected fault", exc_info=error)
    loader.abandon()
    return 1


def _prepare(settings: Settings, sources: Sequence[Source], stack: ExitStack) -> tuple[Listener, Plan, StateLock]:
    """Get everything that serving needs. As root, get what only root can get, and then give up root's rights."""
    identity = whom_to_become(settings)
    if identity is None:
        plan = make_plan(settings, sources)
        lock = stack.enter_context(StateLock(settings.state_directory))
        return listen(settings.milter), plan, lock
    for folder in (settings.state_directory, *settings.journal.directories):
        give_folder(folder, identity)
    # Its owner may connect whatever the mode says, and the supervisor has to: it looks whether the socket answers.
    owner = settings.milter.socket_owner or identity.user
    listener = listen(msgspec.structs.replace(settings.milter, socket_owner=owner))
    try:
        _give_up_root(identity, settings, sources)
        plan = make_plan(settings, sources)
        return listener, plan, stack.enter_context(StateLock(settings.state_directory))
    except BaseException:
        listener.close()
        raise


def _give_up_root(identity: Identity, settings: Settings, sources: Sequence[Source]) -> None:
    become(identity)
    see_that_it_may_read(identity, sources)
    # The default depends on who asks, and must not change at the next reload.
    os.environ["STATE_DIRECTORY"] = str(settings.state_directory)
    _LOG.info(f"gave up root's rights for those of user {identity.user}")


def _allow_many_files() -> None:
    """Raise the limit of open files as far as we may: each connection takes one, and libmilter spins when there are no more."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
