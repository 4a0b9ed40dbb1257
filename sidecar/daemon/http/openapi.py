"""The OpenAPI document, made from the types of questions and answers."""

from collections.abc import Mapping
from functools import partial
from typing import Any, Final

import msgspec
from msgspec import NODEFAULT, Struct

from sidecar.core.evaluate.explanation import Explanation
from sidecar.core.proof.sign import Signed
from sidecar.core.suppressed import REASON_LIMIT, AddressHistory, ListChange, ListChanges, ListPage, ShownEntry
from sidecar.daemon.http.access import CHECK, SUPPRESSION
from sidecar.daemon.http.answers import JSON, Error, Health, ListenerDomain, Readiness, TokenRequirement
from sidecar.daemon.http.list_questions import Addition, CheckAnswer, CheckQuestion, ListQuestion, UnsubscribeEvent
from sidecar.daemon.http.questions import DomainQuestion, ExplainQuestion, RecipientQuestion, SignQuestion
from sidecar.daemon.http.suppression import CSV, EVENTS, JSON_LINES

_QUERIES: Final = (DomainQuestion, RecipientQuestion, ListQuestion)
_TYPES: Final = (
    ListenerDomain, TokenRequirement, ExplainQuestion, Explanation, SignQuestion, Signed, Error, Health, Readiness, ListPage,
    ListChanges, CheckQuestion, CheckAnswer, Addition, UnsubscribeEvent, AddressHistory, ShownEntry, ListChange,
)  # fmt: skip
_EITHER: Final = ("message_text", "message_base64")
_REVISION: Final = {
    "Sidecar-Revision": {
        "description": "The settings of this answer: a short hash of the bytes of all their files.",
        "schema": {"type": "string"},
    }
}
_ERRORS: Final = {
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
_TEXT: Final = {"schema": {"type": "string"}}


def document(version: str) -> dict[str, Any]:
    """Return the document (OpenAPI 3.1) of this version of the program."""
    schemas, components = msgspec.json.schema_components((*_TYPES, *_QUERIES), ref_template="#/components/schemas/{name}")
    # At most one of the two, which no type says.
    components[ExplainQuestion.__name__]["not"] = {
        "required": list(_EITHER),
        "properties": {name: {"type": "string"} for name in _EITHER},
    }
    parameters = {one: _parameters(one, components.pop(one.__name__)) for one in _QUERIES}
    of = dict(zip((*_TYPES, *_QUERIES), schemas, strict=True))
    return {
        "openapi": "3.1.0",
        "info": {"title": "sidecar", "summary": "A listener policy, and the reasons for its decisions.", "version": version},
        "paths": {**_policy_paths(of, parameters), **_list_paths(of, parameters[ListQuestion]), **_paths_of_the_process(of)},
        "components": {"schemas": components, "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}}},
        # On a UNIX socket, its mode permits reading.
        "security": [{}, {"token": []}],
    }


def _parameters(question: type[Struct], schema: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [
        {"name": one.name, "in": "query", "required": one.default is NODEFAULT, "schema": schema["properties"][one.name]}
        for one in msgspec.structs.fields(question)
    ]


def _operation(  # noqa: PLR0913 - each is a part of it
    of: Mapping[Any, Mapping[str, Any]],
    name: str,
    summary: str,
    schema: object = None,
    *,
    errors: str = "",
    body: type | None = None,
    forms: Mapping[str, Any] | None = None,
    **more: object,
) -> dict[str, Any]:
    """Return an operation. `schema` is that of the answer in JSON, `forms` are its other forms; `errors` are statuses.

    `of` has the schema of each type.
    """
    json = {} if schema is None else {JSON: {"schema": schema}}
    answers = {"200": _answer("The answer.", {**json, **(forms or {})})}
    if body is not None:
        errors += " 400 408 413"
        more["requestBody"] = {"required": True, "content": {JSON: {"schema": of[body]}}}
    for status in sorted({*errors.split(), "401", "403"}):
        answers[status] = _answer(_ERRORS[status], {JSON: {"schema": of[Error]}})
    return {"operationId": name, "summary": summary, "responses": answers, **more}


def _answer(text: str, content: Mapping[str, Any]) -> dict[str, Any]:
    return {"description": text, "headers": _REVISION, "content": content}


def _policy_paths(of: Mapping[Any, Any], parameters: Mapping[Any, Any]) -> dict[str, Any]:
    make = partial(_operation, of)
    return {
        "/v1/listener-domain": {
            "get": make(
                "listenerDomain",
                "The parameters of KumoMTA's make_listener_domain for a domain, or null.",
                {"oneOf": [of[ListenerDomain], {"type": "null"}]},
                errors="400 409",
                parameters=parameters[DomainQuestion],
            )
        },
        "/v1/recipient": {
            "get": make(
                "recipient",
                "Whether a recipient needs an address token, and the SMTP reply if it has no valid one.",
                of[TokenRequirement],
                errors="400",
                parameters=parameters[RecipientQuestion],
            )
        },
        "/v1/explain": {
            "post": make(
                "explain",
                "What would happen to a message, and why: the same as `sidecar explain --json`.",
                of[Explanation],
                errors="503",
                body=ExplainQuestion,
            )
        },
        "/v1/sign": {
            "post": make(
                "sign", "The proofs for a message of an application. Only over a UNIX socket.", of[Signed], body=SignQuestion
            )
        },
    }


def _paths_of_the_process(of: Mapping[Any, Any]) -> dict[str, Any]:
    make, forms = partial(_operation, of), {"text/plain": _TEXT, "application/openmetrics-text": _TEXT}
    ready = "Whether workers accept mail, and the journal has space."
    return {
        "/healthz": {"get": make("healthz", "Whether this process is alive.", of[Health])},
        "/readyz": {"get": make("readyz", ready, of[Readiness], errors="503")},
        "/metrics": {"get": make("metrics", "Counts and times, for Prometheus.", forms=forms)},
        "/openapi.json": {"get": make("openapi", "This document.", {"type": "object"})},
    }


# --- the suppression list

_ADDRESS: Final = {
    "name": "address",
    "in": "path",
    "required": True,
    "description": "An address, percent-encoded.",
    "schema": {"type": "string", "minLength": 1},
}
_REASON: Final = {
    "name": "reason",
    "in": "query",
    "required": True,
    "description": "Why: the journal keeps it.",
    "schema": {"type": "string", "minLength": 1, "maxLength": REASON_LIMIT},
}
_MATCH: Final = {
    "name": "If-Match",
    "in": "header",
    "required": False,
    "description": "Change only the entry that has this ETag.",
    "schema": {"type": "string"},
}
_CHANGED: Final = {
    "201": "The address is on the list now.",
    "202": "The journal has the change. It is not in force yet.",
}


def _list_paths(of: Mapping[Any, Any], query: object) -> dict[str, Any]:
    """Return the paths. `query` has the parameters of the list."""
    make, change = partial(_operation, of), partial(_changing, of)
    lines = {**_TEXT, "x-line": {"oneOf": [of[ShownEntry], of[ListChange]]}}
    pages = "The entries by address, page by page, or the changes since a revision. Accept chooses the format."
    event = "An event of the sending application, such as an unsubscription."
    addition = "Put an address on the list. An entry that lasts longer stays."
    removal = "Remove an address. Earlier reports do not count any more."
    history, errors = of[AddressHistory], "400 404 503"
    return {
        SUPPRESSION: {
            "get": make(
                "listSuppressed",
                pages,
                {"anyOf": [of[ListPage], of[ListChanges]]},
                errors="400 404 410 503",
                forms={CSV: _TEXT, **dict.fromkeys(JSON_LINES, lines)},
                parameters=query,
            )
        },
        CHECK: {
            "post": make(
                "checkSuppressed",
                "Which of many addresses are on the list.",
                of[CheckAnswer],
                errors="404 503",
                body=CheckQuestion,
            )
        },
        EVENTS: {"post": change("addSuppressionEvent", event, body=UnsubscribeEvent)},
        f"{SUPPRESSION}/{{address}}": {
            "get": make("showSuppressed", "An entry, and the events behind it.", history, errors=errors, parameters=[_ADDRESS]),
            "put": change("addSuppressed", addition, body=Addition, parameters=[_ADDRESS, _MATCH]),
            "delete": change("removeSuppressed", removal, parameters=[_ADDRESS, _REASON, _MATCH]),
        },
    }


def _changing(of: Mapping[Any, Any], name: str, summary: str, **more: Any) -> dict[str, Any]:  # noqa: ANN401 - of an operation
    history, errors = of[AddressHistory], "400 404 408 412 413 503"
    made = _operation(of, name, f"{summary} It needs the operator's token.", history, errors=errors, **more)
    for status, text in _CHANGED.items():
        made["responses"][status] = {"description": text, "content": {JSON: {"schema": history}}}
    return made
