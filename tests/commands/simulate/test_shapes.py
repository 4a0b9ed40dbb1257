"""The catalogue: what each shape is, and what is read from it."""

import re
from datetime import UTC, datetime
from importlib.resources import files

import pytest

import sidecar.commands.simulate
from sidecar.commands.simulate.shapes import SHAPES, MessageShape
from sidecar.core.reports.reading import read
from sidecar.core.reports.values import PerRecipient

NOW = datetime(2026, 7, 2, 18, 55, 38, tzinfo=UTC).timestamp()
TO = "news-17@bounce.example"

BY_NAME = {shape.name: shape for shape in SHAPES}


def message(shape: MessageShape) -> bytes:
    return shape.filled(to=TO, mark=f"token-{shape.name}", now=NOW)


def test_the_list_and_the_files_are_the_same() -> None:
    """Each shape has its file, each file its shape, and no name comes twice."""
    names = {path.name.removesuffix(".eml") for path in (files(sidecar.commands.simulate) / "catalogue").iterdir()}
    assert names == set(BY_NAME)
    assert len(BY_NAME) == len(SHAPES)


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.name)
def test_kind(shape: MessageShape) -> None:
    """Each shape is read as what it is said to be."""
    reading = read(message(shape), null_sender=shape.from_null)
    assert ("arf" if reading.arf else "oob" if reading.oob else "none") == shape.kind, reading.why


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.name)
def test_form(shape: MessageShape) -> None:
    """Each message can be sent as it is: whole lines with CRLF, none too long, nothing left to fill in, nothing but its own."""
    text = message(shape)
    assert text.endswith(b"\r\n")
    assert b"\n" not in text.replace(b"\r\n", b"")
    assert max(map(len, text.split(b"\r\n"))) <= 998
    assert b"${" not in text
    head = text.partition(b"\r\n\r\n")[0]
    assert head.isascii()
    for field in (b"Date: ", b"From: ", b"To: ", b"Subject: ", b"Message-I"):
        assert head.count(b"\r\n" + field) + head.startswith(field) == 1, field
    assert TO.encode() in head
    assert f"token-{shape.name}".encode() in head


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.name)
def test_names(shape: MessageShape) -> None:
    """Messages have only domains and addresses that RFC 2606, 5737 and 3849 reserve for examples."""
    text = message(shape).decode()
    addresses = re.findall(r"[\w.+-]+@([\w-]+(?:\.[\w-]+)*)", text)
    assert {domain.rpartition(".")[2] for domain in addresses if "." in domain} <= {"example"}
    for ip in re.findall(r"(?<![\w.:])(\d{1,3}(?:\.\d{1,3}){3})(?![\w.])", text):
        assert ip.startswith(("192.0.2.", "198.51.100.", "203.0.113.")), ip


@pytest.mark.parametrize("shape", [shape for shape in SHAPES if shape.kind == "oob"], ids=lambda shape: shape.name)
def test_bounces_have_no_sender(shape: MessageShape) -> None:
    """A bounce has the null sender (RFC 3464 section 2), and a complaint has an address."""
    assert shape.from_null


@pytest.mark.parametrize("shape", [shape for shape in SHAPES if shape.kind == "arf"], ids=lambda shape: shape.name)
def test_complaints_have_a_sender(shape: MessageShape) -> None:
    """Providers send complaints from an address of their own."""
    assert not shape.from_null


def printed(entry: PerRecipient) -> tuple[str, str, str, str]:
    """Return the address, its action, its status and its diagnostic."""
    status, known = entry.status, entry.original_recipient or entry.final_recipient
    return (
        "" if known is None else known.recipient,
        entry.action,
        "" if status is None else f"{status.class_}.{status.subject}.{status.detail}",
        "" if entry.diagnostic_code is None else entry.diagnostic_code.diagnostic,
    )


BOUNCES = {
    "postfix": [("reader-{}@remote.example", "failed", "5.1.1", "550 5.1.1 nobody has this address")],
    "sendmail": [("reader-{}@remote.example", "failed", "5.2.2", "552 5.2.2 the mailbox is full")],
    "exim": [("reader-{}@remote.example", "failed", "5.0.0", "550 No such person here")],
    "exchange": [("reader-{}@remote.example", "failed", "5.1.1", "550 5.1.1 RESOLVER.ADR.RecipNotFound; not found")],
    "microsoft-365": [
        (
            "reader-{}@remote.example",
            "failed",
            "5.1.10",
            "550 5.1.10 RESOLVER.ADR.RecipientNotFound; Recipient reader-{}@remote.example not found by SMTP address lookup",
        )
    ],
    "gmail": [
        (
            "reader-{}@remote.example",
            "failed",
            "5.1.1",
            (
                "550-5.1.1 There is no account of this name. 550-5.1.1 Look for typing errors in the address, "
                "550 5.1.1 and see https://remote.example/help d2e1a72fcca58-sim - smtp"
            ),
        )
    ],
    "delayed": [
        (
            "reader-{}@remote.example",
            "delayed",
            "4.4.1",
            "connect to store.remote.example[192.0.2.8]:25: Connection timed out",
        )
    ],
    "delivered": [
        ("reader-{}@remote.example", "delivered", "2.0.0", "delivery via virtual: delivered to maildir"),
    ],
    "international": [("läser-{}@remote.example", "failed", "5.1.1", "550 5.1.1 unbekannter Empfänger")],
    "many-recipients": [
        ("first-{}@remote.example", "failed", "5.1.1", "550 5.1.1 nobody has this address"),
        ("second-{}@remote.example", "failed", "5.7.1", "554 5.7.1 this content is not wanted here"),
        ("third-{}@remote.example", "delayed", "4.2.2", "452 4.2.2 the mailbox is full for now"),
        ("fourth-{}@remote.example", "delivered", "2.1.5", ""),
    ],
    "sloppy": [("reader-{}@remote.example", "failed", "5.1.1", "550 5.1.1 unknown")],
    "qmail": [("reader-{}@remote.example", "failed", "", "550 nobody has this address")],
    "exim-text": [("reader-{}@remote.example", "failed", "", "550 No such person here")],
    "sendmail-text": [("reader-{}@remote.example", "failed", "5.1.1", "550 5.1.1 nobody has this address")],
    "postfix-text": [
        ("reader-{}@remote.example", "failed", "5.1.1", "550 5.1.1 nobody has this address (in reply to RCPT TO command)")
    ],
    "exchange-text": [("reader-{}@remote.example", "failed", "5.1.1", "550 5.1.1 RESOLVER.ADR.RecipNotFound; not found ##")],
    "domino-text": [("reader-{}@remote.example", "failed", "5.1.1", "550 5.1.1 the Domino directory has no such user")],
    "opensmtpd-text": [("reader-{}@remote.example", "failed", "5.1.1", "550 5.1.1 nobody has this address")],
    "delayed-text": [("reader-{}@remote.example", "delayed", "4.7.1", "451 4.7.1 come back later")],
    "encoded-status": [("reader@remote.example", "failed", "5.1.1", "550 5.1.1 nobody has this address")],
}


FORMATS = {"qmail": "qmail", "exim-text": "exim", "exchange-text": "office365", "delayed-text": "exim"}


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.name)
def test_form_of_a_report(shape: MessageShape) -> None:
    """Each report is read in the form that its name has."""
    named = FORMATS.get(shape.name) or (shape.name.removesuffix("-text") if shape.name.endswith("-text") else None)
    standard = {"oob": "rfc3464", "arf": "rfc5965", "none": ""}[shape.kind]
    assert read(message(shape), null_sender=shape.from_null).read_as == (f"text:{named}" if named else standard)


@pytest.mark.parametrize("name", BOUNCES)
def test_bounce(name: str) -> None:
    """A bounce says who failed and why, and brings what was returned."""
    oob = read(message(BY_NAME[name])).oob
    assert oob is not None
    mark = f"token-{name}"
    assert list(map(printed, oob.per_recipient)) == [tuple(text.format(mark, mark) for text in row) for row in BOUNCES[name]]
    returned = str(oob.original_message or "")
    assert (f"Message-ID: <{mark}@sender.example>" in returned) == (name not in {"domino-text", "delayed-text"})
    assert (oob.per_message.reporting_mta is None) == (name == "sloppy")


COMPLAINTS = {
    "yahoo": ("abuse", "Yahoo!-Mail-Feedback/2.0", "0.1", TO, None, ["sender.example"]),
    "microsoft-jmrp": ("abuse", "JMRP/1.0", "1", TO, None, []),
    "validity": ("abuse", "ReturnPathFBL/2.0", "1.0", TO, "198.51.100.17", ["sender.example"]),
    "aol": ("abuse", "AOL SComp", "0.1", TO, "198.51.100.17", ["sender.example"]),
    "auth-failure": (
        "auth-failure",
        "OpenDMARC-Filter/1.4.2",
        "1",
        "somebody@forger.example",
        "203.0.113.66",
        ["sender.example"],
    ),
    "not-spam": ("not-spam", "MailboxFeedback/3.1", "1", TO, "198.51.100.17", []),
    "opt-out": ("opt-out", "MailboxFeedback/3.1", "1", TO, "198.51.100.17", []),
}


@pytest.mark.parametrize("name", COMPLAINTS)
def test_complaint(name: str) -> None:
    """A complaint says what it is, of which sender, and brings the message that it is about."""
    arf = read(message(BY_NAME[name])).arf
    assert arf is not None
    found = (arf.feedback_type, arf.user_agent, arf.version, arf.original_mail_from, arf.source_ip, arf.reported_domain)
    assert found == COMPLAINTS[name]
    assert f"Message-ID: <token-{name}@sender.example>" in (arf.original_message or "")
    assert arf.arrival_date == "2026-07-02T17:55:38Z"


def test_every_report_is_described() -> None:
    """The tables above leave none out."""
    assert BOUNCES.keys() | COMPLAINTS.keys() == {shape.name for shape in SHAPES if shape.kind != "none"}
