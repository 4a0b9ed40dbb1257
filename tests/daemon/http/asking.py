"""Requests to the application in this process, without a server or a socket."""

import asyncio
import json
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import urlencode

from msgspec import Struct
from starlette.types import ASGIApp, Message

from sidecar.core.policy import compile_policy
from sidecar.core.settings.values import DomainEntry
from sidecar.core.suppressed import EditableList
from sidecar.daemon.http import Application
from sidecar.daemon.metrics import Memory
from sidecar.daemon.process.plan import Plan
from tests.building import entry, settings

LISTENING = "inet:127.0.0.1:8894"
DOMAINS = (
    entry("relay.example", relay_to=True),
    entry("bounce.example", log_oob="LogThenDrop"),
    entry("send.example", relay_from=["10.0.0.0/24", "2001:db8::/32"], relay_from_authz=["daniel"], log_arf="LogThenRelay"),
    entry("*.wild.example", log_oob="LogThenRelay"),
)


class Answer(Struct, frozen=True, kw_only=True):
    """The answer to a request."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def value(self) -> Any:
        """The body as JSON."""
        assert self.headers["content-type"] == "application/json"
        return json.loads(self.body)

    @property
    def error(self) -> str:
        """The sentence of an error."""
        (sentence,) = self.value.values()
        assert isinstance(sentence, str)
        return sentence


def plan(domains: Iterable[DomainEntry] = DOMAINS, **more: Any) -> Plan:
    """Return a plan to serve."""
    made = settings(domains, **more)
    return Plan(policy=compile_policy(made), settings=made, node_id="node", revision="abc123", made=1_700_000_000.5)


def app(
    domains: Iterable[DomainEntry] = DOMAINS,
    memory: Memory | None = None,
    listening: str = LISTENING,
    suppressed: EditableList | None = None,
    **more: Any,
) -> Application:
    """Return the application."""
    return Application(plan(domains, **more), memory or Memory(), version="1.2", listening=listening, suppressed=suppressed)


def ask(
    to: ASGIApp,
    path: str,
    query: Mapping[str, str] | str = "",
    *,
    method: str = "GET",
    headers: Mapping[str, str] | None = None,
    pieces: Iterable[bytes] = (b"",),
) -> Answer:
    return asyncio.run(asked(to, path, query, method=method, headers=headers, pieces=pieces))


async def asked(
    to: ASGIApp,
    path: str,
    query: Mapping[str, str] | str = "",
    *,
    method: str = "GET",
    headers: Mapping[str, str] | None = None,
    pieces: Iterable[bytes] = (b"",),
) -> Answer:
    """Ask once. The body arrives in `pieces`; nothing arrives after the last one."""
    sent: list[Message] = []
    coming = [*pieces]
    text = query if isinstance(query, str) else urlencode(query)
    fields = {"host": "127.0.0.1:8894"} if headers is None else headers

    async def receive() -> Message:
        if not coming:
            await asyncio.Event().wait()
        piece = coming.pop(0)
        if piece == NEVER:
            await asyncio.Event().wait()
        if piece == GONE:
            return {"type": "http.disconnect"}
        return {"type": "http.request", "body": piece, "more_body": bool(coming)}

    async def send(message: Message) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": text.encode(),
        "root_path": "",
        "headers": [(name.encode(), value.encode("latin-1")) for name, value in fields.items()],
        "server": ("127.0.0.1", 8894),
        "client": ("127.0.0.1", 1),
    }
    await to(scope, receive, send)
    start, *rest = sent
    return Answer(
        status=start["status"],
        headers={name.decode(): value.decode() for name, value in start["headers"]},
        body=b"".join(message.get("body", b"") for message in rest),
    )


NEVER = b"\0never\0"
"""In place of a piece: it never arrives."""

GONE = b"\0gone\0"
"""In place of a piece: the client hangs up."""
