"""The application: the answer of each path, within limits of size and time."""

import mmap
import re
from typing import Final

from starlette.applications import Starlette
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute, Route
from starlette.types import Message, Receive, Scope, Send

from sidecar import log
from sidecar.core.evaluate.explanation import Explanation, encode_explanation
from sidecar.core.fleet_view import OpenFleet
from sidecar.core.session.suppressing import SuppressionList
from sidecar.core.suppressed import EditableList
from sidecar.core.text import in_units
from sidecar.daemon.http.access import Access
from sidecar.daemon.http.answers import JSON, Health, Readiness, error_answer, json_answer
from sidecar.daemon.http.bodies import Bodies
from sidecar.daemon.http.exposition import Exposition
from sidecar.daemon.http.openapi import document
from sidecar.daemon.http.questions import (
    DomainQuestion,
    ExplainQuestion,
    NoListenerError,
    RecipientQuestion,
    SignQuestion,
    explain_question,
    find_listener_domain,
    find_recipient,
    read_body,
    read_explain_question,
    read_query,
    sign_message,
)
from sidecar.daemon.http.suppression import SuppressionPaths
from sidecar.daemon.http.threads import QuestionThread
from sidecar.daemon.metrics import Memory
from sidecar.daemon.process.plan import Plan

# A client can keep an answer for this time: a node serves a removed domain no longer.
FRESH_SECONDS = 5

CONSOLE: Final = "/console"

_LOG = log.get("admin")
_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^:\[\]/?#@\\\s]+)(?::[0-9]{1,5})?")
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "[::1]"})
_HEADERS = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}


class _Paths:
    def __init__(  # noqa: PLR0913 - what the answers are made of
        self,
        plan: Plan,
        memory: Memory,
        version: str,
        suppressed: EditableList | None,
        *,
        known: SuppressionList | None,
        signs: bool,
    ) -> None:
        self._signs = signs
        self._version = version
        self._known = known
        self._plan = plan
        self._memory = memory
        self._exposition = Exposition(memory, plan)
        self._explainer = QuestionThread()
        self._bodies = Bodies()
        # A segment that is older is finished by the next look.
        self.suppression = SuppressionPaths(suppressed, self._bodies, roll_seconds=plan.settings.journal.segment_age + 1)
        self._document = json_answer(document(version))
        self.routes = [
            Route("/v1/listener-domain", self.listener_domain),
            Route("/v1/recipient", self.recipient),
            Route("/v1/explain", self.explain, methods=["POST"]),
            Route("/v1/sign", self.sign, methods=["POST"]),
            Route("/healthz", self.health),
            Route("/readyz", self.readiness),
            Route("/metrics", self.metrics),
            Route("/openapi.json", self.openapi),
            *self.suppression.routes,
        ]

    def console(self, access: Access, sessions: mmap.mmap | None, fleet: OpenFleet | None) -> list[BaseRoute]:
        """Return the paths of the console. `sessions` has its sessions, or else it makes its own memory for them."""
        from sidecar.daemon.http.console import IndexThread, Parts, console  # noqa: PLC0415 - loaded only where it is on

        parts = Parts(
            plan=self._plan,
            version=self._version,
            suppression=self.suppression,
            explainer=self._explainer,
            explain=self._explained,
            index=IndexThread(self._plan.settings),
            memory=self._memory,
            fleet=fleet,
        )
        pages = console(parts, access, self._bodies, sessions or mmap.mmap(-1, mmap.PAGESIZE), is_unix=self._signs)
        return [Route("/", _to_console), Route(CONSOLE, _to_console), Route(f"{CONSOLE}/{{page:path}}", pages)]

    async def listener_domain(self, request: Request) -> Response:
        fix = "name the domain to look up; it is empty for the null sender"
        found = find_listener_domain(self._plan, read_query(request.query_params, DomainQuestion, domain=fix))
        _LOG.debug("listener domain", found=found is not None, **request.query_params)
        response = json_answer(found)
        response.headers["Cache-Control"] = f"max-age={FRESH_SECONDS}"
        return response

    async def recipient(self, request: Request) -> Response:
        question = read_query(request.query_params, RecipientQuestion, address="name the recipient")
        return json_answer(find_recipient(self._plan, question))

    async def explain(self, request: Request) -> Response:
        # Only complete questions count: clients that send no body, or send it slowly, do not keep others out.
        body = await self._bodies.read(request)
        answer = await self._explainer.do(lambda: encode_explanation(self._explained(read_explain_question(body))))
        return Response(answer + b"\n", media_type=JSON)

    def _explained(self, question: ExplainQuestion) -> Explanation:
        """Return what would happen. Call it in the thread of `explainer`."""
        return explain_question(self._plan, question, self._known)

    async def sign(self, request: Request) -> Response:
        # Whoever can sign can forge bounces. The mode of a UNIX socket says who that is; every local user reaches a port.
        if not self._signs:
            raise HTTPException(403, 'Signing needs a UNIX socket: write socket = "unix:PATH" below [admin].')
        return json_answer(sign_message(self._plan, read_body(await self._bodies.read(request), SignQuestion)))

    async def health(self, _request: Request) -> Response:
        return json_answer(Health(alive=True))

    async def readiness(self, _request: Request) -> Response:
        if (workers := self._memory.published("workers", "ready")) == 0:
            raise HTTPException(503, "No worker accepts connections: the log of the sidecar says why.")
        if self._memory.published("degraded"):
            free, least = self._memory.published("journal_free_bytes"), self._memory.published("journal_minimum_free_bytes")
            text = f"the journal's file system has {in_units(free)} free, less than journal.minimum_free, {in_units(least)}"
            raise HTTPException(
                503, f"Degraded: {text}. Free some space there. When it is full, mail that needs a record gets 451."
            )
        return json_answer(Readiness(ready=True, workers=workers, revision=self._plan.revision))

    async def metrics(self, request: Request) -> Response:
        content, kind = self._exposition.scrape(request.headers.get("accept", ""))
        return Response(content, headers={"Content-Type": kind})

    async def openapi(self, _request: Request) -> Response:
        return self._document


async def _to_console(_request: Request) -> Response:
    return RedirectResponse(f"{CONSOLE}/", 303)


async def _on_error(_request: Request, error: Exception) -> Response:
    if isinstance(error, HTTPException):
        return error_answer(error)
    if isinstance(error, ValueError):
        status = 409 if isinstance(error, NoListenerError) else 400
        return error_answer(HTTPException(status, f"The question cannot be answered: {error}."))
    return error_answer(HTTPException(500, "An unexpected fault: see the log of the sidecar."))


class Application:
    """The application for a plan. `listening` is the socket as in the settings: `unix:/path` or `inet:host:port`.

    `suppressed` is the suppression list, and `known` is where explanations look recipients up. `sessions` has those of the
    console, by default its own, which shows the nodes that `fleet` reads.

    It rejects requests of web pages and without rights. A page on any host can make its own name resolve to 127.0.0.1, and then
    ask from the visitor's browser (DNS rebinding). The Host header has that name, and requests to another origin have an Origin
    header. No browser reaches a UNIX socket.
    """

    def __init__(  # noqa: PLR0913 - see above
        self,
        plan: Plan,
        memory: Memory,
        *,
        version: str,
        listening: str,
        suppressed: EditableList | None = None,
        known: SuppressionList | None = None,
        sessions: mmap.mmap | None = None,
        fleet: OpenFleet | None = None,
    ) -> None:
        kind, _, where = listening.partition(":")
        is_unix, admin = kind == "unix", plan.settings.admin
        tokens = () if admin is None else admin.tokens
        # Without tokens each local user could ask an open port who is on the list.
        known = known if is_unix or tokens else None
        self._paths = _Paths(plan, memory, version, suppressed, known=known, signs=is_unix)
        self._access = Access(tokens, is_unix=is_unix)
        self._hosts = None if is_unix else _LOOPBACK | {where.rpartition(":")[0].lower()}
        self._headers = _HEADERS | {"Sidecar-Revision": plan.revision}
        self._has_console = admin is not None and admin.console
        routes: list[BaseRoute] = [*self._paths.routes]
        if self._has_console:
            routes += self._paths.console(self._access, sessions, fleet)
        self._app = Starlette(
            routes=routes, exception_handlers=dict.fromkeys((HTTPException, ValueError, Exception), _on_error)
        )
        self._app.router.redirect_slashes = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in self._headers.items():
                    headers.setdefault(name, value)
            await send(message)

        path = scope["path"]
        # It asks for the tokens itself, in a form, and knows its own pages.
        is_console = self._has_console and (path in {"/", CONSOLE} or path.startswith(f"{CONSOLE}/"))
        error = self._fault(Headers(scope=scope), is_console=is_console)
        try:
            if error is None and not is_console:
                error = await self._access.check(scope)
            await (self._app if error is None else error_answer(error))(scope, receive, send_with_headers)
        except Exception as error:  # noqa: BLE001 - the one guard of the application, which has answered 500
            _LOG.error("an unexpected fault; the request is answered 500", exc_info=error)

    def _fault(self, headers: Headers, *, is_console: bool) -> HTTPException | None:
        if "origin" in headers and not is_console:
            return HTTPException(403, "Pages in a browser are not permitted to ask here: ask without an Origin header.")
        named = headers.get("host", "")
        host = _HOST.fullmatch(named)
        if self._hosts is not None and (host is None or host[1].lower() not in self._hosts):
            return HTTPException(403, "The Host header has another name: ask for 127.0.0.1, [::1] or localhost.")
        if named and host is None:
            # A URL is made of it and the path: what follows a "/" in it would be the path there.
            return HTTPException(400, "The Host header is not the name of a host.")
        return None

    def close(self) -> None:
        """Finish what was written. Waits for the disk."""
        self._paths.suppression.close()
