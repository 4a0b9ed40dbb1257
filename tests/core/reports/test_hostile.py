"""What external hosts may send: anything. It is read in linear time, and the answer can always be written down."""

import json
import time
import tracemalloc
from base64 import b64encode

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.core.reports import addresses, arf, fields, mime
from sidecar.core.reports.reading import may_be_report, read
from sidecar.core.reports.values import ReportReading
from tests import DATA
from tests.core.reports.shapes import FEEDBACK, HEAD, HOSTILE, MEGABYTE, RETURNED, status, trace

CORPUS = sorted((DATA / "reports").glob("*.eml"))


def check(message: bytes) -> None:
    """Check what holds of any message, in both modes: leniently everything is a report that is one strictly."""
    lenient, strict = read(message), read(message, strict=True)
    assert (lenient.oob is None) <= (strict.oob is None)
    assert (lenient.arf is None) <= (strict.arf is None)
    check_reading(message, lenient)
    check_reading(message, strict)


def check_reading(message: bytes, reading: ReportReading) -> None:
    assert json.loads(msgspec.json.encode(reading))["why"] == reading.why
    assert len(reading.why) < 300
    assert reading.why.isprintable()
    found = reading.is_report
    assert reading.other is None or not found
    assert found != reading.why.startswith("not a report, because ")
    assert reading.read_as.partition(":")[0] in {"", "rfc3464", "rfc5965", "text"}
    if found and not reading.read_as.startswith("text:"):
        assert may_be_report(mime.header(mime.split_message(message)[0], b"content-type"))


@pytest.mark.parametrize("name", HOSTILE)
def test_time(name: str) -> None:
    """A megabyte of anything is read in well under a second of processor time (measured: at most 40 ms)."""
    start = time.process_time()
    check(HOSTILE[name])
    assert time.process_time() - start < 1


BASE64 = b"\nContent-Transfer-Encoding: base64"
FOLDED = b"X-Folded: a" + b"\n a" * MEGABYTE + b"\n\n"
HUNGRY = {
    "base64": HOSTILE["base64"],
    "lines of two characters": HOSTILE["lines of two characters"],
    "no end of line": status(b"A" * MEGABYTE + b"!", BASE64),
    "no base64": status(b"A" * MEGABYTE + b"\n!", BASE64),
    "folds of a part": HEAD + b"--b\n" + FOLDED,
    "folds of a returned message": RETURNED + FOLDED,
}


@pytest.mark.parametrize("name", HUNGRY)
def test_memory(name: str) -> None:
    """A message takes few times its size of memory, also one of which nothing can be read."""
    message = HUNGRY[name]
    tracemalloc.start()
    try:
        check(message)
        assert tracemalloc.get_traced_memory()[1] < 8 * len(message)  # patterns that repeat a group need thirty times its size
    finally:
        tracemalloc.stop()


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
    """The content of a report is bounded, and complete within the bounds."""
    value = b"x" * 2 * fields.VALUE_LIMIT
    group = b"Final-Recipient: rfc822; a@b\nAction: failed\nX-Long: " + value + b"\n\n"
    reading = read(status(group)).oob
    assert reading is not None
    assert len(reading.per_recipient[0].extensions["x-long"][0]) == fields.VALUE_LIMIT - 1
    groups = b"Final-Recipient: rfc822; a@b\nAction: failed\n\n" * 2 * addresses.RECIPIENT_LIMIT
    reading = read(status(groups)).oob
    assert reading is not None
    assert len(reading.per_recipient) == addresses.RECIPIENT_LIMIT


@pytest.mark.parametrize("strict", [True, False])
def test_internationalised_addresses_are_bounded(*, strict: bool) -> None:
    """A few recipients can have internationalised addresses; the others of a report still count."""
    group = b"Final-Recipient: rfc822; %b\nAction: failed\nStatus: 5.1.1\n\n"
    count = 2 * addresses.IDN_RECIPIENT_LIMIT + 90
    addresses_named = [f"a{number}@b{chr(0xFC) * (number % 2)}.example" for number in range(count)]
    groups = b"".join(group % address.encode() for address in addresses_named)
    reading = read(status(b"Reporting-MTA: dns; a\n\n" + groups), strict=strict).oob
    assert reading is not None
    found = [entry.final_recipient.recipient for entry in reading.per_recipient if entry.final_recipient is not None]
    assert sum("xn--" in address for address in found) == addresses.IDN_RECIPIENT_LIMIT
    assert sum("xn--" not in address for address in found) == len(addresses_named) / 2
    complaint = FEEDBACK + b"User-Agent: a\nVersion: 1\n" + b"Original-Rcpt-To: a@b.example\n" * 2 * addresses.RECIPIENT_LIMIT
    arf_reading = read(complaint, strict=strict).arf
    assert arf_reading is not None
    assert len(arf_reading.original_rcpto_to) == addresses.RECIPIENT_LIMIT


def test_parts_are_bounded() -> None:
    """Many status parts take no more time than one: what they all have together is bounded."""
    part = b"--b\nContent-Type: message/delivery-status\n\nFinal-Recipient: rfc822; %05d@b\nAction: failed\nX-Filler: %b\n"
    message = HEAD + b"".join(part % (number, b"x" * 50_000) for number in range(100))
    start = time.process_time()
    reading = read(message).oob
    assert time.process_time() - start < 1
    assert reading is not None
    assert len(reading.per_recipient) == 1 + fields.FIELDS_SIZE_LIMIT // 50_070


def test_strict_limits() -> None:
    """Strict reading has the same limits: what is beyond is ignored, and a group that is cut too."""
    message = b"Reporting-MTA: dns; a\n\n"
    group = b"Final-Recipient: rfc822; a@b\nAction: failed\nStatus: 5.1.1\nX-Long: " + b"x" * 900 + b"\n\n"
    reading = read(status(message + group * 2 * addresses.RECIPIENT_LIMIT), strict=True).oob
    assert reading is not None
    assert len(reading.per_recipient) == (fields.FIELDS_SIZE_LIMIT - len(message)) // len(group)
    short = group.replace(b"x" * 900, b"x")
    reading = read(status(message + short * 2 * addresses.RECIPIENT_LIMIT), strict=True).oob
    assert reading is not None
    assert len(reading.per_recipient) == addresses.RECIPIENT_LIMIT


@pytest.mark.parametrize(("spare", "found"), [(0, True), (1, False)])
def test_trace_depth(spare: int, *, found: bool) -> None:
    """A trace may nest as deep as the limit and no deeper, so that writing it down never recurses far."""
    depth = arf.TRACE_DEPTH_LIMIT - 1 + spare
    reading = read(trace(b'{"_@_":"\\\\_/","a":' + b"[" * depth + b"]" * depth + b"}")).arf
    assert reading is not None
    assert (reading.supplemental_trace is not None) == found


@pytest.mark.parametrize(("spare", "values", "found"), [(4, 400, True), (1, 1, True), (0, 1, False)])
def test_claimed_traces(spare: int, values: int, *, found: bool) -> None:
    """A few fields that claim to be a trace and are none may stand before it."""
    claims = [b'{"_@_":"no marker"}'] * (arf.TRACE_FAILURES_LIMIT - spare)
    claims.append(b'{"_@_":"\\\\_/","a":[' + b",".join([b"1.5e300"] * values) + b"]}")
    fields = b"".join(b"X-KumoRef: " + b64encode(claim) + b"\n" for claim in claims)
    reading = read(RETURNED + fields).arf
    assert reading is not None
    assert reading.supplemental_trace == ({"a": [1.5e300] * values} if found else None)


def test_values_of_a_trace() -> None:
    """A trace with more values than any program writes is dropped."""
    values = b",".join([b"1"] * arf.TRACE_MARKS_LIMIT)
    reading = read(trace(b'{"_@_":"\\\\_/","a":[' + values + b"]}")).arf
    assert reading is not None
    assert reading.supplemental_trace is None


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
