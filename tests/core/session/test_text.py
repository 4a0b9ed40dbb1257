"""Bounces in text form in a session: which mail is read to its end, and what is decided and recorded."""

from collections.abc import Mapping
from typing import Any

import pytest

from sidecar.core.session import Quota
from sidecar.core.session.verdicts import Accept, Discard, Outcome, Reject, Tempfail
from sidecar.core.settings.settings import Settings
from sidecar.core.settings.values import LimitSettings
from tests.building import entry, settings
from tests.core.session.driving import EXTERNAL, RELAY_HOST, content, envelope, hello, play, session

DROP, RELAY, FBL, OPEN = "b@bounce.example.com", "r@relay.example.com", "f@fbl.example.com", "o@open.example"
DOMAINS = (
    entry("bounce.example.com", log_oob="LogThenDrop"),
    entry("relay.example.com", log_oob="LogThenRelay"),
    entry("fbl.example.com", log_arf="LogThenDrop"),
    entry("open.example", relay_to=True, log_oob="LogThenDrop"),
)
PERSON = "jo@remote.example"

NOTICE = b"""Hi. This is the qmail-send program at mx.remote.example.\r
I'm afraid I wasn't able to deliver your message to the following addresses.\r
This is a permanent error; I've given up. Sorry it didn't work out.\r
\r
<gone@remote.example>:\r
192.0.2.7 does not like recipient.\r
Remote host said: 550 5.1.1 no such mailbox here\r
Giving up on 192.0.2.7.\r
\r
--- Below this line is a copy of the message.\r
\r
From: news@sender.example\r
Subject: October\r
Message-ID: <17@sender.example>\r
\r
Nothing happened.\r
"""
BOUNCE = b"From: MAILER-DAEMON@mx.remote.example\r\nTo: b@bounce.example.com\r\nSubject: failure notice\r\n\r\n" + NOTICE
# The same words, from a person: no field is a program's.
FORWARDED = b"From: Jo <jo@remote.example>\r\nSubject: look at this\r\n\r\n" + NOTICE
LETTER = b"From: Jo <jo@remote.example>\r\nSubject: hello\r\n\r\nJust a letter.\r\n"
VACATION = b"From: Jo <jo@remote.example>\r\nSubject: away\r\nAuto-Submitted: auto-replied\r\n\r\nI am away until Monday.\r\n"
DELAY = b"""From: Mail Delivery System <Mailer-Daemon@mx.remote.example>\r
Subject: Warning: message 1abcde-000abc-00 delayed 24 hours\r
Auto-Submitted: auto-replied\r
\r
This message was created automatically by mail delivery software.\r
A message that you sent has not yet been delivered to one or more of its\r
recipients after more than 24 hours on the queue on mx.remote.example.\r
\r
The address to which the message has not yet been delivered is:\r
\r
  slow@remote.example\r
    Delay reason: connection timed out\r
\r
No action is required on your part. Delivery attempts will continue for\r
some time, and this warning may be repeated at intervals.\r
"""


NAMELESS = b"""From: Mail Delivery System <Mailer-Daemon@mx.remote.example>\r
Subject: Message rejected\r
\r
A message that you sent was rejected by the local scanning code that\r
checks incoming messages on this system.\r
"""


def outcomes(
    message: bytes, *to: str, sender: str = "", peer: object = EXTERNAL, its: Settings | None = None, quota: Quota | None = None
) -> list[Outcome]:
    it = session(its or settings(DOMAINS), quota=quota)
    return list(play(it, [*hello(peer), *envelope(to, sender=sender), *content(message)]))


def last(message: bytes, *to: str, **more: Any) -> Outcome:
    return outcomes(message, *to, **more)[-1]


def steps(message: bytes, *to: str, **more: Any) -> list[str]:
    """Return where a message ended: after DATA, the header section, or its end."""
    made = len(outcomes(message, *to, **more)) - len([*hello(), *envelope(to)])
    fields = message.partition(b"\r\n\r\n")[0].count(b"\r\n") + 1
    return {1: ["data"], 2 + fields: ["headers"]}.get(made, ["end"])


def test_a_text_bounce_is_a_bounce_report() -> None:
    """It has the dispositions of a bounce report, and an OOB record for the recipient that failed."""
    outcome = last(BOUNCE, DROP, RELAY)
    assert outcome.verdict == Accept(without=(f"<{DROP}>",))
    assert outcome.durable
    assert [(one.type, one.recipient, str(one.meta["disposition"])) for one in outcome.records] == [
        ("Reception", DROP, "logged_and_dropped"),
        ("OOB", "gone@remote.example", "logged_and_dropped"),
        ("Reception", RELAY, "logged_and_relayed"),
        ("OOB", "gone@remote.example", "logged_and_relayed"),
    ]
    bounce = outcome.records[1]
    assert (bounce.sender, bounce.response.code, bounce.response.content) == (DROP, 550, "5.1.1 no such mailbox here")
    assert str(bounce.response.enhanced_code) == "5.1.1"
    assert bounce.peer_address.name == "mx.remote.example"
    assert {one.meta["read_as"] for one in outcome.records} == {"text:qmail"}
    assert bounce.meta["derived"] == (
        *("peer_address.name", "recipient", "response.code", "response.content", "response.enhanced_code"),
    )
    assert b'"message_id":"<17@sender.example>"' in bytes(bounce.meta["original"])


@pytest.mark.parametrize("sender", ["", "mailer-daemon@mx.remote.example"])
def test_the_header_section_can_prove_a_mailer(sender: str) -> None:
    """Some programs do not send bounces with the null sender."""
    assert isinstance(last(BOUNCE, DROP, sender=sender).verdict, Discard)


@pytest.mark.parametrize(
    ("message", "sender", "to", "where", "verdict"),
    [
        (LETTER, PERSON, DROP, ["headers"], Reject),
        (FORWARDED, PERSON, DROP, ["headers"], Reject),
        (LETTER, "", DROP, ["end"], Reject),
        (VACATION, "", DROP, ["end"], Reject),
        (VACATION, PERSON, DROP, ["headers"], Reject),
        (BOUNCE, "", FBL, ["headers"], Reject),
        (DELAY, "", DROP, ["end"], Discard),
    ],
)
def test_what_is_read_to_its_end(message: bytes, sender: str, to: str, where: list[str], verdict: type) -> None:
    """Mail of a person ends at its header section; so does any mail to a recipient that logs no bounces."""
    assert steps(message, to, sender=sender) == where
    assert isinstance(last(message, to, sender=sender).verdict, verdict)


@pytest.mark.parametrize(
    ("sender", "more", "is_named"),
    [(PERSON, {}, True), ("", {}, False), (PERSON, {"text_bounces": "reject"}, False)],
)
def test_the_reason_at_the_end_of_the_header_section(sender: str, more: Mapping[str, Any], is_named: bool) -> None:
    """It says what the message lacks, where a bounce in text form would have been accepted."""
    why = str(last(LETTER, DROP, sender=sender, its=settings(DOMAINS, **more)).records[0].meta["why"])
    assert why.startswith("not a report")
    assert ("its sender is not <>, and its header proves no automatic mailer" in why) is is_named


@pytest.mark.parametrize(("to", "where"), [(OPEN, ["headers"]), ("x@elsewhere.example", ["data"])])
def test_a_relay_hosts_ordinary_mail_is_not_read(to: str, where: list[str]) -> None:
    """It ends as early as ever."""
    assert steps(LETTER, to, sender="news@sender.example", peer=RELAY_HOST) == where


def test_a_delay_warning_is_a_report_without_an_oob_record() -> None:
    """As in RFC 3464: only a failure has one."""
    outcome = last(DELAY, DROP)
    assert [(one.type, str(one.meta["disposition"])) for one in outcome.records] == [("Reception", "logged_and_dropped")]
    assert outcome.records[0].meta["read_as"].startswith("text:")


def test_a_bounce_that_names_no_recipient() -> None:
    """Its record has an empty recipient: the envelope sender of the original message identifies it."""
    outcome = last(NAMELESS, DROP)
    assert [(one.type, one.recipient, one.sender) for one in outcome.records][1:] == [("OOB", "", DROP)]
    assert "recipient" not in outcome.records[1].meta["derived"]


@pytest.mark.parametrize("more", [{"text_bounces": "reject"}, {"compat": "kumomta", "reject_at_connect": False}])
def test_text_bounces_can_be_rejected(more: Mapping[str, Any]) -> None:
    """They are then rejected at the end of the header section, as ordinary mail."""
    its = settings(DOMAINS, **more)
    assert steps(BOUNCE, DROP, its=its) == ["headers"]
    assert isinstance(last(BOUNCE, DROP, its=its).verdict, Reject)


# --- bounds


def test_the_rate_of_a_network_counts_them() -> None:
    """Reading takes time: above its rate a network is tempfailed."""
    its = settings(DOMAINS, limits=LimitSettings(reports_per_second=1))
    quota = Quota(its.limits)
    found = [last(BOUNCE, DROP, its=its, quota=quota).verdict for _ in range(11)]
    assert [type(verdict) for verdict in found] == [Discard] * 10 + [Tempfail]


@pytest.mark.parametrize(
    ("to", "peer", "verdict"), [(DROP, EXTERNAL, Reject), (OPEN, EXTERNAL, Accept), (DROP, RELAY_HOST, Accept)]
)
def test_too_large_to_be_read(to: str, peer: object, verdict: type) -> None:
    """Ordinary mail from the null sender has no limit: it is relayed as before, where it can be relayed at all."""
    its = settings(DOMAINS, report_size_limit=2000)
    large = b"From: Jo <jo@remote.example>\r\nSubject: photos\r\n\r\n" + b"x" * 70 * 50 + b"\r\n"
    assert isinstance(last(large, to, its=its, peer=peer).verdict, verdict)
