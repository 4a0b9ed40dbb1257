"""The pages of records: overview, search, one record, and the live page with its stream."""

import asyncio
import re
import time
from html import unescape
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from starlette.types import Message

from sidecar.core.settings.settings import Settings
from sidecar.daemon.http.console import live, overview
from tests.building import entry
from tests.daemon.http.console.visiting import Visitor, app_of, text_of
from tests.journal.index.records import BEGIN, indexed, read_journal, record, write_segment

SESSION = "0d9ad4d0-5d6c-4f0e-9f5e-6f2f4a0c0002"
HOSTILE = '<script>alert(1)</script>\u202e\u05d0\x1b[31m\x00&amp;"'
RECENT = time.time() - BEGIN - 60


@pytest.fixture
def made(tmp_path: Path) -> Settings:
    domains = (entry("bounce.example", log_oob="LogThenDrop"), entry("relay.example", relay_to=True))
    return replace(indexed(tmp_path, age=100 * 365 * 86400), domains=domains)


def visit(made: Settings, *records: dict[str, Any]) -> Visitor:
    """Return a visitor who has logged in to a console with these records."""
    write_segment(made, 1, records)
    read_journal(made, now=time.time())
    visitor = Visitor(app_of(made))
    visitor.log_in()
    return visitor


def links(page: bytes) -> list[str]:
    return re.findall(r"/console/record\?key=\d+", page.decode())


def bounce(at: float, **values: Any) -> dict[str, Any]:
    more = {"meta_disposition": "logged_and_dropped", "sender": "v@bounce.example", "recipient": "gone@example.net", **values}
    return record("OOB", at=at, bounce_classification="InvalidRecipient", **more)


def test_the_overview_counts(made: Settings) -> None:
    visitor = visit(
        made,
        *(record(at=RECENT, recipient=f"{number}@gmail.example", session_id="") for number in range(12)),
        record("Reception", at=RECENT, meta_disposition="relayed", peer_address={"name": "x", "addr": "2001:db8::7"}),
        bounce(RECENT),
        record("Feedback", at=RECENT, meta_disposition="logged_and_relayed", feedback_report={"feedback_type": "abuse"}),
    )
    for name in ("1h", "24h", "7d", "", "x"):
        text = text_of(visitor.get(f"/console/?range={name}"))
        assert "14 recipients and rejections" in text
        assert "12 rejected at rcpt 86 %" in text
        assert "gmail.example 12 86 %" in text
        assert "2001:db8::7 1 7.1 %" in text
        assert "InvalidRecipient 1 100 %" in text
        assert "abuse 1 100 %" in text
    page = visitor.get("/console/").body.decode()
    assert '<rect fill="url(#stripes)"' in page
    assert '<rect class="piece d-relayed"' in page
    link = re.search(r'href="(/console/search\?domain=gmail.example[^"]*)"', page)
    assert link is not None
    assert len(links(visitor.get(link[1].replace("&amp;", "&")).body)) == 12


@pytest.mark.parametrize(("factor", "shown"), [(0, "gmail.example 2"), (10**9, "gmail.example 1")])
def test_rankings_are_kept_for_as_long_as_they_are_expensive(
    made: Settings, monkeypatch: pytest.MonkeyPatch, factor: int, shown: str
) -> None:
    monkeypatch.setattr(overview, "_KEPT_FOR", factor)
    now = time.time()
    # Both visits are in the same half hour.
    monkeypatch.setattr("time.time", lambda: now)
    visitor = visit(made, record(at=RECENT, recipient="a@gmail.example"))
    assert "gmail.example 1 100 %" in text_of(visitor.get("/console/"))
    write_segment(made, 2, [record(at=RECENT, recipient="b@gmail.example")])
    read_journal(made, now=time.time())
    text = text_of(visitor.get("/console/"))
    assert "2 recipients and rejections" in text
    assert shown in text


def test_a_reason_is_shown_in_full_and_links_to_its_records(made: Settings) -> None:
    """Their words are searched, and not what differs between them: here the peer, the domain and a number."""
    rule = ' (listener_domains.toml:7 "*".log_oob)'
    end = "because it has no delivery status, and " + "no other part that says which recipient failed " * 5
    visitor = visit(
        made,
        *(
            record(
                at=RECENT,
                meta_why=f"192.0.2.{number} sent sub.d{number}.example message {number} {end}{rule}",
                recipient=f"a@d{number}.example",
                peer_address={"name": "x", "addr": f"192.0.2.{number}"},
            )
            for number in range(3)
        ),
        record(at=RECENT, meta_why="another reason"),
        record(at=RECENT, meta_why="192.0.2.1"),
    )
    page = visitor.get("/console/").body.decode()
    found = re.search(r'<a href="([^"]*)">([^<]*sent sub[^<]*)</a>', page)
    assert found is not None
    assert f"{end}{rule}" in unescape(found[2])
    assert len(links(visitor.get(unescape(found[1])).body)) == 3
    assert "&lt;ip&gt;" in page
    assert "text=&amp;" not in page


def test_the_title_of_a_cut_text_has_all_of_it(made: Settings) -> None:
    page = visit(made, record(meta_why=f'{"because " * 50}"<b>"')).get("/console/search").body.decode()
    assert f'<span title="{"because " * 50}&#34;&lt;b&gt;&#34;">because' in page


def test_without_an_index_the_pages_say_so(made: Settings) -> None:
    visitor = Visitor(app_of(made))
    visitor.log_in()
    for path in ("/console/", "/console/search", "/console/live", "/console/record?key=1"):
        answer = visitor.get(path)
        assert (answer.status, "does not exist yet" in text_of(answer)) == (503, True)
    made.index_file.parent.mkdir(exist_ok=True)
    made.index_file.write_bytes(b"no database" * 100)
    assert (visitor.get("/console/search").status, visitor.get("/console/policy").status) == (503, 200)


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("", 4),
        ("address=A@SENDER.example", 2),
        ("domain=bounce.example", 1),
        ("peer=192.0.2.0/24", 3),
        ("peer=198.51.100.9", 1),
        ("queue_id=4Q1", 1),
        ("id=abcd", 1),
        (f"session={SESSION}", 2),
        ("text=no+such+user", 1),
        ("type=OOB", 1),
        ("disposition=rejected_at_rcpt", 2),
        ("bounce_class=InvalidRecipient", 1),
        (f"since={BEGIN + 15}", 2),
        ("since=2020-01-01T00:00&until=2021-01-01T00:00", 0),
    ],
)
def test_each_condition_of_a_search(made: Settings, query: str, found: int) -> None:
    visitor = visit(
        made,
        record(at=0, session_id=SESSION),
        record(at=10, session_id=SESSION, peer_address={"name": "", "addr": "198.51.100.9"}),
        bounce(20, response={"code": 550, "content": "5.1.1 no such user"}),
        record("Reception", at=30, meta_disposition="relayed", sender="x@y.example", id="abcd", meta_queue_id="4Q1"),
    )
    answer = visitor.get(f"/console/search?{query}")
    assert (answer.status, len(links(answer.body))) == (200, found)
    # The form has the conditions.
    for value in re.findall(r"(?:address|domain|queue_id|id|session)=([^&]+)", query):
        assert f'value="{value}"' in answer.body.decode()


@pytest.mark.parametrize(
    ("query", "status", "sentence"),
    [
        ("peer=nonsense", 400, "The peer is no address or network"),
        ("peer=192.0.2.1/24", 400, "The peer is no address or network"),
        ("since=yesterday", 400, "The time cannot be read"),
        ("since=99999999999999999999", 400, "not between 1970 and 9999"),
        ("text=" + "x" * 1100, 400, "more than 1,024 characters"),
        ("before=x", 200, "Newest records first"),
        ("before=" + "9" * 40, 200, "Newest records first"),
    ],
)
def test_wrong_conditions(made: Settings, query: str, status: int, sentence: str) -> None:
    """The form keeps the other conditions, on both pages that have it."""
    visitor = visit(made, record())
    for page in ("search", "live"):
        answer = visitor.get(f"/console/{page}?{query}&domain=kept.example")
        assert answer.status == status
        assert status == 200 or sentence in text_of(answer)
        assert 'name="domain" type="text" value="kept.example"' in answer.body.decode()


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("search?bounce_class=a%00b", 200),
        ("search?text=%00&domain=%00.%00", 200),
        (f"search?before={'9' * 5000}", 200),
        ("search?" + "&".join(f"type=t{number}" for number in range(1000)), 200),
        (f"record?key={2**63}", 404),
        (f"record?key={'9' * 19}", 404),
        ("record?key=%D9%A3", 404),
    ],
)
def test_what_no_page_asks(made: Settings, path: str, status: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert visit(made, record()).get(f"/console/{path}").status == status
    assert capsys.readouterr().err == ""


def test_a_record_that_python_cannot_read(made: Settings) -> None:
    """Its page shows the line. A number in JSON can have any length."""
    path = write_segment(made, 1, [record(), record()])
    text = path.read_text().splitlines()[0]
    path.chmod(0o640)
    path.write_text(f'{text[:-1]},"x":{"9" * 5000}}}\n')
    read_journal(made, now=time.time())
    visitor = Visitor(app_of(made))
    visitor.log_in()
    answer = visitor.get(links(visitor.get("/console/search").body)[0])
    assert (answer.status, "cannot be held against the policy" in text_of(answer)) == (200, True)


def test_a_report_about_half_an_address(made: Settings) -> None:
    """The row in the index is compared with the line: each value must come back from the database as it was."""
    visitor = visit(made, record("Feedback", feedback_report={"original_rcpto_to": ["@"]}))
    answer = visitor.get(links(visitor.get("/console/search").body)[0])
    assert "The record as JSON" in text_of(answer)


def test_older_records_are_on_the_next_pages(made: Settings) -> None:
    visitor = visit(made, *(record(at=number, recipient=f"{number}@r.example") for number in range(250)))
    path, seen = "/console/search?domain=r.example", list[str]()
    while path:
        page = visitor.get(path).body
        seen += links(page)
        following = re.search(r'href="([^"]+)">Older records', page.decode())
        path = following[1].replace("&amp;", "&") if following else ""
    assert len(seen) == len({*seen}) == 250
    assert seen == sorted(seen, reverse=True)


def test_a_record(made: Settings) -> None:
    """What happened, the session in order, what the policy does now, and the fix."""
    visitor = visit(
        made,
        record(at=5, session_id=SESSION, recipient="second@gmail.example"),
        record(at=1, session_id=SESSION, recipient="first@gmail.example", meta_listener="10.1.1.1:25"),
    )
    answer = visitor.get(links(visitor.get("/console/search").body)[1])
    text = text_of(answer)
    assert "192.0.2.1 is no relay host" in text
    assert "This configuration rejects the recipient, as the record says." in text
    assert '["gmail.example"] relay_to = true' in text
    assert "If 192.0.2.1 is one of your own servers, add it to relay_hosts" in text
    session = answer.body.decode().partition("The session in order")[2]
    assert session.index("first@gmail.example") < session.index("second@gmail.example")
    ask = re.search(r'href="(/console/explain\?[^"]+)"', answer.body.decode())
    assert ask is not None
    assert "550 5.7.1 relaying not permitted for 192.0.2.1" in text_of(visitor.get(ask[1].replace("&amp;", "&")))


def test_a_returned_message_and_its_proof(made: Settings) -> None:
    original = {"message_id": "<1@a.example>", "subject": HOSTILE, "to": "gone@example.net"}
    more = {"meta_original": original, "meta_verified": "recipient", "meta_proof": "by address"}
    visitor = visit(made, bounce(1, **more))
    answer = visitor.get(links(visitor.get("/console/search").body)[0])
    assert "The returned message message id <1@a.example> subject <script>alert(1)</script>\\u202e" in text_of(answer)
    assert "Verified recipient by address" in text_of(answer)


def test_records_that_the_journal_no_longer_has(made: Settings) -> None:
    visitor = visit(made, record())
    path = links(visitor.get("/console/search").body)[0]
    for segment in made.journal.directory.iterdir():
        segment.unlink()
    answer = visitor.get(path)
    assert "its segment was deleted" in text_of(answer)
    assert "192.0.2.1 is no relay host" in text_of(answer)
    for key in ("1", "x", "", "9" * 30):
        assert visitor.get(f"/console/record?key={key}").status == 404


@pytest.mark.parametrize("page", ["/console/", "/console/search", "/console/live", "record"])
def test_hostile_text_is_harmless(made: Settings, page: str) -> None:
    """Markup is text, control and direction marks are visible, and long values are cut; also in the stream."""
    names = ["sender", "recipient", "id", "session_id", "meta_queue_id", "meta_listener"]
    values: dict[str, Any] = dict.fromkeys(names, HOSTILE + "@x.example") | {"meta_why": HOSTILE + "y" * 10_000}
    values["peer_address"] = {"name": HOSTILE + "n" * 1000, "addr": HOSTILE}
    visitor = visit(
        made,
        record(at=RECENT, headers={HOSTILE: HOSTILE}, **values),
        bounce(RECENT, meta_original={HOSTILE: HOSTILE}, response={"code": 550, "content": HOSTILE}),
        record("Feedback", at=RECENT, feedback_report={"feedback_type": HOSTILE}, meta_verified=HOSTILE),
    )
    paths = links(visitor.get("/console/search").body) if page == "record" else [page]
    assert paths
    for path in paths:
        body = visitor.get(path).body.decode()
        assert not re.search(r"<script(?! src=\"/console/static/)|[\u202e\x00\x1b]", body), path
        assert len(body) < (400_000 if page == "record" else 60_000)


# --- the live page


@pytest.fixture
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "LOOK_SECONDS", 0.01)
    monkeypatch.setattr(live, "STREAM_SECONDS", 0.0)


def stream(visitor: Visitor, query: str = "", last: str = "") -> list[dict[str, str]]:
    """Return the events of one stream."""
    answer = visitor.get(f"/console/live/stream?{query}", last_event_id=last)
    assert answer.headers["content-type"].startswith("text/event-stream")
    events = answer.body.decode().split("\n\n")
    return [{"id": event.partition("id: ")[2].partition("\n")[0], "data": event} for event in events if "data: " in event]


def test_the_live_page_has_the_newest_records(made: Settings) -> None:
    visitor = visit(made, *(record(at=number) for number in range(150)), bounce(200))
    assert len(links(visitor.get("/console/live").body)) == 100
    page = visitor.get("/console/live?type=OOB&peer=192.0.2.1&text=&domain=bounce.example&disposition=").body.decode()
    assert len(links(page.encode())) == 1
    assert 'data-stream="/console/live/stream?type=OOB&amp;peer=192.0.2.1&amp;domain=bounce.example"' in page
    assert visitor.get("/console/live?peer=x").status == 400


@pytest.mark.usefixtures("_quick")
def test_the_stream_has_what_is_new(made: Settings) -> None:
    visitor = visit(made, record(at=100), bounce(104), record(at=105))
    first = stream(visitor, last=str(round((BEGIN + 104.5) * 1e6)))
    assert len(first) == 1
    # A record of another worker can become known later than one that it precedes: the browser drops what it has.
    assert len(links(first[0]["data"].encode())) == 3
    assert first[0]["id"] == str((BEGIN + 105) * 1_000_000)
    assert len(stream(visitor, "type=OOB", last=first[0]["id"])) == 1
    assert not stream(visitor, last=str((BEGIN + 200) * 1_000_000))
    assert not stream(visitor, last="x")


@pytest.mark.usefixtures("_quick")
def test_a_stream_goes_on_and_repeats_nothing(made: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    visitor = visit(made, record(at=RECENT))
    monkeypatch.setattr(live, "STREAM_SECONDS", 3600.0)
    found: list[str] = []

    async def listen() -> None:
        has_both = asyncio.Event()

        async def send(message: Message) -> None:
            found.extend(links(message.get("body", b"")))
            if len(found) == 1:
                write_segment(made, 2, [record(at=RECENT + 1)])
                await asyncio.to_thread(read_journal, made, now=time.time())
            if len(found) > 1:
                has_both.set()

        async def receive() -> Message:
            await has_both.wait()
            return {"type": "http.disconnect"}

        cookie = "; ".join(f"{name}={value}" for name, value in visitor.cookies.items())
        fields = {"host": "127.0.0.1:8894", "cookie": cookie, "last-event-id": str(round((BEGIN + RECENT - 5) * 1_000_000))}
        scope = {
            "type": "http",
            "method": "GET",
            "path": "/console/live/stream",
            "query_string": b"",
            "headers": [(name.encode(), value.encode()) for name, value in fields.items()],
            "root_path": "",
            "http_version": "1.1",
            "scheme": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
        }
        await asyncio.wait_for(visitor.app(scope, receive, send), 60)

    asyncio.run(listen())
    assert len({*found}) == len(found) == 2


@pytest.mark.usefixtures("_quick")
def test_a_stream_without_an_answer_ends(made: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    """The browser asks again, several times in a second: that is no fault of the program, and not in its log."""
    visitor = visit(made, record())
    assert visitor.get("/console/live/stream?peer=x").status == 200
    made.index_file.unlink()
    assert visitor.get("/console/live/stream").status == 200
    assert capsys.readouterr().err == ""


def test_streams_are_bounded(made: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "STREAMS_LIMIT", 0)
    answer = visit(made, record()).get("/console/live/stream")
    assert (answer.status, "live pages are open" in text_of(answer)) == (503, True)


def test_a_page_without_a_session_streams_nothing(made: Settings) -> None:
    visitor = visit(made, record())
    visitor.cookies.clear()
    assert visitor.get("/console/live/stream").status == 303
