"""What strangers may send: anything. It is read in linear time, and the answer can always be written down."""

import base64
import json
import random
import time
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.reports import arf, fields, may_be_report, mime, oob, read

CORPUS = sorted((Path(__file__).parent.parent / "data" / "reports").glob("*.eml"))

MEGABYTE = 1_000_000
HEAD = b'Content-Type: multipart/report; report-type=feedback-report; boundary="b"\r\n\r\n'
QUOTED_PRINTABLE = b"\r\nContent-Transfer-Encoding: quoted-printable"
FEEDBACK = HEAD + b"--b\nContent-Type: message/feedback-report\n\nFeedback-Type: abuse\n"
RETURNED = FEEDBACK + b"\n--b\nContent-Type: message/rfc822\n\n"


def many(piece: bytes) -> bytes:
    """Repeat a piece to a megabyte."""
    return piece * (MEGABYTE // len(piece))


def status(body: bytes, more: bytes = b"") -> bytes:
    """Put a body into a delivery-status part."""
    return HEAD + b"--b\r\nContent-Type: message/delivery-status" + more + b"\r\n\r\n" + body


def trace(text: bytes) -> bytes:
    """Put JSON into trace headers."""
    return RETURNED + many(b"X-KumoRef: " + base64.b64encode(text) + b"\n")


def content_type(parameters: bytes) -> bytes:
    """Put parameters into a Content-Type."""
    return b"Content-Type: multipart/report; " + parameters + b"\n\n--b\n"


HOSTILE = {
    "header fields": many(b"a:b\n") + HEAD,
    "almost a field name": many(b"content-type\n"),
    "field name and spaces": b"content-type" + many(b" "),
    "empty lines": many(b"\n"),
    "bare CR": many(b"\r"),
    "NUL": many(b"\0"),
    "no structure": random.Random(3464).randbytes(MEGABYTE),  # noqa: S311 - not for secrets
    "no structure in the part": status(random.Random(5965).randbytes(MEGABYTE)),  # noqa: S311 - not for secrets
    "long parameter": content_type(many(b"a")),
    "parameters": content_type(many(b"a=;")),
    "parameter names apart": content_type(many(b"a  ")),
    "folds": content_type(many(b"\n a=b;")),
    "open comments": content_type(many(b"(")),
    "comments and quotes": content_type(many(b'()"')),
    "escapes in comments": content_type(many(b"(\\")),
    "quotes": content_type(b"boundary=" + many(b'"')),
    "escaped quotes": content_type(b"boundary=" + many(b'"\\')),
    "RFC 2231 sections": content_type(b"".join(b"boundary*%d*=%%41;" % n for n in range(50_000))),
    "gigantic boundary": content_type(b"boundary=" + b"x" * 60_000) + many(b"\n--" + b"x" * 59_999 + b"y"),
    "almost the boundary": content_type(b"boundary=" + b"x" * 70) + many(b"\n--" + b"x" * 69 + b"y"),
    "boundary of dashes": content_type(b"boundary=--") + many(b"\n---"),
    "parts": HEAD + many(b"--b\n"),
    "nested parts": b"".join(b"Content-Type: multipart/report; boundary=%d\n\n--%d\n" % (n, n) for n in range(20_000)),
    "fields": status(many(b"a:b\n")),
    "field names": status(many(b"a" * 99 + b" " * 99 + b"\n")),
    "colons": status(many(b":\n")),
    "one long line": status(many(b"a")),
    "one long value": status(b"a:" + many(b" ") + b"b"),
    "folded value": status(many(b"a:" + b"\n b" * 2000 + b"\n")),
    "lines of white space": status(b"a:b" + many(b"\n ") + b"\nc:d"),
    "recipients": status(many(b"Final-Recipient: rfc822; a@b\nAction: failed\n\n")),
    "recipients unparted": status(many(b"Final-Recipient: rfc822; a@b\nAction: failed\n")),
    "encoded words": status(many(b"a: " + b"=?utf-8?b?YQ==?= " * 400 + b"\n")),
    "almost encoded words": status(many(b"a: " + b"=?a?b?" * 1000 + b"\n")),
    "quoted-printable": status(many(b"=\r"), QUOTED_PRINTABLE),
    "quoted-printable fields": status(many(b"a:b=0A"), QUOTED_PRINTABLE),
    "base64": status(base64.encodebytes(many(b"a:b\n")), b"\nContent-Transfer-Encoding: base64"),
    "brackets": FEEDBACK + many(b"Original-Rcpt-To: <<<<<<<\n"),
    "dates": FEEDBACK + many(b"Arrival-Date: Wed, 1 Jan 2025 " + b"(" * 100 + b"\n"),
    "X- headers": RETURNED + many(b"X-:eyJfQF8iOiJcXF8vIi\n"),
    "deep traces": trace(b'{"_@_":"\\\\_/","a":' + b"[" * 40_000),
    "long number in traces": trace(b'{"_@_":"\\\\_/","a":' + b"9" * 40_000 + b"}"),
    "quotes in traces": trace(b'{"_@_":"\\\\_/","a":' + b'"\\' * 20_000),
}


def check(message: bytes) -> None:
    """Check what holds of any message."""
    reading = read(message)
    assert json.loads(msgspec.json.encode(reading))["why"] == reading.why
    assert len(reading.why) < 300
    assert reading.why.isprintable()
    found = reading.arf is not None or reading.oob is not None
    assert found != reading.why.startswith("not a report, because ")
    if found:
        assert may_be_report(mime.header(mime.split_message(message)[0], b"content-type"))


@pytest.mark.parametrize("name", HOSTILE)
def test_time(name: str) -> None:
    """A megabyte of anything is read in well under a second of processor time (measured: at most 40 ms)."""
    start = time.process_time()
    check(HOSTILE[name])
    assert time.process_time() - start < 1


def test_time_is_linear() -> None:
    """Ten megabytes of a report take no more than their share."""
    original = b"\n--b\nContent-Type: message/rfc822\n\n" + b"8 bit \xe9 and more\r\n" * 550_000
    start = time.process_time()
    reading = read(status(b"Final-Recipient: a@b\nAction: failed\n" + original))
    assert time.process_time() - start < 5
    assert reading.oob is not None
    assert reading.oob.original_message is not None
    assert len(reading.oob.original_message) == 550_000 * 17


def test_limits() -> None:
    """What one message can put into a report is bounded, and what is within the bounds is there."""
    value = b"x" * 2 * fields.VALUE_LIMIT
    group = b"Final-Recipient: rfc822; a@b\nAction: failed\nX-Long: " + value + b"\n\n"
    reading = read(status(group)).oob
    assert reading is not None
    assert len(reading.per_recipient[0].extensions["x-long"][0]) == fields.VALUE_LIMIT - 1
    groups = b"Final-Recipient: rfc822; a@b\nAction: failed\n\n" * 2 * oob.RECIPIENT_LIMIT
    reading = read(status(groups)).oob
    assert reading is not None
    assert len(reading.per_recipient) == oob.RECIPIENT_LIMIT


@pytest.mark.parametrize(("spare", "found"), [(0, True), (1, False)])
def test_trace_depth(spare: int, *, found: bool) -> None:
    """A trace may nest as deep as the limit and no deeper, so that writing it down never recurses far."""
    depth = arf.TRACE_DEPTH_LIMIT - 1 + spare
    reading = read(trace(b'{"_@_":"\\\\_/","a":' + b"[" * depth + b"]" * depth + b"}")).arf
    assert reading is not None
    assert (reading.supplemental_trace is not None) == found


@settings(deadline=None)  # time is tested above, by processor time
@given(st.binary(max_size=300))
def test_any_bytes(message: bytes) -> None:
    """No bytes make the reader raise, or give what cannot be written down."""
    check(message)
    check(status(message))
    check(FEEDBACK + message)
    check(RETURNED + message)


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """Draw a message of the corpus with some pieces cut out, doubled, moved or put in."""
    message = draw(st.sampled_from(CORPUS)).read_bytes()
    for _ in range(draw(st.integers(1, 4))):
        start, end = sorted(draw(st.tuples(*[st.integers(0, len(message))] * 2)))
        new = draw(
            st.sampled_from((b"", b"\n", b"\r", b"\n\n", b" ", b":", b";", b'"', b"(", b"\\", b"\0", b"--", b"=", b"<"))
            | st.binary(max_size=5)
            | st.just(message[start:end] * 2)
        )
        message = message[:start] + new + message[draw(st.sampled_from((start, end))) :]
    return message


@settings(deadline=None)  # time is tested above, by processor time
@given(mutated())
def test_mutated_reports(message: bytes) -> None:
    """Reports with anything broken in them are read or refused, but always answered."""
    check(message)


PIECES = (b"multipart", b"report", b"/", b";", b"=", b"(", b")", b'"', b"\\", b" ", b"\r\n\t", b"boundary", b"b", b"\0", b"x")


@settings(deadline=None)  # time is tested above, by processor time
@given(value=st.lists(st.sampled_from(PIECES), max_size=12).map(b"".join), whole=st.booleans())
def test_may_be_report_agrees(value: bytes, *, whole: bool) -> None:
    """The Content-Type alone gives the same answer as the whole message, both ways."""
    if whole:
        value = b"multipart/report" + value
    body = status(b"Final-Recipient: a@b\nAction: failed\n").partition(b"\r\n\r\n")[2]
    reading = read(b"Content-Type:" + value + b"\n\n" + body)
    refused = reading.why.endswith("not multipart/report")
    assert may_be_report(value) != refused
    assert reading.oob is None or not refused
