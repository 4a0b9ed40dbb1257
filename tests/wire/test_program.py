"""The whole program over the milter protocol: policy, session, journal and adapter together, on both kinds of socket."""

import shutil
from collections.abc import Iterator

import pytest

from sidecar.daemon.milter import ENGINES
from tests.wire.client import ACCEPT, CONTINUE, DELRCPT, DISCARD, INCAPABLE, NONE, STEPS, TROUBLE, Mta, Reply
from tests.wire.program import Program

OOB = b"""\
From: mailer-daemon@mx.example.net
To: sender@bounce.example
Subject: Undelivered mail
MIME-Version: 1.0
Content-Type: multipart/report; report-type=delivery-status;
\tboundary="limit"

--limit
Content-Type: text/plain

It could not be delivered.
--limit
Content-Type: message/delivery-status

Reporting-MTA: dns; mx.example.net

Final-Recipient: rfc822; gone@example.net
Action: failed
Status: 5.1.1
Diagnostic-Code: smtp; 550 5.1.1 no such user

--limit--
""".replace(b"\n", b"\r\n")
ORDINARY = b"Subject: hello\r\n\r\n" + b"a line of text\r\n" * 10_000

NOT_PERMITTED = Reply("y", "550 5.7.1 relaying not permitted for 203.0.113.9:4444")


@pytest.fixture(scope="module", params=["libmilter unix", "libmilter inet", "direct unix", "direct inet"])
def program(request: pytest.FixtureRequest) -> Iterator[Program]:
    engine, kind = request.param.split()
    with Program(inet=kind == "inet", engine=engine) as program:
        yield program


@pytest.fixture
def mta(program: Program) -> Iterator[Mta]:
    with program.mta() as mta:
        yield mta


def test_a_stranger_is_refused_at_rcpt_with_its_own_address_in_the_reply(mta: Mta) -> None:
    assert mta.begin() == NONE
    assert mta.envelope(b"<s@x.example>", b"<a@gmail.example>", b"<a@relay.example>") == [NOT_PERMITTED, CONTINUE]


@pytest.mark.parametrize(
    ("peer", "port", "shown"),
    [
        ("203.0.113.9", 0, "203.0.113.9"),
        ("2001:db8::9", 4444, "[2001:db8::9]:4444"),
        ("2001:db8::9", 0, "[2001:db8::9]"),
        ("::ffff:203.0.113.9", 4444, "203.0.113.9:4444"),
    ],
)
def test_the_reply_shows_the_peer_as_the_mta_told_it(mta: Mta, peer: str, port: int, shown: str) -> None:
    """Port 0 is no port: Sendmail and Postfix give it where they know none."""
    mta.begin(peer=peer, port=port)
    assert mta.envelope(b"<s@x.example>", b"<a@gmail.example>") == [
        Reply("y", f"550 5.7.1 relaying not permitted for {shown}"),
    ]


@pytest.mark.parametrize("peer", ["192.0.2.7", "::ffff:192.0.2.7", "127.0.0.1"])
def test_a_relay_hosts_mail_is_accepted_at_data(mta: Mta, peer: str) -> None:
    """Nothing in the message can change the answer, so none of it is sent."""
    mta.begin(peer=peer)
    assert mta.envelope(b"<s@x.example>", b"<a@gmail.example>") == [CONTINUE]
    assert mta.data("4QUEUE") == ACCEPT


def test_a_bounce_report_is_dropped_once_its_records_are_written(program: Program, mta: Mta) -> None:
    mta.begin()
    assert mta.envelope(b"<>", b"<sender@bounce.example>") == [CONTINUE]
    assert mta.content(OOB) == (DISCARD, [])
    reception, oob = program.records()[-2:]
    assert (reception["type"], oob["type"], oob["recipient"]) == ("Reception", "OOB", "gone@example.net")
    assert oob["meta"]["queue_id"] == "4QUEUEID"
    assert oob["meta"]["listener"] == "10.1.1.1:25"


def test_what_is_no_report_is_refused_at_the_end_of_its_headers(mta: Mta) -> None:
    """The body is not sent: the header section says that it is no report, and from no mailer."""
    mta.begin()
    mta.envelope(b"<news@b.example>", b"<sender@bounce.example>")
    mta.data()
    mta.header(b"Subject", b" spam")
    assert mta.end_of_headers() == Reply("y", "550 5.7.1 relaying not permitted")


def test_recipients_that_end_differently_are_taken_off_at_the_end(mta: Mta) -> None:
    mta.begin()
    recipients = [b"<sender@bounce.example>", b"<a@relay.example>", b"<sender@keep.example>"]
    assert mta.envelope(b"<>", *recipients) == [CONTINUE] * 3
    assert mta.content(OOB) == (ACCEPT, ["<sender@bounce.example>"])


def test_a_body_that_decides_nothing_is_skipped(mta: Mta) -> None:
    mta.begin()
    mta.envelope(b"<>", b"<sender@bounce.example>", b"<a@relay.example>")
    assert mta.content(ORDINARY) == (ACCEPT, ["<sender@bounce.example>"])


def test_an_mta_without_delrcpt_gets_no_message_that_would_need_it(program: Program) -> None:
    """And no record says that it was received."""
    with program.mta() as mta:
        mta.negotiate(actions=0x1FF & ~DELRCPT, steps=STEPS)
        mta.connect()
        mta.envelope(b"<>", b"<sender@bounce.example>", b"<a@relay.example>")
        before = len(program.records())
        assert mta.content(OOB)[0] == INCAPABLE
        assert len(program.records()) == before


def test_an_mta_that_cannot_discard_gets_no_report_that_is_dropped(program: Program) -> None:
    """Maddy rejects it instead, and each attempt of the sender would have its records. It has no DATA and no braces."""
    with program.mta() as mta:
        mta.negotiate(actions=0x21, steps=0)
        mta.macros(b"C", daemon_name="maddy", if_addr="0.0.0.0")  # noqa: S104 - as maddy sends it
        mta.connect(listener=None)
        before = len(program.records())
        for domain, answer, records in (("bounce", INCAPABLE, 0), ("keep", ACCEPT, 2)):
            mta.envelope(b"<>", f"<sender@{domain}.example>".encode())
            assert mta.content(OOB, data=False) == (answer, [])
            assert len(program.records()) == before + records


def test_many_messages_on_one_connection_do_not_mix(program: Program, mta: Mta) -> None:
    """After a message that was rejected, aborted, accepted or dropped, the next one starts again."""
    mta.begin()
    for _ in range(3):
        mta.envelope(b"<>", b"<sender@bounce.example>")
        assert mta.content(OOB) == (DISCARD, [])
        mta.envelope(b"<one@x.example>", b"<a@relay.example>")
        mta.abort()
        mta.envelope(b"<>", b"<sender@bounce.example>")
        mta.data()
        mta.abort()
        mta.envelope(b"<two@x.example>", b"<a@relay.example>")
        assert mta.content(ORDINARY)[0] == ACCEPT
        mta.envelope(b"<>", b"<sender@bounce.example>")
        assert mta.content(ORDINARY)[0] == Reply("y", "550 5.7.1 relaying not permitted")
    mta.quit()
    assert [line for line in program.lines() if "unexpected fault" in line["event"]] == []


def test_a_helo_in_the_middle_gives_the_message_up(mta: Mta) -> None:
    mta.begin()
    mta.envelope(b"<>", b"<sender@bounce.example>")
    mta.helo(b"again.example")
    mta.envelope(b"<x@x.example>", b"<a@relay.example>")
    assert mta.content(ORDINARY)[0] == ACCEPT


def test_an_address_that_is_no_text_is_refused_and_the_connection_goes_on(mta: Mta) -> None:
    mta.begin()
    refused, accepted = mta.envelope(b"<>", b"<a\xff@relay.example>", b"<a@relay.example>")
    assert (refused.code, refused.text[:9]) == ("y", "553 5.1.3")
    assert accepted == CONTINUE


@pytest.mark.parametrize("engine", list(ENGINES))
def test_at_level_debug_each_decision_is_a_log_line_with_ids_and_peer(engine: str) -> None:
    with Program(engine=engine, level="debug") as program, program.mta() as mta:
        mta.begin(peer="203.0.113.77")
        mta.envelope(b"<>", b"<sender@bounce.example>")
        mta.content(OOB)
        (line,) = (line for line in program.lines() if line.get("peer") == "203.0.113.77")
        assert (line["level"], line["event"]) == ("debug", "message: discard")
        assert line["queue_id"] == "4QUEUEID"
        assert line["session_id"] == program.records()[-1]["session_id"]
        assert "bounce.example" in line["why"]


def test_at_level_info_a_decision_is_only_in_the_journal(program: Program, mta: Mta) -> None:
    mta.begin(peer="203.0.113.77")
    mta.envelope(b"<>", b"<sender@bounce.example>")
    mta.content(OOB)
    session = program.records()[-1]["session_id"]
    assert not any(session in line.values() or line.get("peer") == "203.0.113.77" for line in program.lines())


LISTENER_RULES = """\
["relay.example"]
relay_to = true
[listener."10.1.1.1:25"."only.example"]
relay_to = true
[listener."[::1]:25"."six.example"]
relay_to = true
"""


@pytest.fixture(scope="module")
def by_listener() -> Iterator[Program]:
    with Program(domains=LISTENER_RULES) as program:
        yield program


@pytest.mark.parametrize(
    ("macros", "recipient", "accepted"),
    [
        ({"_daemon_addr": "10.1.1.1", "_daemon_port": "25"}, b"<a@only.example>", True),
        ({"_daemon_addr": "10.1.1.1", "_daemon_port": "587"}, b"<a@only.example>", False),
        ({"_daemon_addr": "0.0.0.0", "_if_addr": "10.1.1.1", "_daemon_port": "25"}, b"<a@only.example>", True),  # noqa: S104 - Sendmail says so
        ({"_daemon_addr": "::ffff:10.1.1.1", "_daemon_port": "25"}, b"<a@only.example>", True),
        ({"_daemon_addr": "IPv6:::1", "_daemon_port": "25"}, b"<a@six.example>", True),
        ({"_daemon_addr": "[::1]", "_daemon_port": "25"}, b"<a@six.example>", True),
        ({"_daemon_addr": "::1", "_daemon_port": "25"}, b"<a@six.example>", True),
    ],
)
def test_the_listener_is_read_from_either_mtas_macros(
    by_listener: Program, macros: dict[str, str], recipient: bytes, accepted: bool
) -> None:
    with by_listener.mta() as mta:
        mta.negotiate()
        mta.macros(b"C", **macros)
        mta.connect(listener=None)
        assert mta.envelope(b"<>", recipient) == [CONTINUE if accepted else NOT_PERMITTED]


@pytest.mark.parametrize("macros", [{}, {"_daemon_addr": "10.1.1.1"}, {"_daemon_addr": "mx", "_daemon_port": "25"}])
def test_where_rules_depend_on_the_listener_an_mta_that_does_not_tell_it_is_answered_451(
    by_listener: Program, macros: dict[str, str]
) -> None:
    """The log names what is missing, once. No attempt of a sender has a record."""
    before = len(by_listener.records())
    with by_listener.mta() as mta:
        mta.negotiate()
        mta.macros(b"C", **macros)
        mta.connect(listener=None)
        unknown = Reply("y", "451 4.3.5 the policy service does not know which listener this is")
        assert mta.envelope(b"<>", b"<a@bounce.example>") == [unknown]
        assert len(by_listener.records()) == before
        assert 1 <= by_listener.count("every peer gets 451 without a record") <= 2  # workers


def test_a_listener_that_is_never_told_is_said_once_by_each_worker() -> None:
    """An MTA that leaves a macro out is a fault of the set-up: one line says what to do, however many connections come."""
    with Program(milter="workers = 1") as program:
        for _ in range(3):
            with program.mta() as mta:
                mta.negotiate()
                mta.connect(listener=None)
                assert mta.envelope(b"<>", b"<a@bounce.example>") == [CONTINUE]
        assert program.count("the MTA does not report its own end of a connection") == 1


def test_a_stranger_is_refused_at_connect_where_nothing_could_let_it_in() -> None:
    with Program(domains="") as program, program.mta() as mta:
        assert mta.begin() == NOT_PERMITTED
    with Program(domains="", settings="reject_at_connect = false") as program, program.mta() as mta:
        assert mta.begin() == NONE
        assert mta.envelope(b"<>", b"<a@b.example>") == [NOT_PERMITTED]


def test_authentication_counts_for_its_own_connection_only() -> None:
    with Program(domains='["auth.example"]\nrelay_from_authz = ["daniel"]\n') as program:
        for identity, answer in [({"_auth_authen": "daniel"}, CONTINUE), ({}, NOT_PERMITTED)]:
            with program.mta() as mta:
                mta.begin()
                mta.mail(b"<d@auth.example>", b"SIZE=1000", **identity)
                assert mta.rcpt(b"<a@gmail.example>") == answer


def test_the_declared_size_is_the_records_size_where_no_body_was_seen() -> None:
    with Program() as program:
        for parameters, size in [
            ((b"size=1234", b"BODY=8BITMIME"), 1234),
            ((b"SIZE=" + b"9" * 21,), 0),
            ((b"SIZE=-1",), 0),
        ]:
            with program.mta() as mta:
                mta.begin(peer="192.0.2.7")
                mta.mail(b"<s@x.example>", *parameters)
                mta.rcpt(b"<a@gmail.example>")
                assert mta.data() == ACCEPT
            assert program.records()[-1]["size"] == size


def test_a_journal_that_cannot_be_written_means_451_and_nothing_is_dropped() -> None:
    """And when it can be written again, service continues without a restart."""
    with Program() as program:
        journal = program.directory / "state" / "journal"
        shutil.rmtree(journal)
        journal.write_text("in the way")
        with program.mta() as mta:
            mta.begin()
            mta.envelope(b"<>", b"<sender@bounce.example>")
            assert mta.content(OOB) == (TROUBLE, [])
        with program.mta() as mta:
            mta.begin()
            assert mta.envelope(b"<>", b"<a@gmail.example>") == [TROUBLE]
        journal.unlink()
        with program.mta() as mta:
            mta.begin()
            mta.envelope(b"<>", b"<sender@bounce.example>")
            assert mta.content(OOB) == (DISCARD, [])
        assert len(program.records()) == 2
