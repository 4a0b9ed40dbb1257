"""Each layout, as its program writes it: the recipients, the reply, the returned message."""

import pytest

from sidecar.core.reports.text import read_text

HEAD = b"From: MAILER-DAEMON@mx.sender.example\nTo: anna@sender.example\nSubject: failure notice\n\n"
QMAIL = (
    b"Hi. This is the qmail-send program at mx.sender.example.\n"
    b"I'm afraid I wasn't able to deliver your message to the following addresses.\n"
    b"This is a permanent error; I've given up. Sorry it didn't work out.\n\n"
    b"<lena@receiver.example>:\n192.0.2.80 does not like recipient.\nRemote host said: 550 5.1.1 no such user\n"
    b"Giving up on 192.0.2.80.\n\n<otto@receiver.example>:\nSorry, no mailbox here by that name. (#5.1.1)\n\n"
    b"--- Below this line is a copy of the message.\n\nReturn-Path: <anna@sender.example>\nSubject: Minutes\n\nHello\n"
)


@pytest.mark.parametrize("null_sender", [True, False])
def test_text_bounce(null_sender: bool) -> None:
    """A bounce of qmail: each recipient with its own reply, and the returned message."""
    bounce = read_text(HEAD + QMAIL, null_sender=null_sender)
    assert bounce is not None
    assert bounce.format == "qmail"
    first, second = bounce.report.per_recipient
    assert (first.final_recipient.recipient, first.action) == ("lena@receiver.example", "failed")  # type: ignore[union-attr]
    assert first.diagnostic_code.diagnostic == "550 5.1.1 no such user"  # type: ignore[union-attr]
    assert second.diagnostic_code.diagnostic == "Sorry, no mailbox here by that name. (#5.1.1)"  # type: ignore[union-attr]
    assert second.status is not None
    assert bounce.report.original_message == "Return-Path: <anna@sender.example>\nSubject: Minutes\n\nHello\n"
    assert bounce.report.per_message.reporting_mta.name == "mx.sender.example"  # type: ignore[union-attr]


def test_quoted() -> None:
    """A bounce that a person quotes or forwards is no bounce."""
    person = HEAD.replace(b"MAILER-DAEMON@", b"otto@").replace(b"failure", b"Re: failure")
    assert read_text(person + QMAIL, null_sender=True) is None
    assert read_text(HEAD + b"> " + QMAIL.replace(b"\n", b"\n> "), null_sender=True) is None
