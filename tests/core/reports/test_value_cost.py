"""Each reader of one value takes time that grows with its length, whatever the value repeats."""

import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from itertools import product

import pytest

from sidecar.core.reports import dates, fields, mime
from sidecar.core.reports.addresses import mailbox, readable_address
from sidecar.core.reports.fields import VALUE_LIMIT
from sidecar.core.reports.strict import content_type, headers, values
from sidecar.core.reports.strict.headers import FaultError
from sidecar.core.reports.values import DiagnosticCode

# Each takes 2 ms at most. A pattern that tries all lengths of a run takes some hundred.
_CPU_SECONDS = 0.015

_BEGINNINGS = (
    "",
    "a@",
    "<a@",
    "rfc822;",
    "rfc822; a@",
    "a/b;",
    "a/b;a=",
    "5.1.1 ",
    "550 ",
    "Mon,",
    "1 Jan 2026",
    "1 Jan 2026 0:0 ",
)
BASE64 = b"Content-Transfer-Encoding: base64"
_DATE = "Thu, 1 Jan 2026 00:00:00 +0000"
_PIECES = (
    *(
        " ",
        "\xa0",
        "\v",
        "\t",
        " \r\n",
        "\r\n ",
        "\r",
        "\n",
        "(",
        ")",
        "()",
        "(\\(",
        "(a",
        "\\(",
        "(())",
        "((((()))))",
        "((((a",
        '"',
        '\\"',
    ),
    *(
        "<",
        "<>",
        "<a@b",
        "@b,",
        "a@b",
        "a.",
        ".",
        "a",
        "1",
        "1.",
        ":",
        ";",
        ";a=",
        "=",
        "=?",
        "=?a?q?",
        "=?utf-8?q?a?= ",
        "%41",
        "'",
        "*",
    ),
    *(
        "\xe9.",
        "\xe9",
        "\xe9" * 20 + ".",
        "\u0f77" * 60 + ".",
        "a\u0301" * 20 + ".",
        "\ufdfa.",
        "\u3002",
        "mailto:",
        "rfc822;",
        "smtp;",
        "a:",
        "5.1.",
        "a@[",
        "+00",
    ),
)


def of_text(read: Callable[[bytes], object]) -> Callable[[str], object]:
    """Return a reader of text for one of bytes."""
    return lambda text: read(text.encode())


READERS: dict[str, Callable[[str], object]] = {
    "mailbox": mailbox,
    "readable address": readable_address,
    "recipient": fields.recipient,
    "diagnostic": fields.diagnostic_code,
    "status": fields.status,
    "readable status": fields.readable_status,
    "class": fields.class_of,
    "reply": lambda text: fields.reply_status(DiagnosticCode(diagnostic_type="smtp", diagnostic=text)),
    "ip address": fields.ip_address,
    "fields": of_text(fields.blocks),
    "lines of base64": of_text(lambda text: mime.transfer_decoded(mime.Part(b"", BASE64, text, 0, len(text)))),
    "unstructured": lambda text: fields.unstructured(text.encode(), VALUE_LIMIT),
    "date": dates.read_date,
    "content type": of_text(mime.content_type),
    "strict recipient": values.recipient,
    "strict status": values.status,
    "strict date": values.timestamp,
    "strict text": of_text(headers.text_of),
    "strict content type": of_text(content_type.content_type),
    "strict encoding": of_text(content_type.transfer_encoding),
}


def texts() -> Iterable[str]:
    """Yield values of the greatest length that is read."""
    for begin, piece in product((*_BEGINNINGS, _DATE), _PIECES):
        yield (begin + piece * VALUE_LIMIT)[:VALUE_LIMIT]


def seconds(read: Callable[[str], object], text: str) -> float:
    """Return the CPU time of one reading."""
    start = time.process_time()
    with suppress(ValueError, FaultError):
        read(text)
    return time.process_time() - start


@pytest.mark.parametrize("name", READERS)
def test_value_cost(name: str) -> None:
    """No value stops the other connections of a worker."""
    read = READERS[name]
    for text in texts():
        # Other programs on the machine only make it slower.
        assert any(seconds(read, text) < _CPU_SECONDS for _ in range(5)), text[:40]
