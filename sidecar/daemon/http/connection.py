"""One HTTP connection, and the patience it gets.

Owns how long and how many. Never knows what is asked.
"""

import asyncio
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from sidecar.daemon.http.answers import Refusal, error_answer

# A client that keeps its connection asks again within so long, or it costs him a new one.
KEEP_ALIVE_SECONDS = 15
# From its beginning, or from the answer before, a connection gets so long to ask and to take its answer, however slowly it
# reads and writes; an explanation takes some seconds at most.
PATIENCE_SECONDS = 30.0
# Each takes a descriptor and some 20 kB. Above it the one that was silent longest makes room: whoever opens many and says
# nothing locks out only himself.
CONNECTIONS_LIMIT = 200


class HttpConnection(H11Protocol):
    """uvicorn's connection, with a bound on its time and on how many there are, and JSON for what is no HTTP."""

    patience: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as uvicorn's own
        """Begin; make room where there are too many."""
        super().connection_made(transport)
        self._begin_patience()
        if len(self.connections) > CONNECTIONS_LIMIT:
            waiting = (one for one in self.connections if isinstance(one, HttpConnection) and one.patience is not None)
            min(waiting, key=_ends).transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """End."""
        self._end_patience()
        super().connection_lost(exc)

    def on_response_complete(self) -> None:
        """Begin anew: the next request gets the same time."""
        self._begin_patience()
        super().on_response_complete()

    def send_400_response(self, msg: str) -> None:
        """Answer what is no HTTP."""
        answer = error_answer(Refusal(400, f"{msg.rstrip('.')}: it is no HTTP/1.1, or its head is too big."))
        head = [*answer.raw_headers, (b"connection", b"close")]
        for event in (h11.Response(status_code=400, headers=head), h11.Data(data=bytes(answer.body)), h11.EndOfMessage()):
            self.transport.write(self.conn.send(event) or b"")
        self.transport.close()

    def _begin_patience(self) -> None:
        self._end_patience()
        self.patience = self.loop.call_later(PATIENCE_SECONDS, self.transport.abort)

    def _end_patience(self) -> None:
        if self.patience is not None:
            self.patience.cancel()
            self.patience = None


def _ends(one: Any) -> float:  # noqa: ANN401 - one with patience left, as the caller sees to
    return float(one.patience.when())
