"""A session driven by hand: a world that stands still, messages of our own, and a few words to say them with."""

from collections.abc import Iterable, Iterator
from ipaddress import ip_address
from itertools import count
from uuid import UUID

import msgspec

from sidecar.core.policy import compile_policy
from sidecar.core.records import Record
from sidecar.core.session import Quota, Rules, Session, World
from sidecar.core.session.events import Connect, Data, EndOfMessage, Event, Helo, Mail, Rcpt, content_events
from sidecar.core.session.verdicts import Continue, Outcome
from sidecar.core.settings.settings import Settings

NOON = 1_790_000_000.25
EXTERNAL = ip_address("203.0.113.9")
RELAY_HOST = ip_address("127.0.0.1")
LISTENER = "10.1.1.1:25"
NODE = "11111111-2222-3333-4444-555555555555"

PLAIN = b"From: a@b.example\r\nSubject: hello\r\n\r\nJust a letter.\r\n"
OOB = b"""From: mailer-daemon@mx.example.net\r
To: b@bounce.example.com\r
Subject: Undelivered\r
Content-Type: multipart/report; report-type=delivery-status; boundary="cut"\r
\r
--cut\r
Content-Type: text/plain\r
\r
It could not be delivered.\r
--cut\r
Content-Type: message/delivery-status\r
\r
Reporting-MTA: dns; mx.example.net\r
\r
Final-Recipient: rfc822; gone@example.net\r
Original-Recipient: rfc822; alias@example.net\r
Action: failed\r
Status: 5.1.1\r
Diagnostic-Code: smtp; 550 5.1.1 no such user\r
Last-Attempt-Date: Thu, 02 Jul 2026 18:55:38 +0000\r
\r
Final-Recipient: rfc822; slow@example.net\r
Action: delayed\r
Status: 4.4.1\r
\r
--cut--\r
"""
ARF = b"""From: fbl@isp.example\r
To: fbl@fbl.example.com\r
Subject: complaint\r
Content-Type: multipart/report; report-type=feedback-report; boundary="cut"\r
\r
--cut\r
Content-Type: text/plain\r
\r
This is a complaint.\r
--cut\r
Content-Type: message/feedback-report\r
\r
Feedback-Type: abuse\r
User-Agent: Isp/1.0\r
Version: 1\r
\r
--cut\r
Content-Type: message/rfc822\r
\r
From: news@example.com\r
Subject: news\r
\r
News.\r
--cut--\r
"""
# It claims to be a report, and says nothing that can be read.
BROKEN = OOB.replace(b"Action:", b"Auction:").replace(b"-Recipient:", b"-Someone:")


def world() -> World:
    """Make a world whose clock stands still and whose ids are counted."""
    numbers = count(1)
    return World(clock=lambda: NOON, new_id=lambda: str(UUID(int=next(numbers))), node_id=NODE)


def session(settings: Settings, *, quota: Quota | None = None) -> Session:
    """Make a fresh session under `settings`, which shares its quota with others if there is one."""
    made = rules(settings)
    return Session(rules=lambda: made, world=world(), quota=quota)


def rules(settings: Settings) -> Rules:
    """Compile the rules of `settings`."""
    return Rules(policy=compile_policy(settings), settings=settings)


def envelope(recipients: Iterable[str], *, sender: str = "", authz_id: str | None = None) -> Iterator[Event]:
    """Return MAIL and RCPTs."""
    yield Mail(sender=sender, authz_id=authz_id)
    for recipient in recipients:
        yield Rcpt(address=recipient, mta_spelling=f"<{recipient}>")


def hello(
    peer: object = EXTERNAL, *, port: int | None = 4444, listener: str | None = LISTENER, helo: str = "peer.example.net"
) -> Iterator[Event]:
    """Return the events of a new connection."""
    yield Connect(peer=ip_address(str(peer)), port=port, listener=listener)
    yield Helo(name=helo)


def content(message: bytes) -> Iterator[Event]:
    """Return DATA and the whole message, with a queue id."""
    yield Data(queue_id=None)
    for event in content_events(message):
        yield EndOfMessage(queue_id="4ABC") if isinstance(event, EndOfMessage) else event


def headers_of(record: Record) -> dict[str, str | list[str]]:
    """Return the recorded headers, which the records of a message share as JSON."""
    return msgspec.json.decode(msgspec.json.encode(record.headers), type=dict[str, str | list[str]])


def play(it: Session, events: Iterable[Event]) -> list[Outcome]:
    """Feed events until one of them ends the message, as an MTA would; give all outcomes."""
    outcomes = []
    for event in events:
        outcomes.append(it.handle(event))
        going_on = isinstance(outcomes[-1].verdict, Continue)
        if not going_on and not isinstance(event, Rcpt):
            break
    return outcomes
