"""Usual spellings are read by a shorter way. It gives what the complete grammar gives."""

import re
from collections.abc import Callable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.core.reports import addresses, mime
from sidecar.core.reports.strict import headers

NOTHING = re.compile(r"(?!)")
NO_BYTES = re.compile(rb"(?!)")
TYPE = (
    *(
        b"multipart/report",
        b";",
        b"; ",
        b" ",
        b"boundary",
        b"=",
        b'"',
        b"a",
        b"report-type",
        b"Feedback-Report",
        b"\r\n\t",
        b"'",
    ),
    *(
        b"--=_x",
        b"charset=utf-8",
        b'"a b"',
        b'boundary="b"',
        b"; report-type=delivery-status",
        b"*0",
        b"%41",
        b"(c)",
        b"\\",
        b"\xff",
    ),
)
FIELDS = (
    *(b"a", b"Status", b":", b": ", b" ", b"  ", b"\r\n", b"\n", b"\t", b"\r", b"x y", b"\xc3\xa9", b"\r\n\r\n", b"A: b\r\n"),
    *(b"\x01", b"\r\n ", b"E: f\r\n g\r\n", b"C:d \n", b"=?utf-8?q?a?="),
)
ADDRESS = ("a", "B", "@", ".", "-", "_", "b.example", "<", ">", '"', "+", "xn--a", "ü", " ", "a" * 60)


def some(pieces: Sequence[bytes]) -> st.SearchStrategy[bytes]:
    return st.lists(st.sampled_from(pieces), max_size=9).map(b"".join)


def outcome(read: Callable[[], object]) -> object:
    try:
        return read()
    except (headers.FaultError, ValueError) as fault:
        return type(fault)


@given(some(TYPE))
def test_content_type(value: bytes) -> None:
    """A Content-Type."""
    value = b"multipart/report" + value
    usual = mime.content_type(value)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mime, "_USUAL", NO_BYTES)
        assert mime.content_type(value) == usual


@given(some(FIELDS))
def test_value(value: bytes) -> None:
    """A value that has only lines that continue it, as in a field."""
    value = re.sub(rb"\r?\n(?![ \t])", b"", value).strip(b"\r\n")
    usual = outcome(lambda: headers.text_of(value))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(headers, "_PLAIN", NO_BYTES)
        assert outcome(lambda: headers.text_of(value)) == usual


@given(st.lists(st.sampled_from(ADDRESS), max_size=8).map("".join))
def test_address(text: str) -> None:
    """An address in its normal form already."""
    usual = outcome(lambda: addresses.mailbox(text))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(addresses, "_NORMAL", NOTHING)
        assert outcome(lambda: addresses.mailbox(text)) == usual
