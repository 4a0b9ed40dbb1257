"""Notices in no known layout: a failure is found in the words of several languages, and other automatic mail is none."""

from typing import Final

import pytest

from sidecar.core.reports.text import read_text

MESSAGE: Final = b"From: MAILER-DAEMON@receiver.example\nTo: anna@sender.example\nSubject: %b\n\n%b"
REPLY: Final = b"550 5.1.1 no such user"

FAILURES: Final = {
    "French": (b"Votre message", "Votre message n'a pas pu être remis à :\n\n   l@b.example\n\nRaison : %r\n"),
    "Spanish": (b"Error de entrega", "No se pudo entregar el mensaje a:\n\n  <l@b.example>\n\nMotivo: %r\n"),
    "German": (
        b"Unzustellbar",
        "Ihre Nachricht konnte nicht zugestellt werden.\n\nEmpfänger: l@b.example\nAntwort: %r\n",
    ),
    "Japanese": (b"Mail", "メッセージを送信できませんでした。\n\n<l@b.example>\n\n%r\n"),
    "Gmail": (
        b"Mail",
        "Your message wasn't delivered to l@b.example because it is unknown.\n\nThe response was:\n\n%r\n",
    ),
    "a module": (
        b"Undeliverable mail",
        "Failed to deliver to '<l@b.example>'\n host mx.b.example says:\n %r\n",
    ),
    "Haraka": (
        b"Delivery failed",
        (
            "Hi. This is the Haraka Mailer program at mx.a.example.\nI'm afraid I wasn't able to deliver your message to the "
            "following addresses.\n\nIntended Recipients: l@b.example\nFailure Reason: Error: %r\n"
        ),
    ),
    "Postfix in German": (
        b"Undelivered Mail Returned to Sender",
        "Ihre Nachricht konnte nicht zugestellt werden.\n\n<l@b.example>: host mx.b.example said: %r\n",
    ),
}

OTHERS: Final = {
    "success of OpenSMTPD": (
        b"Delivery status notification: success",
        (
            b"This is the MAILER-DAEMON.\n\n    A message was delivered successfully to the following\n"
            b"    list of recipients:\n\nl@b.example: Delivered\n"
        ),
    ),
    "success of Postfix": (
        b"Successful Mail Delivery Report",
        (
            b"Your message was successfully delivered to the destination(s)\nlisted below.\n\n"
            b"<l@b.example>: delivery via mx.b.example: 250 2.0.0 Ok\n"
        ),
    ),
    "success of Sendmail": (
        b"Return receipt",
        (
            b"   ----- The following addresses had successful delivery notifications -----\n<l@b.example>\n\n"
            b"   ----- Transcript of session follows -----\n<l@b.example>... Successfully delivered\n"
        ),
    ),
    "relayed by Exchange": (
        b"Delivery Status Notification (Relay)",
        (
            b"This is an automatically generated Delivery Status Notification.\n\n"
            b"Your message has been successfully relayed to the following recipients.\n\n       l@b.example\n"
        ),
    ),
    "a full mailbox": (
        b"Your mailbox is almost full",
        b"The mailbox l@b.example uses 95 % of its space. If it is full, messages cannot be delivered.\n",
    ),
    "a lure": (b"Mail delivery failed", b"Messages to lena@other.example could not be delivered. Log in to receive them.\n"),
    "statistics": (
        b"Postfix log summaries for Nov 3",
        b"message bounce detail (by relay)\n l@b.example\n   host mx said: 550 5.1.1 User unknown (in reply to RCPT TO)\n",
    ),
    "a challenge": (
        b"Please confirm your message",
        (
            b"This message was created automatically by mail delivery software.\n\nYour message is held, because "
            b"<anna@sender.example> has not been verified. It was not delivered to l@b.example. To release it, reply.\n"
        ),
    ),
    "a virus": (b"Virus", b"A message to l@b.example contained a virus and was not delivered. 554 5.7.1 rejected.\n"),
    "a new address": (
        b"New address",
        b"l@b.example has moved to lena@other.example. Your message has been forwarded.\n",
    ),
    "a transcript for the postmaster": (
        b"Postfix SMTP server: errors from localhost[127.0.0.1]",
        b"Transcript of session follows.\n\n In:  RCPT TO:<l@b.example>\n Out: 550 5.1.1 <l@b.example>: unknown\n",
    ),
    "an answer of a list manager": (b"Results", b">>>> subscribe garden\nl@b.example: delivery failed earlier\n"),
    "a forwarded bounce": (
        b"Look",
        b"---------- Forwarded message ----------\nHi. This is the qmail-send program at mx.\n\n<l@b.example>:\nno (#5.1.1)\n",
    ),
}


@pytest.mark.parametrize("name", FAILURES)
def test_failure(name: str) -> None:
    """The recipient and the reply are found."""
    subject, text = FAILURES[name]
    bounce = read_text(MESSAGE % (subject, text.encode().replace(b"%r", REPLY)), null_sender=False)
    assert bounce is not None
    (entry,) = bounce.report.per_recipient
    assert (entry.final_recipient.recipient, entry.action) == ("l@b.example", "failed")  # type: ignore[union-attr]
    assert entry.diagnostic_code.diagnostic == REPLY.decode()  # type: ignore[union-attr]


def test_helpers() -> None:
    """An address to ask is no recipient, unless there is no other address."""
    for ask, failed in ((b"", b"help@b.example"), (b"l@b.example", b"l@b.example")):
        text = b"Your message was not delivered to " + ask + b". Ask help@b.example or postmaster@b.example.\n" + REPLY
        bounce = read_text(MESSAGE % (b"Mail", text.replace(b"to .", b"help@b.example.")), null_sender=True)
        assert bounce is not None
        (entry,) = bounce.report.per_recipient
        assert entry.final_recipient.recipient.encode() == failed  # type: ignore[union-attr]


@pytest.mark.parametrize("name", OTHERS)
def test_other_mail(name: str) -> None:
    """Other mail of an automatic mailer is no bounce."""
    assert read_text(MESSAGE % OTHERS[name], null_sender=True) is None
