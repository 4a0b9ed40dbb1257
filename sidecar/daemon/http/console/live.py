"""The page of new records, and the stream that it reads (server-sent events)."""

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Final
from urllib.parse import urlencode

from msgspec.structs import replace
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from sidecar.daemon.http.console.frame import FormView, Frame, Parts, View
from sidecar.daemon.http.console.rendering import fragment
from sidecar.daemon.http.console.search import DISPOSITIONS, RECORD_TYPES, find_page, read_search
from sidecar.journal.index import Search, StoredRow

LIVE: Final = "/console/live"
STREAM: Final = f"{LIVE}/stream"
_FILTERS: Final = ("type", "peer", "domain", "text", "disposition")
# Each asks the index once in a second, for a millisecond.
STREAMS_LIMIT: Final = 20
# Less than the server gives an answer. The browser then asks again, with the last key that it has.
STREAM_SECONDS: float = 15.0
LOOK_SECONDS: float = 1.0
RETRY_MILLISECONDS: Final = 300
# The records of several workers become known out of order, within this time.
_LATE: Final = 10.0
# Of one look. In a flood the others are counted by the overview.
_ROWS: Final = 200
_SECOND: Final = 1_000_000
_DIGITS: Final = 18


class LivePage:
    """The newest records, and those that follow."""

    def __init__(self, frame: Frame, parts: Parts) -> None:
        self._frame = frame
        self._index = parts.index
        self._streams = 0
        self.views: dict[str, View] = {LIVE: self.show, STREAM: self.stream}
        self.forms: dict[str, FormView] = {}

    async def show(self, request: Request) -> Response:
        """Answer with the newest records that fit."""
        query = request.query_params
        asked = {name: query.get(name, "").strip() for name in _FILTERS}
        _, found, fault = await find_page(self._index, query)
        return self._frame.show(
            request,
            "live.html",
            400 if fault else 200,
            asked=asked,
            record_types=RECORD_TYPES,
            dispositions=DISPOSITIONS,
            found=found,
            fault=fault,
            stream=None if fault else f"{STREAM}?{urlencode({name: value for name, value in asked.items() if value})}",
            last=found.rows[0].time if found.rows else 0,
        )

    async def stream(self, request: Request) -> Response:
        """Answer with new records as they come. The browser names the time of the last one that it has, in microseconds."""
        wanted = read_search(request.query_params)
        last = request.headers.get("last-event-id") or request.query_params.get("last", "")
        if self._streams >= STREAMS_LIMIT:
            raise HTTPException(503, f"{STREAMS_LIMIT} live pages are open: close one.", {"Retry-After": "10"})
        events = self._events(wanted, int(last) if last.isdecimal() and len(last) < _DIGITS else 0)
        return StreamingResponse(events, media_type="text/event-stream")

    async def _events(self, wanted: Search, last: int) -> AsyncIterator[str]:
        """Yield new records in the order of their times."""
        self._streams += 1
        try:
            until = time.monotonic() + STREAM_SECONDS
            yield f"retry: {RETRY_MILLISECONDS}\n\n"
            seen: dict[int, None] = {}
            while True:
                try:
                    rows = await self._new(wanted, last, seen)
                except (HTTPException, ValueError):
                    return  # the status is sent already; the browser asks again
                if rows:
                    last = max(last, rows[0].time)
                    yield _event(rows, last)
                if time.monotonic() >= until:
                    return
                await asyncio.sleep(LOOK_SECONDS)
        finally:
            self._streams -= 1

    async def _new(self, wanted: Search, last: int, seen: dict[int, None]) -> list[StoredRow]:
        since = last / _SECOND - _LATE if last else time.time() - _LATE
        found = await self._index.ask(lambda index: index.search(replace(wanted, since=max(0.0, since)), limit=_ROWS))
        rows = [row for row in found.rows if row.key not in seen]
        seen.update(dict.fromkeys(row.key for row in found.rows))
        while len(seen) > 2 * _ROWS:
            del seen[next(iter(seen))]
        return rows


def _event(rows: list[StoredRow], last: int) -> str:
    lines = "".join(f"data: {line}\n" for line in fragment("rows_only.html", rows=rows).splitlines() if line)
    return f"id: {last}\n{lines}\n"
