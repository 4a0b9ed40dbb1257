"""The process that serves: one event loop, and the ends that come from outside.

Owns the HTTP server and its patience. Never knows what is served.
"""

import asyncio
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from socket import socket

import uvicorn
from starlette.types import ASGIApp

from sidecar.daemon.http.connection import KEEP_ALIVE_SECONDS, HttpConnection

# Of all headers of a request together; an honest one has some hundred bytes.
_HEAD_LIMIT = 16 * 1024


class _Server(uvicorn.Server):
    """uvicorn's server; `ready` is called when it accepts connections. Signals are none of its business."""

    def __init__(self, config: uvicorn.Config, ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._ready = ready
        self._draining = False

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals as they are: the supervisor speaks over its own socket."""
        yield

    async def startup(self, sockets: list[socket] | None = None) -> None:
        """Begin to accept."""
        await super().startup(sockets)
        self._ready()

    async def on_tick(self, counter: int) -> bool:
        """Tell whether it is time to end: it is when the last connection of one that drains is over."""
        return await super().on_tick(counter) or (self._draining and not self.server_state.connections)

    def drain(self, grace: float) -> None:
        """Accept nothing more, at once, and end when all connections have got their answers; after `grace` in any case.

        To close a connection that seems idle would cost those their answer whose question is on its way: it is closed with its
        next answer, and only one that asks nothing is just closed.
        """
        for one in self.servers:
            one.close()
        self.config.encoded_headers = [(b"connection", b"close")]
        self.server_state.default_headers = [*self.server_state.default_headers, *self.config.encoded_headers]
        # uvicorn takes 0 for no limit at all.
        self.config.timeout_graceful_shutdown = max(1, round(grace / 2))
        self._draining = True
        asyncio.get_running_loop().call_later(grace / 2, self._end)

    def _end(self) -> None:
        self.should_exit = True


def serve(
    app: ASGIApp, listening: socket, *, control: socket, hear: Callable[[], float | None], ready: Callable[[], None]
) -> None:
    """Serve until told to end, and finish what is in hand.

    Whenever there is something to read on `control`, `hear` reads it: it gives the seconds of grace before the end, or None to
    go on.
    """
    # Its few lines tell nothing that an operator could use, and have a form of their own.
    logging.getLogger("uvicorn").setLevel(logging.CRITICAL)
    asyncio.run(_serve(app, listening, control, hear, ready))


async def _serve(
    app: ASGIApp, listening: socket, control: socket, hear: Callable[[], float | None], ready: Callable[[], None]
) -> None:
    server = _Server(
        uvicorn.Config(
            app,
            http=HttpConnection,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_keep_alive=KEEP_ALIVE_SECONDS,
            h11_max_incomplete_event_size=_HEAD_LIMIT,
        ),
        ready,
    )

    def listen() -> None:
        grace = hear()
        if grace is not None:
            loop.remove_reader(control)
            server.drain(grace)

    loop = asyncio.get_running_loop()
    loop.add_reader(control, listen)
    await server.serve([listening])
