"""Messages over real SMTP: their recipients, their sizes, their records, one after another on one connection."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from sidecar.daemon.milter.packets import PAYLOAD_LIMIT
from tests.mta.client import EXTERNAL, Answer, Peer
from tests.mta.house import House, house
from tests.mta.mails import ARF, OOB, ORDINARY, padded

pytestmark = pytest.mark.mta

DOMAINS = """\
["relay.example"]
relay_to = true
["bounce.example"]
log_oob = "LogThenDrop"
["fbl.example"]
log_arf = "LogThenRelay"
["bücher.example"]
log_oob = "LogThenDrop"
["auth.example"]
relay_from_authz = ["daniel"]
"""

LIMIT = 200_000
RELAY_HOSTS = ("127.0.0.1", "192.168.1.0/24")
SETTINGS = f"""\
report_size_limit = {LIMIT}
recipient_limit = 100
headers = ["Subject", "X-Campaign"]
"""

RELAY_HOST = Peer(address="192.168.1.7:4444")
MEGABYTE = 1024 * 1024


@pytest.fixture(scope="module", params=["libmilter", "direct"])
def home(request: pytest.FixtureRequest) -> Iterator[House]:
    with house(domains=DOMAINS, relay_hosts=RELAY_HOSTS, settings=SETTINGS, engine=request.param) as built:
        yield built


def test_three_recipients_end_three_ways(home: House) -> None:
    """One report to three domains: relayed to one, dropped for one, refused for one, and each recipient learns its own fate."""
    recipients = ["you@relay.example", "news-17@bounce.example", "me@elsewhere.example"]
    outcome = home.offer("", recipients, OOB)
    assert outcome.answers is not None
    assert [answer.code for answer in outcome.answers.recipients] == [250, 250, 550]
    assert outcome.last.code == 250
    assert list(outcome.delivered) == ["you@relay.example"]
    assert outcome.written() == [
        ("Rejection", 550, "me@elsewhere.example"),
        ("Reception", 250, "you@relay.example"),
        ("Reception", 250, "news-17@bounce.example"),
        ("OOB", 550, "someone@remote.example"),
    ]


def test_ordinary_mail_reaches_only_who_may_have_it(home: House) -> None:
    """Of mail that is no report, a recipient that takes only reports gets nothing, and the others theirs."""
    outcome = home.offer("somebody@peer.example.net", ["you@relay.example", "news-17@bounce.example"], ORDINARY)
    assert outcome.last.code == 250
    assert list(outcome.delivered) == ["you@relay.example"]
    assert [(name, recipient) for name, _, recipient in outcome.written()] == [
        ("Reception", "you@relay.example"),
        ("Reception", "news-17@bounce.example"),
    ]
    assert [record["meta"]["disposition"] for record in outcome.records] == ["relayed", "dropped"]


def test_what_is_delivered_is_what_was_sent(home: House) -> None:
    """The sidecar changes no byte of a message that goes on."""
    outcome = home.offer("", ["complaints@fbl.example"], ARF)
    assert outcome.delivered["complaints@fbl.example"].endswith(ARF)


def test_the_records_of_a_bounce(home: House) -> None:
    """A report's records carry who bounced, what the other side said, and why we took it, with the rule's file and line."""
    peer = Peer(address="203.0.113.9:4444", helo="mx.remote.example", listener="10.1.1.1:25")
    reception, oob = home.offer("", ["news-17@bounce.example"], OOB, peer=peer).records
    assert reception["sender"] == ""
    assert reception["recipient"] == "news-17@bounce.example"
    assert reception["queue"] == "bounce.example"
    assert reception["headers"] == {"Subject": "A report"}
    assert reception["peer_address"] == {"name": "mx.remote.example", "addr": "203.0.113.9"}
    assert reception["meta"]["listener"] == "10.1.1.1:25"
    assert re.fullmatch(r"[0-9A-F]{6,}", reception["meta"]["queue_id"])
    assert re.search(r"listener_domains\.toml:4 \"bounce\.example\"\.log_oob", reception["meta"]["why"])
    assert abs(reception["size"] - len(OOB) - OOB.count(b"\n")) <= 2
    assert (oob["id"], oob["session_id"]) == (reception["id"], reception["session_id"])
    assert (oob["sender"], oob["recipient"]) == ("news-17@bounce.example", "someone@remote.example")
    assert oob["peer_address"] == {"name": "mx.remote.example", "addr": "203.0.113.9"}
    assert oob["response"]["code"] == 550
    assert oob["response"]["enhanced_code"] == {"class": 5, "subject": 1, "detail": 1}
    assert oob["response"]["content"] == "5.1.1 no such user"
    assert oob["size"] == 0


def test_the_record_of_a_complaint(home: House) -> None:
    """A complaint's one record is a Feedback, with the report's own fields."""
    (record,) = home.offer("fbl@remote.example", ["complaints@fbl.example"], ARF).records
    assert record["type"] == "Feedback"
    assert record["feedback_report"]["feedback_type"] == "abuse"
    assert record["feedback_report"]["original_mail_from"] == "news-17@bounce.example"
    assert record["feedback_report"]["original_rcpto_to"] == ["someone@remote.example"]


def test_the_records_of_a_refusal(home: House) -> None:
    """What is refused leaves one Rejection, with the command that was refused and the reason."""
    (record,) = home.offer("somebody@peer.example.net", ["me@elsewhere.example"], ORDINARY).records
    assert record["type"] == "Rejection"
    assert record["id"] == ""
    assert record["response"]["command"] == "RCPT TO:<me@elsewhere.example>"
    assert "elsewhere.example" in record["meta"]["why"]
    (record,) = home.offer("somebody@peer.example.net", ["news-17@bounce.example"], ORDINARY).records
    assert record["response"] == {
        "code": 550,
        "enhanced_code": {"class": 5, "subject": 7, "detail": 1},
        "content": "relaying not permitted",
        "command": "DATA",
    }
    assert len(record["id"]) == 32


def test_one_message_after_another(home: House) -> None:
    """On one connection every message is judged by itself; only the session's id is the same."""
    with home.connect(EXTERNAL) as connection:
        dropped = connection.send("", ["news-17@bounce.example"], OOB)
        refused = connection.send("a@peer.example.net", ["news-17@bounce.example"], ORDINARY)
        relayed = connection.send("a@peer.example.net", ["you@relay.example"], ORDINARY)
        nobody = connection.send("a@peer.example.net", ["me@elsewhere.example"], ORDINARY)
        again = connection.send("", ["news-17@bounce.example"], OOB)
    outcome = home.outcome()
    assert [answers.last.code for answers in (dropped, refused, relayed, nobody, again)] == [250, 550, 250, 550, 250]
    kinds = [record["type"] for record in outcome.records]
    assert kinds == ["Reception", "OOB", "Rejection", "Reception", "Rejection", "Reception", "OOB"]
    assert len({record["session_id"] for record in outcome.records}) == 1
    assert len({record["id"] for record in outcome.records}) == 5
    assert list(outcome.delivered) == ["you@relay.example"]


def test_rset_forgets_the_envelope(home: House) -> None:
    """After RSET neither sender nor recipients of the message given up count for the next one."""
    with home.connect(Peer(login="daniel")) as connection:
        assert connection.say("MAIL FROM:<somebody@auth.example>").code == 250
        assert connection.say("RCPT TO:<me@elsewhere.example>").code == 250
        assert connection.say("RSET").code == 250
        other = connection.send("somebody@peer.example.net", ["me@elsewhere.example"], ORDINARY)
        report = connection.send("", ["news-17@bounce.example"], OOB)
    assert (other.last.code, report.last.code) == (550, 250)
    outcome = home.outcome()
    assert outcome.delivered == {}
    assert [name for name, _, _ in outcome.written()] == ["Rejection", "Reception", "OOB"]


def test_a_new_ehlo_forgets_the_envelope(home: House) -> None:
    """EHLO in the middle of a message gives the message up (RFC 5321 section 4.1.4); the connection goes on."""
    with home.connect(EXTERNAL) as connection:
        connection.say("MAIL FROM:<somebody@peer.example.net>")
        connection.say("RCPT TO:<you@relay.example>")
        assert connection.say("EHLO other.example.net").code == 250
        report = connection.send("", ["news-17@bounce.example"], OOB)
    assert report.last.code == 250
    outcome = home.outcome()
    assert outcome.delivered == {}
    assert {record["peer_address"]["name"] for record in outcome.records if record["type"] == "Reception"} == {
        "other.example.net"
    }


def test_a_lost_connection_leaves_no_record(home: House) -> None:
    """A peer that goes away before the end of its message has sent none."""
    with home.connect(EXTERNAL) as connection:
        connection.say("MAIL FROM:<>")
        connection.say("RCPT TO:<news-17@bounce.example>")
    outcome = home.outcome()
    assert (outcome.records, outcome.delivered) == ([], {})


def test_a_hundred_recipients(home: House) -> None:
    """Of a hundred recipients, those that drop reports are taken off the envelope, and no other."""
    kept = [f"you-{number}@relay.example" for number in range(60)]
    gone = [f"news-{number}@bounce.example" for number in range(40)]
    mixed = [address for pair in zip(kept, gone, strict=False) for address in pair] + kept[len(gone) :]
    outcome = home.offer("", mixed, OOB)
    assert outcome.last.code == 250
    assert sorted(outcome.delivered) == sorted(kept)
    received = [record for record in outcome.records if record["type"] == "Reception"]
    assert [record["recipient"] for record in received] == mixed
    assert len({record["id"] for record in received}) == 100
    assert {record["meta"]["message_id"] for record in outcome.records} == {received[0]["id"]}


def test_the_recipient_limit_puts_off_the_rest(home: House) -> None:
    """Beyond recipient_limit a recipient is asked to come again; those before it get their message."""
    recipients = [f"you-{number}@relay.example" for number in range(101)]
    outcome = home.offer("somebody@peer.example.net", recipients, ORDINARY)
    assert outcome.answers is not None
    assert outcome.answers.recipients[-1] == Answer(code=452, text="4.5.3 too many recipients in one message")
    assert sorted(outcome.delivered) == sorted(recipients[:-1])


def test_an_smtputf8_recipient(home: House) -> None:
    """An address with letters beyond ASCII is judged, dropped and written down like any other."""
    outcome = home.offer("", ["nöws-17@bücher.example"], OOB, parameters="SMTPUTF8")
    assert outcome.last.code == 250
    assert outcome.delivered == {}
    assert outcome.written()[0] == ("Reception", 250, "nöws-17@xn--bcher-kva.example")
    outcome = home.offer("", ["nöws-17@bücher.example", "yöu@relay.example"], OOB, parameters="SMTPUTF8")
    assert list(outcome.delivered) == ["yöu@relay.example"]


@pytest.mark.parametrize("name", ["To", "X-Long"])
def test_a_header_field_larger_than_a_milter_packet_is_accepted(home: House, name: str) -> None:
    """Postfix cuts a field to some 60,000 bytes if it has a milter, although header_size_limit is 102,400."""
    address = "a" * 200 + "@remote.example"
    field = (f"{name}: " + ",\n ".join([address] * (70_000 // len(address))) + "\n").encode()
    assert len(field) > PAYLOAD_LIMIT
    for content, records in ((OOB, ["Reception", "Reception", "OOB"]), (ORDINARY, ["Reception"] * 2)):
        outcome = home.offer("", ["you@relay.example", "news-17@bounce.example"], field + content)
        assert outcome.last.code == 250
        assert [kind for kind, _, _ in outcome.written()] == records
        (delivered,) = outcome.delivered.values()
        assert 59_000 < delivered.count(b"a" * 200) * len(address) < PAYLOAD_LIMIT


def test_a_report_above_the_limit_is_refused_in_plain_words(home: House) -> None:
    """A report of more bytes than report_size_limit gets 552 and the limit; nothing of it is read or delivered."""
    outcome = home.offer("", ["news-17@bounce.example"], padded(OOB, 2 * LIMIT))
    assert outcome.last == Answer(code=552, text=f"5.3.4 a report may have {LIMIT} bytes at most")
    assert outcome.written() == [("Rejection", 552, "news-17@bounce.example")]
    assert outcome.delivered == {}


def test_a_report_below_the_limit_is_read(home: House) -> None:
    """The size alone is no reason to refuse a report that is within report_size_limit."""
    outcome = home.offer("", ["news-17@bounce.example"], padded(OOB, LIMIT - 20_000))
    assert [name for name, _, _ in outcome.written()] == ["Reception", "OOB"]


@pytest.mark.parametrize("recipient", ["me@elsewhere.example", "news-17@bounce.example"])
def test_big_mail_of_a_relay_host_costs_no_memory(home: House, recipient: str) -> None:
    """25 MB of ordinary mail pass, also to a domain that takes reports, and no worker grows by it."""
    home.offer("a@customer.example", [recipient], ORDINARY, peer=RELAY_HOST)
    before = {pid: memory_peak(pid) for pid in home.sidecar.workers()}
    outcome = home.offer("a@customer.example", [recipient], padded(ORDINARY, 25 * MEGABYTE), peer=RELAY_HOST)
    assert outcome.last.code == 250
    assert len(outcome.delivered[recipient]) > 25 * MEGABYTE
    growth = [memory_peak(pid) - peak for pid, peak in before.items()]
    assert len(growth) == 2
    assert max(growth) < 2 * MEGABYTE


def test_a_big_claim_costs_no_more_than_the_limit(home: House) -> None:
    """Of 25 MB that claim to be a report, no more than report_size_limit is ever held."""
    home.offer("", ["news-17@bounce.example"], padded(OOB, LIMIT - 20_000))
    before = {pid: memory_peak(pid) for pid in home.sidecar.workers()}
    outcome = home.offer("", ["news-17@bounce.example"], padded(OOB, 25 * MEGABYTE))
    assert outcome.last.code == 552
    assert max(memory_peak(pid) - peak for pid, peak in before.items()) < 4 * MEGABYTE


def memory_peak(pid: int) -> int:
    """Give the most memory that a process ever held, in bytes (proc(5): VmHWM)."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found is not None
    return int(found[1]) * 1024


ODD = [
    "<@a.example:victim@gmail.example>",
    "<<victim@gmail.example>>",
    "<victim@gmail.example(>",
    "<victim@gmail.example (c)>",
    '<"victim"@gmail.example>',
    "<victim@GMAIL.example.>",
    "<vic%tim@gmail.example>",
    "<a!victim@gmail.example>",
]


@pytest.mark.parametrize("given", ODD)
def test_nobody_stays_on_the_envelope_by_an_odd_spelling(given: str) -> None:
    """However a recipient is spelled, mail that is no report never reaches it beside one that may have it."""
    with house(domains=DOMAINS + '["*"]\nlog_oob = "LogThenRelay"\n', relay_hosts=RELAY_HOSTS) as home:
        outcome = home.offer(
            "somebody@peer.example.net", ["you@relay.example", given.removeprefix("<").removesuffix(">")], ORDINARY
        )
        assert list(outcome.delivered) == ["you@relay.example"]
