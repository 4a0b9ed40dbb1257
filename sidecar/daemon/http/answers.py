"""The shapes of answers: JSON, and for each error one sentence."""

from typing import Literal

from msgspec import Struct, json
from starlette.exceptions import HTTPException
from starlette.responses import Response

from sidecar.core.settings.values import LogMode
from sidecar.core.text import printable, printable_json

JSON = "application/json"
# A sentence can quote the question.
_SENTENCE_LIMIT = 500
# The router's own texts.
_SENTENCES = {
    "Not Found": "Nothing has this path: /openapi.json lists all paths.",
    "Method Not Allowed": "This path does not have this method.",
}


class Error(Struct, frozen=True, kw_only=True):
    """What went wrong, in one sentence."""

    error: str


class Health(Struct, frozen=True, kw_only=True):
    """This process is alive."""

    alive: bool


class Readiness(Struct, frozen=True, kw_only=True):
    """The number of workers that accept mail, and the revision of their settings."""

    ready: bool
    workers: int
    revision: str


class ListenerDomain(Struct, frozen=True, kw_only=True):
    """The parameters of KumoMTA's make_listener_domain, and relay_from_authz, which its helper removes before."""

    relay_to: bool
    relay_from: list[str]
    relay_from_authz: list[str]
    log_oob: LogMode
    log_arf: LogMode


class TokenRequirement(Struct, frozen=True, kw_only=True):
    """Whether the domain of a recipient requires an address token, and the SMTP reply if this recipient has no valid one."""

    address: Literal["required", "optional"]
    reply: str | None = None


def json_answer(value: object, status: int = 200) -> Response:
    """Return a value as JSON without control characters for terminals."""
    return Response(printable_json(json.encode(value)) + b"\n", status, media_type=JSON)


def error_answer(error: HTTPException) -> Response:
    """Return an error as JSON."""
    sentence = _SENTENCES.get(error.detail, error.detail)
    answer = json_answer(Error(error=printable(sentence)[:_SENTENCE_LIMIT]), error.status_code)
    answer.headers.update(error.headers or {})
    return answer
