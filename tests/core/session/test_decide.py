"""`decide = "end"`: the same verdicts and records as by default, and none of them before the end of the message."""

from collections.abc import Iterator
from typing import Any

import pytest
from msgspec.structs import replace

from sidecar.core.names import network_of
from sidecar.core.session import Quota
from sidecar.core.session.events import Connect, Data, EndOfMessage, Event, Helo, Mail, Rcpt, content_events
from sidecar.core.session.verdicts import Accept, Continue, Outcome, Reject, Tempfail
from sidecar.core.settings.settings import Settings
from sidecar.core.settings.values import LimitSettings
from tests.building import entry, settings
from tests.core.session.driving import (
    ARF,
    BROKEN,
    EXTERNAL,
    NOON,
    OOB,
    PLAIN,
    RELAY_HOST,
    content,
    envelope,
    hello,
    play,
    session,
)

DOMAINS = [
    entry("bounce.example.com", log_oob="LogThenDrop"),
    entry("fbl.example.com", log_arf="LogThenRelay"),
    entry("open.example.com", relay_to=True),
    entry("both.example.com", relay_to=True, log_oob="LogThenDrop"),
]
BOUNCE, FEEDBACK, OPEN, BOTH = (f"x@{name}.example.com" for name in ("bounce", "fbl", "open", "both"))
LARGE_HEADER = b"X-Filler: " + b"x" * 1000 + b"\r\n" + OOB
LIMITS = LimitSettings(header_size=1000, reports_per_second=1)
ENVELOPES = [(BOUNCE,), (FEEDBACK,), (OPEN,), (BOTH,), (BOUNCE, OPEN), (OPEN, FEEDBACK, BOTH)]
MESSAGES = {"plain": PLAIN, "bounce": OOB, "complaint": ARF, "unparsable": BROKEN, "large header": LARGE_HEADER}
BEFORE = (Connect, Helo, Mail, Rcpt)


def outcomes(
    under: Settings, peer: object, sender: str, to: tuple[str, ...], message: bytes
) -> Iterator[tuple[Event, Outcome]]:
    """Play the message twice, the second time above the rate of reports. Return each event with its outcome."""
    quota = Quota(LIMITS)
    while quota.admit_report(network_of(str(EXTERNAL)), NOON):
        pass
    for shared in (None, quota):
        it = session(under, quota=shared)
        events = [*hello(peer), *envelope(to, sender=sender), Data(queue_id="4ABC"), *content_events(message)]
        yield from zip(events, play(it, events), strict=False)


def decided(it: Iterator[tuple[Event, Outcome]]) -> list[Any]:
    """Return verdict, records and reason of each message, without the size and the mark of a record from before the content."""
    found = []
    for event, outcome in it:
        if not isinstance(event, BEFORE) and not isinstance(outcome.verdict, Continue):
            records = [
                replace(one, size=0, meta={key: value for key, value in one.meta.items() if key != "decided"})
                for one in outcome.records
            ]
            found.append((outcome.verdict, records, outcome.durable, outcome.decision, outcome.answer))
    return found


@pytest.mark.parametrize("more", [{}, {"unparsable_reports": "quarantine"}, {"compat": "kumomta"}, {"headers": ("subject",)}])
@pytest.mark.parametrize("message", MESSAGES)
@pytest.mark.parametrize("peer", [EXTERNAL, RELAY_HOST])
def test_every_verdict_is_the_same_and_comes_at_the_end(peer: object, message: str, more: dict[str, Any]) -> None:
    """For each envelope, within the rate of reports and above it: no step before the end has a verdict or a record."""
    early, end = (settings(DOMAINS, decide=when, limits=LIMITS, **more) for when in ("early", "end"))
    for to in ENVELOPES:
        for sender in ("", "a@example.net"):
            case = (peer, sender, to, MESSAGES[message])
            late = [*outcomes(end, *case)]
            for event, outcome in late:
                assert isinstance(event, EndOfMessage) or (isinstance(outcome.verdict, Continue) and not outcome.records)
            assert decided(iter(late)) == decided(outcomes(early, *case))
            assert len(decided(iter(late))) == 2


def test_the_cases_above_have_verdicts_of_every_kind() -> None:
    """By default some come at DATA, some at the end of the headers; at the end they would prove nothing."""
    early = settings(DOMAINS)
    accepted = play(session(early), [*hello(RELAY_HOST), *envelope([OPEN]), *content(PLAIN)])
    assert isinstance(accepted[-1].verdict, Accept)
    assert len(accepted) == len([*hello(), *envelope([OPEN]), Data()])
    assert [type(one[0]) for one in decided(outcomes(early, EXTERNAL, "", (BOUNCE,), OOB))][1:] == [Tempfail]
    assert [type(one[0]) for one in decided(outcomes(early, EXTERNAL, "a@b.example", (BOUNCE,), PLAIN))] == [Reject, Reject]


def test_a_reception_has_the_size_that_was_seen_and_no_mark() -> None:
    """The size that the peer declared does not count, for the message arrived before its record was written."""
    events = [*hello(RELAY_HOST), *envelope([OPEN]), *content(PLAIN)]
    events[2] = replace(events[2], declared_size=5_000_000)
    (record,) = play(session(settings(DOMAINS, decide="end")), events)[-1].records
    assert (record.size, "decided" in record.meta) == (len(PLAIN), False)
