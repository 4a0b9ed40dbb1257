"""Serving through libmilter and its binding: the callbacks it calls, and its loop in a thread of its own.

Owns that thread. Never stops it: only the end of the process does, because a stopping libmilter answers nobody any more.
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
    """Begin to accept connections; `ended` is called from another thread if that comes to an end.

    libmilter blocks SIGTERM, SIGINT and SIGHUP in the thread that runs it and waits for them there, to stop at once and
    without grace. In a second thread it waits in vain: the main thread, where they are not blocked, is served first.
    """
    sys.excepthook = _log_unseen
    threading.Thread(target=_loop, args=(ended,), name="libmilter", daemon=True).start()


def _loop(ended: Callable[[], None]) -> None:
    try:
        milter.main()
    except milter.error as error:
        _LOG.error(f"libmilter's loop failed: {error}")
    ended()


def _log_unseen(_kind: type[BaseException], error: BaseException, _trace: TracebackType | None) -> None:
    """Log what the binding itself stumbles over before a callback of ours runs: a HELO or a field name that is not UTF-8.

    A HELO name is then not heard of. After a field name libmilter says nothing any more about that message, and the MTA gives
    it up with a temporary failure when its patience ends; Postfix takes such a line for the beginning of the body instead.
    """
    _LOG.error("the milter binding could not hand over an event", error=f"{type(error).__name__}: {error}", pid=os.getpid())
