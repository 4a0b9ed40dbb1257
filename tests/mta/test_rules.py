"""Every rule of the policy over real SMTP: who may send what to whom, word for word."""

from collections.abc import Iterator

import pytest
from msgspec import Struct

from tests.mta.client import EXTERNAL, Peer
from tests.mta.house import House, house
from tests.mta.mails import ARF, BOTH, OOB, ORDINARY

pytestmark = pytest.mark.mta

MODES = ("Ignore", "LogThenRelay", "LogThenDrop")

DOMAINS = """\
["relay.example"]
relay_to = true
["bounce.example"]
log_oob = "LogThenDrop"
["fbl.example"]
log_arf = "LogThenDrop"
["send.example"]
relay_from = ["198.51.100.0/24", "2001:db8:1::/48"]
["auth.example"]
relay_from_authz = ["daniel"]
["*.wild.example"]
log_oob = true
["not.wild.example"]
log_oob = false
["bücher.example"]
log_oob = "LogThenDrop"
[listener."10.1.1.1:2525"."bounce.example"]
log_oob = false
[listener."[2001:db8::25]:25"."only.example"]
relay_to = true
""" + "".join(f'["{oob}-{arf}.modes.example"]\nlog_oob = "{oob}"\nlog_arf = "{arf}"\n' for oob in MODES for arf in MODES)

RELAY_HOSTS = ("127.0.0.1", "192.168.1.0/24", "2001:db8:ff::/48")
SETTINGS = """\
[listener."10.1.1.1:587"]
relay_hosts = ["172.16.0.0/12"]
"""

NOBODY_KNOWS = "550 5.7.1 relaying not permitted for 203.0.113.9:4444"
NO_REPORT = "550 5.7.1 relaying not permitted"
TAKEN = "250 2.0.0 Ok"


@pytest.fixture(scope="module")
def home() -> Iterator[House]:
    with house(domains=DOMAINS, relay_hosts=RELAY_HOSTS, settings=SETTINGS) as built:
        yield built


class Scenario(Struct, frozen=True, kw_only=True):
    """One message by one peer: the beginning of the answer that decides, the records, and where it was delivered."""

    name: str
    peer: Peer = EXTERNAL
    sender: str = "somebody@peer.example.net"
    recipient: str
    content: bytes = ORDINARY
    answer: str
    records: tuple[tuple[str, int], ...]
    delivered: bool


RECEIVED = (("Reception", 250),)
BOUNCED = (("Reception", 250), ("OOB", 550))
COMPLAINED = (("Feedback", 250),)
REFUSED = (("Rejection", 550),)

SCENARIOS = [
    Scenario(
        name="a stranger may not send to a domain that nobody named",
        recipient="you@elsewhere.example",
        answer=NOBODY_KNOWS,
        records=REFUSED,
        delivered=False,
    ),
    Scenario(
        name="the refusal names an IPv6 peer in brackets",
        peer=Peer(address="[2001:db8::9]:4444"),
        recipient="you@elsewhere.example",
        answer="550 5.7.1 relaying not permitted for [2001:db8::9]:4444",
        records=REFUSED,
        delivered=False,
    ),
    Scenario(
        name="the refusal leaves out a port that the MTA does not tell",
        peer=Peer(address="203.0.113.9"),
        recipient="you@elsewhere.example",
        answer="550 5.7.1 relaying not permitted for 203.0.113.9",
        records=REFUSED,
        delivered=False,
    ),
    Scenario(
        name="a relay host may send anywhere",
        peer=Peer(address="192.168.1.7:4444"),
        recipient="you@elsewhere.example",
        answer=TAKEN,
        records=RECEIVED,
        delivered=True,
    ),
    Scenario(
        name="a relay host by IPv6 may send anywhere",
        peer=Peer(address="[2001:db8:ff::7]:4444"),
        recipient="you@elsewhere.example",
        answer=TAKEN,
        records=RECEIVED,
        delivered=True,
    ),
    Scenario(
        name="a relay host by its IPv4-mapped address may send anywhere",
        peer=Peer(address="[::ffff:192.168.1.7]:4444"),
        recipient="you@elsewhere.example",
        answer=TAKEN,
        records=RECEIVED,
        delivered=True,
    ),
    Scenario(
        name="a relay host's own listener list replaces the global one",
        peer=Peer(address="192.168.1.7:4444", listener="10.1.1.1:587"),
        recipient="you@elsewhere.example",
        answer="550 5.7.1 relaying not permitted for 192.168.1.7:4444",
        records=REFUSED,
        delivered=False,
    ),
    Scenario(
        name="a relay host of one listener may send anywhere through it",
        peer=Peer(address="172.16.0.1:4444", listener="10.1.1.1:587"),
        recipient="you@elsewhere.example",
        answer=TAKEN,
        records=RECEIVED,
        delivered=True,
    ),
    Scenario(
        name="a relay host of one listener is a stranger on another",
        peer=Peer(address="172.16.0.1:4444"),
        recipient="you@elsewhere.example",
        answer="550 5.7.1 relaying not permitted for 172.16.0.1:4444",
        records=REFUSED,
        delivered=False,
    ),
    Scenario(
        name="relay_to lets anyone send to the domain",
        recipient="you@relay.example",
        answer=TAKEN,
        records=RECEIVED,
        delivered=True,
    ),
    Scenario(
        name="relay_to is no permission to send elsewhere in the domain's name",
        sender="somebody@relay.example",
        recipient="you@elsewhere.example",
        answer=NOBODY_KNOWS,
        records=REFUSED,
        delivered=False,
    ),
    Scenario(
        name="relay_from lets its peers send anywhere for the domain",
        peer=Peer(address="198.51.100.7:4444"),
        sender="somebody@send.example",
        recipient="you@elsewhere.example",
        answer=TAKEN,
        records=RECEIVED,
        delivered=True,
    ),
    Scenario(
        name="relay_from takes IPv6 peers",
        peer=Peer(address="[2001:db8:1::7]:4444"),
        sender="somebody@SEND.example",
        recipient="you@elsewhere.example",
        answer=TAKEN,
        records=RECEIVED,
        delivered=True,
    ),
    Scenario(
        name="relay_from is for no other sender",
        peer=Peer(address="198.51.100.7:4444"),
        recipient="you@elsewhere.example",
        answer="550 5.7.1 relaying not permitted for 198.51.100.7:4444",
        records=REFUSED,
        delivered=False,
    ),
    Scenario(
        name="relay_from is for no other peer",
        sender="somebody@send.example",
        recipient="you@elsewhere.example",
        answer=NOBODY_KNOWS,
        records=REFUSED,
        delivered=False,
    ),
    Scenario(
        name="relay_from does not open the domain as a recipient",
        peer=Peer(address="198.51.100.7:4444"),
        recipient="you@send.example",
        answer="550 5.7.1 relaying not permitted for 198.51.100.7:4444",
        records=REFUSED,
        delivered=False,
    ),
    Scenario(
        name="relay_from_authz lets an identity send anywhere for the domain",
        peer=Peer(login="daniel"),
        sender="somebody@auth.example",
        recipient="you@elsewhere.example",
        answer=TAKEN,
        records=RECEIVED,
        delivered=True,
    ),
    Scenario(
        name="the next session without AUTH is refused",
        sender="somebody@auth.example",
        recipient="you@elsewhere.example",
        answer=NOBODY_KNOWS,
        records=REFUSED,
        delivered=False,
    ),
    Scenario(
        name="relay_from_authz is for no other identity",
        peer=Peer(login="danielle"),
        sender="somebody@auth.example",
        recipient="you@elsewhere.example",
        answer=NOBODY_KNOWS,
        records=REFUSED,
        delivered=False,
    ),
    Scenario(
        name="relay_from_authz is for no other sender",
        peer=Peer(login="daniel"),
        recipient="you@elsewhere.example",
        answer=NOBODY_KNOWS,
        records=REFUSED,
        delivered=False,
    ),
    Scenario(
        name="a wildcard matches below its domain",
        sender="",
        recipient="you@a.b.wild.example",
        content=OOB,
        answer=TAKEN,
        records=BOUNCED,
        delivered=True,
    ),
    Scenario(
        name="a wildcard does not match its own domain",
        sender="",
        recipient="you@wild.example",
        content=OOB,
        answer=NOBODY_KNOWS,
        records=REFUSED,
        delivered=False,
    ),
    Scenario(
        name="an entry replaces the wildcard above it",
        sender="",
        recipient="you@not.wild.example",
        content=OOB,
        answer=NOBODY_KNOWS,
        records=REFUSED,
        delivered=False,
    ),
    Scenario(
        name="a domain is the same without case",
        sender="",
        recipient="News-17@Bounce.EXAMPLE",
        content=OOB,
        answer=TAKEN,
        records=BOUNCED,
        delivered=False,
    ),
    Scenario(
        name="an IDN is the same as A-labels",
        sender="",
        recipient="news-17@xn--bcher-kva.example",
        content=OOB,
        answer=TAKEN,
        records=BOUNCED,
        delivered=False,
    ),
    Scenario(
        name="a listener's own entry takes the domain out on that listener",
        peer=Peer(listener="10.1.1.1:2525"),
        sender="",
        recipient="news-17@bounce.example",
        content=OOB,
        answer=NOBODY_KNOWS,
        records=REFUSED,
        delivered=False,
    ),
    Scenario(
        name="an IPv6 listener has entries of its own",
        peer=Peer(listener="[2001:db8::25]:25"),
        recipient="you@only.example",
        answer=TAKEN,
        records=RECEIVED,
        delivered=True,
    ),
    Scenario(
        name="an entry of one listener is none of another's",
        recipient="you@only.example",
        answer=NOBODY_KNOWS,
        records=REFUSED,
        delivered=False,
    ),
    Scenario(
        name="a relay host's report is taken out too",
        peer=Peer(address="192.168.1.7:4444"),
        sender="",
        recipient="news-17@bounce.example",
        content=OOB,
        answer=TAKEN,
        records=BOUNCED,
        delivered=False,
    ),
    Scenario(
        name="a relay host's ordinary mail goes on to a domain that drops reports",
        peer=Peer(address="192.168.1.7:4444"),
        recipient="news-17@bounce.example",
        answer=TAKEN,
        records=RECEIVED,
        delivered=True,
    ),
    Scenario(
        name="a relay host's report for a domain without log_oob is mail",
        peer=Peer(address="192.168.1.7:4444"),
        sender="",
        recipient="you@elsewhere.example",
        content=OOB,
        answer=TAKEN,
        records=RECEIVED,
        delivered=True,
    ),
    Scenario(
        name="a bare postmaster has no domain, which nothing here names",
        recipient="postmaster",
        answer=NOBODY_KNOWS,
        records=REFUSED,
        delivered=False,
    ),
]


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
def test_rule(home: House, scenario: Scenario) -> None:
    """The scenario's name is the sentence: the answer, the records on disk and the delivery are all as it says."""
    outcome = home.offer(scenario.sender, [scenario.recipient], scenario.content, peer=scenario.peer)
    assert str(outcome.last).startswith(scenario.answer)
    if scenario.answer != TAKEN:
        assert str(outcome.last) == scenario.answer
    assert tuple((kind, code) for kind, code, _ in outcome.written()) == scenario.records
    assert bool(outcome.delivered) == scenario.delivered


def fate_of(mode: str) -> tuple[str, bool]:
    """Give the answer to a report under a log mode, and whether it is delivered."""
    return {"Ignore": (NO_REPORT, False), "LogThenRelay": (TAKEN, True), "LogThenDrop": (TAKEN, False)}[mode]


@pytest.mark.parametrize("oob", MODES)
@pytest.mark.parametrize("arf", MODES)
@pytest.mark.parametrize("kind", ["ordinary", "oob", "arf", "both"])
def test_log_modes(home: House, oob: str, arf: str, kind: str) -> None:
    """Each log mode does what it says to its own kind of report; a message that is both is a feedback report first."""
    content = {"ordinary": ORDINARY, "oob": OOB, "arf": ARF, "both": BOTH}[kind]
    outcome = home.offer("", [f"you@{oob}-{arf}.modes.example"], content)
    if oob == arf == "Ignore":
        assert str(outcome.last) == NOBODY_KNOWS
        assert outcome.written()[0][:2] == ("Rejection", 550)
        return
    as_arf = kind in {"arf", "both"} and arf != "Ignore"
    mode = arf if as_arf else oob if kind in {"oob", "both"} else "Ignore"
    answer, delivered = fate_of(mode)
    records = COMPLAINED if as_arf else REFUSED if mode == "Ignore" else BOUNCED
    assert str(outcome.last).startswith(answer)
    assert tuple((name, code) for name, code, _ in outcome.written()) == records
    assert bool(outcome.delivered) == delivered
