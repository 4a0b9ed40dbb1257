"""Forms that are too large, or have too many fields."""

import pytest
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException

from sidecar.daemon.http.console.forms import read_form

PART = b'--b\r\nContent-Disposition: form-data; name="%d"%s\r\n\r\nx\r\n'
MULTIPART, ENCODED = "multipart/form-data; boundary=b", "application/x-www-form-urlencoded"


@pytest.mark.parametrize(
    ("kind", "body", "status"),
    [
        (MULTIPART, b"".join(PART % (number, b"") for number in range(51)), 400),
        (MULTIPART, b"".join(PART % (number, b'; filename="x"') for number in range(51)), 400),
        (ENCODED, b"&".join(b"%d=x" % number for number in range(51)), 400),
        (ENCODED, b"a=" + b"%ff" * 100_000, 413),
    ],
)
def test_forms_are_bounded(kind: str, body: bytes, status: int) -> None:
    """Each field of another name takes memory, and so does the decoding of each character."""
    with pytest.raises(HTTPException) as caught:
        read_form(Headers({"content-type": kind}), body + (b"--b--\r\n" if kind == MULTIPART else b""))
    assert caught.value.status_code == status
    assert read_form(Headers({"content-type": MULTIPART}), PART % (1, b"") + b"--b--\r\n").get("1") == "x"
