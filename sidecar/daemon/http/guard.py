"""The first step of each request: it must not come from a web page.

A page on any host can make its own name resolve to 127.0.0.1, and then ask from the visitor's browser (DNS rebinding). The Host
header has that name, and requests to another origin have an Origin header. No browser reaches a UNIX socket.
"""

import re
from collections.abc import Mapping

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sidecar import log
from sidecar.daemon.http.answers import error_answer

_LOG = log.get("admin")

_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^:\[\]]+)(?::[0-9]{1,5})?")
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "[::1]"})


class Guard:
    """ASGI middleware: rejects requests of web pages, adds `headers` to all answers, and logs unexpected exceptions.

    `listening` is `unix:/path` or `inet:host:port`.
    """

    def __init__(self, app: ASGIApp, *, listening: str, headers: Mapping[str, str]) -> None:
        self._app = app
        kind, _, where = listening.partition(":")
        self._hosts = None if kind == "unix" else _LOOPBACK | {where.rpartition(":")[0].lower()}
        self._headers = headers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in self._headers.items():
                    headers.setdefault(name, value)
            await send(message)

        fault = self._fault(Headers(scope=scope))
        try:
            await (self._app if fault is None else error_answer(HTTPException(403, fault)))(scope, receive, send_with_headers)
        except Exception as error:  # noqa: BLE001 - the one guard of the application, which has answered 500
            _LOG.error("an unexpected fault; the request is answered 500", exc_info=error)

    def _fault(self, headers: Headers) -> str | None:
        if "origin" in headers:
            return "Pages in a browser may not ask here: ask without an Origin header."
        host = _HOST.fullmatch(headers.get("host", ""))
        if self._hosts is not None and (host is None or host[1].lower() not in self._hosts):
            return "The Host header has another name: ask for 127.0.0.1, [::1] or localhost."
        return None
