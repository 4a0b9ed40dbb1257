"""Status parts as programs write them: what each of them says of its recipients."""

import base64
import quopri

import pytest

from sidecar.core.reports.reading import read
from tests.core.reports.shapes import HEAD, status

MESSAGE = b"Reporting-MTA: dns; mx.a.example\n\n"
GROUP = b"Final-Recipient: rfc822; jo@b.example\nAction: failed\nStatus: 5.1.1\nDiagnostic-Code: smtp; 550 5.1.1 no such user\n"
FAILED = [("jo@b.example", "failed", "5.1.1")]
TWO = [("jo@b.example", "failed", "5.1.1"), ("ann@b.example", "failed", "5.2.2")]
JO, ANN = b"Final-Recipient: rfc822; jo@b.example\n", b"Final-Recipient: rfc822; ann@b.example\n"
ACTION, FIRST, SECOND = b"Action: failed\n", b"Status: 5.1.1\n", b"Status: 5.2.2\n"


def said(message: bytes) -> list[tuple[str, str, str]] | str:
    """Return recipient, action and status of each entry of a bounce report, or why the message is none."""
    reading = read(message)
    if reading.oob is None:
        return reading.why
    entries: list[tuple[str, str, str]] = []
    for entry in reading.oob.per_recipient:
        reported, code = entry.original_recipient or entry.final_recipient, entry.status
        assert reported is not None
        entries.append((reported.recipient, entry.action, f"{code.class_}.{code.subject}.{code.detail}" if code else ""))
    return entries


@pytest.mark.parametrize(
    ("action", "actions"),
    [
        *(
            (word, ("failed", "failed"))
            for word in ("failed (bad)", "FAILED;", '"failed"', "'failed'", "<failed>", "(5) failed")
        ),
        *(
            (word, ("failed", "failed"))
            for word in ("failed-permanently", "=?utf-8?q?failed?=", "failed\n\tfailed", "\ufefffailed")
        ),
        *(
            (word, ("failed", "delayed"))
            for word in ("Failure", "delivery-failed", "fehlgeschlagen", "\u00e9chec", "\u5931\u6557")
        ),
        *((word, ("failed", "delayed")) for word in ("expired", "bounced", "5.1.1", "failedx", "undelivered", "", "delay")),
        *((word, ("delivered", "delivered")) for word in ("delivered", "Delivered (2.1.5)", "delivered: failed")),
    ],
)
def test_action(action: str, actions: tuple[str, str]) -> None:
    """An Action is one of five words with anything around it; of another one the class of the status says the meaning."""
    for code, expected in zip(("5.1.1", "4.4.1"), actions, strict=True):
        body = MESSAGE + JO + f"Action: {action}\nStatus: {code}\n".encode()
        assert said(status(body)) == [("jo@b.example", expected, code)]


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ("Status: 550", ("failed", "")),
        ("Status: 5.x.x", ("failed", "")),
        ("Status: 450", ("delayed", "")),
        ("Status: #5.1.1", ("failed", "5.1.1")),
        ("Status: smtp; 450 4.2.1", ("delayed", "4.2.1")),
        ("Status: 0.0.0\nDiagnostic-Code: smtp; 550 gone", ("failed", "0.0.0")),
        ("Status: 550\nDiagnostic-Code: 5.2.1 off", ("failed", "5.2.1")),
        ("Status: unknown\nDiagnostic-Code: x-postfix; 552 5.2.2 full", ("failed", "5.2.2")),
        ("Diagnostic-Code: smtp; 550 #5.1.0 gone", ("failed", "5.1.0")),
        ("Diagnostic-Code: smtp; 550-[5.1.1] gone", ("failed", "5.1.1")),
        ("Diagnostic-Code: smtp; 550: 5.1.1. gone", ("failed", "5.1.1")),
        ("Diagnostic-Code: smtp; <450 4.2.1 later>", ("delayed", "4.2.1")),
        ("Diagnostic-Code: smtp; SMTP; 550 5.1.1 gone", ("failed", "5.1.1")),
        ("Diagnostic-Code: ESMTP; 550 5.1.1 gone", ("failed", "5.1.1")),
        ("Diagnostic-Code: SMTP: 550 5.1.1 gone", ("failed", "5.1.1")),
        ("Diagnostic-Code: ; 550 gone", ("failed", "")),
        ("Diagnostic-Code: smtp; host mx said: 550 5.1.1 gone", ("failed", "5.1.1")),
        ("Diagnostic-Code: smtp; 250 ok", None),
        ("Diagnostic-Code: x-unix; 67", None),
        ("Diagnostic-Code: smtp; host 192.0.2.5 said 5.1.1.1", None),
    ],
)
def test_without_action(fields: str, expected: tuple[str, str] | None) -> None:
    """Without an Action, the class of the status or of the reply says what happened, however it is spelled."""
    found = said(status(MESSAGE + JO + fields.encode() + b"\n"))
    assert found == [("jo@b.example", *expected)] if expected else isinstance(found, str)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (MESSAGE + FIRST + ACTION + JO + SECOND + ACTION + ANN, TWO),
        (MESSAGE + ACTION + FIRST + JO + ACTION + SECOND + ANN, TWO),
        (MESSAGE + ACTION + JO + FIRST + ACTION + ANN + SECOND, TWO),
        (MESSAGE + JO + ACTION + FIRST + ANN + ACTION + SECOND, TWO),
        (MESSAGE.strip() + b"\n" + FIRST + ACTION + JO + SECOND + ACTION + ANN, TWO),
        (MESSAGE.strip() + b"\n" + FIRST + JO + ACTION, FAILED),
        (MESSAGE + JO + ACTION + FIRST + SECOND, FAILED),
        (MESSAGE + JO + ANN + ACTION + FIRST, FAILED),
    ],
)
def test_order_of_fields(body: bytes, expected: list[tuple[str, str, str]]) -> None:
    """A recipient has the fields that were written for it, also without an empty line before them, and none is lost."""
    assert said(status(body)) == expected


def _in_base64(body: bytes) -> bytes:
    return status(base64.encodebytes(body), b"\r\nContent-Transfer-Encoding: base64")


ENCODED = {
    "quoted": status(base64.encodebytes(MESSAGE + GROUP), b'\r\nContent-Transfer-Encoding: "BASE64"'),
    "in pieces": status(base64.encodebytes(MESSAGE) + base64.encodebytes(GROUP), b"\r\nContent-Transfer-Encoding: base64"),
    "with a footer": status(
        base64.encodebytes(MESSAGE + GROUP) + b"\n-- \nscanned by a gateway!\n", b"\r\nContent-Transfer-Encoding: base64"
    ),
    "base64 that is none": status(MESSAGE + GROUP, b"\r\nContent-Transfer-Encoding: base64"),
    "quoted-printable": status(
        quopri.encodestring((MESSAGE + GROUP).replace(b"b.example", b"b.exam=\nple")).replace(b"=3D\n", b"=\n"),
        b"\r\nContent-Transfer-Encoding: quoted-printable",
    ),
    "CR": status((MESSAGE + GROUP).replace(b"\n", b"\r")),
    "CR in base64": _in_base64((MESSAGE + GROUP).replace(b"\n", b"\r")),
    "LF CR": _in_base64((MESSAGE + GROUP).replace(b"\n", b"\n\r")),
    "CR CR LF": (HEAD + b"--b\nContent-Type: message/delivery-status\n\n" + MESSAGE + GROUP)
    .replace(b"\r", b"")
    .replace(b"\n", b"\r\r\n"),
    "indented": status(b"".join(b"  " + line + b"\n" for line in (MESSAGE + GROUP).splitlines())),
    "byte order mark": status(b"\xef\xbb\xbf" + MESSAGE + GROUP),
}


@pytest.mark.parametrize("name", ENCODED)
def test_encoded(name: str) -> None:
    """A part says the same in any transfer encoding, with any line ends, and with something before or after it."""
    assert said(ENCODED[name]) == FAILED


@pytest.mark.parametrize(
    "charset", ["utf-8", "utf-16", "utf-16-le", "UTF-16BE", "Shift_JIS", "x-sjis", "iso-2022-jp", "euc-jp"]
)
@pytest.mark.parametrize("kind", [b"", b"global-"])
def test_charsets(charset: str, kind: bytes) -> None:
    """A part is decoded with the charset that its Content-Type names."""
    text = (MESSAGE + GROUP).decode().replace("no such user", "\u30e6\u30fc\u30b6\u30fc")
    message = _in_base64(text.encode({"x-sjis": "shift_jis"}.get(charset, charset)))
    kinds = b"message/" + kind + b'delivery-status; charset="' + charset.encode() + b'"'
    reading = read(message.replace(b"message/delivery-status", kinds)).oob
    assert reading is not None
    code = reading.per_recipient[0].diagnostic_code
    assert code is not None
    assert code.diagnostic == "550 5.1.1 \u30e6\u30fc\u30b6\u30fc"


def test_a_mark_says_more_than_a_name() -> None:
    """Text with the mark of UTF-16 is UTF-16; text without two bytes a character is none, whatever its charset is called."""
    assert said(_in_base64((MESSAGE + GROUP).decode().encode("utf-16"))) == FAILED
    assert said(status(MESSAGE + GROUP).replace(b"delivery-status", b"delivery-status; charset=utf-16")) == FAILED
