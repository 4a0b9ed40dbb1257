"""Questions about the suppression list: a query string or a JSON body to a typed question or an error."""

from datetime import UTC, datetime, timedelta
from typing import Annotated, Final, Literal

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType
from starlette.datastructures import QueryParams
from starlette.exceptions import HTTPException

from sidecar.core.suppressed import REASON_LIMIT, ShownEntry, reason_of
from sidecar.core.text import LATEST, printable
from sidecar.daemon.http.questions import read_body, read_query

ADDRESSES_LIMIT: Final = 1000
PAGE: Final = 1000
PAGE_LIMIT: Final = 10_000
_ID_LIMIT: Final = 200
# The clock of the other program can be ahead. An event of a later time would outlast a removal.
_AHEAD: Final = 300

_Reason = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=REASON_LIMIT,
        description="Why: one line, which the list and the journal show.",
    ),
]
_Time = Annotated[datetime, Meta(tz=True, description="RFC 3339, with its offset.")]
_Text = Annotated[str, Meta(max_length=1024)]


class ListQuestion(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which entries are wanted, or the changes since a revision."""

    prefix: Annotated[_Text, Meta(description="Only addresses that begin so.")] = ""
    domain: Annotated[_Text, Meta(description="Only addresses in this domain, without its subdomains.")] = ""
    reason: Annotated[_Text, Meta(description="Only entries with this reason.")] = ""
    after: Annotated[_Text, Meta(description="Begin after this address: `after` of the page before.")] = ""
    since: Annotated[int, Meta(ge=0, description="A revision: only what has changed since.")] | UnsetType = UNSET
    limit: Annotated[int, Meta(ge=1, le=PAGE_LIMIT, description="The largest number of entries or changes.")] = PAGE


class CheckQuestion(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Addresses to look up. What is no address is not on the list."""

    addresses: Annotated[list[str], Meta(max_length=ADDRESSES_LIMIT)]


class CheckAnswer(Struct, frozen=True, kw_only=True):
    """The addresses that are on the list, as they were asked, in their order."""

    suppressed: list[ShownEntry]


class Addition(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Why an address is added, and until when; without `expires` until it is removed."""

    reason: _Reason
    expires: _Time | None = None

    @property
    def seconds(self) -> int:
        """The end in seconds since 1970; 0 for none."""
        return 0 if self.expires is None else int(self.expires.timestamp())


class UnsubscribeEvent(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An event of the sending application. An event with the same `id` for the same address counts once."""

    type: Literal["unsubscribe"]
    address: str
    time: Annotated[_Time, Meta(description="When it was: a later removal cancels it.")]
    id: Annotated[str, Meta(min_length=1, max_length=_ID_LIMIT, description="The application's own id of the event.")]

    @property
    def microseconds(self) -> int:
        """The time in microseconds since 1970."""
        return (self.time - datetime.fromtimestamp(0, UTC)) // _MICROSECOND


_MICROSECOND: Final = timedelta.resolution
_FAULT: Final = "cannot be read"


class Removal(Struct, frozen=True, kw_only=True):
    """Why an address is removed."""

    reason: str


def read_list_question(query: QueryParams) -> ListQuestion:
    """Read a query string. Raise HTTPException."""
    question = read_query(query, ListQuestion)
    if question.since is not UNSET and query.keys() - {"since", "limit"}:
        raise HTTPException(400, "since goes together with limit only: it asks for all changes.")
    return question


def read_reason(query: QueryParams) -> str:
    """Read the query string of a removal. Raise HTTPException."""
    return _checked(read_query(query, Removal, reason="say why the address is removed, as in ?reason=mailbox+fixed").reason)


def read_check(body: bytes) -> CheckQuestion:
    """Read a JSON body. Raise HTTPException."""
    return read_body(body, CheckQuestion, _FAULT)


def read_addition(body: bytes, now: float) -> Addition:
    """Read a JSON body. Raise HTTPException."""
    found = read_body(body, Addition, _FAULT)
    reason = _checked(found.reason)
    if found.expires is not None and not now < found.seconds <= LATEST:
        raise HTTPException(400, "expires is over: write a later time, or null.")
    return msgspec.structs.replace(found, reason=reason)


def read_event(body: bytes, now: float) -> UnsubscribeEvent:
    """Read a JSON body. Raise HTTPException."""
    found = read_body(body, UnsubscribeEvent, _FAULT)
    if printable(found.id) != found.id:
        raise HTTPException(400, "id has control characters or invisible ones.")
    if not 0 < found.microseconds <= (now + _AHEAD) * 1_000_000:
        raise HTTPException(400, "time is in the future, or before 1970: send the time of the event.")
    return found


def _checked(reason: str) -> str:
    if (found := reason_of(reason)) is None:
        raise HTTPException(400, f"reason is not one line of 1 to {REASON_LIMIT} characters, without control characters.")
    return found
