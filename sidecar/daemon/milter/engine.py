"""The engine that speaks to the MTA: libmilter through its binding, or this program itself.

Owns the choice, and the thread of libmilter. Only the end of the process stops that: a stopping libmilter answers no MTA.
Both engines call the same callbacks, with different arguments.
"""

import os
import sys
import threading
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Protocol

import milter
from msgspec import Struct

from sidecar import log
from sidecar.core.session.events import Event
from sidecar.daemon.milter import packets, translation
from sidecar.daemon.milter.adapter import Adapter
from sidecar.daemon.milter.conversation import Steps
from sidecar.daemon.milter.listener import NAME, Listener
from sidecar.daemon.milter.loop import Loop
from sidecar.daemon.milter.negotiation import Step

_LOG = log.get("milter")


class Serving(Protocol):
    """What accepts connections in this process."""

    def leave(self) -> None:
        """Stop accepting in this process only; open connections stay open."""

    def open_connections(self) -> int:
        """Count this process's connections from MTAs; call it after `leave`."""

    def prove_alive(self, report: Callable[[], None]) -> None:
        """Call this soon, unless the thread that serves the connections hangs."""


class Engine(Struct, frozen=True, kw_only=True):
    """One way to serve. `serve` begins to accept, and calls its last argument if the engine ends.

    `translations` and `waits` are arguments of the adapter.
    """

    translations: Mapping[Step, Callable[..., Event]]
    waits: bool
    serve: Callable[[Adapter, Listener, Callable[[], None]], Serving]


def _serve_through_libmilter(adapter: Adapter, listener: Listener, ended: Callable[[], None]) -> Serving:
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
    # libmilter blocks SIGTERM, SIGINT and SIGHUP in its thread and waits for them there, to stop at once. In a second thread it
    # never gets them: the main thread, where they are not blocked, does.
    sys.excepthook = _log_unhandled
    threading.Thread(target=_run_libmilter, args=(ended,), name="libmilter", daemon=True).start()
    return listener


def _run_libmilter(ended: Callable[[], None]) -> None:
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


def _serve_directly(adapter: Adapter, listener: Listener, ended: Callable[[], None]) -> Serving:
    loop = Loop(listener.fileno(), Steps(adapter.callbacks, adapter.negotiate), ended)
    # The loop has a copy of the descriptor. With a second one, a port that the loop has left would still accept connections,
    # which no worker serves, and a new supervisor could not open it.
    listener.leave()
    loop.start()
    return loop


ENGINES = {
    "libmilter": Engine(translations=translation.TRANSLATIONS, waits=False, serve=_serve_through_libmilter),
    "direct": Engine(translations=packets.TRANSLATIONS, waits=True, serve=_serve_directly),
}
"""The engines by their names in the settings."""
