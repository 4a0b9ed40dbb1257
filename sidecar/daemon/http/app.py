"""The application: which path answers what, within bounds of size and time.

Owns the paths. Never decides about mail: the service does.
"""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from sidecar import log
from sidecar.core.evaluate.explanation import encode_explanation
from sidecar.daemon.http.answers import JSON, Health, Readiness, Refusal, error_answer, json_answer
from sidecar.daemon.http.bodies import Bodies
from sidecar.daemon.http.exposition import exposition
from sidecar.daemon.http.guard import Guard, own_hosts
from sidecar.daemon.http.openapi import document
from sidecar.daemon.http.questions import read_domain_question, read_explain_question
from sidecar.daemon.http.service import NoListenerError, Service
from sidecar.daemon.metrics import Memory

# So long may who asks keep an answer; it bounds how long a node serves a domain that was taken out.
FRESH_SECONDS = 5
# Questions that arrived completely: one is being answered, the others wait in memory.
EXPLAINING_LIMIT = 4

_LOG = log.get("admin")
_HEADERS = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}


class _Pages:
    """The answers to each path."""

    def __init__(self, service: Service, memory: Memory) -> None:
        self._service = service
        self._memory = memory
        self._scrape = exposition(memory, service)
        # One thread: an explanation may take a second, and whoever asks for a domain does not wait for it.
        self._explainer = ThreadPoolExecutor(1, "explainer")
        self._explaining = 0
        self._bodies = Bodies()
        self._document = json_answer(document(service.version))

    def routes(self) -> list[Route]:
        """Give what each path is answered by."""
        return [
            Route("/v1/listener-domain", self.listener_domain),
            Route("/v1/explain", self.explain, methods=["POST"]),
            Route("/healthz", self.health),
            Route("/readyz", self.readiness),
            Route("/metrics", self.metrics),
            Route("/openapi.json", self.openapi),
        ]

    async def listener_domain(self, request: Request) -> Response:
        """Give the entry of a domain, or null."""
        question = read_domain_question(request.query_params)
        found = self._service.listener_domain(question)
        _LOG.debug("listener domain", found=found is not None, **request.query_params)
        response = json_answer(found)
        response.headers["Cache-Control"] = f"max-age={FRESH_SECONDS}"
        return response

    async def explain(self, request: Request) -> Response:
        """Say what would happen to a message."""
        # A client takes a place only with a complete question: one that sends none or sends slowly keeps nobody out.
        body = await self._bodies.read(request)
        if self._explaining >= EXPLAINING_LIMIT:
            raise Refusal(503, f"{EXPLAINING_LIMIT} questions are being answered: ask again in a second.", retry_after=1)
        self._explaining += 1
        try:
            answer = await asyncio.get_running_loop().run_in_executor(self._explainer, self._explained, body)
        finally:
            self._explaining -= 1
        return Response(answer, media_type=JSON)

    def _explained(self, body: bytes) -> bytes:
        return encode_explanation(self._service.explain(read_explain_question(body))) + b"\n"

    async def health(self, _request: Request) -> Response:
        """Say that this process lives."""
        return json_answer(Health(alive=True))

    async def readiness(self, _request: Request) -> Response:
        """Answer 200 if workers judge mail and the journal has room. Raises Refusal."""
        if (workers := self._memory.published("workers", "ready")) == 0:
            raise Refusal(503, "No worker accepts connections: the log of the sidecar says why.")
        if self._memory.published("degraded"):
            free, least = self._memory.published("journal_free_bytes"), self._memory.published("journal_minimum_free_bytes")
            text = f"the journal's file system has {free} bytes free, less than journal.minimum_free, {least}"
            raise Refusal(503, f"Degraded: {text}. Free some space there. Mail is still handled.")
        return json_answer(Readiness(ready=True, workers=workers, revision=self._service.revision))

    async def metrics(self, request: Request) -> Response:
        """Give counts and times."""
        content, kind = self._scrape(request.headers.get("accept", ""))
        return Response(content, headers={"Content-Type": kind})

    async def openapi(self, _request: Request) -> Response:
        """Give the description of all this."""
        return self._document


async def _on_refusal(_request: Request, error: Exception) -> Response:
    assert isinstance(error, Refusal)  # noqa: S101 - as it is registered below
    return error_answer(error)


async def _on_bad_value(_request: Request, error: Exception) -> Response:
    return error_answer(Refusal(400, f"The question cannot be answered: {error}."))


async def _on_no_listener(_request: Request, error: Exception) -> Response:
    return error_answer(Refusal(409, f"The question cannot be answered: {error}."))


async def _on_http(_request: Request, error: Exception) -> Response:
    """Answer for a path or a method that there is not."""
    assert isinstance(error, HTTPException)  # noqa: S101 - as it is registered below
    sentences = {404: "There is nothing here: /openapi.json lists what there is.", 405: "This path has no such method."}
    response = error_answer(Refusal(error.status_code, sentences.get(error.status_code, HTTPStatus(error.status_code).phrase)))
    response.headers.update(error.headers or {})
    return response


async def _on_fault(_request: Request, _error: Exception) -> Response:
    return error_answer(Refusal(500, "An unexpected fault: the log of the sidecar tells more."))


def application(service: Service, memory: Memory, *, listening: str) -> Guard:
    """Give the whole, for a socket in the settings' spelling."""
    inner = Starlette(
        routes=_Pages(service, memory).routes(),
        exception_handlers={
            Refusal: _on_refusal,
            NoListenerError: _on_no_listener,
            ValueError: _on_bad_value,
            HTTPException: _on_http,
            Exception: _on_fault,
        },
    )
    inner.router.redirect_slashes = False
    return Guard(inner, hosts=own_hosts(listening), headers=_HEADERS | {"Sidecar-Revision": service.revision})
