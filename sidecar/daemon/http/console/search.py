"""The pages of records: a search, and one record with its session, its reason and what the current policy says."""

import json
import re
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from itertools import islice
from typing import Any, Final
from urllib.parse import urlencode

from msgspec import Struct
from starlette.datastructures import QueryParams
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from sidecar.core.disposition import Disposition
from sidecar.core.evaluate.evaluator import Evaluator
from sidecar.core.evaluate.recorded.explanation import Explainer, RecordExplanation
from sidecar.core.evaluate.recorded.follow_up import Entry
from sidecar.core.evaluate.recorded.words import AIMS, decision
from sidecar.core.records import Logged, decode
from sidecar.core.records.reading import TYPES
from sidecar.core.text import LATEST
from sidecar.daemon.http.console.frame import FormView, Frame, Parts, View
from sidecar.daemon.http.console.records import IndexThread
from sidecar.journal.index import FoundRecord, Index, RowPage, Search, StoredRow

SEARCH: Final = "/console/search"
RECORD: Final = "/console/record"
_PAGE: Final = 100
TEXT_LIMIT: Final = 1024
# SQLite has 63 bits for it.
_KEY: Final = re.compile(r"[0-9]{1,18}|[1-8][0-9]{18}")
# An address can be 1 kB long, and the head of a request 16.
_RECIPIENTS: Final = 5
# The parameters of a search, and the conditions that they are.
_CONDITIONS: Final = {
    "address": "address",
    "domain": "domain",
    "peer": "peer_network",
    "queue_id": "queue_id",
    "id": "message_id",
    "session": "session_id",
    "text": "text",
    "disposition": "disposition",
    "bounce_class": "bounce_class",
    "feedback_type": "feedback_type",
    "reporter": "reporter",
    "verified": "verified",
}
RECORD_TYPES: Final = sorted(TYPES)
DISPOSITIONS: Final = tuple(one.value for one in Disposition)


class Shown(Struct, frozen=True, kw_only=True):
    """A record on its page. `content` is its line in the journal, and None if the journal does not have it any more."""

    row: StoredRow
    content: Mapping[str, Any] | None
    text: str
    session: tuple[StoredRow, ...]
    explained: RecordExplanation | None
    fault: str | None


def read_search(query: QueryParams) -> Search:
    """Read the conditions of a query string. Raise HTTPException."""
    values = {name: query.get(name, "").strip() for name in _CONDITIONS}
    if any(len(value) > TEXT_LIMIT for value in values.values()):
        raise HTTPException(400, f"A condition has more than {TEXT_LIMIT:,} characters.")
    types = dict.fromkeys(filter(None, (one.strip() for one in query.getlist("type"))))
    return Search(
        types=tuple(islice(types, len(TYPES))),
        since=_time(query.get("since", "")),
        until=_time(query.get("until", "")),
        **{condition: values[name] for name, condition in _CONDITIONS.items()},
    )


async def find_page(index: IndexThread, query: QueryParams, *, before: int | None = None) -> tuple[Search, RowPage, str | None]:
    """Return the conditions, and the newest records that fit, before a key; or no records, and what is wrong."""
    wanted, nothing = Search(), RowPage(rows=(), before=None, complete=True)
    try:
        wanted = read_search(query)
    except HTTPException as error:
        return wanted, nothing, error.detail
    try:
        return wanted, await index.ask(lambda index: index.search(wanted, limit=_PAGE, before=before)), None
    except ValueError:
        fault = "The peer is no address or network: write it in full, such as 203.0.113.9 or 203.0.113.0/24."
        return wanted, nothing, fault


def _time(text: str) -> float | None:
    """Return seconds since 1970, from the same or from a date and time in UTC; None for no time. Raise HTTPException."""
    if not text.strip():
        return None
    try:
        seconds = float(text) if text.strip().isdecimal() else datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()
    except (ValueError, OverflowError) as error:
        raise HTTPException(400, "The time cannot be read: write it as 2026-11-30T08:30, in UTC.") from error
    if not 0 <= seconds <= LATEST:
        raise HTTPException(400, "The time is not between 1970 and 9999.")
    return seconds


class SearchPages:
    """The pages of records."""

    def __init__(self, frame: Frame, parts: Parts) -> None:
        self._frame = frame
        self._index = parts.index
        self._explainer = parts.explainer
        self._plan = parts.plan
        self.views: dict[str, View] = {SEARCH: self.show, RECORD: self.show_record}
        self.forms: dict[str, FormView] = {}

    async def show(self, request: Request) -> Response:
        """Answer with the newest records that fit."""
        query = request.query_params
        before = query.get("before", "")
        wanted, found, fault = await find_page(self._index, query, before=int(before) if _KEY.fullmatch(before) else None)
        asked = {name: query.get(name, "") for name in _CONDITIONS}
        kept = [(name, value) for name, value in query.multi_items() if value and name != "before"]
        return self._frame.show(
            request,
            "search.html",
            400 if fault else 200,
            asked=asked,
            types=wanted.types,
            since=_field(wanted.since),
            until=_field(wanted.until),
            record_types=RECORD_TYPES,
            dispositions=DISPOSITIONS,
            found=found,
            fault=fault,
            more=any(asked[name] for name in ("session", "bounce_class", "feedback_type", "reporter", "verified")),
            following=None if found.before is None else urlencode([*kept, ("before", str(found.before))]),
        )

    async def show_record(self, request: Request) -> Response:
        """Answer with one record."""
        key = request.query_params.get("key", "")
        if not _KEY.fullmatch(key):
            raise HTTPException(404, "No record has this address.")
        found, session = await self._index.ask(lambda index: _with_session(index, int(key)))
        if found is None:
            raise HTTPException(404, "The index does not have this record any more.")
        shown = await self._explainer.do(lambda: self._shown(found, session))
        explained, row = shown.explained, shown.row
        outcome = None if explained is None else explained.outcome
        return self._frame.show(
            request,
            "record.html",
            shown=shown,
            row=row,
            original=list(_original(shown.content)),
            decision=None if explained is None or outcome is None else decision(explained, outcome),
            aim="" if explained is None or explained.fix is None else AIMS[explained.fix.aim],
            question=None if explained is None or outcome is None else _question(explained),
        )

    def _shown(self, found: FoundRecord, session: tuple[StoredRow, ...]) -> Shown:
        line, content, text, explained, fault = found.line, None, "", None, None
        if line is None:
            fault = "The journal does not have this record any more: its segment was deleted. The index still has these values."
        else:
            text = line.decode("utf-8", "replace")
            try:
                content = json.loads(text)
                text = json.dumps(content, indent=2, ensure_ascii=False)
                explained = self._explained(decode(line), len(line))
            except (ValueError, RecursionError) as error:
                fault = f"It cannot be held against the policy: {error}."
        return Shown(row=found.row, content=content, text=text, session=session, explained=explained, fault=fault)

    def _explained(self, record: Logged, size: int) -> RecordExplanation:
        evaluator = Evaluator(self._plan.settings, policy=self._plan.policy, node_id=self._plan.node_id)
        return Explainer(evaluator).explain(Entry(file="journal", line=1, record=record, fault="", size=size))


def _with_session(index: Index, key: int) -> tuple[FoundRecord | None, tuple[StoredRow, ...]]:
    found = index.record(key)
    session_id = "" if found is None else found.row.session_id
    return found, index.session(session_id) if session_id else ()


def _original(content: Mapping[str, Any] | None) -> Iterator[tuple[str, str]]:
    """Yield the facts of the returned message."""
    meta = (content or {}).get("meta")
    original = meta.get("original") if isinstance(meta, dict) else None
    if isinstance(original, dict):
        yield from ((str(name), str(value)) for name, value in original.items())


def _question(explained: RecordExplanation) -> str:
    """Return the query of the explain page for the envelope of a record."""
    record = explained.record
    values = {"peer": record.peer, "listener": record.listener, "auth": record.auth, "to": ", ".join(record.to[:_RECIPIENTS])}
    return urlencode({"from": record.sender} | {name: value for name, value in values.items() if value})


def _field(seconds: float | None) -> str:
    """Return a time as a field of a form has it."""
    return "" if seconds is None else time.strftime("%Y-%m-%dT%H:%M", time.gmtime(seconds))
