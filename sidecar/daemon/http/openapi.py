"""The OpenAPI document, made from the types of questions and answers."""

from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import NODEFAULT, Struct

from sidecar.core.evaluate.explanation import Explanation
from sidecar.core.proof.sign import Signed
from sidecar.core.suppressed import AddressHistory, ListChange, ListChanges, ListPage, ShownEntry
from sidecar.daemon.http.answers import Error, Health, ListenerDomain, Readiness, TokenRequirement
from sidecar.daemon.http.list_openapi import suppression_paths
from sidecar.daemon.http.list_questions import Addition, CheckAnswer, CheckQuestion, ListQuestion, UnsubscribeEvent
from sidecar.daemon.http.operations import Operations
from sidecar.daemon.http.questions import DomainQuestion, ExplainQuestion, RecipientQuestion, SignQuestion

_QUERIES = (DomainQuestion, RecipientQuestion, ListQuestion)
_TYPES = (
    ListenerDomain, TokenRequirement, ExplainQuestion, Explanation, SignQuestion, Signed, Error, Health, Readiness, ListPage,
    ListChanges, CheckQuestion, CheckAnswer, Addition, UnsubscribeEvent, AddressHistory, ShownEntry, ListChange,
)  # fmt: skip
_EITHER = ("message_text", "message_base64")


def document(version: str) -> dict[str, Any]:
    """Return the document (OpenAPI 3.1) of this version of the program."""
    schemas, components = msgspec.json.schema_components((*_TYPES, *_QUERIES), ref_template="#/components/schemas/{name}")
    # At most one of the two, which no type says.
    components[ExplainQuestion.__name__]["not"] = {
        "required": list(_EITHER),
        "properties": {name: {"type": "string"} for name in _EITHER},
    }
    parameters = {one: _parameters(one, components.pop(one.__name__)) for one in _QUERIES}
    operations = Operations(dict(zip((*_TYPES, *_QUERIES), schemas, strict=True)))
    return {
        "openapi": "3.1.0",
        "info": {"title": "sidecar", "summary": "A listener policy, and the reasons for its decisions.", "version": version},
        "paths": {
            **_policy_paths(operations, parameters),
            **suppression_paths(operations, parameters[ListQuestion]),
            **_paths_of_the_process(operations),
        },
        "components": {"schemas": components, "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}}},
        # On a UNIX socket, its mode permits reading.
        "security": [{}, {"token": []}],
    }


def _policy_paths(make: Operations, parameters: Mapping[Any, Any]) -> dict[str, Any]:
    return {
        "/v1/listener-domain": make.get(
            "listenerDomain",
            "The parameters of KumoMTA's make_listener_domain for a domain, or null.",
            {"oneOf": [make.of[ListenerDomain], {"type": "null"}]},
            errors="400 409",
            parameters=parameters[DomainQuestion],
        ),
        "/v1/recipient": make.get(
            "recipient",
            "Whether a recipient needs an address token, and the SMTP reply if it has no valid one.",
            make.of[TokenRequirement],
            errors="400",
            parameters=parameters[RecipientQuestion],
        ),
        "/v1/explain": make.post(
            "explain",
            "What would happen to a message, and why: the same as `sidecar explain --json`.",
            make.of[Explanation],
            errors="503",
            body=ExplainQuestion,
        ),
        "/v1/sign": make.post(
            "sign", "The proofs for a message of an application. Only over a UNIX socket.", make.of[Signed], body=SignQuestion
        ),
    }


def _paths_of_the_process(make: Operations) -> dict[str, Any]:
    ready, text = "Whether workers accept mail, and the journal has space.", {"schema": {"type": "string"}}
    return {
        "/healthz": make.get("healthz", "Whether this process is alive.", make.of[Health]),
        "/readyz": make.get("readyz", ready, make.of[Readiness], errors="503"),
        "/metrics": make.get(
            "metrics", "Counts and times, for Prometheus.", forms={"text/plain": text, "application/openmetrics-text": text}
        ),
        "/openapi.json": make.get("openapi", "This document.", {"type": "object"}),
    }


def _parameters(question: type[Struct], schema: Mapping[str, Any]) -> list[dict[str, Any]]:
    fields = msgspec.structs.fields(question)
    return [
        {"name": one.name, "in": "query", "required": one.default is NODEFAULT, "schema": schema["properties"][one.name]}
        for one in fields
    ]
