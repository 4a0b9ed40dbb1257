"""Whole connections in any order of events, against the contract said a second time.

Owns the watcher beside the session: it sees the same events, and knows what must come of them. Never looks into the session.
"""

import json
from collections.abc import Iterator

from sidecar.core.records import encode
from sidecar.core.reports import mime
from sidecar.core.reports.reading import may_be_report, read
from sidecar.core.session import ProtocolError
from sidecar.core.session.events import Body, Connect, EndOfHeaders, Event, Header, Mail, Rcpt
from sidecar.core.session.verdicts import Accept, Continue, Discard, Outcome, Reject, Tempfail
from tests.core.session.driving import ARF, BROKEN, OOB, PLAIN, session
from tests.fuzz import contract
from tests.fuzz.contract import Right
from tests.fuzz.script import events

_SETTINGS = contract.fuzzed_settings()
_RECIPIENTS = (b"b@bounce.example", b"k@keep.example", b"f@fbl.example", b"g@fblkeep.example", b"t@both.example")


def seeds() -> Iterator[bytes]:
    """Yield connections of every kind, with every kind of message."""
    for message in (PLAIN, BROKEN, OOB, ARF):
        for peer in b"0123":
            for recipient in _RECIPIENTS:
                yield b"C%c1\0Lme\0M<>\0R<%b>\0W%b" % (peer, recipient, message)
    yield (
        b"C04\0Adaniel\0M<a@auth.example> SIZE=99\0R<x@else.example>\0I4ABC\0W"
        + PLAIN
        + b"\0X\0M<a@auth.example>\0R<x@y.example>"
    )
    yield b"C2\0M<a@from.example>\0R<x@else.example>\0R<b@a.wild.example>\0D\0HSubject: x\0E\0Bhello\0B\0T\0Q"
    yield b"C0\0M<>\0R<B@Bounce.EXAMPLE>\0R<o@open.example>\0W" + PLAIN
    yield b"C0\0M<>\0R<B@Bounce.EXAMPLE>\0R<G@FblKeep.example>\0R<k@keep.example>\0W" + OOB
    yield b"C0\0M<>\0R<b@bounce.example>\0W" + OOB + b"x" * contract.SIZE_LIMIT
    yield b"C2\0M<>\0R<b@bounce.example>\0HSubject: x\0E\0Bno DATA before\0T\0M<>\0R<o@open.example>\0E\0T\0Q"
    yield b"C0\0M<>\0R<o@open.example>\0WSubject: 1\nSubject: 2\n x\nReceived: 3\nReceived: 4\nReceived: 5\n\n"
    yield b"C0\0M<>\0R<@a,@b:o@open.example>\0R<b@bounce.example>\0D\0HContent-Type : multipart/report; boundary=b\0E\0B--b\0T"
    yield b'C0\0M<>\0R<"x@open.example"@else.example>\0R<o@OPEN.example.>\0R<o@[192.0.2.1]>\0R<>\0Lme\0X\0M<>\0D\0T\0'


def check(data: bytes) -> None:
    """Play one script; every outcome must be what the contract says."""
    it = session(_SETTINGS)
    watcher = Watcher()
    for event in events(data):
        try:
            outcome = it.handle(event)
        except ProtocolError:
            continue  # the adapter would end the connection; another event asks more of the session
        check_records(outcome)
        watcher.see(event, outcome)


def check_records(outcome: Outcome) -> None:
    """Check that what is to be written can be: each record one line of JSON, of the kind that goes with the verdict."""
    for record in outcome.records:
        line = encode(record)
        assert line.count(b"\n") == 1
        assert json.loads(line)["meta"]["why"]
    assert (outcome.decision is None) == (not outcome.records)
    match outcome.verdict:
        case Reject(reply=reply) | Tempfail(reply=reply):
            assert all(record.type == "Rejection" and record.response.code == reply.code for record in outcome.records)
        case Accept() | Discard():
            assert outcome.records
            assert len({record.meta["message_id"] for record in outcome.records}) == 1
            assert outcome.durable or {record.type for record in outcome.records} == {"Reception"}
        case Continue():
            assert not outcome.records


class Watcher:
    """What an onlooker knows of a connection."""

    def __init__(self) -> None:
        self.peer = ""
        self.mail = Mail(sender="")
        self.rights: list[Right | None] = []
        self.recipients: list[Rcpt] = []
        self.content = b""

    def see(self, event: Event, outcome: Outcome) -> None:
        """Take note of an event, and check its outcome where the contract has a word on it."""
        match event:
            case Connect(peer=peer):
                self.peer = str(peer)
                assert isinstance(outcome.verdict, Continue)
            case Mail():
                self.mail = event
                self.rights, self.recipients, self.content = [], [], b""
            case Rcpt():
                self.see_rcpt(event, outcome)
                return
            case Header(name=name, value=value):
                self.content += b"%b: %b\r\n" % (name, value)
            case EndOfHeaders():
                self.content += b"\r\n"
            case Body(chunk=chunk):
                self.content += chunk
            case _:
                pass  # nothing that an onlooker needs to know
        if isinstance(outcome.verdict, Accept | Discard | Reject | Tempfail):
            if isinstance(event, EndOfHeaders):
                self.see_early_end()
            self.see_end(outcome)

    def see_rcpt(self, event: Rcpt, outcome: Outcome) -> None:
        """A recipient is taken exactly if it has a right to something; an unreadable or surplus one is refused either way."""
        expected = contract.right(self.peer, self.mail.authz_id, self.mail.sender, event.address)
        code = outcome.verdict.reply.code if isinstance(outcome.verdict, Reject | Tempfail) else 250
        assert (code == 452) == (len(self.recipients) >= contract.RECIPIENT_LIMIT and code != 553)
        if code == 250:
            self.recipients.append(event)
            self.rights.append(expected)
            assert event.address.isprintable()
        if expected is not None and code in {250, 550}:
            assert expected.accept == (code == 250)
        elif code == 250 and self.peer not in contract.RELAY_HOSTS:
            both = f"{event.address} {self.mail.sender}"
            assert any(contract.could_name(both, domain) for domain in contract.TABLE if domain != "*")

    def see_early_end(self) -> None:
        """It ends before the body only if no body makes it a report, no recipient accepts one, or it is too large."""
        takes_reports = any(right is not None and right.takes_reports for right in self.rights)
        claims = may_be_report(mime.header(mime.split_message(self.content)[0], b"content-type"))
        assert not (takes_reports and claims) or len(self.content) > contract.SIZE_LIMIT

    def see_end(self, outcome: Outcome) -> None:
        """The message ends as the contract says; where that takes more than the watcher knows, never as an open relay."""
        reading = read(b"" if self.is_relayed_unread() else self.content, null_sender=not self.mail.sender)
        arf, oob = reading.arf is not None, reading.oob is not None
        if isinstance(outcome.verdict, Reject) and outcome.verdict.reply.code == 552:
            assert len(self.content) > contract.SIZE_LIMIT
            return
        if None in self.rights:
            self.see_uncertain_end(outcome, report=arf or oob)
            return
        rights = [right for right in self.rights if right is not None]
        failed = 0 if reading.oob is None else sum(entry.action == "failed" for entry in reading.oob.per_recipient)
        assert type(outcome.verdict).__name__ == contract.verdict(rights, arf=arf, oob=oob)
        assert [record.type for record in outcome.records] == contract.records(rights, arf=arf, oob=oob, failed=failed)
        if isinstance(outcome.verdict, Accept):
            kept = [right.fate(arf=arf, oob=oob)[0] for right in rights]
            gone = tuple(rcpt.mta_spelling for rcpt, relayed in zip(self.recipients, kept, strict=True) if not relayed)
            assert outcome.verdict.without == gone

    def is_relayed_unread(self) -> bool:
        """Tell whether it is too large for a bounce in text form, and relayed to a recipient whatever it is."""
        claims = may_be_report(mime.header(mime.split_message(self.content)[0], b"content-type"))
        relayed = any(right is not None and right.relay for right in self.rights)
        return len(self.content) > contract.SIZE_LIMIT and not claims and relayed

    def see_uncertain_end(self, outcome: Outcome, *, report: bool) -> None:
        """An external host's message is accepted only as a report, or if an address could name a domain that permits it."""
        if not isinstance(outcome.verdict, Accept | Discard) or report or self.peer in contract.RELAY_HOSTS:
            return
        assert isinstance(outcome.verdict, Accept), "what is no report is never dropped with a 250"
        kept = [rcpt.address for rcpt in self.recipients if rcpt.mta_spelling not in outcome.verdict.without]
        open_to = any(contract.could_name(address, domain) for address in kept for domain in ("open.example", "both.example"))
        partner = self.peer == contract.PARTNER and contract.could_name(self.mail.sender, "from.example")
        known = self.mail.authz_id == "daniel" and contract.could_name(self.mail.sender, "auth.example")
        assert open_to or partner or known
