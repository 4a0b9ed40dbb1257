"""The suppression list over HTTP, with a real journal, database and process of the list (as a thread)."""

import asyncio
import csv
import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, quote, urlsplit

import pytest
from msgspec import convert
from msgspec.structs import replace
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException

from sidecar.core.settings.settings import Settings
from sidecar.core.settings.values import AdminSettings
from sidecar.core.suppressed import ShownEntry
from sidecar.core.text import rfc3339
from sidecar.daemon.http import Application
from sidecar.daemon.http import suppression as paths
from sidecar.suppression.consumer import follow
from sidecar.suppression.serving import ServedList
from tests.daemon.http.asking import Answer, app, ask, asked
from tests.daemon.http.test_access import BOTH, OPERATOR
from tests.mta.processes import wait_until
from tests.suppression.journals import computed, stored, with_list, write_segment
from tests.suppression.records import BEGIN, change, feedback

LIST, CHECK, EVENTS = "/v1/suppression", "/v1/suppression/check", "/v1/suppression/events"
A = "a@example.com"
DAYS = (time.time() - BEGIN) / 86400
TOKEN = {"authorization": f"Bearer {OPERATOR}"}


class Served:
    """A list that is served, and kept up to date while `running`."""

    def __init__(self, folder: Path, **more: Any) -> None:
        self.settings: Settings = with_list(folder, **more)
        self.service = ServedList(self.settings)
        self.app: Application = app(listening="unix:/s", suppressed=self.service, admin=AdminSettings(tokens=BOTH))
        self._end = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Keep the list up to date."""
        self._end.clear()
        wait = self._end.wait
        self._thread = threading.Thread(target=follow, args=(self.settings, lambda s: wait(s) if s else self._end.is_set()))
        self._thread.start()

    def stop(self) -> None:
        """Stop that."""
        self._end.set()
        if self._thread is not None:
            self._thread.join()

    def ask(self, method: str, path: str, body: object = None, query: str = "", **headers: str) -> Answer:
        """Ask as the operator."""
        pieces = [b"" if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()]
        fields = TOKEN | {name.replace("_", "-"): value for name, value in headers.items()}
        return ask(self.app, path, query, method=method, headers=fields, pieces=pieces)

    def put(self, address: str, reason: str = "by phone", **more: object) -> Answer:
        """Add an address."""
        return self.ask("PUT", f"{LIST}/{address}", {"reason": reason, **more})

    def records(self) -> list[dict[str, Any]]:
        """Return the audit records."""
        lines = [line for path in sorted(self.settings.journal.directory.iterdir()) for line in path.read_text().splitlines()]
        return [record for line in lines if (record := json.loads(line))["type"] == "Suppression"]


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    """Serve a list with one complaint."""
    one = Served(tmp_path)
    write_segment(one.settings, 0, [feedback(A, day=DAYS - 5)])
    one.start()
    try:
        wait_until(lambda: one.ask("GET", f"{LIST}/{A}").status == 200, "the list is served")
        yield one
    finally:
        one.stop()
        one.app.close()


def test_one_address(served: Served) -> None:
    """It is shown, added and removed; each change is in force when it is answered, and has one record with who made it."""
    shown = served.ask("GET", f"{LIST}/A@Example.COM")
    assert (shown.value["address"], shown.value["entry"]["reason"], shown.value["entry"]["expires"]) == (A, "abuse", None)
    assert [event["kind"] for event in shown.value["events"]] == ["report"]
    until = rfc3339(int(time.time()) + 3600)
    added = served.put("b/c@example.com", expires=until)
    assert (added.status, added.value["entry"]["expires"], added.value["entry"]["source"]) == (201, until, "manual")
    again = served.put("b/c@example.com", expires=until)
    assert (again.status, again.headers["etag"]) == (200, added.headers["etag"])
    assert "b/c@example.com" in stored(served.settings, int(time.time()))
    removed = served.ask("DELETE", f"{LIST}/{A}", query="reason=mailbox+fixed")
    assert (removed.status, removed.value["entry"], "etag" in removed.headers) == (200, None, False)
    assert [event["reason"] for event in removed.value["events"]] == ["mailbox fixed"]
    assert served.ask("DELETE", f"{LIST}/{A}", query="reason=again").status == 200
    missing = served.ask("GET", f"{LIST}/{A}")
    assert (missing.status, missing.error) == (404, "a@example.com is not on the list.")
    made = [(record["recipient"], record["meta"]["action"], record["meta"]["by"]) for record in served.records()]
    assert made == [("b/c@example.com", "add", "operator over HTTP"), (A, "remove", "operator over HTTP")]
    assert computed(served.settings, int(time.time())) == stored(served.settings, int(time.time()))


def test_what_changes_nothing_has_no_record(served: Served) -> None:
    """A removal again, while a proved report is kept for its repeats; an event that is older than all that are kept."""
    write_segment(served.settings, 1, [feedback("p@x.test", day=DAYS - 1, verified_ids=["message:1"])])
    wait_until(lambda: served.ask("GET", f"{LIST}/p@x.test").status == 200, "the report counts")
    for _ in range(2):
        answer = served.ask("DELETE", f"{LIST}/p@x.test", query="reason=fixed")
        assert (answer.status, answer.value["entry"], len(answer.value["events"])) == (200, None, 2)
    assert [record["meta"]["action"] for record in served.records()] == ["remove"]
    write_segment(served.settings, 2, [change(A, "add", day=DAYS - 2 + number / 100) for number in range(22)])
    wait_until(lambda: len(served.ask("GET", f"{LIST}/{A}").value["events"]) == 22, "21 additions are kept, and the report")
    event = {"type": "unsubscribe", "address": A, "time": rfc3339(int(BEGIN + (DAYS - 2 + 0.005) * 86400)), "id": "1"}
    assert served.ask("POST", EVENTS, event).status == 200
    assert len([record for record in served.records() if record["meta"].get("event_id")]) == 0


@pytest.mark.parametrize("store", ["plain", "hashed"])
def test_a_clock_that_was_set_back(tmp_path: Path, store: Any) -> None:
    """A removal cancels what is of a later time, and an addition counts after a removal of a later time."""
    one = Served(tmp_path, store=store)
    write_segment(one.settings, 0, [feedback(A, day=DAYS + 2), change("b@x.test", "remove", day=DAYS + 2)])
    one.start()
    try:
        wait_until(lambda: one.ask("GET", f"{LIST}/{A}").status == 200, "the list is served")
        removed = one.ask("DELETE", f"{LIST}/{A}", query="reason=fixed")
        assert (removed.status, removed.value["entry"]) == (200, None)
        added = [one.put(address) for address in (A, "b@x.test")]
        assert [(answer.status, answer.value["entry"]["reason"]) for answer in added] == [(201, "by phone")] * 2
    finally:
        one.stop()
        one.app.close()


def test_an_entry_that_lasts_longer_stays(served: Served) -> None:
    """PUT never shortens an entry: a complaint lasts until it is removed."""
    answer = served.put(A, expires=rfc3339(int(time.time()) + 3600))
    assert (answer.status, answer.value["entry"]["reason"]) == (200, "abuse")
    assert [event["kind"] for event in answer.value["events"]] == ["report", "add"]


def test_concurrent_edits(served: Served) -> None:
    """Of two clients that know the same entry, one changes it."""
    etag = served.ask("GET", f"{LIST}/{A}").headers["etag"]
    query = "reason=x"
    assert served.ask("DELETE", f"{LIST}/{A}", query=query, if_match='"other"').status == 412
    assert served.ask("PUT", f"{LIST}/{A}", {"reason": "x"}, if_none_match="*").status == 412
    assert served.ask("PUT", f"{LIST}/n@example.com", {"reason": "x"}, if_match="*").status == 412
    assert served.ask("PUT", f"{LIST}/n@example.com", {"reason": "x"}, if_none_match="*").status == 201
    weak = served.ask("PUT", f"{LIST}/{A}", {"reason": "x"}, if_none_match=f'"x", W/{etag}')
    assert weak.status == 412  # as a proxy that compresses answers makes it
    several = Headers(raw=[(b"if-none-match", b'"x"'), (b"if-none-match", b"*")])
    with pytest.raises(HTTPException, match="on the list already"):
        paths._check_preconditions(several, convert(served.ask("GET", f"{LIST}/{A}").value["entry"], ShownEntry))
    assert len(served.records()) == 1

    async def both() -> list[int]:
        headers = TOKEN | {"if-match": f'"x", {etag}'}
        requests = [asked(served.app, f"{LIST}/{A}", query, method="DELETE", headers=headers) for _ in range(4)]
        return sorted([answer.status for answer in await asyncio.gather(*requests)])

    assert asyncio.run(both()) == [200, 412, 412, 412]
    assert not served.app._paths.suppression._locks


def test_concurrent_edits_while_the_list_is_not_kept(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """A change with a precondition waits for the change before it, of which the entry shows nothing yet."""
    served.stop()
    monkeypatch.setattr(paths, "IN_FORCE_SECONDS", 0.0)
    statuses = [served.ask("PUT", f"{LIST}/n@example.com", {"reason": str(n)}, if_none_match="*").status for n in range(2)]
    assert statuses == [202, 503]
    served.start()
    again = served.ask("PUT", f"{LIST}/n@example.com", {"reason": "2"}, if_none_match="*")
    wait_until(lambda: served.ask("GET", f"{LIST}/n@example.com").status == 200, "the first change is in force")
    assert again.status in {503, 412}  # as fast as the process of the list is
    assert served.ask("PUT", f"{LIST}/n@example.com", {"reason": "2"}, if_none_match="*").status == 412
    assert not served.app._paths.suppression._unapplied
    assert len(served.records()) == 1


def test_unsubscribe(served: Served) -> None:
    """An event counts once, whenever and however often it arrives, and a later removal cancels it."""
    event = {"type": "unsubscribe", "address": "U@Example.com", "time": rfc3339(int(time.time()) - 60), "id": "event-7"}
    first = served.ask("POST", EVENTS, event)
    assert (first.status, first.value["address"], first.value["entry"]["reason"]) == (201, "u@example.com", "unsubscribe")
    assert served.ask("POST", EVENTS, event | {"time": rfc3339(int(time.time()))}).status == 200
    assert [record["meta"]["event_id"] for record in served.records()] == ["event-7"]
    assert served.records()[0]["meta"]["by"] == "operator over HTTP"
    assert served.ask("DELETE", f"{LIST}/u@example.com", query="reason=subscribed+again").value["entry"] is None
    assert served.ask("POST", EVENTS, event).value["entry"] is None
    later = served.ask("POST", EVENTS, event | {"id": "event-8", "time": rfc3339(int(time.time()) + 2)})
    assert later.value["entry"]["reason"] == "unsubscribe"
    assert len(served.records()) == 3


def test_check(served: Served) -> None:
    """Those on the list are named as they were asked; what is no address is not on it."""
    asking = [A.upper(), "free@example.com", "x" * 4096 + "@example.com", "\x1b[2J@example.com", "", "а@example.com"]
    answer = served.ask("POST", CHECK, {"addresses": asking})
    assert [(one["address"], one["reason"]) for one in answer.value["suppressed"]] == [(A.upper(), "abuse")]
    assert served.ask("POST", CHECK, {"addresses": [A] * 1000}).status == 200
    assert served.ask("POST", CHECK, {"addresses": [A] * 1001}).status == 400
    assert served.ask("POST", CHECK, b"x" * (1024 * 1024 + 1)).status == 413


def test_pages_and_formats(served: Served) -> None:
    """All pages together have each entry once, while others are added."""
    addresses = sorted(["=cmd@x.test", *(f"p{number:02}@x.test" for number in range(9))])
    write_segment(served.settings, 1, [feedback(one, day=DAYS - 1) for one in addresses])
    wait_until(lambda: len(served.ask("GET", LIST).value["entries"]) == 11, "they are on the list")
    found, query = list[str](), "domain=X.test&limit=4"
    while query:
        page = served.ask("GET", LIST, query=query)
        found += [one["address"] for one in page.value["entries"]]
        served.put(f"a{len(found)}@x.test")
        assert page.headers["sidecar-list-revision"] == str(page.value["revision"])
        query = urlsplit(page.headers.get("link", "").partition(">")[0]).query
        assert dict(parse_qsl(query)).get("after") == page.value["after"]
    assert [one for one in found if one[0] != "a"] == addresses
    assert served.ask("GET", LIST, query="prefix=P0&reason=abuse").value["entries"][0]["address"] == "p00@x.test"
    assert served.ask("GET", LIST, query="reason=other").value["entries"] == []
    lines = served.ask("GET", LIST, query="prefix=p", accept="text/html, application/x-ndjson;q=0.9")
    assert lines.headers["content-type"] == "application/x-ndjson"
    assert [json.loads(line)["address"] for line in lines.body.splitlines()] == [one for one in addresses if one[0] == "p"]
    sheet = served.ask("GET", LIST, accept="text/csv")
    assert sheet.headers["content-type"] == "text/csv; charset=utf-8"
    rows = list(csv.DictReader(sheet.body.decode().splitlines()))
    assert rows[0]["address"] == "'=cmd@x.test"
    assert {row["reason"] for row in rows} == {"abuse", "by phone"}


def test_changes(served: Served) -> None:
    """A program asks for what has changed since its last question."""
    revision = served.ask("GET", LIST).value["revision"]
    assert served.ask("GET", LIST, query=f"since={revision}").value == {"changes": [], "revision": revision, "more": False}
    served.put("b@example.com")
    served.ask("DELETE", f"{LIST}/{A}", query="reason=x")
    changed = served.ask("GET", LIST, query=f"since={revision}").value
    assert [(one["address"], one["entry"] is None) for one in changed["changes"]] == [("b@example.com", False), (A, True)]
    first = served.ask("GET", LIST, query=f"since={revision}&limit=1")
    assert (first.value["more"], first.headers["link"]) == (
        True,
        f'<{LIST}?since={first.value["revision"]}&limit=1>; rel="next"',
    )
    lines = served.ask("GET", LIST, query=f"since={revision}", accept="application/jsonl").body.splitlines()
    assert [json.loads(line)["address"] for line in lines] == ["b@example.com", A]
    sheet = served.ask("GET", LIST, query=f"since={revision}", accept="text/csv").body.decode().splitlines()
    assert [(row["address"], row["reason"]) for row in csv.DictReader(sheet)] == [("b@example.com", "by phone"), (A, "")]
    for unknown in (0, revision - 10**12, changed["revision"] + 1):
        gone = served.ask("GET", LIST, query=f"since={unknown}")
        assert (gone.status, "read the whole list" in gone.error) == (410, True)


@pytest.mark.parametrize(
    ("method", "path", "body", "query", "said"),
    [
        ("GET", f"{LIST}/nothing", None, "", "is no address"),
        ("GET", f"{LIST}/" + "x" * 4096 + "@example.com", None, "", "is no address"),
        ("PUT", f"{LIST}/%1b@example.com", {"reason": "x"}, "", "is no address"),
        ("PUT", f"{LIST}/%ff@example.com", {"reason": "x"}, "", "is no address"),
        ("PUT", f"{LIST}/{A}", {}, "", "reason"),
        ("PUT", f"{LIST}/{A}", {"reason": "a\nb"}, "", "one line"),
        ("PUT", f"{LIST}/{A}", {"reason": " "}, "", "one line"),
        ("PUT", f"{LIST}/{A}", {"reason": "x" * 201}, "", "<= 200"),
        ("PUT", f"{LIST}/{A}", {"reason": "x", "expires": "2001-01-01T00:00:00Z"}, "", "later time"),
        ("PUT", f"{LIST}/{A}", {"reason": "x", "expires": "2099-01-01T00:00:00"}, "", "timezone"),
        ("PUT", f"{LIST}/{A}", {"reason": "x", "by": "me"}, "", "unknown field"),
        ("PUT", f"{LIST}/{A}", b"[" * 100_000, "", "cannot be read"),
        ("DELETE", f"{LIST}/{A}", None, "", "reason is missing"),
        ("DELETE", f"{LIST}/{A}", None, "reason=%1b", "one line"),
        ("DELETE", f"{LIST}/{A}", None, "reason=x&force=1", "not a parameter"),
        ("POST", EVENTS, {"type": "click", "address": A, "time": "2026-01-01T00:00:00Z", "id": "1"}, "", "Invalid enum"),
        ("POST", EVENTS, {"type": "unsubscribe", "address": A, "time": "2199-01-01T00:00:00Z", "id": "1"}, "", "future"),
        ("POST", EVENTS, {"type": "unsubscribe", "address": A, "time": "2026-01-01T00:00:00Z", "id": "\n"}, "", "control"),
        ("POST", EVENTS, {"type": "unsubscribe", "address": "x", "time": "2026-01-01T00:00:00Z", "id": "1"}, "", "no address"),
        ("GET", LIST, None, "limit=0", ">= 1"),
        ("GET", LIST, None, "limit=10001", "<= 10000"),
        ("GET", LIST, None, "since=x", "int"),
        ("GET", LIST, None, "since=1&prefix=a", "goes together"),
        ("GET", LIST, None, "order=reason", "not a parameter"),
    ],
)
def test_wrong_questions(tmp_path: Path, method: str, path: str, body: object, query: str, said: str) -> None:
    """They get a printable sentence, and change nothing."""
    one = Served(tmp_path)
    one.start()
    try:
        wait_until(lambda: one.ask("GET", LIST).status == 200, "the list is served")
        path = quote(path, safe="/%@") if "%" not in path else path
        found = ask(one.app, _unquoted(path), query, method=method, headers=TOKEN, pieces=_pieces(body))
        assert (found.status, said in found.error, found.error.isprintable()) == (400, True, True), found.body
        assert not one.settings.journal.directory.exists() or not one.records()
    finally:
        one.stop()


def _unquoted(path: str) -> str:
    return path.replace("%1b", "\x1b").replace("%ff", "\ufffd")


def _pieces(body: object) -> list[bytes]:
    return [b"" if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()]


def test_without_a_list(tmp_path: Path) -> None:
    """Without [suppression], without its database, and without its process."""
    to = app(listening="unix:/s", admin=AdminSettings(tokens=BOTH))
    for method, path in (("GET", LIST), ("GET", f"{LIST}/{A}"), ("DELETE", f"{LIST}/{A}")):
        answer = ask(to, path, "reason=x" if method == "DELETE" else "", method=method, headers=TOKEN)
        assert (answer.status, answer.error[:37]) == (404, "The settings have no [suppression]: w")
    one = Served(tmp_path)
    answer = one.ask("GET", LIST)
    assert (answer.status, "does not exist yet" in answer.error, answer.headers["retry-after"]) == (503, True, "1")
    answer = one.put(A)
    assert answer.status == 503


def test_a_change_that_is_not_in_force_yet(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is on disk, and the answer says that it is all."""
    monkeypatch.setattr(paths, "IN_FORCE_SECONDS", 0.2)
    served.stop()
    answer = served.put("b@example.com")
    assert (answer.status, answer.value["entry"], len(served.records())) == (202, None, 1)
    served.start()
    wait_until(lambda: served.ask("GET", f"{LIST}/b@example.com").status == 200, "it is in force")


def test_another_database(served: Served) -> None:
    """A list that was made again is read from its new file."""
    served.stop()
    assert served.ask("GET", f"{LIST}/{A}").status == 200
    database = served.settings.suppression
    assert database is not None
    database.database.unlink()
    write_segment(served.settings, 2, [feedback("n@example.com", day=DAYS)])
    served.start()
    wait_until(lambda: served.ask("GET", f"{LIST}/n@example.com").status == 200, "the new list is read")


def test_a_slow_disk_holds_up_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Policy is served meanwhile; only so many questions wait."""
    monkeypatch.setattr(paths, "WAITING_LIMIT", 3)
    going_on = threading.Event()
    one = Served(tmp_path)
    monkeypatch.setattr(one.service, "check", lambda _: going_on.wait(120) and [])

    async def many() -> tuple[list[int], int, int]:
        body = [json.dumps({"addresses": [A]}).encode()]
        slow = [asyncio.create_task(asked(one.app, CHECK, method="POST", headers=TOKEN, pieces=body)) for _ in range(4)]
        done, _ = await asyncio.wait(slow, return_when=asyncio.FIRST_COMPLETED)
        policy = await asked(one.app, "/v1/listener-domain", "domain=relay.example", headers=TOKEN)
        rejected = [task.result().status for task in done]
        going_on.set()
        answers = await asyncio.gather(*slow)
        return rejected, policy.status, sum(answer.status == 200 for answer in answers)

    assert asyncio.run(many()) == ([503], 200, 3)


def test_a_reload_keeps_the_segment_readable(served: Served) -> None:
    """The process that ends finishes its segment, and the list has what was in it."""
    assert served.put("b@example.com").status == 201
    served.app.close()
    assert not [path for path in served.settings.journal.directory.iterdir() if path.stat().st_mode & 0o200]
    made = replace(served.settings)
    assert "b@example.com" in stored(made, int(time.time()))


def test_hashed(tmp_path: Path) -> None:
    """Single addresses and `check` work as before; pages and changes have hashes only."""
    one = Served(tmp_path, store="hashed")
    write_segment(one.settings, 0, [feedback(A, day=DAYS - 5)])
    one.start()
    try:
        wait_until(lambda: one.ask("GET", f"{LIST}/{A}").status == 200, "the list is served")
        (found,) = one.ask("POST", CHECK, {"addresses": [A.upper(), "free@example.com"]}).value["suppressed"]
        assert found["address"] == A.upper()
        revision = one.ask("GET", LIST).value["revision"]
        assert (one.put("b@example.com").status, one.ask("DELETE", f"{LIST}/{A}", query="reason=x").status) == (201, 200)
        changed = one.ask("GET", LIST, query=f"since={revision}").body
        assert (changed.count(b'"revision"'), b"example.com" in changed + one.ask("GET", LIST).body) == (3, False)
    finally:
        one.stop()
        one.app.close()
