"""The report readers: any bytes become a report or a reason, never an exception.

Owns what is true of a reading by itself. Never knows what a report should say.
"""

import json
from collections.abc import Iterator

import msgspec

from sidecar.core.reports import mime
from sidecar.core.reports.reading import may_be_report, read
from sidecar.core.reports.values import ReportReading
from tests.fuzz.corpus import mails


def seeds() -> Iterator[bytes]:
    """Give every sample mail, with line ends of both kinds."""
    for mail in mails():
        yield mail
        yield mail.replace(b"\r\n", b"\n")


def check(data: bytes) -> None:
    """Check the reading of one message, and that line ends make no difference to what it is."""
    reading = read(data)
    _check_reading(reading, data)
    if b"\r" not in data:
        assert _kinds(read(data.replace(b"\n", b"\r\n"))) == _kinds(reading)


def _kinds(reading: ReportReading) -> tuple[bool, bool]:
    return reading.arf is not None, reading.oob is not None


def _check_reading(reading: ReportReading, data: bytes) -> None:
    assert json.loads(msgspec.json.encode(reading))["why"] == reading.why
    assert reading.why.isprintable()
    assert len(reading.why) < 300
    assert any(_kinds(reading)) != reading.why.startswith("not a report, because ")
    if any(_kinds(reading)) and not reading.read_as.startswith("text:"):
        assert may_be_report(mime.header(mime.split_message(data)[0], b"content-type"))
