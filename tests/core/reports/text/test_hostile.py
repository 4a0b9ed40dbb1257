"""Any bytes give a result, in linear time, that can be written down."""

import json
import time
from typing import Final

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.core.reports.text import read_text
from sidecar.core.reports.text.layouts import LAYOUTS
from tests import DATA

HEAD: Final = b"From: MAILER-DAEMON@mx.sender.example\nSubject: failure notice\n"
QMAIL: Final = b"Hi. This is the qmail-send program at mx.sender.example.\n\n"
PHRASES: Final = b"\n".join(phrase for layout in LAYOUTS for phrase in layout.phrases)
MEGABYTE: Final = 1 << 20

PIECES: Final = {
    "lines": b"x" * 76 + b"\n",
    "empty lines": b"\n",
    "blanks": b" ",
    "at signs": b"a@",
    "brackets": b"<",
    "commas": b"a@b, ",
    "recipients": b"<a@b>:\n",
    "lists of recipients": b"failed address: a@b, c@d\n",
    "replies": b"550 5.1.1 x\n",
    "codes": b"550 ",
    "numbers": b"5.",
    "dashes": b"- ",
    "markers": b"original message ",
    "Japanese": b"\x1b$B",
    "transcripts": b"rcpt to:<a@b.c>\n",
    "announcements": b"the following address(es) failed:\n",
    "header sections": b"Received: x\n\n",
    "parentheses": b" (expanded from: <",
    "quotes": b'"',
    "tags": b"<br",
}
HEADS: Final = {
    "text": HEAD + b"\n" + QMAIL,
    "every layout": HEAD + b"\n" + PHRASES + b"\n",
    "html": HEAD + b"Content-Type: text/html\n\n" + QMAIL,
    "parts": HEAD + b"Content-Type: multipart/mixed; boundary=b\n\n--b\n\n" + QMAIL + b"--b\nContent-Type: message/rfc822\n\n",
    "a subject": b"From: MAILER-DAEMON\nSubject: ",
    "a sender": b"From: ",
}


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("piece", PIECES)
def test_time(head: str, piece: str) -> None:
    """A megabyte of anything is read in well under a second of processor time (measured: at most 0.1 s)."""
    content = HEADS[head] + PIECES[piece] * (MEGABYTE // len(PIECES[piece]))
    start = time.process_time()
    bounce = read_text(content, null_sender=True)
    assert time.process_time() - start < 1
    assert bounce is None or len(bounce.report.per_recipient) <= 1100


def test_time_is_linear() -> None:
    """A bounce with a returned message of ten megabytes takes no more than its share, and keeps all of it."""
    returned = b"Subject: x\n\n" + b"8 bit \xe9 and more\r\n" * 550_000
    notice = b"<lena@receiver.example>:\n550 5.1.1 no\n\n--- Below this line is a copy of the message.\n\n"
    start = time.process_time()
    bounce = read_text(HEAD + b"\n" + QMAIL + notice + returned, null_sender=True)
    assert time.process_time() - start < 5
    assert bounce is not None
    assert bounce.report.original_message is not None
    assert len(bounce.report.original_message) == len(returned.replace(b"\r\n", b"\n"))


SAMPLES: Final = [path.read_bytes() for path in sorted((DATA / "bounces").glob("*.eml"))]


@given(st.sampled_from(SAMPLES), st.sampled_from(SAMPLES), st.integers(0, 3000), st.integers(0, 3000), st.binary(max_size=40))
def test_any_bytes(first: bytes, second: bytes, cut: int, begin: int, between: bytes) -> None:
    """A mixture of bounces and bytes never raises, and its report can be written as JSON."""
    content = first[:cut] + between + second[begin:]
    bounce = read_text(content, null_sender=True)
    if bounce is not None:
        assert json.loads(msgspec.json.encode(bounce))["format"] == bounce.format
        assert bounce.report.per_recipient
        strict = read_text(content, null_sender=False)
        assert strict is None or strict == bounce
