"""The suppression list's part of the OpenAPI document."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from sidecar.core.suppressed import REASON_LIMIT, AddressHistory, ListChange, ListChanges, ListPage, ShownEntry
from sidecar.daemon.http.access import CHECK, SUPPRESSION
from sidecar.daemon.http.answers import JSON
from sidecar.daemon.http.list_questions import Addition, CheckAnswer, CheckQuestion, UnsubscribeEvent
from sidecar.daemon.http.operations import Operations
from sidecar.daemon.http.suppression import CSV, EVENTS, JSON_LINES

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


def suppression_paths(make: Operations, query: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the paths. `query` has the parameters of the list."""
    of = make.of
    event = "An event of the sending application, such as an unsubscription."
    lines = {"schema": {"type": "string"}, "x-line": {"oneOf": [of[ShownEntry], of[ListChange]]}}
    return {
        SUPPRESSION: make.get(
            "listSuppressed",
            "The entries by address, page by page, or the changes since a revision. Accept chooses the format.",
            {"anyOf": [of[ListPage], of[ListChanges]]},
            errors="400 404 410 503",
            forms={CSV: {"schema": {"type": "string"}}, **dict.fromkeys(JSON_LINES, lines)},
            parameters=query,
        ),
        CHECK: make.post(
            "checkSuppressed", "Which of many addresses are on the list.", of[CheckAnswer], errors="404 503", body=CheckQuestion
        ),
        EVENTS: {"post": _changing(make, "addSuppressionEvent", event, body=UnsubscribeEvent)},
        f"{SUPPRESSION}/{{address}}": _of_one_address(make),
    }


def _of_one_address(make: Operations) -> dict[str, Any]:
    history, needed = make.of[AddressHistory], {"errors": "400 404 503", "parameters": [_ADDRESS]}
    return {
        **make.get("showSuppressed", "An entry, and the events behind it.", history, **needed),
        "put": _changing(
            make,
            "addSuppressed",
            "Put an address on the list. An entry that lasts longer stays.",
            body=Addition,
            parameters=[_ADDRESS, _MATCH],
        ),
        "delete": _changing(
            make,
            "removeSuppressed",
            "Remove an address. Earlier reports do not count any more.",
            parameters=[_ADDRESS, _REASON, _MATCH],
        ),
    }


def _changing(make: Operations, name: str, summary: str, **more: Any) -> dict[str, Any]:  # noqa: ANN401 - those of an operation
    history, errors = make.of[AddressHistory], "400 404 408 412 413 503"
    made = make.one(name, f"{summary} It needs the operator's token.", history, errors=errors, **more)
    for status, text in _CHANGED.items():
        made["responses"][status] = {"description": text, "content": {JSON: {"schema": history}}}
    return made
