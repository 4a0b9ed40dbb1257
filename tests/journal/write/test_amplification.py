"""How many bytes of records one network can cause, through sessions, a recorder and a journal on disk."""

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from sidecar.core.names import plain_address
from sidecar.core.session import Quota
from sidecar.core.session.events import Close, Connect, Data, EndOfHeaders, Event, Header, Helo, Mail, Rcpt, content_events
from sidecar.core.session.verdicts import Accept, Discard, Outcome, Reject, Tempfail, Verdict
from sidecar.core.settings.settings import Settings
from sidecar.core.settings.values import JournalSettings, LimitSettings
from sidecar.journal.read import Line, read
from sidecar.journal.write import Quarantine, Recorder, Routes
from tests.building import entry, settings
from tests.core.reports.shapes import status
from tests.core.session.driving import ARF, LISTENER, NOON, OOB, PLAIN, session

DROP, FBL, ELSEWHERE, OPEN = "b@bounce.example.com", "f@fbl.example.com", "x@elsewhere.example", "o@open.example"
DOMAINS = [
    entry("bounce.example.com", log_oob="LogThenDrop"),
    entry("fbl.example.com", log_arf="LogThenDrop"),
    entry("open.example", relay_to=True),
]
BURST = 1024 * 1024
# The record of one aggregated count that a network may wait for at the end.
COUNT_RECORD = 2048

Connection = tuple[str, list[Event]]


class Net:
    """A worker's sessions and recorder. `received` are the bytes that came in, `answers` the verdicts that were given."""

    def __init__(self, folder: Path, its: Settings) -> None:
        self.folder, self.settings = folder / "journal", its
        self.recorder = Recorder(
            journal=Routes(JournalSettings(directory=self.folder)),
            quarantine=Quarantine(folder / "quarantine", size=1 << 30, age=86400),
            limits=its.limits,
            clock=lambda: NOON,
        )
        self.quota = Quota(its.limits)
        self.received = 0
        self.answers: list[Verdict] = []

    def play(self, connection: Connection) -> None:
        """Play the events of one connection, as the adapter does."""
        peer, events = connection
        it = session(self.settings, quota=self.quota)
        for event in [Connect(peer=plain_address(peer), port=4444, listener=LISTENER), *events]:
            self.received += _size(event)
            outcome: Outcome = it.handle(event)
            if outcome.records:
                self.answers.append(self.recorder.write(outcome).verdict)
                if not isinstance(event, Rcpt):
                    break
        it.handle(Close())

    def written(self) -> int:
        """Return the bytes of all segments."""
        return sum(path.stat().st_size for path in self.folder.glob("*.jsonl"))

    def records(self) -> list[dict[str, Any]]:
        """Return all records."""
        return [json.loads(line.text) for line in read(self.folder) if isinstance(line, Line)]


def _size(event: Event) -> int:
    match event:
        case Helo(name=text) | Mail(sender=text) | Rcpt(address=text):
            return len(text.encode())
        case Header(name=name, value=value):
            # As the peer sent it: with the colon, the space and the line end.
            return len(name) + len(value) + len(b": \r\n")
        case EndOfHeaders():
            return len(b"\r\n")
        case _:
            parts = (getattr(event, name, b"") for name in ("name", "value", "chunk"))
            return sum(len(part) for part in parts if isinstance(part, bytes))


def mail(message: bytes, to: str, *, helo: str = "mx.example.net", sender: str = "", peer: str = "203.0.113.9") -> Connection:
    """Return a connection that sends one message."""
    rcpt = Rcpt(address=to, mta_spelling=f"<{to}>")
    return peer, [Helo(name=helo), Mail(sender=sender), rcpt, Data(), *content_events(message)]


def to_many(*addresses: str, message: bytes = PLAIN) -> Connection:
    """Return a connection that sends one message to several recipients."""
    recipients = [Rcpt(address=address, mta_spelling=f"<{address}>") for address in addresses]
    return "203.0.113.9", [Helo(name="mx.example.net"), Mail(sender=""), *recipients, Data(), *content_events(message)]


def rejected(*, recipients: int, helo: str = "x", sender: str = "", peer: str = "203.0.113.9") -> Connection:
    """Return a connection whose recipients are rejected."""
    rcpt = Rcpt(address=ELSEWHERE, mta_spelling=f"<{ELSEWHERE}>")
    return peer, [Helo(name=helo), Mail(sender=sender), *[rcpt] * recipients]


def under(**more: Any) -> Settings:
    limits = {"reports_per_second": 1_000_000, "rejection_records_per_second": 1_000_000} | more.pop("limits", {})
    return settings(DOMAINS, limits=LimitSettings(**limits), **more)


GROUPS = status(b"Final-Recipient: rfc822;a@b\nAction: failed\n\n" * 1000)
LONG_REPORTER = GROUPS.replace(b"Final-Recipient", b"Reporting-MTA: dns; " + b"r" * 5000 + b"\nFinal-Recipient", 1)
WITH_HEADERS = b"".join(b"X-%d: %s\r\n" % (number, b"\x01" * 1000) for number in range(17)) + GROUPS
DELETES = ARF.replace(b"News.", b"\x7f" * 40_000)
DIAGNOSTICS = status(
    b"Final-Recipient: rfc822;a@b\nAction: failed\nDiagnostic-Code: smtp; 550 " + b"\x01" * 5000 + b"\n\n" * 40
)

ATTACKS: dict[str, tuple[Settings, Callable[[], Connection]]] = {
    "a thousand groups": (under(), lambda: mail(GROUPS, DROP)),
    "a thousand groups, long names": (
        under(),
        lambda: mail(LONG_REPORTER, DROP, helo="h" * 2000, sender="s" * 900 + "@x.example"),
    ),
    "recorded headers": (under(headers=("x-*",)), lambda: mail(WITH_HEADERS, DROP)),
    "escapes": (under(), lambda: mail(DELETES, FBL)),
    "diagnostics": (under(), lambda: mail(DIAGNOSTICS, DROP)),
    "rejected recipients": (under(), lambda: rejected(recipients=100)),
    "rejected recipients, long names": (
        under(),
        lambda: rejected(recipients=100, helo="h" * 400, sender="s" * 900 + "@x.example"),
    ),
    "dropped recipients": (under(), lambda: to_many(OPEN, *[f"b{number}@bounce.example.com" for number in range(900)])),
    "a bounce for many": (under(), lambda: to_many(*[f"b{n}@bounce.example.com" for n in range(400)], message=OOB)),
    "a complaint for many": (under(), lambda: to_many(*[f"f{n}@fbl.example.com" for n in range(400)], message=ARF)),
    "rejected connections": (settings(limits=LimitSettings()), lambda: ("203.0.113.9", [])),
}


@pytest.mark.parametrize("name", ATTACKS)
def test_the_records_of_one_network_are_bounded(tmp_path: Path, name: str) -> None:
    """Whatever a peer sends, its records have at most five bytes for each byte, and the burst."""
    its, connection = ATTACKS[name]
    net = Net(tmp_path, its)
    while len(net.answers) < 4000 and net.received < 3_000_000:
        net.play(connection())
        net.recorder.flush()
        assert net.written() <= 5 * net.received + BURST
        if isinstance(net.answers[-1], Tempfail) and net.answers.count(net.answers[-1]) > 3:
            break
    net.recorder.close()
    assert net.written() <= 5 * net.received + BURST + COUNT_RECORD


@pytest.mark.parametrize("name", ["a thousand groups", "recorded headers", "escapes"])
def test_a_report_above_the_limit_is_tempfailed(tmp_path: Path, name: str) -> None:
    """No record of it is in the journal, and the Rejection names the settings."""
    its, connection = ATTACKS[name]
    net = Net(tmp_path, its)
    while not net.answers or isinstance(net.answers[-1], Discard):
        net.play(connection())
        assert net.written() <= 5 * net.received + BURST
    accepted = len(net.answers) - 1
    assert isinstance(net.answers[-1], Tempfail)
    assert str(net.answers[-1].reply).startswith("451 4.7.0 ")
    net.recorder.close()
    records = net.records()
    assert sum(record["type"] in {"Reception", "Feedback"} for record in records) == accepted
    (rejection,) = (record for record in records if record["type"] == "Rejection")
    assert rejection["response"]["code"] == 451
    assert "limits.record_bytes_per_byte" in rejection["meta"]["why"]
    assert "limits.record_bytes_burst" in rejection["meta"]["why"]


def test_a_rejection_keeps_its_answer_and_is_counted(tmp_path: Path) -> None:
    """Above the limit each recipient is still answered 550, and the counts of the records make up the number."""
    net = Net(tmp_path, under(limits={"record_bytes_burst": 20_000}))
    for _ in range(30):
        net.play(rejected(recipients=20))
        net.recorder.flush()
    assert {type(verdict) for verdict in net.answers} == {Reject}
    assert net.written() <= 5 * net.received + 20_000
    net.recorder.close()
    records = net.records()
    assert {record["response"]["code"] for record in records} == {550}
    assert sum(record["meta"].get("count", 1) for record in records) == len(net.answers) == 600
    assert len(records) < 100


def test_an_ipv6_network_is_one(tmp_path: Path) -> None:
    """A /64 has one limit, however many of its addresses come; another /64 has its own."""
    net = Net(tmp_path, under(limits={"record_bytes_burst": 20_000}))
    for number in range(300):
        net.play(rejected(recipients=1, peer=f"2001:db8:0:1::{number:x}"))
        net.recorder.flush()
    assert net.written() <= 5 * net.received + 20_000
    before = net.written()
    net.play(rejected(recipients=1, peer="2001:db8:0:2::1"))
    assert net.written() > before


def test_a_flood_from_an_ipv6_network_is_aggregated(tmp_path: Path) -> None:
    """The rate of single Rejection records holds for a /64, not for each of its addresses."""
    net = Net(tmp_path, under(limits={"rejection_records_per_second": 10, "record_bytes_per_byte": 0}))
    for number in range(300):
        net.play(rejected(recipients=1, peer=f"2001:db8:0:1::{number:x}"))
    net.recorder.close()
    assert [record["meta"].get("count", 1) for record in net.records()] == [1] * 10 + [290]


@pytest.mark.parametrize(("message", "to"), [(OOB, DROP), (ARF, FBL)])
def test_ordinary_reports_never_reach_the_limit(tmp_path: Path, message: bytes, to: str) -> None:
    """A network whose records are smaller than five times its mail has no debt, even beside one that has."""
    net = Net(tmp_path, under(limits={"record_bytes_burst": 1000}))
    for _ in range(200):
        net.play(mail(message, to))
    assert {type(verdict) for verdict in net.answers} == {Discard}


# The header section of usual mail is larger.
LETTER = b"Received: from mx.example.net by mx.example.com; Thu, 02 Jul 2026 18:55:38 +0000\r\n" * 3 + PLAIN


def test_mail_to_a_list_never_reaches_the_limit(tmp_path: Path) -> None:
    """Each recipient has a record, and the MTA sends the message to each: an external host can send to a hundred at once."""
    net = Net(tmp_path, under(limits={"record_bytes_burst": 1000}))
    for _ in range(50):
        net.play(to_many(*[f"user{number}@open.example" for number in range(100)], message=LETTER))
    assert {type(verdict) for verdict in net.answers} == {Accept}
    assert len(net.records()) == 5000


def test_what_is_relayed_pays_for_its_own_records_only(tmp_path: Path) -> None:
    """A large message to many leaves no allowance for later records, nor a smaller debt."""
    net = Net(tmp_path, under(limits={"record_bytes_burst": 20_000}))
    net.play(mail(GROUPS[:3000], DROP))
    before = net.written()
    for _ in range(3):
        net.play(to_many(*[f"user{number}@open.example" for number in range(100)], message=LETTER * 10))
    relayed = net.written() - before
    while isinstance(net.answers[-1], Accept | Discard):
        net.play(mail(GROUPS[:3000], DROP))
    assert net.written() - relayed <= 5 * net.received + 20_000


def test_relay_hosts_have_no_limit(tmp_path: Path) -> None:
    """An operator's own machine may cause any number of records."""
    net = Net(tmp_path, under(limits={"record_bytes_burst": 1000}))
    net.play(mail(GROUPS, DROP, peer="127.0.0.1"))
    assert isinstance(net.answers[-1], Discard)
    net.play(rejected(recipients=1))
    assert len(net.records()) > 1000


def test_without_a_limit(tmp_path: Path) -> None:
    """0 turns it off."""
    net = Net(tmp_path, under(limits={"record_bytes_per_byte": 0}))
    for _ in range(3):
        net.play(mail(GROUPS, DROP))
    assert [type(verdict) for verdict in net.answers] == [Discard] * 3


def test_external_text_is_cut_in_records(tmp_path: Path) -> None:
    """A mailbox has 320 characters, a name 255, a reply and a reason 1024; mailboxes that differ within RFC 5321 stay so."""
    its = settings([*DOMAINS, entry("open.example", relay_to=True)], limits=LimitSettings(record_bytes_per_byte=0))
    net = Net(tmp_path, its)
    net.play(mail(LONG_REPORTER.replace(b"a@b", b"a" * 5000 + b"@b"), DROP, helo="h" * 9000, sender="s" * 9000))
    net.play(mail(DIAGNOSTICS, DROP))
    net.play(rejected(recipients=1, helo="h" * 9000, sender="s" * 9000))
    longest = f"{'l' * 64}@{'d' * 60}.{'d' * 60}.{'d' * 60}.{'d' * 60}.example"
    net.play(mail(b"Subject: x\r\n\r\n", "o@open.example", sender=longest))
    records = net.records()
    for record in records:
        assert len(record["sender"]) <= 320
        assert all(len(one) <= 320 for one in _mailboxes(record["recipient"]))
        assert len(record["peer_address"]["name"]) <= 255
        assert len(record["response"]["content"]) <= 1024
        assert len(record["response"]["command"] or "") <= len("RCPT TO:<>") + 320
        assert all(len(value) <= 1024 for value in record["meta"].values())
    assert records[-1]["sender"] == longest


def _mailboxes(value: str | list[str]) -> Iterable[str]:
    return [value] if isinstance(value, str) else value
