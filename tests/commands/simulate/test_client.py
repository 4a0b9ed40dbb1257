"""The SMTP client: what it says, what it keeps of the answers, and how long it waits."""

import time
from typing import Any

import pytest

from sidecar.commands.simulate.client import Answer, Dialogue, Target, UnreachableError, deliver
from tests.commands.simulate.fake_mta import FakeMta

CONTENT = b"Subject: x\r\n\r\nfirst\r\n.second\r\n..third\r\n"


def send(
    mta: FakeMta, *, content: bytes = CONTENT, recipients: tuple[str, ...] = ("n@bounce.example",), **more: Any
) -> Dialogue:
    target = Target(host="127.0.0.1", port=mta.port, **{"timeout": 10, **more})
    return deliver(target, helo="me.example", sender="", recipients=recipients, content=content)


def test_dialogue() -> None:
    """A message is offered once, line by line, and every answer is kept."""
    with FakeMta() as mta:
        answers = send(mta, recipients=("a@bounce.example", "b@bounce.example"), bind="127.0.0.2")
    envelope = ["EHLO me.example", "MAIL FROM:<>", "RCPT TO:<a@bounce.example>", "RCPT TO:<b@bounce.example>", "DATA"]
    assert mta.heard == [*envelope, "QUIT"]
    assert mta.content == [b"Subject: x\r\n\r\nfirst\r\n..second\r\n...third\r\n"]
    assert answers.peer.startswith("127.0.0.2:")
    assert answers.listener == f"127.0.0.1:{mta.port}"
    assert answers.recipients == (Answer(code=250, text="2.1.5 Ok"),) * 2
    assert str(answers.last) == "250 2.0.0 Ok: queued as 4dSim"


REJECTIONS = [
    pytest.param({"greeting": b"554 5.7.1 not you\r\n"}, "554 5.7.1 not you", [], id="the greeting"),
    pytest.param({"ehlo": b"550 5.7.1 not you\r\n"}, "550 5.7.1 not you", ["EHLO"], id="EHLO"),
    pytest.param({"mail": b"451 4.3.0 later\r\n"}, "451 4.3.0 later", ["EHLO", "MAIL"], id="MAIL"),
    pytest.param({"rcpt": b"550 5.1.1 no\r\n"}, "550 5.1.1 no", ["EHLO", "MAIL", "RCPT"], id="RCPT"),
    pytest.param({"data": b"451 4.3.0 later\r\n"}, "451 4.3.0 later", ["EHLO", "MAIL", "RCPT", "DATA"], id="DATA"),
    pytest.param(
        {"end": b"550-5.7.1 relaying\r\n550 5.7.1 not permitted\r\n"},
        "550 5.7.1 relaying 5.7.1 not permitted",
        ["EHLO", "MAIL", "RCPT", "DATA"],
        id="the end, in two lines",
    ),
    pytest.param({"mail": b"nonsense\r\n"}, "-1 ense", ["EHLO", "MAIL"], id="no SMTP"),
]


@pytest.mark.parametrize(("answers", "last", "heard"), REJECTIONS)
def test_rejection(answers: dict[str, bytes], last: str, heard: list[str]) -> None:
    """Whatever is rejected, that answer is the one that decided, and nothing more is asked."""
    with FakeMta(**answers) as mta:
        assert str(send(mta).last) == last
    assert [line.split(" ")[0] for line in mta.heard] == [*heard, "QUIT"]


def test_one_recipient_of_two() -> None:
    """The content is sent if any recipient was accepted."""
    with FakeMta(**{"rcpt to:<a@bounce.example>": b"550 5.1.1 no\r\n"}) as mta:
        dialogue = send(mta, recipients=("a@bounce.example", "b@bounce.example"))
    assert len(mta.content) == 1
    assert [answer.code for answer in dialogue.recipients] == [550, 250]
    assert str(dialogue.last) == "250 2.0.0 Ok: queued as 4dSim"


def test_xclient() -> None:
    """XCLIENT is said where it is offered, followed by a new EHLO, and its address is who we are."""
    with FakeMta() as mta:
        assert send(mta, xclient="203.0.113.9:4444").peer == "203.0.113.9:4444"
        assert send(mta, xclient="2001:db8::9").peer == "[2001:db8::9]"
    said = [line for line in mta.heard if line.startswith("XCLIENT")]
    assert said == [
        "XCLIENT NAME=[UNAVAILABLE] ADDR=203.0.113.9 PORT=4444",
        "XCLIENT NAME=[UNAVAILABLE] ADDR=IPV6:2001:db8::9 PORT=[UNAVAILABLE]",
    ]
    assert mta.heard[:4] == ["EHLO me.example", said[0], "EHLO me.example", "MAIL FROM:<>"]


def test_xclient_rejected() -> None:
    """A peer that is not wanted hears so in the answer to XCLIENT."""
    with FakeMta(xclient=b"554 5.7.1 not you\r\n") as mta:
        assert str(send(mta, xclient="203.0.113.9").last) == "554 5.7.1 not you"


def test_xclient_not_offered() -> None:
    """If XCLIENT is not offered, nothing is sent: it would come from the wrong peer."""
    with FakeMta(ehlo=b"250 mx.example\r\n") as mta, pytest.raises(UnreachableError, match="smtpd_authorized_xclient_hosts"):
        send(mta, xclient="203.0.113.9")
    assert mta.heard == ["EHLO me.example"]


EIGHT_BIT = "Subject: x\r\n\r\nGrüße\r\n".encode()
UTF8_HEADER = "Subject: Grüße\r\n\r\nx\r\n".encode()
EXTENSIONS = [
    (b"250-mx\r\n250 8BITMIME\r\n", "n@bounce.example", EIGHT_BIT, " BODY=8BITMIME", None),
    (b"250 mx\r\n", "n@bounce.example", EIGHT_BIT, None, "8BITMIME"),
    (b"250 mx\r\n", "n@bounce.example", CONTENT, "", None),
    (b"250-mx\r\n250-SMTPUTF8\r\n250 8BITMIME\r\n", "n@bounce.example", UTF8_HEADER, " SMTPUTF8 BODY=8BITMIME", None),
    (b"250-mx\r\n250 SMTPUTF8\r\n", "bücher@bounce.example", CONTENT, " SMTPUTF8", None),
    (b"250-mx\r\n250 8BITMIME\r\n", "bücher@bounce.example", CONTENT, None, "SMTPUTF8"),
]


@pytest.mark.parametrize(("ehlo", "recipient", "content", "parameters", "lacking"), EXTENSIONS)
def test_extensions(ehlo: bytes, recipient: str, content: bytes, parameters: str | None, lacking: str | None) -> None:
    """An extension is asked for where the message needs it, and where the MTA lacks it the message is not sent."""
    with FakeMta(ehlo=ehlo) as mta:
        dialogue = send(mta, recipients=(recipient,), content=content)
    assert dialogue.lacking == lacking
    mail = [line for line in mta.heard if line.startswith("MAIL")]
    assert mail == ([] if parameters is None else [f"MAIL FROM:<>{parameters}"])
    assert (dialogue.last is None) == (lacking is not None)


SILENCE = [
    pytest.param({"greeting": b""}, id="no greeting"),
    pytest.param({"mail": b""}, id="no answer to MAIL"),
    pytest.param({"rcpt": b"250-2.1.5 and"}, id="half an answer"),
    pytest.param({"end": b""}, id="no answer to the end"),
]


@pytest.mark.parametrize("answers", SILENCE)
def test_silence(answers: dict[str, bytes]) -> None:
    """An MTA that does not answer is waited for as long as was said, and no longer."""
    began = time.monotonic()
    with FakeMta(**answers) as mta, pytest.raises(UnreachableError, match=r"did not answer within 0[.]3 s"):
        send(mta, timeout=0.3)
    assert time.monotonic() - began < 5


def test_endless_answer() -> None:
    """An answer without an end is given up."""
    with FakeMta(ehlo=b"250-and so on\r\n" * 20_000) as mta, pytest.raises(UnreachableError, match="no end"):
        send(mta)


UNREACHABLE: list[tuple[dict[str, Any], str]] = [
    ({"port": 1}, "127.0.0.1:1 cannot be used: Connection refused."),
    ({"host": "nobody.invalid"}, "nobody.invalid:25 cannot be used: "),
    ({"bind": "192.0.2.99"}, "127.0.0.1:25 cannot be reached from 192.0.2.99: --bind needs an address of this machine"),
    ({"bind": "::1"}, "127.0.0.1:25 cannot be reached from ::1: --bind needs an address of this machine"),
    ({"host": "::1", "port": 1}, "[::1]:1 cannot be used: "),
]


@pytest.mark.parametrize(("target", "words"), UNREACHABLE)
def test_unreachable(target: dict[str, Any], words: str) -> None:
    """An MTA that cannot be reached is one sentence, which names it."""
    with pytest.raises(UnreachableError) as raised:
        deliver(
            Target(**{"host": "127.0.0.1", "port": 25, "timeout": 5.0, **target}),
            helo="me.example",
            sender="",
            recipients=("n@bounce.example",),
            content=CONTENT,
        )
    assert str(raised.value).startswith(words)


def test_hung_up() -> None:
    """An MTA that hangs up in the middle is one sentence too."""
    with FakeMta(rcpt=b"421 4.3.0 closing\r\n") as mta:
        assert str(send(mta).last) == "421 4.3.0 closing"
