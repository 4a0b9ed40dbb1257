"""The envelope of stored mail, as the MTAs of real stores write it down."""

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.core.evaluate.delivery import HEAD_LIMIT, RECIPIENTS_LIMIT, StoredEnvelope, read_envelope

POSTFIX = b"Return-Path: <>\nX-Original-To: v-17@bounce.example\nDelivered-To: bounces@localhost\nReceived: by mx; now\n"
EXIM = b"Return-path: <s@x.example>\nEnvelope-to: a@b.example, c@b.example\nDelivery-date: now\nReceived: from x for z@z; now\n"
SENDMAIL = b"Return-Path: <MAILER-DAEMON>\nReceived: from x by y (8.17) \n\tfor <v-17@bounce.example>; now\nTo: o@x\n"
GMAIL = b"Delivered-To: me@x.example\nReceived: by ::1; now\nX-Received: a\nReturn-Path: <s@y.example>\nReceived: from z; now\n"


@pytest.mark.parametrize(
    ("message", "mbox_sender", "sender", "recipients", "guessed"),
    [
        (POSTFIX, None, "", ("v-17@bounce.example",), False),
        (POSTFIX.replace(b"\n", b"\r\n"), None, "", ("v-17@bounce.example",), False),
        (EXIM, None, "s@x.example", ("a@b.example", "c@b.example"), False),
        (SENDMAIL, None, "", ("v-17@bounce.example",), False),
        (GMAIL, None, "s@y.example", ("me@x.example",), False),
        # The last delivery has the envelope, not one before it.
        (b"Return-Path: <s@y>\nDelivered-To: new@x\nReceived: b\nX-Original-To: old@x\n", None, "s@y", ("new@x",), False),
        (b"Received: by x; now\nX-Original-To: a@x\nReceived: by y; now\n", b"s@y", "s@y", ("a@x",), False),
        (b"Delivered-To: a@x\n", b"MAILER-DAEMON", "", ("a@x",), False),
        (b"Return-Path: <r@y>\nDelivered-To: a@x\n", b"other@y", "r@y", ("a@x",), False),
        (b'Return-Path: <"a b"@y>\nDelivered-To: "c, d"@x\n', None, '"a b"@y', ('"c, d"@x',), False),
        # Nothing but what the writer of the message said.
        (b"From: Ann <a@y>\nTo: Bob <b@x>\n", None, "a@y", ("b@x",), True),
        (b"From: a@y\nTo: b@x\n", b"-", "a@y", ("b@x",), True),
        (b"Return-Path: <>\nTo: b@x\n", None, "", ("b@x",), True),
        (b"From: a@y\nDelivered-To: b@x\n", None, "a@y", ("b@x",), True),
        (
            b'From: a@y\nTo: "Doe, J." <j@x>, (c, d) k@x, Team: l@x, m@x;, "n@o"\n',
            None,
            "a@y",
            ("j@x", "k@x", "l@x", "m@x"),
            True,
        ),
        (b"From: a@y\nTo: John@home <j@x>,\n\t<k@x>\n", None, "a@y", ("j@x", "k@x"), True),
        # Fields of a returned message, below the header section, are of another envelope.
        (b"From: a@y\nTo: b@x\n\nReturn-Path: <no@y>\nDelivered-To: no@x\n", None, "a@y", ("b@x",), True),
    ],
)
def test_envelope(message: bytes, mbox_sender: bytes | None, sender: str, recipients: tuple[str, ...], guessed: bool) -> None:
    """The delivery's own fields have the envelope, the most reliable first; From and To only replace them."""
    assert read_envelope(message, mbox_sender) == StoredEnvelope(sender=sender, recipients=recipients, guessed=guessed)


@pytest.mark.parametrize(
    ("message", "why"),
    [
        (b"", "no header field has its recipient; name one with --to"),
        (b"Return-Path: <a@y>\nTo: undisclosed-recipients:;\n", "no header field has its recipient; name one with --to"),
        (b"To: a@x\nSubject: hello\n", "no header field has its sender; name one with --from"),
        (b"\nTo: a@x\nFrom: a@x\n", "no header field has its recipient; name one with --to"),
    ],
)
def test_no_envelope(message: bytes, why: str) -> None:
    """Without an envelope, the answer is which option to use."""
    assert read_envelope(message, None) == why


def test_what_is_given_stands_above_what_is_found() -> None:
    """A sender and recipients that are given are taken, and then nothing is guessed."""
    given_both = read_envelope(POSTFIX, None, sender="s@g", recipients=("r@g",))
    assert given_both == StoredEnvelope(sender="s@g", recipients=("r@g",))
    assert read_envelope(POSTFIX, None, sender="s@g") == StoredEnvelope(sender="s@g", recipients=("v-17@bounce.example",))
    assert read_envelope(b"From: a@y\n", None, sender="", recipients=("r@g",)) == StoredEnvelope(sender="", recipients=("r@g",))
    assert read_envelope(b"From: a@y\nTo: b@x\n", None, recipients=("r@g",)) == StoredEnvelope(
        sender="a@y", recipients=("r@g",), guessed=True
    )


@settings(deadline=None)  # the machine may be busy
@given(st.binary(max_size=300), st.none() | st.binary(max_size=20))
def test_any_bytes(value: bytes, mbox_sender: bytes | None) -> None:
    """Whatever stands in the fields, there is an envelope of text that JSON can hold, or a reason."""
    message = b"Return-Path:" + value + b"\nTo: " + value + b"\nFrom: a@x\nDelivered-To: " + value
    found = read_envelope(message, mbox_sender)
    text = found if isinstance(found, str) else found.sender + "".join(found.recipients)
    assert text.encode()


@pytest.mark.parametrize(
    "value",
    [
        b"<",
        b"(",
        b'"',
        b'"\\',
        b"\\",
        b",",
        b"a@b,",
        b"for ",
        b"for a",
        b"\n\t",
        b" ",
        b"\nreceived:",
        b"@",
        b"<>,",
        b"a:",
        b"\r",
    ],
)
@pytest.mark.parametrize("field", [b"To: ", b"Received: ", b"X-Original-To: "])
def test_hostile(field: bytes, value: bytes) -> None:
    """A header section of nothing but what is hard to read costs no more than an honest one of that size."""
    message = field + value * (2 * HEAD_LIMIT // len(value))
    began = time.process_time()
    found = read_envelope(message, None, sender="")
    assert time.process_time() - began < 1
    assert isinstance(found, str) or len(found.recipients) <= RECIPIENTS_LIMIT
