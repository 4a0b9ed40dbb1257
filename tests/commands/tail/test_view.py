"""The lines that a record becomes."""

import time
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.commands.tail.view import block_of, line_of
from sidecar.core.disposition import Disposition
from sidecar.core.records import Logged, PeerAddress, Response
from sidecar.core.records.record import EnhancedCode

WHY = 'not a report, because its Content-Type is not multipart/report (d.toml:3 "*".log_oob)'
PEER = PeerAddress(name="WIN", addr="91.92.251.215")
REJECTED = Response(
    code=550, enhanced_code=EnhancedCode(class_=5, subject=7, detail=1), content="relaying not permitted", command="DATA"
)
TIME = "2026-11-22T10:00:00.123456Z"


def line(record: Logged, **how: object) -> str:
    return " ".join(part.text for part in line_of(record, **how) if part.text)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        (
            Logged(
                type="Rejection",
                sender="a@test.com",
                recipient="b@gmail.com",
                event_time=TIME,
                peer_address=PEER,
                response=REJECTED,
                meta={"why": WHY},
            ),
            f"{TIME} Rejection 550 5.7.1 91.92.251.215   a@test.com -> b@gmail.com {WHY}",
        ),
        (
            Logged(
                type="Reception",
                recipient=["b@x.example", "c@x.example"],
                event_time=TIME,
                peer_address=PEER,
                response=Response(code=250),
            ),
            f"{TIME} Reception 250       91.92.251.215   <> -> b@x.example, c@x.example",
        ),
        (
            Logged(
                type="OOB",
                sender="s@x.example",
                recipient="b@y.example",
                event_time=TIME,
                bounce_classification="InvalidRecipient",
                response=Response(code=550, content="no\nsuch  user"),
                meta={"why": WHY},
            ),
            f"{TIME} OOB       550 InvalidRecipient -               s@x.example -> b@y.example no such user",
        ),
        (
            Logged(
                type="OOB",
                sender="s@x.example",
                recipient="b@y.example",
                event_time=TIME,
                response=Response(code=550),
                meta={"why": "a bounce"},
            ),
            f"{TIME} OOB       550       -               s@x.example -> b@y.example a bounce",
        ),
        (
            Logged(
                type="Feedback",
                sender="f@y.example",
                recipient="fbl@x.example",
                event_time=TIME,
                response=Response(code=250),
                feedback_report={"feedback_type": "abuse"},
                meta={"why": "a report"},
            ),
            f"{TIME} Feedback  250       -               f@y.example -> fbl@x.example abuse: a report",
        ),
        (
            Logged(
                type="Feedback",
                sender="f@y.example",
                recipient="fbl@x.example",
                event_time=TIME,
                response=Response(code=250),
                feedback_report={"feedback_type": "abuse"},
            ),
            f"{TIME} Feedback  250       -               f@y.example -> fbl@x.example abuse",
        ),
        (
            Logged(
                type="Rejection",
                event_time=TIME,
                response=Response(code=554, command="CONNECT"),
                meta={"why": "nothing permitted"},
            ),
            f"{TIME} Rejection 554       -               CONNECT nothing permitted",
        ),
        (
            Logged(type="Rejection", event_time=TIME, response=REJECTED, meta={"why": "a flood", "count": 37}),
            f"{TIME} Rejection 550 5.7.1 -               (37 of them) a flood",
        ),
        (
            Logged(type="AdminRebind", sender="a@b.example", timestamp=5),
            "5 AdminRebind -         -               a@b.example ->",
        ),
        (
            Logged(
                type="Delivery",
                sender="a",
                recipient="b",
                event_time=TIME,
                response=Response(code=250, content="ok"),
                meta={"why": 5},
            ),
            f"{TIME} Delivery  250       -               a -> b ok",
        ),
    ],
)
def test_line(record: Logged, expected: str) -> None:
    """Time, type, answer, peer, envelope and reason; nothing is cut."""
    assert line(record) == expected


@pytest.mark.parametrize("disposition", list(Disposition))
def test_disposition(disposition: Disposition) -> None:
    """The disposition is a column by its own word, and gives the line its colour; a narrow terminal has no room for it."""
    meta = {"why": "so", "disposition": disposition.value}
    record = Logged(type="Rejection", event_time=TIME, recipient="a@b", response=REJECTED, meta=meta)
    assert line(record) == f"{TIME} Rejection {disposition.value:<19} 550 5.7.1 -               <> -> a@b so"
    assert disposition.value in line(record, width=140)
    assert disposition.value not in line(record, width=139)


@pytest.mark.parametrize(("today", "shown"), [("2026-11-22", "10:00:00"), ("2026-11-23", "11-22 10:00:00")])
def test_time(today: str, shown: str) -> None:
    """On a terminal the date is shown unless it is today."""
    assert line(Logged(type="x", event_time=TIME), today=today).startswith(f"{shown} x ")


@pytest.mark.parametrize(
    ("recipients", "shown"),
    [
        (["b" * 64 + "@gmail.com"], "a@test.com -> " + "b" * 64 + "@gmail.com"),
        (["b@x.example", "c@x.example", "d@x.example"], "a@test.com -> b@x.example +2"),
    ],
)
def test_addresses_on_a_terminal(recipients: list[str], shown: str) -> None:
    """The first recipient is complete, the others are counted. A pipe has all of them."""
    record = Logged(type="Rejection", event_time=TIME, sender="a@test.com", recipient=recipients, meta={"why": WHY})
    assert line_of(record, width=20)[-2].text == shown
    assert line_of(record)[-2].text == f"a@test.com -> {', '.join(recipients)}"


BLOCK = """\
{TIME} Reception relayed 250 2.0.0
  reason: {WHY}
  reply: OK queued
  command: DATA
  peer: 91.92.251.215 (WIN)
  listener: 10.1.1.1:25
  login: daniel
  sender: <>
  recipient: b@x.example
  recipient: c@x.example
  dropped: d@\\u001b.example
  feedback type: abuse
  queue id: 4QvJ1x
  quarantine: 1.eml
  read as: text:qmail
  derived: recipient, response.code
  id: 0a
  session: 0b"""


def test_block() -> None:
    """All that a record says, a line for each fact: also the recipients that were removed from the envelope."""
    record = Logged(
        type="Reception",
        id="0a",
        session_id="0b",
        recipient=["b@x.example", "c@x.example"],
        event_time=TIME,
        peer_address=PEER,
        response=Response(
            code=250, enhanced_code=EnhancedCode(class_=2, subject=0, detail=0), content="OK\nqueued", command="DATA"
        ),
        feedback_report={"feedback_type": "abuse"},
        meta={
            "why": WHY,
            "disposition": "relayed",
            "dropped": ["d@\x1b.example", 5],
            "queue_id": "4QvJ1x",
            "listener": "10.1.1.1:25",
            "authz_id": "daniel",
            "quarantine": "1.eml",
            "read_as": "text:qmail",
            "derived": ["recipient", "response.code"],
        },
    )
    lines = [" ".join(part.text for part in parts) for parts in block_of(record)]
    assert "\n".join(lines) == BLOCK.format(TIME=TIME, WHY=WHY)
    assert len(block_of(Logged(type="Rejection", response=REJECTED, meta={"count": 37, "dropped": "x"}))) == 4


@pytest.fixture
def berlin(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The time zone of this machine is one with summer time."""
    monkeypatch.setenv("TZ", "CET-1CEST,M3.5.0,M10.5.0/3")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.usefixtures("berlin")
@pytest.mark.parametrize(
    ("utc", "shown"),
    [
        ("2026-11-22T23:30:00Z", "2026-11-23T00:30:00+01:00"),
        ("2026-07-01T10:00:00.5Z", "2026-07-01T12:00:00.500000+02:00"),
        ("2026-07-01T10:00:00", "2026-07-01T10:00:00"),
        ("\x1b[2J", "\\u001b[2J"),
        ("0001-01-01T00:00:00+14:00", "0001-01-01T00:00:00+14:00"),
    ],
)
def test_local_time(utc: str, shown: str) -> None:
    """With its offset, that of its own day; what is no time is shown as it is."""
    assert line_of(Logged(type="x", event_time=utc), local=True)[0].text == shown
    assert block_of(Logged(type="x", event_time=utc), local=True)[0][0].text == shown


@pytest.mark.usefixtures("berlin")
def test_today_in_local_time() -> None:
    """The day of a time is that of its zone."""
    record = Logged(type="x", event_time="2026-11-22T23:30:00Z")
    assert line_of(record, local=True, today="2026-11-23")[0].text == "00:30:00"


def test_styles() -> None:
    """Accepted, rejected, tempfailed and reported have different colours."""
    styles = [
        line_of(Logged(type=name, response=Response(code=code)))[1].style
        for name, code in (("Reception", 250), ("Rejection", 550), ("Rejection", 451), ("OOB", 550), ("New", 0))
    ]
    assert styles == ["green", "red", "yellow", "magenta", ""]


Texts = st.text(max_size=30)


@given(
    texts=st.lists(Texts, min_size=8, max_size=8),
    width=st.none() | st.integers(1, 200),
    today=st.none() | st.just("2026-11-22"),
)
def test_hostile_text(texts: list[str], width: int | None, today: str | None) -> None:
    """Text of external hosts controls no terminal, and a line stays one line."""
    record = Logged(
        type=texts[0],
        sender=texts[1],
        recipient=[texts[2], texts[3]],
        event_time=texts[4],
        peer_address=PeerAddress(name="", addr=texts[5]),
        bounce_classification=texts[6],
        response=Response(code=550, content=texts[7], command=texts[7]),
        meta={"why": texts[7]},
        feedback_report={"feedback_type": texts[6]},
    )
    assert line(record, width=width, today=today).isprintable()
    assert all(part.text.isprintable() for parts in block_of(record, local=True) for part in parts)


def test_a_block_of_a_report_has_its_original() -> None:
    """The ids, and the headers of the returned message, escaped."""
    original = {"message_id": "<1@news.example>", "x-job": ["7", "8"], "x\x1b": "a\x1b", "odd": 5}
    record = Logged(type="OOB", id="2", event_time=TIME, response=REJECTED, meta={"message_id": "1", "original": original})
    lines = [" ".join(part.text for part in parts) for parts in block_of(record)]
    assert lines[-5:] == [
        "  original message id: <1@news.example>",
        "  original x-job: 7, 8",
        "  original x\\u001b: a\\u001b",
        "  message id: 1",
        "  id: 2",
    ]


@pytest.mark.parametrize(
    ("meta", "ending", "facts"),
    [
        (
            {"verified": "none", "verified_by": [], "proof": "dkim: no keys"},
            "gone (verified: none)",
            ["  proof: none dkim: no keys"],
        ),
        ({"verified": "recipient", "verified_by": ["dkim"]}, "gone (verified: recipient)", ["  proof: recipient (dkim)"]),
        ({"verified": 1, "verified_by": "x"}, "gone", []),
        ({}, "gone", []),
    ],
)
def test_proof(meta: dict[str, object], ending: str, facts: list[str]) -> None:
    """The line of a report ends with the level, and its block has the methods and the reasons."""
    record = Logged(type="OOB", response=Response(code=550, content="gone"), meta=meta)
    assert line(record).endswith(f" {ending}")
    block = [" ".join(part.text for part in parts) for parts in block_of(record)]
    assert [one for one in block if one.startswith("  proof")] == facts
