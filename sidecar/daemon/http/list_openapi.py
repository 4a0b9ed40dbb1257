"""The suppression list's part of the OpenAPI document."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from sidecar.core.suppressed import REASON_LIMIT, AddressHistory, ListChange, ListChanges, ListPage, ShownEntry
from sidecar.daemon.http.access import CHECK, SUPPRESSION
from sidecar.daemon.http.answers import JSON
from sidecar.daemon.http.list_questions import Addition, CheckAnswer, CheckQuestion, UnsubscribeEvent
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
_READ: Final = ("404", "503")
_CHANGED: Final = ("400", "404", "408", "412", "413", "503")


def suppression_paths(
    of: Mapping[Any, Mapping[str, Any]], operation: Callable[..., dict[str, Any]], query: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """Return the paths. `of` has the schema of each type; `operation` makes one; `query` has the parameters of the list."""
    history = {JSON: {"schema": of[AddressHistory]}}

    def changing(name: str, summary: str, *errors: str, body: type | None = None, **more: object) -> dict[str, Any]:
        content: dict[str, Any] = {}
        if body is not None:
            content = {"requestBody": {"required": True, "content": {JSON: {"schema": of[body]}}}}
        made = operation(name, summary, history, *_CHANGED, *errors, **content, **more)
        made["responses"] |= {
            "201": {"description": "The address is on the list now.", "content": history},
            "202": {"description": "The journal has the change. It is not in force yet.", "content": history},
        }
        return made

    lines = {"oneOf": [of[ShownEntry], of[ListChange]]}
    page = {
        JSON: {"schema": {"anyOf": [of[ListPage], of[ListChanges]]}},
        CSV: {"schema": {"type": "string"}},
        **{kind: {"schema": {"type": "string"}, "x-line": lines} for kind in JSON_LINES},
    }
    return {
        SUPPRESSION: {
            "get": operation(
                "listSuppressed",
                "The entries by address, page by page, or the changes since a revision. Accept chooses the format.",
                page,
                "400",
                "410",
                *_READ,
                parameters=query,
            )
        },
        CHECK: {
            "post": operation(
                "checkSuppressed",
                "Which of many addresses are on the list.",
                {JSON: {"schema": of[CheckAnswer]}},
                "400",
                "408",
                "413",
                *_READ,
                requestBody={"required": True, "content": {JSON: {"schema": of[CheckQuestion]}}},
            )
        },
        EVENTS: {
            "post": changing(
                "addSuppressionEvent",
                "An event of the sending application, such as an unsubscription. It needs the operator's token.",
                body=UnsubscribeEvent,
            )
        },
        f"{SUPPRESSION}/{{address}}": {
            "get": operation(
                "showSuppressed", "An entry, and the events behind it.", history, "400", *_READ, parameters=[_ADDRESS]
            ),
            "put": changing(
                "addSuppressed",
                "Put an address on the list. An entry that lasts longer stays. It needs the operator's token.",
                body=Addition,
                parameters=[_ADDRESS, _MATCH],
            ),
            "delete": changing(
                "removeSuppressed",
                "Remove an address. Earlier reports do not count any more. It needs the operator's token.",
                parameters=[_ADDRESS, _REASON, _MATCH],
            ),
        },
    }
