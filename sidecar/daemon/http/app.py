"""The application: the answer of each path, within limits of size and time."""

import asyncio
from concurrent.futures import ThreadPoolExecutor

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from sidecar import log
from sidecar.core.evaluate.explanation import encode_explanation
from sidecar.daemon.http.answers import JSON, Health, Readiness, error_answer, json_answer
from sidecar.daemon.http.bodies import Bodies
from sidecar.daemon.http.exposition import Exposition
from sidecar.daemon.http.guard import Guard
from sidecar.daemon.http.openapi import document
from sidecar.daemon.http.questions import read_domain_question, read_explain_question
from sidecar.daemon.http.service import NoListenerError, explain_question, find_listener_domain
from sidecar.daemon.metrics import Memory
from sidecar.daemon.process.plan import Plan

# A client can keep an answer for this time: a node serves a removed domain no longer.
FRESH_SECONDS = 5
# Complete questions: one is being answered, the others wait in memory.
EXPLAINING_LIMIT = 4

_LOG = log.get("admin")
_HEADERS = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}


class _Paths:
    def __init__(self, plan: Plan, memory: Memory, version: str) -> None:
        self._plan = plan
        self._memory = memory
        self._exposition = Exposition(memory, plan)
        # One thread: an explanation can take a second, and questions for a domain must not wait for it.
        self._explainer = ThreadPoolExecutor(1, "explainer")
        self._explaining = 0
        self._bodies = Bodies()
        self._document = json_answer(document(version))
        self.routes = [
            Route("/v1/listener-domain", self.listener_domain),
            Route("/v1/explain", self.explain, methods=["POST"]),
            Route("/healthz", self.health),
            Route("/readyz", self.readiness),
            Route("/metrics", self.metrics),
            Route("/openapi.json", self.openapi),
        ]

    async def listener_domain(self, request: Request) -> Response:
        found = find_listener_domain(self._plan, read_domain_question(request.query_params))
        _LOG.debug("listener domain", found=found is not None, **request.query_params)
        response = json_answer(found)
        response.headers["Cache-Control"] = f"max-age={FRESH_SECONDS}"
        return response

    async def explain(self, request: Request) -> Response:
        # Only complete questions count: clients that send no body, or send it slowly, do not keep others out.
        body = await self._bodies.read(request)
        if self._explaining >= EXPLAINING_LIMIT:
            sentence = f"{EXPLAINING_LIMIT} questions are being answered: ask again in a second."
            raise HTTPException(503, sentence, {"Retry-After": "1"})
        self._explaining += 1
        try:
            answer = await asyncio.get_running_loop().run_in_executor(self._explainer, self._explained, body)
        finally:
            self._explaining -= 1
        return Response(answer, media_type=JSON)

    def _explained(self, body: bytes) -> bytes:
        return encode_explanation(explain_question(self._plan, read_explain_question(body))) + b"\n"

    async def health(self, _request: Request) -> Response:
        return json_answer(Health(alive=True))

    async def readiness(self, _request: Request) -> Response:
        if (workers := self._memory.published("workers", "ready")) == 0:
            raise HTTPException(503, "No worker accepts connections: the log of the sidecar says why.")
        if self._memory.published("degraded"):
            free, least = self._memory.published("journal_free_bytes"), self._memory.published("journal_minimum_free_bytes")
            text = f"the journal's file system has {free} bytes free, less than journal.minimum_free, {least}"
            raise HTTPException(503, f"Degraded: {text}. Free some space there. Mail is still handled.")
        return json_answer(Readiness(ready=True, workers=workers, revision=self._plan.revision))

    async def metrics(self, request: Request) -> Response:
        content, kind = self._exposition.scrape(request.headers.get("accept", ""))
        return Response(content, headers={"Content-Type": kind})

    async def openapi(self, _request: Request) -> Response:
        return self._document


async def _on_error(_request: Request, error: Exception) -> Response:
    if isinstance(error, HTTPException):
        return error_answer(error)
    if isinstance(error, ValueError):
        status = 409 if isinstance(error, NoListenerError) else 400
        return error_answer(HTTPException(status, f"The question cannot be answered: {error}."))
    return error_answer(HTTPException(500, "An unexpected fault: see the log of the sidecar."))


def application(plan: Plan, memory: Memory, *, version: str, listening: str) -> Guard:
    """Return the application for a plan. `listening` is the socket as in the settings."""
    inner = Starlette(
        routes=_Paths(plan, memory, version).routes,
        exception_handlers=dict.fromkeys((HTTPException, ValueError, Exception), _on_error),
    )
    inner.router.redirect_slashes = False
    return Guard(inner, listening=listening, headers=_HEADERS | {"Sidecar-Revision": plan.revision})
