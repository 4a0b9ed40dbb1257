"""The OpenAPI document, made of the types that questions are read into and answers written from.

Owns that document. Never serves it.
"""

from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import NODEFAULT

from sidecar.core.evaluate.explanation import Explanation
from sidecar.daemon.http.answers import JSON, Error, Health, Readiness
from sidecar.daemon.http.questions import DomainQuestion, ExplainQuestion
from sidecar.daemon.http.service import ListenerDomain

_TYPES = (ListenerDomain, ExplainQuestion, Explanation, Error, Health, Readiness)
_EITHER = ("message_text", "message_base64")
_SCHEMAS = "#/components/schemas/{name}"
_REVISION = {
    "Sidecar-Revision": {
        "description": "The settings that answered, short for the bytes of all files they came from.",
        "schema": {"type": "string"},
    }
}


def document(version: str) -> dict[str, Any]:
    """Give the document (OpenAPI 3.1) of this version of the program."""
    schemas, components = msgspec.json.schema_components(_TYPES, ref_template=_SCHEMAS)
    # What no type says: at most one of the two.
    components[ExplainQuestion.__name__]["not"] = {
        "required": list(_EITHER),
        "properties": {name: {"type": "string"} for name in _EITHER},
    }
    of = dict(zip(_TYPES, schemas, strict=True))
    errors = {
        status: _answer(text, of[Error])
        for status, text in {
            "400": "The question cannot be read or answered.",
            "403": "A browser asks for a page, or for another host.",
            "408": "The body took too long.",
            "409": "The policy has rules of one listener: name it.",
            "413": "The body is too big.",
            "503": "Not now: busy, or not ready.",
        }.items()
    }

    def some(*statuses: str) -> dict[str, Any]:
        return {status: errors[status] for status in statuses}

    listener_domain = {
        "operationId": "listenerDomain",
        "summary": "The parameters of KumoMTA's make_listener_domain for a domain, or null.",
        "parameters": _parameters(),
        "responses": {
            "200": _answer("The entry.", {"oneOf": [of[ListenerDomain], {"type": "null"}]}),
            **some("400", "403", "409"),
        },
    }
    explain = {
        "operationId": "explain",
        "summary": "What would happen to a message, and why, as `sidecar explain --json` says it.",
        "requestBody": {"required": True, "content": {JSON: {"schema": of[ExplainQuestion]}}},
        "responses": {"200": _answer("The answer.", of[Explanation]), **some("400", "403", "408", "413", "503")},
    }
    return {
        "openapi": "3.1.0",
        "info": {"title": "sidecar", "summary": "A listener policy, and why it decides as it does.", "version": version},
        "paths": {
            "/v1/listener-domain": {"get": listener_domain},
            "/v1/explain": {"post": explain},
            "/healthz": {
                "get": {
                    "operationId": "healthz",
                    "summary": "Whether this process lives.",
                    "responses": {"200": _answer("It does.", of[Health]), **some("403")},
                }
            },
            "/readyz": {
                "get": {
                    "operationId": "readyz",
                    "summary": "Whether workers judge mail, and the journal has room.",
                    "responses": {"200": _answer("They do.", of[Readiness]), **some("403", "503")},
                }
            },
            "/metrics": {
                "get": {
                    "operationId": "metrics",
                    "summary": "Counts and times, for Prometheus.",
                    "responses": {"200": _metrics(), **some("403")},
                }
            },
            "/openapi.json": {
                "get": {
                    "operationId": "openapi",
                    "summary": "This document.",
                    "responses": {"200": _answer("It.", {"type": "object"}), **some("403")},
                }
            },
        },
        "components": {"schemas": components},
    }


def _answer(text: str, schema: Mapping[str, Any]) -> dict[str, Any]:
    return {"description": text, "headers": _REVISION, "content": {JSON: {"schema": schema}}}


def _metrics() -> dict[str, Any]:
    content = {kind: {"schema": {"type": "string"}} for kind in ("text/plain", "application/openmetrics-text")}
    return {"description": "The exposition format.", "headers": _REVISION, "content": content}


def _parameters() -> list[dict[str, Any]]:
    """Give the fields of a question as parameters of a query."""
    (_, components) = msgspec.json.schema_components([DomainQuestion], ref_template=_SCHEMAS)
    properties = components[DomainQuestion.__name__]["properties"]
    return [
        {
            "name": field.encode_name,
            "in": "query",
            "required": field.default is NODEFAULT,
            "schema": _text(properties[field.encode_name]),
        }
        for field in msgspec.structs.fields(DomainQuestion)
    ]


def _text(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Give the schema of a text that may be left out: in a query there is no null."""
    found = next((one for one in schema.get("anyOf", ()) if one.get("type") == "string"), schema)
    return {key: value for key, value in found.items() if key != "default"}
