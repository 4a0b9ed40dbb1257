"""Large parts are decoded in pieces; the result is that of one call, wherever the pieces are cut."""

import binascii
from collections.abc import Iterator
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.core.reports import mime, original

TEXT = st.lists(st.sampled_from([b"\r", b"\n", b"\r\n", b"a", b"\xc3", b"\xa9", b"\xe2\x82\xac", b"\xf0\x9f\x98", b"\xff"]))
QUOTED = st.lists(st.sampled_from([b"\r", b"\n", b"\r\n", b"a", b"=", b"=4", b"=41", b"=\n", b"=\r\n", b" "]))
BASE64 = st.lists(st.sampled_from([b"A", b"B", b"c", b"/", b"+", b"=", b"\r\n", b" "]))


@pytest.fixture(autouse=True, scope="module")
def small_pieces() -> Iterator[None]:
    """Let pieces have a few bytes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(original, "_PIECE", 7)
        patch.setattr(mime, "_PIECE", 8)
        yield


@given(TEXT)
def test_text(parts: list[bytes]) -> None:
    """What is not UTF-8 stays as bytes, wherever the fault is."""
    message = b"".join(parts)
    expected: str | bytes = message.replace(b"\r\n", b"\n")
    with suppress(UnicodeDecodeError):
        expected = message.replace(b"\r\n", b"\n").decode()
    assert original.original_text(message) == expected


@given(QUOTED)
def test_quoted_printable(parts: list[bytes]) -> None:
    body = b"".join(parts)
    part = mime.Part(b"text/plain", b"Content-Transfer-Encoding: quoted-printable", body, 0, len(body))
    assert mime.transfer_decoded(part) == binascii.a2b_qp(body)


@given(BASE64)
def test_base64(parts: list[bytes]) -> None:
    text = b"".join(parts)
    digits = text.translate(None, b" \r\n").rstrip(b"=")
    digits = digits[:-1] if len(digits) % 4 == 1 else digits
    try:
        expected = binascii.a2b_base64(digits + b"=" * (-len(digits) % 4), strict_mode=True)
    except binascii.Error:
        expected = None
    assert mime.unbase64(text) == expected
