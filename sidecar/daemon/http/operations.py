"""One operation of the OpenAPI document, with the answers that each one can have."""

from collections.abc import Mapping
from typing import Any

from sidecar.daemon.http.answers import JSON, Error

_REVISION = {
    "Sidecar-Revision": {
        "description": "The settings of this answer: a short hash of the bytes of all their files.",
        "schema": {"type": "string"},
    }
}
_ERRORS = {
    "400": "The question cannot be read or answered.",
    "401": "The token is missing or wrong.",
    "403": "The request comes from a web page, is for another host, or needs a UNIX socket or another token.",
    "404": "The address is not on the list, or there is no list.",
    "408": "The body took too long.",
    "409": "The policy has rules for one listener: name it.",
    "410": "The changes since this revision are not all known: read the whole list.",
    "412": "The entry is not the one that If-Match or If-None-Match names.",
    "413": "The body is too big.",
    "503": "Not now: busy, or not ready.",
}


class Operations:
    """Makes the operations of the document. `of` has the schema of each type."""

    def __init__(self, of: Mapping[Any, Mapping[str, Any]]) -> None:
        self.of = of

    def get(self, name: str, summary: str, schema: object = None, **more: Any) -> dict[str, Any]:  # noqa: ANN401 - those of `one`
        """Return a path with GET only."""
        return {"get": self.one(name, summary, schema, **more)}

    def post(self, name: str, summary: str, schema: object = None, **more: Any) -> dict[str, Any]:  # noqa: ANN401 - likewise
        """Return a path with POST only."""
        return {"post": self.one(name, summary, schema, **more)}

    def one(  # noqa: PLR0913 - each is a part of it
        self,
        name: str,
        summary: str,
        schema: object = None,
        *,
        errors: str = "",
        body: type | None = None,
        forms: Mapping[str, Any] | None = None,
        **more: object,
    ) -> dict[str, Any]:
        """Return an operation. `schema` is that of the answer in JSON, `forms` are its other forms; `errors` are statuses."""
        json = {} if schema is None else {JSON: {"schema": schema}}
        answers = {"200": _answer("The answer.", {**json, **(forms or {})})}
        if body is not None:
            errors += " 400 408 413"
            more["requestBody"] = {"required": True, "content": {JSON: {"schema": self.of[body]}}}
        for status in sorted({*errors.split(), "401", "403"}):
            answers[status] = _answer(_ERRORS[status], {JSON: {"schema": self.of[Error]}})
        return {"operationId": name, "summary": summary, "responses": answers, **more}


def _answer(text: str, content: Mapping[str, Any]) -> dict[str, Any]:
    return {"description": text, "headers": _REVISION, "content": content}
