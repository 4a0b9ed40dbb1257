"""Which header sections prove an automatic mailer, and which belong to a person or an autoresponder."""

import pytest

from sidecar.core.reports.reading import read
from sidecar.core.reports.text import is_from_mailer, read_text

NOTICE = (
    b"\n\nThis message was created automatically by mail delivery software.\n\n"
    b"A message that you sent could not be delivered to one or more of its\n"
    b"recipients. This is a permanent error. The following address(es) failed:\n\n"
    b"  lena@receiver.example\n    550 5.1.1 no such user\n"
)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        (b"From", b"MAILER-DAEMON@mx.sender.example"),
        (b"from ", b" Mail Delivery System\r\n <mailer-daemon@sender.example>"),
        (b"From", b"=?utf-8?q?Mail_Delivery_Subsystem?= <x@sender.example>"),
        (b"From", b"<>"),
        (b"From", b"post_master@sender.example"),
        (b"X-Failed-Recipients", b"lena@receiver.example"),
        (b"X-Mailer", b"<SMTP32 v8.05>"),
    ],
)
def test_mailer(name: bytes, value: bytes) -> None:
    """One such field is a proof, also folded and encoded, and for a message that is marked as an automatic reply."""
    fields = [(b"Subject", b"Minutes"), (name, value)]
    head = b"\n".join(b"%b: %b" % (field, text.replace(b"\r\n", b"\n")) for field, text in fields)
    assert is_from_mailer(head)
    assert read_text(head + NOTICE, null_sender=False) is not None
    assert read(head + b"\nAuto-Submitted: auto-replied" + NOTICE).read_as == "text:exim"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        (b"From", b"Anna Berg <anna@sender.example>"),
        (b"From", b"postmasters@list.example"),
        (b"To", b"MAILER-DAEMON@mx.sender.example"),
        (b"Subject", b"Undelivered Mail Returned to Sender"),
        (b"X-Failed-Recipients", b""),
        (b"Auto-Submitted", b"auto-replied"),
    ],
)
def test_no_mailer(name: bytes, value: bytes) -> None:
    """Without a proof only the null sender opens the way to the body."""
    head = b"From: x@sender.example\n" * (name != b"From") + name + b": " + value
    assert not is_from_mailer(head)
    assert read_text(head + NOTICE, null_sender=False) is None


@pytest.mark.parametrize(
    "head",
    [
        b"From: anna@sender.example\nSubject: Re: Mail delivery failed",
        b"From: anna@sender.example\nSubject: [garden] Fwd: failure notice",
        b"From: anna@sender.example\nSubject: Automatic reply: Minutes",
        b"From: anna@sender.example\nAuto-Submitted: auto-replied (vacation)",
        b"From: anna@sender.example\nPrecedence: auto_reply",
        b"From: support@sender.example\nX-Autoreply: yes",
        b"From: support@sender.example\nX-Autoresponder: 1",
        b"From: support@sender.example\nX-Mail-Autoreply: yes",
        b"From: support@sender.example\nX-Vacation: yes",
        b"From: support@sender.example\nSubject: Out of office: Minutes",
        b"From: garden-admin@list.example\nX-MLServer: fml [fml 4.0]\nX-Mail-Count: 00012",
        b"From: anna@sender.example\nSubject: What is this?",
        b"From: Help desk <support@sender.example>\nSubject: Ticket 17",
        b"From: postmaster@sender.example\nSubject: Re: Minutes",
        b"From: noreply@sender.example\nSubject: We have received your message",
        b"From: garden@list.example\nList-Id: <garden.list.example>",
        b"From: Anna Berg <anna@sender.example>",
        b"From: anna@sender.example (Anna Berg)",
    ],
)
def test_reply(head: bytes) -> None:
    """A person, an autoresponder and a list quote a bounce: no recipient failed."""
    assert read_text(head + NOTICE, null_sender=True) is None
    assert read_text(b"From: Mail System <mailer-daemon@sender.example>" + NOTICE, null_sender=True) is not None


@pytest.mark.parametrize(
    ("subject", "notice", "action"),
    [
        (b"Mail delivery failed", b"", "failed"),
        (b"Warning: message delayed 24 hours", b"", "delayed"),
        (b"Mail", b"No action is required on your part. Delivery attempts will\ncontinue.\n", "delayed"),
        (b"Mail", b"THIS IS A WARNING\n   MESSAGE ONLY.\n", "delayed"),
    ],
)
def test_delay(subject: bytes, notice: bytes, action: str) -> None:
    """A notice that says that the program still tries is a delay, also where its words are on two lines."""
    head = b"From: Mail System <mailer-daemon@sender.example>\nSubject: " + subject
    bounce = read_text(head + NOTICE.replace(b"This is a permanent error. ", b"") + b"\n" + notice, null_sender=True)
    assert bounce is not None
    assert [entry.action for entry in bounce.report.per_recipient] == [action]


def test_no_delay() -> None:
    """A notice of failures that says that they are permanent is none of delays, even if it has a list of delays too."""
    notice = b"\n\n   ----- The following addresses had permanent fatal errors -----\n<lena@receiver.example>\n\n"
    notice += b"   ----- The following addresses had transient non-fatal errors -----\n<otto@receiver.example>\n"
    bounce = read_text(b"From: MAILER-DAEMON@sender.example\nSubject: Returned mail" + notice, null_sender=True)
    assert bounce is not None
    (entry,) = bounce.report.per_recipient
    assert (entry.action, entry.final_recipient.recipient) == ("failed", "lena@receiver.example")  # type: ignore[union-attr]
