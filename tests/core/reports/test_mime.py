"""One level of MIME."""

import base64

import pytest

from sidecar.core.reports import mime
from sidecar.core.reports.reading import may_be_report

REPORT = b"multipart/report"


@pytest.mark.parametrize(
    ("value", "boundary"),
    [
        (b" multipart/report; boundary=b", b"b"),
        (b'Multipart/REPORT;BOUNDARY="b c";', b"b c"),
        (b"multipart/report;\r\n\treport-type=x;\n boundary=b", b"b"),
        (b"multipart / report ; boundary = b", b"b"),
        (b"multipart/report boundary=b", b"b"),
        (b"multipart/report (boundary=c); boundary=b", b"b"),
        (b'(a(b\\)")c)multipart/report; boundary=b(c', b"b"),
        (b'multipart/report; x="(;boundary=c"; boundary=b', b"b"),
        (b'multipart/report; boundary="a\\"b\\\\c"', b'a"b\\c'),
        (b'multipart/report; boundary="b', b"b"),
        (b'multipart/report; boundary="b\\', b"b\\"),
        (b"multipart/report; boundary=----=_b/?:c", b"----=_b/?:c"),
        (b"multipart/report; boundary=b; boundary=c", b"b"),
        (b"multipart/report; boundary=", b""),
        (b"multipart/report; boundary*0=a; boundary*1=b", b"ab"),
        (b"multipart/report; boundary*1=b; boundary*0*=utf-8''a%20", b"a b"),
        (b"multipart/report; boundary*=us-ascii'en'a%3Db", b"a=b"),
        (b"multipart/report; boundary*=a'b", b"a'b"),
        (b"multipart/report; boundary*x=a", None),
        (b"multipart/report", None),
        (b"multipart/report;;; ; =b", None),
    ],
)
def test_content_type_of_a_report(value: bytes, boundary: bytes | None) -> None:
    """A Content-Type is multipart/report in any writing of it, and its boundary is found."""
    assert may_be_report(value)
    found = mime.content_type(value)
    assert (found.media_type, found.boundary) == (REPORT, boundary)


@pytest.mark.parametrize(
    "value",
    [
        *(b"", b"multipart", b"multipart/", b"/report", b"text/plain", b"multipart/report-x"),
        *(b"multipart/report/x", b"multipart/report\0", b"multi part/report", b'"multipart/report"'),
        *(b"(multipart/report)", b"x-multipart/report", b"multipart//report", b"; multipart/report"),
    ],
)
def test_content_type_of_no_report(value: bytes) -> None:
    """Nothing else is multipart/report."""
    assert not may_be_report(value)
    assert mime.content_type(value).media_type != REPORT


@pytest.mark.parametrize(
    ("head", "value"),
    [
        (b"content-type: a", b" a"),
        (b"X: y\r\nContent-TYPE\t :a\r\n\tb\r\nZ: c\r", b"a\r\n\tb\r"),
        (b"Content-Type-X: a\nContent-Type\nContent-Type: b\nContent-Type: c", b" b"),
        (b"X: y\n Content-Type: a", None),
        (b"XContent-Type: a", None),
        (b"", None),
    ],
)
def test_header(head: bytes, value: bytes | None) -> None:
    """The first field of a name is found, whole, and no other is taken for it."""
    assert mime.header(head, b"content-type") == value


@pytest.mark.parametrize(
    ("rest", "bodies"),
    [
        (b"\n--b\n\none\n--b\n\ntwo\n--b--\n", [b"one\n", b"two\n"]),
        (b"\npreamble --b\n--b\n\none\n--b--\nepilogue\n--b\n\nno\n", [b"one\n"]),
        (b"\r\n--b \t\r\n\r\none\r\n--b-- \r\n", [b"one\r\n"]),
        (b"\n--b\n\none\n", [b"one\n"]),
        (b"\n--b\n\none", [b"one"]),
        (b"\n--b\n--b\n\ntwo\n", [b"", b"two\n"]),
        (b"\n--b\nX: y\n--b--", [b""]),
        (b"\n--b", []),
        (b"\n --b\n\none\n", []),
        (b"", []),
    ],
)
def test_parts(rest: bytes, bodies: list[bytes]) -> None:
    """A multipart is cut at its boundary lines; the line end before the next boundary stays with the part."""
    assert [part.body for part in mime.parts(rest, b"b ")] == bodies


def test_part_limit() -> None:
    """An external host does not choose how many parts are looked at."""
    assert len(mime.parts(b"\n--b" * 100_000, b"b")) == mime.PART_LIMIT


@pytest.mark.parametrize(
    ("encoding", "body", "decoded"),
    [
        (b"", b"a=3D\r\n", b"a=3D\r\n"),
        (b"Content-Transfer-Encoding: 8bit\n", b"a=3D\n", b"a=3D\n"),
        (b"content-transfer-encoding:QUOTED-printable\n", b"a=3D=\r\nb=zz\n", b"a=b=zz\n"),
        (b"Content-Transfer-Encoding: base64 (it says)\n", base64.encodebytes(b"text" * 99), b"text" * 99),
        (b"Content-Transfer-Encoding: base64;\n", b"dGV4\r\n dA\n", b"text"),
        (b"Content-Transfer-Encoding: base64\n", b"dGV4dGV\n", b"texte"),
        (b"Content-Transfer-Encoding: base64\n", b"dGV4d\n", b"tex"),
        (b"Content-Transfer-Encoding: base64\n", b"it is not: base64\n", None),
        (b"Content-Transfer-Encoding: base64\n", base64.encodebytes(b"text" * 30) + b"\nand: words\n", b"text" * 30),
        (b"Content-Transfer-Encoding: base64\n", base64.encodebytes(b"text" * 8 + b"t") * 2, (b"text" * 8 + b"t") * 2),
        (b"Content-Transfer-Encoding: base64\n", b"Hello\nand: words\n", None),
        (b"Content-Transfer-Encoding: base64\n", base64.encodebytes(b"text" * 30) + b"Two words\nand: more\n", b"text" * 30),
        (b"Content-Transfer-Encoding: 'Base64'\n", b"dGV4dA==", b"text"),
        (b"Content-Transfer-Encoding: base64\n", b"\n", b""),
    ],
)
def test_transfer_decoded(encoding: bytes, body: bytes, decoded: bytes | None) -> None:
    """A transfer encoding is undone, also where it is cut short; what is not base64 is None."""
    assert mime.transfer_decoded(mime.Part(b"text/plain", encoding, body, 0, len(body))) == decoded


def test_a_content_type_with_too_much_in_it() -> None:
    """Comments behind the media type are not looked at for it; what follows too many of them, or of parameters, is not read."""
    assert mime.media_type(b"multipart/report;" + b"()" * 30_000) == b"multipart/report"
    assert mime.media_type(b"()" * 30_000 + b"multipart/report") == b"text/plain"
    assert mime.media_type(b"(a;(b)) multipart/(c)report;") == b"multipart/report"
    assert mime.content_type(b"multipart/report; boundary=b" + b"(())" * 30_000).boundary == b"b"
    assert mime.content_type(b"multipart/report;" + b"()" * 30_000 + b"boundary=b").boundary is None
    assert mime.content_type(b"multipart/report;" + b"a=b;" * 30_000 + b"boundary=b").boundary is None
    assert mime.content_type(b"multipart/report;" + b"a=b;" * 30 + b"boundary=b").boundary == b"b"
