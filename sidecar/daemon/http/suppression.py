"""The paths of the suppression list: reading it off the loop, and changing it in order.

Owns the HTTP side: preconditions, formats, and when a change is answered. `access` decides who can ask.
"""

import asyncio
import hashlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Final, TypeVar
from urllib.parse import urlencode
from weakref import WeakValueDictionary

from msgspec import UNSET, Struct, json
from msgspec.structs import asdict
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from sidecar.core.suppressed import (
    AddressHistory,
    EditableList,
    ListChanges,
    ListPage,
    ListQuery,
    ListUnavailableError,
    RevisionGoneError,
    ShownEntry,
    csv_lines,
    csv_lines_of_changes,
)
from sidecar.core.text import printable_json
from sidecar.daemon.http.access import CHECK, SUPPRESSION, caller
from sidecar.daemon.http.answers import JSON, json_answer
from sidecar.daemon.http.bodies import Bodies
from sidecar.daemon.http.list_questions import (
    CheckAnswer,
    ListQuestion,
    read_addition,
    read_check,
    read_event,
    read_list_question,
    read_reason,
)
from sidecar.daemon.http.threads import ThreadQueue

EVENTS: Final = f"{SUPPRESSION}/events"
JSON_LINES: Final = ("application/jsonl", "application/x-ndjson")
CSV: Final = "text/csv"
# A thousand addresses of 1 kB.
_BODY_LIMIT: Final = 1024 * 1024
# The process of the list applies a change in a quarter of a second.
IN_FORCE_SECONDS: float = 10.0
_LOOK_SECONDS: Final = 0.05
# Questions in memory while the disk is slow.
WAITING_LIMIT: Final = 200
# Addresses that are changed while the process of the list is away, for ten seconds each.
UNAPPLIED_LIMIT: Final = 10_000
_NO_LIST: Final = "The settings have no [suppression]: write this section, and reload the sidecar."

T = TypeVar("T")


class MadeChange(Struct, frozen=True, kw_only=True):
    """An address before and after a change; not `in_force` while the process of the list is away."""

    before: AddressHistory
    after: AddressHistory
    in_force: bool


class SuppressionPaths:
    """The paths of a list; without one they answer 404. `bodies` are those of all paths; a segment is `roll_seconds` old."""

    def __init__(self, suppressed: EditableList | None, bodies: Bodies, *, roll_seconds: float) -> None:
        self._suppressed = suppressed
        self._bodies = bodies
        self._roll_seconds = roll_seconds
        self._rolls = False
        # Reads do not wait for the journal.
        self._reader, self._writer = ThreadPoolExecutor(1, "list"), ThreadPoolExecutor(1, "changes")
        self._queue = ThreadQueue(WAITING_LIMIT, f"{WAITING_LIMIT} questions wait for the disk")
        # The lock of each address that is being changed, as long as a request needs it.
        self._locks = WeakValueDictionary[str, asyncio.Lock]()
        # The record of the last change of an address, if it was not in force when it was answered.
        self._unapplied: dict[str, str] = {}
        self.routes = [
            Route(SUPPRESSION, self.list_entries),
            Route(CHECK, self.check, methods=["POST"]),
            Route(EVENTS, self.add_event, methods=["POST"]),
            # One route: the error for another method names all of them.
            Route(f"{SUPPRESSION}/{{address:path}}", self.one_address, methods=["GET", "PUT", "DELETE"]),
        ]

    def close(self) -> None:
        """Finish the segment of the changes."""
        if self._suppressed is not None:
            self._writer.submit(self._suppressed.close).result()

    # --- reading

    async def list_entries(self, request: Request) -> Response:
        """Answer with a page of the list, or with changes."""
        question = read_list_question(request.query_params)
        own = self.own()
        if question.since is not UNSET:
            try:
                changes = await self.read(partial(own.changes, question.since, question.limit))
            except RevisionGoneError:
                text = f"Not all changes since {question.since} are known: read the whole list, and ask from its revision on."
                raise HTTPException(410, text) from None
            following = {"since": str(changes.revision)} if changes.more else {}
            rows = csv_lines_of_changes(changes.changes)
            return _list_answer(request, changes, changes.changes, rows, question, following)
        wanted = ListQuery(after=question.after, prefix=question.prefix, domain=question.domain, reason=question.reason)
        page = await self.read(partial(own.page, wanted, question.limit))
        following = {} if page.after is None else {"after": page.after}
        return _list_answer(request, page, page.entries, csv_lines(page.entries), question, following)

    async def check(self, request: Request) -> Response:
        """Answer which of many addresses are on the list."""
        question = read_check(await self._bodies.read(request, _BODY_LIMIT))
        return json_answer(CheckAnswer(suppressed=await self.read(partial(self.own().check, question.addresses))))

    async def one_address(self, request: Request) -> Response:
        """Show, add or remove an address."""
        changes = {"PUT": self.add, "DELETE": self.remove}
        return await changes.get(request.method, self.show)(request)

    async def show(self, request: Request) -> Response:
        """Answer with an entry and its events."""
        found = await self.history(request.path_params["address"])
        if found.entry is None:
            raise HTTPException(404, f"{found.address} is not on the list.")
        return _history_answer(found)

    # --- changing

    async def add(self, request: Request) -> Response:
        """Add an address."""
        addition = read_addition(await self._bodies.read(request, _BODY_LIMIT), time.time())
        change = partial(self.own().add, reason=addition.reason, expires=addition.seconds)
        return await self._change(request, request.path_params["address"], change)

    async def add_event(self, request: Request) -> Response:
        """Add an address for an event of the sending application."""
        event = read_event(await self._bodies.read(request, _BODY_LIMIT), time.time())
        change = partial(self.own().add_event, reason=event.type, time=event.microseconds, id=event.id)
        return await self._change(request, event.address, change)

    async def remove(self, request: Request) -> Response:
        """Remove an address."""
        change = partial(self.own().remove, reason=read_reason(request.query_params))
        return await self._change(request, request.path_params["address"], change)

    async def _change(self, request: Request, spelled: str, change: Callable[..., str | None]) -> Response:
        made = await self.change(spelled, lambda address: change(address, by=caller(request.scope)), request.headers)
        if not made.in_force:
            answer = _history_answer(made.after, 202)
            answer.headers["Retry-After"] = "1"
            return answer
        return _history_answer(made.after, 201 if made.before.entry is None and made.after.entry is not None else 200)

    async def change(self, spelled: str, change: Callable[[str], str | None], conditions: Headers) -> MadeChange:
        """Change an address, if the preconditions hold: `change`, in the thread of the writer, with the address in normal form.

        Raise HTTPException, and ValueError for what is no address.
        """
        address = (await self.history(spelled)).address
        lock = self._locks.setdefault(address, asyncio.Lock())
        async with lock:
            if "if-match" in conditions or "if-none-match" in conditions:
                await self._require_in_force(address)
            before = await self.history(address)
            _check_preconditions(conditions, before.entry)
            record_id = await self._write(lambda: change(address))
            in_force = record_id is None or await self._is_applied(address, record_id)
            if record_id is not None and not in_force:
                self._note_unapplied(address, record_id)
            return MadeChange(before=before, after=await self.history(address), in_force=in_force)

    async def _require_in_force(self, address: str) -> None:
        """Raise HTTPException if the entry of an address is not the one after the last change here."""
        record_id = self._unapplied.get(address)
        if record_id is not None:
            if not await self.read(partial(self.own().is_applied, address, record_id)):
                text = "An earlier change of this address is not in force yet: ask again in a second."
                raise HTTPException(503, text, {"Retry-After": "1"})
            self._unapplied.pop(address, None)

    def _note_unapplied(self, address: str, record_id: str) -> None:
        self._unapplied.pop(address, None)
        self._unapplied[address] = record_id
        if len(self._unapplied) > UNAPPLIED_LIMIT:
            del self._unapplied[next(iter(self._unapplied))]

    async def _is_applied(self, address: str, record_id: str) -> bool:
        own, until = self.own(), time.monotonic() + IN_FORCE_SECONDS
        while not await self.read(partial(own.is_applied, address, record_id)):
            if time.monotonic() >= until:
                return False
            await asyncio.sleep(_LOOK_SECONDS)
        return True

    # --- the list and its threads

    def own(self) -> EditableList:
        """Return the list. Raise HTTPException if there is none."""
        if self._suppressed is None:
            raise HTTPException(404, _NO_LIST)
        return self._suppressed

    async def history(self, address: str) -> AddressHistory:
        """Return what is known about an address. Raise HTTPException, and ValueError for what is no address."""
        return await self.read(partial(self.own().history, address))

    async def read(self, ask: Callable[[], T]) -> T:
        """Return what the list answers, in the thread of readers. Raise HTTPException."""
        return await self._in_thread(self._reader, ask)

    async def _write(self, change: Callable[[], str | None]) -> str | None:
        changed = await self._in_thread(self._writer, change)
        if not self._rolls:
            self._rolls = True
            asyncio.get_running_loop().call_later(self._roll_seconds, self._roll)
        return changed

    def _roll(self) -> None:
        self._rolls = False
        if self._suppressed is not None:
            self._writer.submit(self._suppressed.roll)

    async def _in_thread(self, thread: ThreadPoolExecutor, ask: Callable[[], T]) -> T:
        try:
            return await self._queue.run(thread, ask)
        except ListUnavailableError as error:
            raise HTTPException(503, f"Not now: {error}.", {"Retry-After": "1"}) from error


# --- answers


def etag(entry: ShownEntry) -> str:
    """Return the tag of an entry: another one after each change."""
    return f'"{hashlib.blake2b(json.encode(entry), digest_size=8).hexdigest()}"'


def _check_preconditions(headers: Headers, entry: ShownEntry | None) -> None:
    """Raise HTTPException if the entry is not the one that the client knows (RFC 9110 section 13.1)."""
    now = None if entry is None else etag(entry)
    match, none_match = _tags(headers, "if-match"), _tags(headers, "if-none-match")
    if match is not None and (now is None or not match & {"*", now}):
        raise HTTPException(412, "The entry has changed since: read it again, and send its ETag in If-Match.")
    # A proxy that compresses answers makes their tags weak.
    if none_match is not None and now is not None and none_match & {"*", now, f"W/{now}"}:
        raise HTTPException(412, "The address is on the list already.")


def _tags(headers: Headers, name: str) -> set[str] | None:
    """Return the tags in all fields of a name; None without such a field."""
    fields = headers.getlist(name)
    return {one.strip() for one in ",".join(fields).split(",")} if fields else None


def _history_answer(found: AddressHistory, status: int = 200) -> Response:
    answer = json_answer(found, status)
    if found.entry is not None:
        answer.headers["ETag"] = etag(found.entry)
    return answer


def _list_answer(  # noqa: PLR0913, PLR0917 - each is shown
    request: Request,
    whole: ListPage | ListChanges,
    items: Sequence[object],
    rows: Iterator[str],
    question: ListQuestion,
    following: Mapping[str, str],
) -> Response:
    """Return an answer in the first known format that Accept names: JSON by default.

    Headers have the revision and the address of the next page, for which formats of lines have no place.
    """
    named = (one.partition(";")[0].strip().lower() for one in request.headers.get("accept", "").split(","))
    kind = next((one for one in named if one in {JSON, CSV, *JSON_LINES}), JSON)
    if kind == JSON:
        answer = json_answer(whole)
    elif kind == CSV:
        answer = Response("".join(rows).encode(), media_type=kind)
    else:
        answer = Response(b"".join(printable_json(json.encode(one)) + b"\n" for one in items), media_type=kind)
    answer.headers["Sidecar-List-Revision"] = str(whole.revision)
    if following:
        query = {name: value for name, value in asdict(question).items() if value not in {UNSET, ""}}
        answer.headers["Link"] = f'<{SUPPRESSION}?{urlencode({**query, **following})}>; rel="next"'
    return answer
