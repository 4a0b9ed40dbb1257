"""What stands in front of every request: who may ask at all.

Owns the refusal of browsers that were led here, and the headers that all answers have. Never looks at what is asked.
"""

import re
from collections.abc import Mapping

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sidecar import log
from sidecar.daemon.http.answers import Refusal, error_answer

_LOG = log.get("admin")

_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^:\[\]]+)(?::[0-9]{1,5})?")
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "[::1]"})


def own_hosts(listening: str) -> frozenset[str] | None:
    """Give the names under which `unix:/path` or `inet:host:port` may be asked; None for a UNIX socket: any.

    A page from anywhere can have its own name resolve to 127.0.0.1 and then ask us from the visitor's browser as its own
    server (DNS rebinding); the Host header tells that name. No browser reaches a UNIX socket.
    """
    kind, _, where = listening.partition(":")
    return None if kind == "unix" else _LOOPBACK | {where.rpartition(":")[0].lower()}


class Guard:
    """The application inside gets only requests that were meant for it; `headers` go with all answers that have none such."""

    def __init__(self, app: ASGIApp, *, hosts: frozenset[str] | None, headers: Mapping[str, str]) -> None:
        self._app = app
        self._hosts = hosts
        self._headers = headers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in self._headers.items():
                    headers.setdefault(name, value)
            await send(message)

        try:
            try:
                self._check(Headers(scope=scope))
            except Refusal as refusal:
                await error_answer(refusal)(scope, receive, send_with_headers)
            else:
                await self._app(scope, receive, send_with_headers)
        except Exception as error:  # noqa: BLE001 - the one guard: it was answered 500, and here it is told
            _LOG.error("an unexpected fault; the request is answered 500", exc_info=error)

    def _check(self, headers: Headers) -> None:
        """Raise a Refusal for what a browser sent for a page of somebody else's."""
        if "origin" in headers:
            raise Refusal(403, "Pages in a browser may not ask here: ask without an Origin header.")
        if self._hosts is None:
            return
        host = _HOST.fullmatch(headers.get("host", ""))
        if host is None or host[1].lower() not in self._hosts:
            raise Refusal(403, "The Host header names somebody else: ask for 127.0.0.1, [::1] or localhost.")
