"""The OpenAPI document, made from the types of questions and answers."""

from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import NODEFAULT, Struct

from sidecar.core.evaluate.explanation import Explanation
from sidecar.core.proof.sign import Signed
from sidecar.core.suppressed import AddressHistory, ListChange, ListChanges, ListPage, ShownEntry
from sidecar.daemon.http.answers import JSON, Error, Health, ListenerDomain, Readiness, TokenRequirement
from sidecar.daemon.http.list_openapi import suppression_paths
from sidecar.daemon.http.list_questions import Addition, CheckAnswer, CheckQuestion, ListQuestion, UnsubscribeEvent
from sidecar.daemon.http.questions import DomainQuestion, ExplainQuestion, RecipientQuestion, SignQuestion

_QUERIES = (DomainQuestion, RecipientQuestion, ListQuestion)
_TYPES = (
    ListenerDomain, TokenRequirement, ExplainQuestion, Explanation, SignQuestion, Signed, Error, Health, Readiness, ListPage,
    ListChanges, CheckQuestion, CheckAnswer, Addition, UnsubscribeEvent, AddressHistory, ShownEntry, ListChange,
)  # fmt: skip
_EITHER = ("message_text", "message_base64")
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

    def operation(name: str, summary: str, content: Mapping[str, Any], *errors: str, **more: object) -> dict[str, Any]:
        answers = {"200": _answer("The answer.", content)}
        statuses = sorted((*errors, "401", "403"))
        answers |= {status: _answer(_ERRORS[status], {JSON: {"schema": of[Error]}}) for status in statuses}
        return {"operationId": name, "summary": summary, "responses": answers, **more}

    def get(name: str, summary: str, schema: Mapping[str, Any], *errors: str, **more: object) -> dict[str, Any]:
        return {"get": operation(name, summary, {JSON: {"schema": schema}}, *errors, **more)}

    text = {"schema": {"type": "string"}}
    return {
        "openapi": "3.1.0",
        "info": {"title": "sidecar", "summary": "A listener policy, and the reasons for its decisions.", "version": version},
        "paths": {
            "/v1/listener-domain": get(
                "listenerDomain",
                "The parameters of KumoMTA's make_listener_domain for a domain, or null.",
                {"oneOf": [of[ListenerDomain], {"type": "null"}]},
                "400",
                "409",
                parameters=parameters[DomainQuestion],
            ),
            "/v1/recipient": get(
                "recipient",
                "Whether a recipient needs an address token, and the SMTP reply if it has no valid one.",
                of[TokenRequirement],
                "400",
                parameters=parameters[RecipientQuestion],
            ),
            "/v1/explain": {
                "post": operation(
                    "explain",
                    "What would happen to a message, and why: the same as `sidecar explain --json`.",
                    {JSON: {"schema": of[Explanation]}},
                    "400",
                    "408",
                    "413",
                    "503",
                    requestBody={"required": True, "content": {JSON: {"schema": of[ExplainQuestion]}}},
                )
            },
            "/v1/sign": {
                "post": operation(
                    "sign",
                    "The proofs for a message of an application. Only over a UNIX socket.",
                    {JSON: {"schema": of[Signed]}},
                    "400",
                    "408",
                    "413",
                    requestBody={"required": True, "content": {JSON: {"schema": of[SignQuestion]}}},
                )
            },
            **suppression_paths(of, operation, parameters[ListQuestion]),
            "/healthz": get("healthz", "Whether this process is alive.", of[Health]),
            "/readyz": get("readyz", "Whether workers accept mail, and the journal has space.", of[Readiness], "503"),
            "/metrics": {
                "get": operation(
                    "metrics", "Counts and times, for Prometheus.", {"text/plain": text, "application/openmetrics-text": text}
                )
            },
            "/openapi.json": get("openapi", "This document.", {"type": "object"}),
        },
        "components": {"schemas": components, "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}}},
        # On a UNIX socket, its mode permits reading.
        "security": [{}, {"token": []}],
    }


def _parameters(question: type[Struct], schema: Mapping[str, Any]) -> list[dict[str, Any]]:
    fields = msgspec.structs.fields(question)
    return [
        {"name": one.name, "in": "query", "required": one.default is NODEFAULT, "schema": schema["properties"][one.name]}
        for one in fields
    ]


def _answer(text: str, content: Mapping[str, Any]) -> dict[str, Any]:
    return {"description": text, "headers": _REVISION, "content": content}
