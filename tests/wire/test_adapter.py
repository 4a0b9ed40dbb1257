"""The adapter on either engine, libmilter and our own: scripted verdicts and faults at every step, and the answers."""

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.mta.places import private_directory
from tests.mta.processes import wait_until
from tests.wire.client import (
    ACCEPT,
    ACTIONS,
    ADDHDRS,
    CHGFROM,
    CONTINUE,
    DELRCPT,
    DISCARD,
    INCAPABLE,
    LEADING_SPACE,
    NO_DATA,
    NO_REPLY,
    NO_UNKNOWN,
    NONE,
    SETSYMLIST,
    STEPS,
    TROUBLE,
    Mta,
    Reply,
)
from tests.wire.program import scripted
from tests.wire.scripted import RAISING_PEER

UNANSWERED = NO_REPLY[b"H"] | NO_REPLY[b"M"] | NO_REPLY[b"L"] | NO_REPLY[b"B"]
MESSAGE = b"Subject: hello\r\n\r\nbody\r\n"
REJECTED = Reply("y", "550 5.7.1 100%% no??way ?" + "x" * 466)
LATER = Reply("y", "452 4.5.3 later")


@pytest.fixture(scope="module", params=["libmilter", "direct"])
def engine(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def folder(engine: str) -> Iterator[Path]:
    with private_directory() as directory:
        (directory / engine).mkdir()
        yield directory / engine


@pytest.fixture(scope="module")
def process(folder: Path, engine: str) -> Iterator[subprocess.Popen[bytes]]:
    with scripted(folder, "s", engine) as process:
        yield process


@pytest.fixture
def mta(folder: Path, process: subprocess.Popen[bytes]) -> Iterator[Mta]:
    assert process.poll() is None
    with Mta(f"{folder}/s") as mta:
        yield mta


def test_negotiation_asks_for_the_steps_and_macros_it_needs_and_nothing_more(mta: Mta) -> None:
    """Every step that needs no answer goes without, and the only edit asked for is taking recipients off."""
    terms = mta.negotiate()
    assert terms.version == 6
    assert terms.actions == DELRCPT | SETSYMLIST
    assert terms.steps == UNANSWERED | NO_UNKNOWN | LEADING_SPACE
    tls = "{tls_version} {cipher} {cert_subject} {verify}"
    assert terms.macros == {0: "{daemon_addr} {daemon_port} {if_addr}", 1: tls, 2: "i {auth_authen}", 3: "i", 4: "i", 5: "i"}


@pytest.mark.parametrize(
    ("offer", "agreed"),
    [
        ({"version": 6, "steps": STEPS & ~LEADING_SPACE}, UNANSWERED | NO_UNKNOWN),
        ({"version": 4, "steps": 0x3FF}, NO_REPLY[b"L"] | NO_UNKNOWN),
        ({"version": 4, "steps": NO_DATA}, 0),
        ({"version": 2, "steps": 0x7F}, 0),
    ],
)
def test_nothing_is_asked_for_that_was_not_offered(mta: Mta, offer: dict[str, int], agreed: int) -> None:
    """An MTA refuses a milter that wants what it did not offer."""
    assert mta.negotiate(**offer).steps == agreed


SIGNING_ACTIONS = ADDHDRS | CHGFROM
INSERTED = [(0, b"X-Sidecar-Trace", b"first.value"), (0, b"CFBL-Address", b"fbl@b.example; report=arf")]
WITH_SPACE = [(index, name, b" " + value) for index, name, value in INSERTED]
SIGNED = [b"<b+token@b.example>"]
OFFERS = [
    (ACTIONS, STEPS, WITH_SPACE, SIGNED),
    (ACTIONS, STEPS & ~LEADING_SPACE, INSERTED, SIGNED),
    (ACTIONS & ~CHGFROM, STEPS, WITH_SPACE, []),
    (ACTIONS & ~ADDHDRS, STEPS, [], SIGNED),
    (ACTIONS & ~SIGNING_ACTIONS, STEPS, [], []),
]
WARNINGS = [
    "the MTA cannot add header fields (SMFIF_ADDHDRS): mail is relayed without those of [sign]",
    "the MTA cannot change the envelope sender (SMFIF_CHGFROM): mail is relayed without the token of [sign]",
]


def test_mail_is_signed_as_far_as_the_mta_can(folder: Path, engine: str) -> None:
    """Mail that cannot be signed is relayed unsigned, never lost; each thing that the MTA cannot do has one warning."""
    with scripted(folder, "signing", engine, "signing"):
        for actions, steps, inserted, senders in OFFERS:
            with Mta(f"{folder}/signing") as mta:
                assert mta.negotiate(actions=actions, steps=steps).actions == actions & (DELRCPT | SETSYMLIST | SIGNING_ACTIONS)
                mta.connect()
                mta.envelope(b"EndOfMessage=Sign", b"<a@b>", b"<c@d>")
                assert mta.content(MESSAGE) == (ACCEPT, ["<a@b>"])
                assert (mta.inserted, mta.senders) == (inserted, senders)
    log = (folder / "signing.log").read_text()
    assert [log.count(warning) for warning in WARNINGS] == [1, 1]


def test_an_mta_is_asked_to_sign_only_if_mail_is_signed(mta: Mta) -> None:
    """Without [sign] nothing is asked for, and a session that signed in spite of that changes nothing."""
    assert not mta.negotiate().actions & SIGNING_ACTIONS
    mta.connect()
    mta.envelope(b"EndOfMessage=Sign", b"<a@b>")
    assert mta.content(MESSAGE) == (ACCEPT, ["<a@b>"])
    assert (mta.inserted, mta.senders) == ([], [])


def test_a_version_4_mta_gets_an_answer_at_every_step(mta: Mta) -> None:
    """Where the MTA knows no unanswered steps, each is answered all the same, or it would wait for ever."""
    mta.negotiate(version=4, steps=0x3FF & ~NO_REPLY[b"L"])
    assert mta.connect() == CONTINUE
    assert mta.helo() == CONTINUE
    assert mta.mail() == CONTINUE
    assert mta.rcpt(b"<a@b>") == CONTINUE
    assert mta.data() == CONTINUE
    assert mta.header(b"Subject", b"x") == CONTINUE
    assert mta.end_of_headers() == CONTINUE
    assert mta.body(b"x\r\n") == CONTINUE
    assert mta.end_of_message() == (ACCEPT, [])


@pytest.mark.parametrize(("version", "steps"), [(2, 0x7F), (6, STEPS & ~NO_DATA), (6, 0)])
def test_an_mta_that_does_not_offer_nodata_is_served(mta: Mta, folder: Path, version: int, steps: int) -> None:
    """The bit says that the MTA can leave DATA out: some send DATA without it, and some never do."""
    mta.negotiate(version=version, steps=steps)
    assert mta.connect() == CONTINUE
    mta.helo()
    for sends_data in (True, False):
        mta.envelope(b"<fine@b>", b"<a@b>")
        assert not sends_data or mta.data() == CONTINUE
        mta.header(b"Subject", b" hello")
        assert mta.end_of_headers() == CONTINUE
        assert mta.end_of_message() == (ACCEPT, [])
    mta.envelope(b"<EndOfHeaders=Accept>", b"<a@b>")
    assert mta.end_of_headers() == ACCEPT
    assert "older than version" not in (folder / "log").read_text()


@pytest.mark.parametrize(
    ("script", "reply"),
    [
        ("EndOfHeaders=Accept", ACCEPT),
        ("EndOfHeaders=Discard", DISCARD),
        ("EndOfHeaders=Reject", REJECTED),
        ("EndOfHeaders=Tempfail", LATER),
        ("EndOfMessage=Accept", ACCEPT),
        ("EndOfMessage=Discard", DISCARD),
        ("EndOfMessage=Reject", REJECTED),
        ("EndOfMessage=Tempfail", LATER),
    ],
)
def test_a_verdict_reaches_the_mta_as_its_letter_and_text(mta: Mta, script: str, reply: Reply) -> None:
    """Replies go out as printable ASCII, in one line of bounded length, and with `%` doubled, as MTAs expect."""
    mta.begin()
    assert mta.envelope(script.encode(), b"<a@b>") == [CONTINUE]
    assert mta.content(MESSAGE) == (reply, [])


@pytest.mark.parametrize(("script", "reply"), [("Rcpt=Reject", REJECTED), ("Rcpt=Tempfail", LATER)])
def test_a_refused_recipient_does_not_end_the_message(mta: Mta, script: str, reply: Reply) -> None:
    mta.begin()
    assert mta.envelope(script.encode(), b"<a@b>", b"<c@d>") == [reply, reply]
    assert mta.content(MESSAGE) == (ACCEPT, [])


def test_recipients_are_taken_off_in_the_mtas_own_spelling(mta: Mta) -> None:
    """What RCPT gave is what DELRCPT names: brackets, capitals, UTF-8 and a missing bracket alike."""
    mta.begin()
    given = [b"<A@b.example>", b"c@d.example", "<grün@e.example>".encode(), b'<"x y"@f.example>']
    mta.mail(b"<EndOfMessage=Without>")
    for recipient in given:
        mta.rcpt(recipient, b"NOTIFY=NEVER")
    mta.data()
    mta.end_of_headers()
    mta.send(b"E")
    assert [mta.receive() for _ in given] == [("-", recipient + b"\0") for recipient in given]
    assert mta.reply() == ACCEPT


def test_without_delrcpt_a_message_that_needs_it_is_answered_451(mta: Mta) -> None:
    """Letting a recipient through that was not accepted is no way out."""
    assert mta.negotiate(actions=0x1FF & ~DELRCPT).actions == SETSYMLIST
    mta.connect()
    mta.envelope(b"<EndOfMessage=Without>", b"<a@b>")
    assert mta.content(MESSAGE) == (INCAPABLE, [])
    # The connection continues.
    mta.envelope(b"<fine@b>", b"<a@b>")
    assert mta.content(MESSAGE) == (ACCEPT, [])


def test_where_no_verdict_falls_at_connect_or_data_nobody_waits_there(folder: Path, engine: str) -> None:
    """The answer is left out; a fault there is answered at the next step that has an answer: nothing is accepted."""
    with scripted(folder, "silent", "silent", engine), Mta(f"{folder}/silent") as fine, Mta(f"{folder}/silent") as troubled:
        assert fine.negotiate().steps == UNANSWERED | NO_REPLY[b"C"] | NO_REPLY[b"T"] | NO_UNKNOWN | LEADING_SPACE
        assert fine.connect() == NONE
        assert fine.envelope(b"<fine@b>", b"<a@b>") == [CONTINUE]
        assert fine.content(MESSAGE) == (ACCEPT, [])
        assert fine.envelope(b"Data=raise", b"<a@b>") == [CONTINUE]
        assert fine.data() == NONE
        assert fine.end_of_headers() == TROUBLE
        assert troubled.begin(peer=RAISING_PEER) == NONE
        assert troubled.envelope(b"<fine@b>", b"<a@b>") == [TROUBLE]


# --- the guard


@pytest.mark.parametrize(
    ("script", "answers"),
    [
        ("Mail=raise", [TROUBLE, TROUBLE]),
        ("Mail=Reject", [TROUBLE, TROUBLE]),
        ("Rcpt=raise", [TROUBLE, TROUBLE]),
        ("Rcpt=Accept", [TROUBLE, TROUBLE]),
        ("Rcpt=Discard", [TROUBLE, TROUBLE]),
        ("Data=raise", [CONTINUE, TROUBLE]),
        ("Data=Discard", [CONTINUE, TROUBLE]),
        ("Data=Reject", [CONTINUE, TROUBLE]),
        ("Data=Without", [CONTINUE, TROUBLE]),
        ("Header=raise", [CONTINUE, TROUBLE]),
        ("Header=Accept", [CONTINUE, TROUBLE]),
        ("EndOfHeaders=raise", [CONTINUE, TROUBLE]),
        ("EndOfHeaders=Without", [CONTINUE, TROUBLE]),
        ("Body=Accept", [CONTINUE, TROUBLE]),
        ("Body=Discard", [CONTINUE, TROUBLE]),
        ("Body=Reject", [CONTINUE, TROUBLE]),
        ("Body=raise", [CONTINUE, TROUBLE]),
        ("EndOfMessage=raise", [CONTINUE, TROUBLE]),
        ("EndOfMessage=Continue", [CONTINUE, TROUBLE]),
        ("EndOfMessage=unwritten", [CONTINUE, TROUBLE]),
        ("Data=unwritten", [CONTINUE, TROUBLE]),
    ],
)
def test_a_fault_at_any_step_is_a_451_until_the_connection_ends(mta: Mta, script: str, answers: list[Reply]) -> None:
    """A fault, a verdict that cannot answer its step, an unwritten record: none lets anything in, then or later."""
    mta.begin()
    assert [*mta.envelope(script.encode(), b"<a@b>"), mta.content(MESSAGE)[0]] == answers
    mta.abort()
    assert mta.envelope(b"<fine@b>", b"<a@b>") == [TROUBLE]
    assert mta.content(MESSAGE) == (TROUBLE, [])
    mta.quit()


def test_a_fault_at_connect_is_a_451(mta: Mta) -> None:
    assert mta.begin(peer=RAISING_PEER) == TROUBLE
    assert mta.envelope(b"<fine@b>", b"<a@b>") == [TROUBLE]


@pytest.mark.parametrize("fault", ["negotiation", "beginning"])
def test_a_fault_before_the_session_is_a_451_at_every_step(folder: Path, engine: str, fault: str) -> None:
    """No step is left out, since an MTA takes a step that it need not send as accepted."""
    with scripted(folder, fault, fault, engine), Mta(f"{folder}/{fault}") as mta:
        terms = mta.negotiate()
        assert fault == "beginning" or (terms.actions, terms.steps) == (0, UNANSWERED)
        assert mta.connect() == TROUBLE
        mta.helo()
        assert mta.envelope(b"<a@b.example>", b"<c@d.example>", b"<e@f.example>") == [TROUBLE, TROUBLE]
        assert mta.data() == TROUBLE
    text = (folder / f"{fault}.log").read_text()
    assert text.count("the script says so") == 1
    assert "the connection is answered 451 from here on" in text


@pytest.mark.parametrize("step", ["Abort", "Close"])
def test_a_fault_where_nobody_asks_is_logged_and_no_more(mta: Mta, folder: Path, step: str) -> None:
    mta.begin()
    mta.envelope(f"<{step}=raise>".encode(), b"<a@b>")
    mta.abort()
    mta.quit()
    wait_until(lambda: f'"step":"{step.upper()}"' in (folder / "log").read_text(), "the fault is in the log")


def test_a_fault_is_one_line_in_the_log(mta: Mta, folder: Path) -> None:
    """However many steps follow, the log has one line, with the session's id."""
    before = (folder / "log").read_text().count("an unexpected fault")
    mta.begin()
    mta.envelope(b"<Rcpt=raise>", b"<a@b>", b"<c@d>", b"<e@f>")
    mta.content(MESSAGE)
    lines = (folder / "log").read_text().splitlines()
    logged = [line for line in lines if "an unexpected fault" in line][before:]
    assert len(logged) == 1
    assert "5e551017-0000-4000-8000-000000000000" in logged[0]


@pytest.mark.parametrize("family", [b"L", b"U"])
def test_a_peer_without_an_ip_address_is_answered_451(mta: Mta, family: bytes) -> None:
    """Nothing can be decided about a peer that is not known."""
    assert mta.begin(peer="/run/socket", family=family) == TROUBLE  # type: ignore[arg-type]  # one letter, as on the wire
    assert mta.envelope(b"<fine@b>", b"<a@b>") == [TROUBLE]


def test_an_mta_that_does_not_connect_a_peer_first_is_answered_451(mta: Mta) -> None:
    """MAIL gets through libmilter without CONNECT; without a peer there is no session, and nothing gets in."""
    mta.negotiate()
    assert mta.envelope(b"<fine@b>", b"<a@b>") == [TROUBLE]


# --- hostile and broken MTAs


@pytest.mark.parametrize(
    "packets",
    [
        b"GET / HTTP/1.1\r\nHost: example.com\r\n\r\n",
        b"\0\0\0\0",
        b"\xff\xff\xff\xff" + b"x" * 1000,
        b"\0\0\0\x01Z",
        b"\0\0\0\x0dO" + b"\0" * 12,
        b"\0\0\0\x03Oxy",
        b"",
    ],
)
def test_garbage_ends_that_connection_and_nothing_else(folder: Path, process: subprocess.Popen[bytes], packets: bytes) -> None:
    with Mta(f"{folder}/s") as broken, Mta(f"{folder}/s") as good:
        good.begin()
        broken.socket.sendall(packets)
        broken.socket.shutdown(1)
        assert _hung_up(broken)
        good.envelope(b"<fine@b>", b"<a@b>")
        assert good.content(MESSAGE) == (ACCEPT, [])
    assert process.poll() is None


def _hung_up(mta: Mta) -> bool:
    """Return True if the milter disconnects; the kernel reports a reset if it left something unread."""
    try:
        return mta.socket.recv(1000) == b""
    except ConnectionResetError:
        return True


def test_a_huge_packet_ends_the_connection(mta: Mta, process: subprocess.Popen[bytes]) -> None:
    """Packets have 64 kB at most."""
    mta.begin()
    mta.envelope(b"<fine@b>", b"<a@b>")
    mta.data()
    mta.end_of_headers()
    mta.send(b"B", b"x" * 70_000)
    assert _hung_up(mta)
    assert process.poll() is None


@pytest.mark.parametrize("steps", range(8))
def test_an_mta_may_hang_up_at_any_step(folder: Path, process: subprocess.Popen[bytes], steps: int) -> None:
    with Mta(f"{folder}/s") as lost:
        stretch: list[Callable[[], object]] = [
            lost.negotiate,
            lost.connect,
            lost.helo,
            lost.mail,
            lambda: lost.rcpt(b"<a@b>"),
            lost.data,
            lost.end_of_headers,
            lambda: lost.body(b"x"),
        ]
        for step in stretch[: steps + 1]:
            step()
    with Mta(f"{folder}/s") as next_one:
        next_one.begin()
        next_one.envelope(b"<fine@b>", b"<a@b>")
        assert next_one.content(MESSAGE) == (ACCEPT, [])
    assert process.poll() is None


def test_a_helo_name_that_is_no_text_decides_nothing(mta: Mta, folder: Path, engine: str) -> None:
    """The peer's name decides nothing, and its mail is accepted; libmilter's binding cannot pass it on, and that is logged."""
    mta.begin()
    mta.helo(b"\xff\xfe")
    mta.envelope(b"<fine@b>", b"<a@b>")
    assert mta.content(MESSAGE) == (ACCEPT, [])
    assert ("could not pass on an event" in (folder / "log").read_text()) == (engine == "libmilter")
