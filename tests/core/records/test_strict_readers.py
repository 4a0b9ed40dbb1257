"""Record lines for strict JSON readers: Go's encoding/json, for instance, rejects what no double or 64-bit integer holds."""

import base64
import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.core.records import encode
from sidecar.core.reports.reading import read
from tests.core.records.making import reception

HEAD = b'Content-Type: multipart/report; report-type=feedback-report; boundary="b"\r\n\r\n'
REPORT = HEAD + b"--b\n\nx\n--b\nContent-Type: message/feedback-report\n\nFeedback-Type: abuse\nUser-Agent: x\nVersion: 1\n"

# (JSON value, what the trace holds; None where the trace is dropped)
VALUES: list[tuple[bytes, object]] = [
    (b"9223372036854775807", 2**63 - 1),
    (b"18446744073709551615", 2**64 - 1),
    (b"18446744073709551616", None),
    (b"-9223372036854775808", -(2**63)),
    (b"-9223372036854775809", None),
    (b"9" * 19, 9999999999999999999),
    (b"9" * 20, None),
    (b"-" + b"9" * 400, None),
    (b"9" * 5000, None),
    (b"[1, [" + b"9" * 400 + b"]]", None),
    (b'{"' + b"9" * 400 + b'": "' + b"9" * 400 + b'"}', {"9" * 400: "9" * 400}),
    (b'["\\\\", ' + b"9" * 400 + b"]", None),
    (b'"\\",' + b"9" * 400 + b'"', '",' + "9" * 400),
    (b"-0", 0),
    (b"9" * 300 + b".5", 1e300),
    (b"0." + b"1" * 400, 1 / 9),
    (b"1e-400", 0.0),
    (b"1e400", None),
    (b"-1e400", None),
    (b"1" * 400 + b".5", None),
    (b"NaN", None),
    (b"-Infinity", None),
    (b'"\\ud800"', None),
    (b'"\\ud83d\\ude00"', "\U0001f600"),
    (b'"\xff"', None),
    (b'{"a": 1, "a": 2}', {"a": 2}),
    (b"[" * 100 + b"]" * 100, None),
]


def line_with(value: bytes) -> bytes:
    """Return the record line of a complaint whose returned message has a trace with this JSON value."""
    trace = base64.b64encode(b'{"_@_":"\\\\_/","a":' + value + b"}")
    message = REPORT + b"Incidents: 999999999\n\n--b\nContent-Type: message/rfc822\n\nX-KumoRef: " + trace + b"\n\n--b--\n"
    report = read(message).arf
    assert report is not None
    return encode(reception(report=report))


def strictly(line: bytes) -> dict[str, object]:
    """Read a line as the strictest readers do. Raise ValueError for what one of them rejects."""

    def whole(digits: str) -> int:
        number = int(digits)
        if not -(1 << 63) <= number < 1 << 64:
            raise ValueError(digits)
        return number

    def fraction(digits: str) -> float:
        number = float(digits)
        if not math.isfinite(number):
            raise ValueError(digits)
        return number

    def constant(name: str) -> None:
        raise ValueError(name)

    found = json.loads(line.decode(), parse_int=whole, parse_float=fraction, parse_constant=constant)
    assert isinstance(found, dict)
    json.dumps(found, ensure_ascii=False).encode()  # no lone surrogate
    return found


@pytest.mark.parametrize(("value", "held"), VALUES)
def test_numbers_in_a_trace(value: bytes, held: object) -> None:
    """A trace is recorded if every strict reader accepts it, and dropped otherwise; the report counts in both cases."""
    report = strictly(line_with(value))["feedback_report"]
    assert isinstance(report, dict)
    assert report["supplemental_trace"] == (None if held is None else {"a": held})
    assert report["incidents"] == 999_999_999


PIECES = [
    *b'[]{}:,"\\.-+eE0',
    *(b"9" * count for count in (18, 19, 20, 400)),
    b"\\ud800",
    b"\\udc00",
    b"NaN",
    b"1e400",
    b'"a":',
]
JSON = st.recursive(
    st.one_of(
        st.sampled_from([value for value, _ in VALUES]),
        st.integers().map(lambda number: b"%d" % number),
        st.floats().map(lambda number: repr(number).encode()),
        st.text().map(lambda text: json.dumps(text).encode()),
    ),
    lambda inner: st.lists(inner, max_size=5).map(lambda values: b"[" + b",".join(values) + b"]"),
)


@given(
    JSON | st.lists(st.sampled_from([bytes([piece]) if isinstance(piece, int) else piece for piece in PIECES])).map(b"".join)
)
def test_any_trace(value: bytes) -> None:
    """Whatever the trace, the record is one line that a strict reader accepts."""
    line = line_with(value)
    assert line.count(b"\n") == 1
    strictly(line)


@given(st.text("0123456789+-.eE ", max_size=30) | st.integers().map(str))
def test_any_number_in_a_field(number: str) -> None:
    """Whatever stands where a feedback report has a number, the record is one line that a strict reader accepts."""
    text = number.encode()
    fields = b"Incidents: %b\nArrival-Date: 1 Jan %b 00:00:00 +%b\nVersion: %b\n" % (text, text, text, text)
    report = read(REPORT.replace(b"Version: 1\n", fields)).arf
    assert report is not None
    strictly(encode(reception(report=report)))
