"""The form of answers: JSON, and for every error one sentence.

Owns that form. Never decides which answer is given.
"""

from msgspec import Struct, json
from starlette.responses import Response

from sidecar.core.text import printable, printable_json

JSON = "application/json"
# Sentences may quote what was asked.
_SENTENCE_LIMIT = 500


class Error(Struct, frozen=True, kw_only=True):
    """What went wrong, in one sentence."""

    error: str


class Health(Struct, frozen=True, kw_only=True):
    """This process lives."""

    alive: bool


class Readiness(Struct, frozen=True, kw_only=True):
    """How many workers serve, and with which settings."""

    ready: bool
    workers: int
    revision: str


class Refusal(Exception):  # noqa: N818 - it is an answer, and most of the time the asker's fault
    """An answer other than 200: its status and the sentence. `retry_after` is in seconds."""

    def __init__(self, status: int, sentence: str, *, retry_after: int | None = None) -> None:
        super().__init__(sentence)
        self.status = status
        self.sentence = sentence
        self.retry_after = retry_after


def json_answer(value: object, status: int = 200) -> Response:
    """Give a value as JSON in which nothing plays with terminals."""
    return Response(printable_json(json.encode(value)) + b"\n", status, media_type=JSON)


def error_answer(refusal: Refusal) -> Response:
    """Give a refusal as JSON."""
    response = json_answer(Error(error=printable(refusal.sentence)[:_SENTENCE_LIMIT]), refusal.status)
    if refusal.retry_after is not None:
        response.headers["Retry-After"] = str(refusal.retry_after)
    return response
