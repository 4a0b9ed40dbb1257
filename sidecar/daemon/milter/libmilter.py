"""Serving through libmilter and its binding: the callbacks it calls, and its loop in a thread.

Owns that thread. Never stops it: a stopping libmilter answers no connection any more, so only the end of the process does.
"""

import os
import sys
import threading
from collections.abc import Callable
from types import TracebackType

import milter

from sidecar import log
from sidecar.daemon.milter.adapter import Adapter
from sidecar.daemon.milter.listener import NAME
from sidecar.daemon.milter.negotiation import Step

_LOG = log.get("milter")


def install(adapter: Adapter) -> None:
    """Make an adapter's callbacks those of this process."""
    callbacks = adapter.callbacks
    milter.set_flags(milter.DELRCPT)
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
    milter.register(NAME, data=callbacks[Step.DATA], unknown=None, negotiate=adapter.negotiate)


def start(ended: Callable[[], None]) -> None:
    """Begin to accept connections; another thread calls `ended` if libmilter ends.

    libmilter blocks SIGTERM, SIGINT and SIGHUP in its thread and waits for them there, to stop at once. In a second thread it
    never gets them: the main thread, where they are not blocked, does.
    """
    sys.excepthook = _log_unhandled
    threading.Thread(target=_loop, args=(ended,), name="libmilter", daemon=True).start()


def _loop(ended: Callable[[], None]) -> None:
    try:
        milter.main()
    except milter.error as error:
        _LOG.error(f"libmilter's loop failed: {error}")
    ended()


def _log_unhandled(_kind: type[BaseException], error: BaseException, _trace: TracebackType | None) -> None:
    """Log an exception of the binding itself before a callback of ours runs: a HELO or a field name that is not UTF-8.

    Such a HELO name is lost. After such a field name libmilter does not answer for that message, and the MTA tempfails it after
    its timeout; Postfix reads such a line as the beginning of the body instead.
    """
    _LOG.error("the milter binding could not pass on an event", error=f"{type(error).__name__}: {error}", pid=os.getpid())
