"""The engine libmilter: its threads read the packets, and call the callbacks through its binding pymilter.

Only this module imports the binding, an extra of the package. Only the end of the process stops libmilter: a stopping libmilter
answers no MTA.
"""

import os
import socket
import sys
import tempfile
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Final

import milter

from sidecar import log
from sidecar.daemon.milter.adapter import Adapter
from sidecar.daemon.milter.context import Context
from sidecar.daemon.milter.listener import Listener, open_descriptors, seen_as_socket
from sidecar.daemon.milter.negotiation import ADDHDRS, CHGFROM, DELRCPT, Step

# libmilter keeps a pointer into this string object.
_NAME: Final = "sidecar"
# The actions of version 1 of the protocol (SMFI_V1_ACTS).
_V1_ACTIONS: Final = 0x0F
# The binding has a thread state for each connection, whichever thread runs it.
_of_connection = threading.local()

_LOG = log.get("milter")


def serve(adapter: Adapter, listener: Listener, folder: Path, ended: Callable[[], None]) -> Listener:
    """Accept from the listening socket in threads of libmilter. `folder` is for a socket that exists for a moment."""
    _install(adapter)
    _take_over(listener, folder)
    # libmilter blocks SIGTERM, SIGINT and SIGHUP in its thread and waits for them there, to stop at once. In a second thread it
    # never gets them: the main thread, where they are not blocked, does.
    sys.excepthook = partial(_log_unhandled, adapter)
    threading.Thread(target=_run, args=(ended,), name="libmilter", daemon=True).start()
    return listener


def _install(adapter: Adapter) -> None:
    callbacks = adapter.callbacks
    milter.set_flags(DELRCPT | ADDHDRS | CHGFROM)
    milter.set_connect_callback(callbacks[Step.CONNECT])
    milter.set_helo_callback(callbacks[Step.HELO])
    milter.set_envfrom_callback(callbacks[Step.MAIL])
    milter.set_envrcpt_callback(callbacks[Step.RCPT])
    milter.set_header_callback(callbacks[Step.HEADER])
    milter.set_eoh_callback(callbacks[Step.END_OF_HEADERS])
    milter.set_body_callback(callbacks[Step.BODY])
    milter.set_eom_callback(callbacks[Step.END_OF_MESSAGE])
    milter.set_abort_callback(callbacks[Step.ABORT])
    milter.set_close_callback(callbacks[Step.CLOSE])
    milter.register(_NAME, data=callbacks[Step.DATA], unknown=None, negotiate=partial(_negotiate, adapter))


def _negotiate(adapter: Adapter, context: Context, offer: list[int]) -> int:
    _of_connection.context = context
    # libmilter makes these of an offer without any action. No MTA of today offers exactly these.
    if offer[0] == _V1_ACTIONS:
        offer[0] &= ~DELRCPT
    return adapter.negotiate(context, offer)


def _take_over(listener: Listener, folder: Path) -> None:
    """Put the listening socket in the place of one that libmilter opens: it accepts from no other descriptor.

    That one must have the same address family.
    """
    before = _listening()
    family = listener.family
    if family == socket.AF_UNIX:
        with tempfile.TemporaryDirectory(dir=folder) as private:
            opened = os.open(private, os.O_PATH)
            # By the descriptor: the path of a UNIX socket has at most 107 bytes.
            _open(f"unix:/proc/self/fd/{opened}/socket")
            os.close(opened)
    else:
        _open("inet6:0@[::1]" if family == socket.AF_INET6 else "inet:0@[127.0.0.1]")
    # libmilter does not return the descriptor.
    (descriptor,) = _listening() - before
    listener.move_to(descriptor)


def _open(connection: str) -> None:
    milter.setconn(connection)
    milter.opensocket(1)


def _run(ended: Callable[[], None]) -> None:
    try:
        milter.main()
    except milter.error as error:
        _LOG.error(f"libmilter's loop failed: {error}")
    ended()


def _log_unhandled(adapter: Adapter, _kind: type[BaseException], error: BaseException, _trace: TracebackType | None) -> None:
    """Log an exception of the binding itself before a callback of ours runs: a HELO or a field name that is not UTF-8.

    Such a HELO name is lost. A message with such a field name is answered 451. (Postfix reads such a line as the beginning of
    the body.)
    """
    context = getattr(_of_connection, "context", None)
    # What the binding returns to libmilter for this exception. After TEMPFAIL for a field nothing more would be answered.
    continues = context is not None and adapter.lose_event(context)
    _LOG.error("the milter binding could not pass on an event", error=f"{type(error).__name__}: {error}", pid=os.getpid())
    # Last: while the log is written another thread could set its own.
    milter.set_exception_policy(milter.CONTINUE if continues else milter.TEMPFAIL)


def _listening() -> set[int]:
    """Return the descriptors of this process that listen."""
    return {number for number in open_descriptors() if _listens(number)}


def _listens(descriptor: int) -> bool:
    try:
        with seen_as_socket(descriptor) as one:
            return bool(one.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))
    except OSError:
        return False
