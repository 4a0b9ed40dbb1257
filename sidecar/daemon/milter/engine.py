"""The engine that speaks to the MTA: libmilter through its binding, or this program itself.

Owns the choice. Both engines call the same callbacks, with different arguments.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol

from msgspec import Struct

from sidecar.core.session.events import Event
from sidecar.daemon.milter import packets, translation
from sidecar.daemon.milter.adapter import Adapter
from sidecar.daemon.milter.conversation import Steps
from sidecar.daemon.milter.listener import Listener
from sidecar.daemon.milter.loop import Loop
from sidecar.daemon.milter.negotiation import Step


class Serving(Protocol):
    """What accepts connections in this process."""

    def leave(self) -> None:
        """Stop accepting in this process only; open connections stay open."""

    def open_connections(self) -> int:
        """Count this process's connections from MTAs; call it after `leave`."""

    def prove_alive(self, report: Callable[[], None]) -> None:
        """Call this soon, unless the thread that serves the connections hangs."""


class Engine(Struct, frozen=True, kw_only=True):
    """One way to serve. `serve` begins to accept, and calls its last argument if the engine ends. It may write into its folder.

    `translations` and `waits` are arguments of the adapter.
    """

    translations: Mapping[Step, Callable[..., Event]]
    waits: bool
    serve: Callable[[Adapter, Listener, Path, Callable[[], None]], Serving]


def _serve_through_libmilter(adapter: Adapter, listener: Listener, folder: Path, ended: Callable[[], None]) -> Serving:
    from sidecar.daemon.milter import libmilter  # noqa: PLC0415 - its binding is an extra of the package

    return libmilter.serve(adapter, listener, folder, ended)


def _serve_directly(adapter: Adapter, listener: Listener, _folder: Path, ended: Callable[[], None]) -> Serving:
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
