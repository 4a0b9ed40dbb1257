"""Records made of what a report says: any fields, any dates, and still one line of JSON with an instant that others can read.

Owns what is true of a record whatever a report holds. Never knows which records a message deserves.
"""

import json
import re
from collections.abc import Iterator
from datetime import datetime
from email.utils import parsedate_to_datetime

from sidecar.core.records import Record, encode, oob_bounces
from sidecar.core.reports import mime
from sidecar.core.reports.arf import read_feedback
from sidecar.core.reports.dates import read_date
from sidecar.core.reports.oob import read_status
from sidecar.core.reports.values import OobReport
from tests.core.records.making import FACTS, reception, to
from tests.fuzz.corpus import mails

_INSTANT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", re.ASCII)
# The one form of RFC 5322 that the standard library reads for certain.
_PLAIN_DATE = re.compile(r"[1-9]\d{0,1} (?:Jan|Mar|Jul|Dec) (?:19|20)\d\d [01]\d:[0-5]\d:[0-5]\d [+-]0\d[0-5]\d", re.ASCII)
_DATES = (
    b"Thu, 02 Jul 2026 18:55:38 +0000 (UTC)",
    b"2 Jul 26 18:55 EST",
    b"2 Jul 2026 18:55:38 +0130",
    b"13 Dec 1999 08:05:00 -0730",
    b"2026-07-02T18:55:38.123Z",
    b"Thu Jul  2 18:55:38 CEST 2026",
    b"1 Jan 0001 00:00:00 +0000",
    b"31 Dec 9999 23:59:60 -2359",
    b"29 Feb 2027 24:60:61 +9999",
)


def seeds() -> Iterator[bytes]:
    """Give the part of every sample report that programs read, and dates in it of every form."""
    for mail in mails():
        yield from (part.body for part in mime.parts(mail, b"cut") if part.media_type.startswith(b"message/"))
    for date in _DATES:
        yield b"Final-Recipient: rfc822; a@b.example\nAction: failed\nStatus: 5.0.0\nLast-Attempt-Date: " + date + b"\n"
        yield b"Feedback-Type: abuse\nArrival-Date: " + date + b"\n"


def check(data: bytes) -> None:
    """Check every record that a part with these fields makes."""
    report = read_status(data, None)
    if isinstance(report, OobReport):
        for record in next(oob_bounces(FACTS, [to("b@bounce.example.com")], report=report)):
            assert record.type == "OOB"
            _check_record(record)
    complaint = read_feedback(data, None, None)
    if not isinstance(complaint, str):
        _check_record(reception(report=complaint))
    _check_date(data.decode("utf-8", "replace"))


def _check_record(record: Record) -> None:
    line = encode(record)
    assert line.endswith(b"}\n")
    assert line.count(b"\n") == 1
    told = json.loads(line)
    assert _INSTANT.fullmatch(told["event_time"]), told["event_time"]
    assert int(datetime.fromisoformat(told["event_time"]).timestamp()) == told["timestamp"]
    assert 0 <= told["response"]["code"] <= 65535


def _check_date(text: str) -> None:
    """Check the date against the standard library, where that can be believed."""
    for line in text.splitlines():
        date = line.rpartition(": ")[2].strip()
        if _PLAIN_DATE.fullmatch(date):
            given = read_date(date)
            try:
                expected = parsedate_to_datetime(date)
            except ValueError:
                assert given is None
            else:
                assert given is not None
                assert datetime.fromisoformat(given) == expected
