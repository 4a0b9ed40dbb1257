"""Postfix and Sendmail, one sidecar's policy: the same verdicts, the same records, the same mail let through."""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager

import pytest

from tests.mta.client import EXTERNAL, Answer, Connection, Peer
from tests.mta.house import Outcome, Pair, house
from tests.mta.mails import OOB, ORDINARY
from tests.mta.scenarios import (
    ACCOUNTS,
    DANIEL,
    DOMAINS,
    LACKS,
    NOT_FOR_ME,
    OK,
    RELAY_HOST,
    RELAY_HOSTS,
    SCENARIOS,
    SECOND,
    SETTINGS,
    Kind,
    Scenario,
    comparable,
    reply_of,
)
from tests.mta.sendmail import SendmailHouse, sendmail_house

pytestmark = pytest.mark.mta

KINDS: tuple[Kind, ...] = ("postfix", "sendmail")
TLSMGR = "tlsmgr unix - - n 1000? 1 tlsmgr"

Homes = Mapping[Kind, Pair]


@contextmanager
def both(
    *, domains: str, settings: str = "", relay_hosts: tuple[str, ...] = RELAY_HOSTS, engine: str = "direct"
) -> Iterator[Homes]:
    """Start both MTAs, a sidecar beside each. Both trust the certificate of Sendmail."""
    with ExitStack() as stack:
        sendmail = stack.enter_context(
            sendmail_house(domains=domains, settings=settings, relay_hosts=relay_hosts, engine=engine, accounts=ACCOUNTS)
        )
        certificate = sendmail.certificate
        tls = {
            "smtpd_tls_security_level": "may",
            "smtpd_tls_ask_ccert": "yes",
            "smtpd_tls_CAfile": f"{certificate}/certificate.pem",
            "smtpd_tls_cert_file": f"{certificate}/certificate.pem",
            "smtpd_tls_key_file": f"{certificate}/key.pem",
        }
        postfix = house(
            domains=domains, settings=settings, relay_hosts=relay_hosts, engine=engine, postfix=tls, services=[TLSMGR]
        )
        yield {"postfix": stack.enter_context(postfix), "sendmail": sendmail}


@pytest.fixture(scope="module")
def homes() -> Iterator[Homes]:
    with both(domains=DOMAINS, settings=SETTINGS) as started:
        yield started


@pytest.fixture(params=KINDS)
def home(request: pytest.FixtureRequest, homes: Homes) -> Pair:
    return homes[request.param]


def play(kind: Kind, home: Pair, scenario: Scenario) -> Outcome:
    """Play a scenario on one MTA, and compare all that comes of it with the table."""
    with home.connect(scenario.peer) as connection:
        for offer in scenario.offers:
            answers = connection.send(offer.sender, offer.to, offer.content, parameters=offer.parameters)
            assert answers.mail.code == 250
            given = (*answers.recipients, *([answers.content] if answers.content else ()))
            assert tuple(reply_of(kind, answer) for answer in given) == offer.replies
    outcome = home.outcome()
    assert tuple(outcome.written()) == scenario.records
    assert sorted(outcome.delivered) == sorted(scenario.delivered)
    body = scenario.offers[0].content.partition(b"\n\n")[2]
    assert all(message.endswith(body) for message in outcome.delivered.values()) or len(scenario.offers) > 1
    return outcome


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
def test_scenario(homes: Homes, scenario: Scenario) -> None:
    """The scenario's name is the sentence: replies, records and what is delivered are the same with every MTA."""
    able = [kind for kind in KINDS if not scenario.needs & LACKS[kind]]
    outcomes = [play(kind, homes[kind], scenario) for kind in able]
    records = [[comparable(record) for record in outcome.records] for outcome in outcomes]
    assert all(other == records[0] for other in records)


def test_a_short_run_on_libmilter() -> None:
    """Every fifth scenario has the same result on the other engine."""
    with both(domains=DOMAINS, settings=SETTINGS, engine="libmilter") as homes:
        for scenario in SCENARIOS[::5]:
            for kind in KINDS:
                if not scenario.needs & LACKS[kind]:
                    play(kind, homes[kind], scenario)


def test_what_an_mta_is_said_to_lack_it_lacks(homes: Homes) -> None:
    """A scenario is left out for an MTA only where that really does not offer what it needs."""
    for kind, home in homes.items():
        with home.connect(EXTERNAL) as connection:
            offered = connection.say("EHLO peer.example.net").text
        assert {name for name in ("SMTPUTF8", "CHUNKING") if name not in offered} == LACKS[kind]


@pytest.mark.parametrize("give_up", ["RSET", "EHLO other.example.net"])
def test_a_message_given_up_leaves_nothing_behind(home: Pair, give_up: str) -> None:
    """After RSET or a new EHLO neither the sender nor the recipients of before count for the next message."""
    with home.connect(DANIEL) as connection:
        connection.say("MAIL FROM:<somebody@auth.example>")
        assert connection.say("RCPT TO:<you@elsewhere.example>").code == 250
        assert connection.say(give_up).code == 250
        other = connection.send("somebody@peer.example.net", ["you@elsewhere.example"], ORDINARY)
        report = connection.send("", ["n@bounce.example"], OOB)
    assert (other.last.code, report.last.code) == (550, 250)
    outcome = home.outcome()
    assert [kind for kind, _, _ in outcome.written()] == ["Rejection", "Reception", "OOB"]
    assert outcome.delivered == {}


def test_pipelined_commands_are_answered_one_by_one(home: Pair) -> None:
    """Commands sent at once (RFC 2920), two messages of them, get each its own reply, in order."""
    report = OOB.replace(b"\n", b"\r\n") + b".\r\n"
    with home.connect(EXTERNAL) as connection:
        recipients = ("you@elsewhere.example", "n@bounce.example", "a@relay.example")
        envelope = ["MAIL FROM:<>", *(f"RCPT TO:<{recipient}>" for recipient in recipients), "DATA"]
        connection.write("".join(f"{command}\r\n" for command in envelope).encode())
        assert [connection.reply().code for _ in range(5)] == [250, 550, 250, 250, 354]
        connection.write(report + b"MAIL FROM:<>\r\nRCPT TO:<n@bounce.example>\r\nDATA\r\n")
        assert [connection.reply().code for _ in range(4)] == [250, 250, 250, 354]
        connection.write(report)
        assert connection.reply().code == 250
    outcome = home.outcome()
    assert [kind for kind, _, _ in outcome.written()] == ["Rejection", "Reception", "OOB", "Reception", "Reception", "OOB"]
    assert list(outcome.delivered) == ["a@relay.example"]


def test_content_in_chunks_is_judged_as_a_whole(homes: Homes) -> None:
    """A report sent with BDAT (RFC 3030), cut in the middle of its status part, is a report; other mail is none."""
    home = homes["postfix"]
    halves = [OOB.partition(b"Action:"), ORDINARY.partition(b"Only")]
    with home.connect(EXTERNAL) as connection:
        for (first, word, rest), code in zip(halves, (250, 550), strict=True):
            connection.say("MAIL FROM:<>")
            connection.say("RCPT TO:<n@bounce.example>")
            assert chunk(connection, first).code == 250
            assert chunk(connection, word + rest, "LAST").code == code
    outcome = home.outcome()
    assert [kind for kind, _, _ in outcome.written()] == ["Reception", "OOB", "Rejection"]
    assert outcome.delivered == {}


def chunk(connection: Connection, content: bytes, last: str = "") -> Answer:
    """Send a piece of content with BDAT."""
    lines = content.replace(b"\n", b"\r\n")
    connection.write(f"BDAT {len(lines)} {last}".rstrip().encode() + b"\r\n" + lines)
    return connection.reply()


def test_an_eight_bit_body_goes_through_unchanged(homes: Homes) -> None:
    """The bytes of an 8-bit body are the same afterwards, and the size is in the record, the same with every MTA."""
    content = ORDINARY + "Grüße, 漢字\n".encode() + b"\x80\xff\xfe\n"
    for home in homes.values():
        outcome = home.offer("", ["a@relay.example"], content, parameters="BODY=8BITMIME")
        assert outcome.delivered["a@relay.example"].endswith(content.partition(b"\n\n")[2])
    report = OOB + b"\xe9\xff\n"
    outcomes = [home.offer("", ["n@bounce.example"], report, parameters="BODY=8BITMIME") for home in homes.values()]
    first, second = ([comparable(record) for record in outcome.records] for outcome in outcomes)
    assert first == second
    assert [record["type"] for record in first] == ["Reception", "OOB"]


def test_after_starttls_the_peer_is_the_same(homes: Homes) -> None:
    """An encrypted session is judged like any other; its records have the name of the second EHLO."""
    for kind, home in homes.items():
        with home.connect(EXTERNAL) as connection:
            connection.encrypt()
            report = connection.send("", ["n@bounce.example", "you@elsewhere.example"], OOB)
        assert [reply_of(kind, answer) for answer in report.recipients] == [OK, NOT_FOR_ME]
        assert report.last.code == 250
        outcome = home.outcome()
        assert [name for name, _, _ in outcome.written()] == ["Rejection", "Reception", "OOB"]
        assert {record["peer_address"]["name"] for record in outcome.records} == {"peer.example.net", "mx.remote.example"}


@pytest.mark.parametrize("engine", ["direct", "libmilter"])
def test_records_of_tls_sessions(request: pytest.FixtureRequest, engine: str) -> None:
    """A Reception has the cipher, the version and the name of a verified client; a Rejection, and a plain session, do not."""
    with ExitStack() as stack:
        started = both(domains=DOMAINS, settings=SETTINGS, engine=engine)
        homes = request.getfixturevalue("homes") if engine == "direct" else stack.enter_context(started)
        sendmail = homes["sendmail"]
        assert isinstance(sendmail, SendmailHouse)
        for home in homes.values():
            for certificate, subject in ((None, []), (sendmail.certificate, ["CN=mx.example"])):
                with home.connect(EXTERNAL) as connection:
                    connection.encrypt(certificate)
                    connection.send("", ["n@bounce.example", "you@elsewhere.example"], OOB)
                rejection, reception, oob = home.outcome().records
                assert reception["tls_protocol_version"] == "TLSv1.3"
                assert reception["tls_cipher"].startswith("TLS_AES_256_GCM")
                assert reception["tls_peer_subject_name"] == subject
                assert not any(name.startswith("tls_") for record in (rejection, oob) for name in record)
            for record in home.offer("", ["n@bounce.example"], OOB).records:
                assert not any(name.startswith("tls_") for name in record)


BARE = """\
["bounce.example"]
log_oob = "LogThenDrop"
["a.relay.example"]
relay_to = true
[listener."10.1.1.1:2525"."*"]
relay_to = false
"""


@pytest.fixture(scope="module")
def bare_homes() -> Iterator[Homes]:
    """Both MTAs, and a sidecar that knows the fate of some messages before their content."""
    with both(domains=BARE) as started:
        yield started


@pytest.fixture(params=KINDS)
def bare_home(request: pytest.FixtureRequest, bare_homes: Homes) -> Pair:
    return bare_homes[request.param]


ENVELOPE = ("MAIL FROM:<>", "RCPT TO:<{recipient}>")
BODY = OOB.index(b"\n\n") + 2
LAST_WORDS = [
    pytest.param((), 0, id="after the greeting"),
    pytest.param(ENVELOPE[:1], 0, id="after MAIL"),
    pytest.param(ENVELOPE, 0, id="after RCPT"),
    pytest.param((*ENVELOPE, "RCPT TO:<you@elsewhere.invalid>"), 0, id="after a refused RCPT"),
    pytest.param((*ENVELOPE, "DATA"), 0, id="after DATA"),
    pytest.param((*ENVELOPE, "DATA"), 60, id="within the headers"),
    pytest.param((*ENVELOPE, "DATA"), BODY, id="before the body"),
    pytest.param((*ENVELOPE, "DATA"), BODY + 99, id="within the body"),
    pytest.param((*ENVELOPE, "DATA"), len(OOB), id="before the last dot"),
]


@pytest.mark.parametrize("peer", [EXTERNAL, RELAY_HOST], ids=["a stranger", "a relay host"])
@pytest.mark.parametrize("recipient", ["n@bounce.example", "a@a.relay.example"])
@pytest.mark.parametrize(("commands", "sent"), LAST_WORDS)
def test_a_peer_that_goes_away_has_sent_nothing(
    bare_home: Pair, peer: Peer, recipient: str, commands: tuple[str, ...], sent: int
) -> None:
    """Wherever a peer leaves before the end of its message, nothing is taken, no record claims so, and the next is served.

    But for a relay host's mail that is no matter of reports: that is accepted at DATA, and its record is written there.
    """
    with bare_home.connect(peer) as connection:
        for command in commands:
            connection.say(command.format(recipient=recipient))
        connection.write(OOB[:sent].replace(b"\n", b"\r\n"))
    outcome = bare_home.outcome()
    accepted_at_data = peer is RELAY_HOST and recipient == "a@a.relay.example" and commands[-1:] == ("DATA",)
    received = [record["type"] for record in outcome.records if record["type"] != "Rejection"]
    assert received == (["Reception"] if accepted_at_data else [])
    assert outcome.delivered == {}
    assert bare_home.offer("", ["n@bounce.example"], OOB).last.code == 250


CLOSED = """\
[listener."10.1.1.1:2525"."bounce.example"]
log_oob = "LogThenDrop"
"""


@pytest.mark.parametrize(("setting", "command"), [("true", "CONNECT"), ("false", "RCPT TO:<n@bounce.example>")])
def test_early_refusal(setting: str, command: str) -> None:
    """Where a listener takes nothing from strangers, they are refused at connect, or at RCPT if the setting says so."""
    with both(domains=CLOSED, settings=f"reject_at_connect = {setting}\n") as homes:
        records = []
        for kind, home in homes.items():
            outcome = home.offer("", ["n@bounce.example"], OOB)
            # The MTA's own words: both answer a milter's refusal of the connection with 554 in the greeting.
            assert reply_of(kind, outcome.last) == NOT_FOR_ME if outcome.refused is None else outcome.refused.code == 554
            assert (outcome.refused is None) == (command != "CONNECT")
            assert outcome.records[0]["response"]["command"] == command
            records.append([comparable(record) for record in outcome.records])
            assert home.offer("", ["n@bounce.example"], OOB, peer=SECOND).last.code == 250
            assert home.offer("a@b.example", ["you@elsewhere.example"], ORDINARY, peer=RELAY_HOST).last.code == 250
        assert records[0] == records[1]
        assert len(records[0]) == 1
