"""Strict reading: what KumoMTA's readers demand, one demand at a time, and nothing else."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from sidecar.core.reports.reading import read
from tests import DATA
from tests.core.session.driving import ARF, OOB

CORPUS = sorted((DATA / "reports").glob("*.eml"))
MESSAGE = b"Reporting-MTA: dns; mx.example.net\r\n"
FULL_ARF = ARF.replace(
    b"Version: 1\r\n",
    b"Version: 1\r\nIncidents: 3\r\nOriginal-Mail-From: <a@b.example>\r\nOriginal-Rcpt-To: c@d.example\r\n"
    b"Reporting-MTA: dns; mx.example\r\nArrival-Date: some day\r\n",
)


def changed(message: bytes, old: bytes, new: bytes) -> bytes:
    assert message.count(old) >= 1
    return message.replace(old, new, 1)


@pytest.mark.parametrize("path", CORPUS, ids=lambda path: path.stem)
def test_strict_is_narrower(path: Path) -> None:
    """What is a report strictly is one leniently."""
    message = path.read_bytes()
    strict, lenient = read(message, strict=True), read(message)
    assert (strict.oob is None) >= (lenient.oob is None)
    assert (strict.arf is None) >= (lenient.arf is None)
    assert (strict.arf or strict.oob) is not None or strict.why.startswith("not a report, because ")


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        (b"", b"", None),
        (MESSAGE, b"", "does not begin with the name of a field|its reporting-mta is missing"),
        (MESSAGE, MESSAGE * 2, "its reporting-mta appears more than once"),
        (b"dns; mx", b"mx", "its reporting-mta is invalid"),
        (MESSAGE, MESSAGE + b"Arrival-Date: Thu, 02 Jul 26 18:55:38 UTC\r\n", None),
        (MESSAGE, MESSAGE + b"Arrival-Date: 2026-07-02 18:55:38\r\n", "its arrival-date is invalid"),
        (b"Thu, 02 Jul", b"Fri, 02 Jul", "its last-attempt-date is invalid"),
        (b"Thu, 02 Jul 2026 18:55:38 +0000", b"Wed, 01 Jul 2026 23:55:38 -0500", None),
        (b"Thu, 02 Jul", b"2 jul", None),
        (b"+0000", b"", "its last-attempt-date is invalid"),
        (b"Action: failed", b"Action: FAILED", "its action is invalid"),
        (b"Action: failed\r\n", b"", "its action is missing"),
        (b"Status: 5.1.1\r\n", b"", "its status is missing"),
        (b"5.1.1\r\n", b"5.1.1 (unknown)\r\n", None),
        (b"5.1.1\r\n", b"5.1\r\n", "its status is invalid"),
        (b"5.1.1\r\n", b"256.1.1\r\n", "its status is invalid"),
        (b"5.1.1\r\n", b"5.1.65536\r\n", "its status is invalid"),
        (b"smtp; 550", b"550", "its diagnostic-code is invalid"),
        (b"Final-Recipient: rfc822; gone@example.net\r\n", b"", "its final-recipient is missing"),
        (b"rfc822; gone@", b"gone@", "its final-recipient is invalid"),
        (b"rfc822; gone@example.net", b"rfc822; <gone@example.net>", None),
        (b"rfc822; gone@example.net", b"rfc822; gone", "its final-recipient is invalid"),
        (b"rfc822; gone@example.net", b"x-local; gone", None),
        (
            b"\r\n\r\nFinal-Recipient: rfc822; slow",
            b"\r\n\r\n\r\nFinal-Recipient: rfc822; slow",
            "its final-recipient is missing",
        ),
        (b"Content-Type: message/delivery", b"Content-Type: Message/Delivery", "not spelled message/delivery-status"),
        (b"multipart/report;", b"Multipart/Report;", "its Content-Type is not spelled multipart/report"),
        (MESSAGE, MESSAGE + "Naïve: x\r\n".encode(), "does not begin with the name of a field"),
        (MESSAGE, MESSAGE + b"a line\r\n that continues\r\n", "does not begin with the name of a field"),
        (MESSAGE, MESSAGE + b"X-Folded: a\r\n b\r\n", None),
    ],
)
def test_bounces(old: bytes, new: bytes, fault: str | None) -> None:
    """One thing that is not as KumoMTA wants it, in the message's fields or any recipient's, spoils a bounce report."""
    message = changed(OOB, old, new)
    reading = read(message, strict=True)
    assert read(message).oob is not None
    if fault is None:
        assert reading.oob == read(message).oob
    else:
        assert reading.oob is None
        assert any(one in reading.why for one in fault.split("|"))


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        (b"", b"", None),
        (b"User-Agent: Isp/1.0\r\n", b"", "its user-agent is missing"),
        (b"Version: 1\r\n", b"", "its version is missing"),
        (b"Version: 1\r\n", b"Version: 1\r\nVersion: 1\r\n", "its version appears more than once"),
        (b"Incidents: 3", b"Incidents: many", "its incidents is invalid"),
        (b"Incidents: 3", b"Incidents: 4294967296", "its incidents is invalid"),
        (b"<a@b.example>", b"<redacted>", "its original-mail-from is invalid"),
        (b"<a@b.example>", b"<>", None),
        (b"c@d.example", b"redacted", "its original-rcpt-to is invalid"),
        (b"c@d.example", b'"c d"@[192.0.2.1]', None),
        (b"dns; mx.example", b"mx.example", "its reporting-mta is invalid"),
        (b"feedback-report;", b'"Feedback-Report";', "its report-type is not spelled feedback-report"),
        (b"message/feedback-report\r\n", b"message/Feedback-Report\r\n", "is not spelled message/feedback-report"),
    ],
)
def test_complaints(old: bytes, new: bytes, fault: str | None) -> None:
    """One thing that is not as KumoMTA wants it spoils a feedback report; but its date may be anything."""
    message = changed(FULL_ARF, old, new)
    reading = read(message, strict=True)
    assert read(message).arf is not None
    if fault is None:
        lenient = read(message).arf
        assert lenient is not None
        assert reading.arf == replace(lenient, extensions={})  # where the date is
    else:
        assert reading.arf is None
    assert fault is None or fault in reading.why


def test_one_kind_may_be_left() -> None:
    """Of a message that is both kinds, the one that is read strictly stays."""
    both = (CORPUS[0].parent / "arf-and-oob.eml").read_bytes()
    spoilt = read(both.replace(b"Action: failed", b"Action: Failed"), strict=True)
    assert spoilt.arf is not None
    assert spoilt.oob is None
    assert spoilt.why.startswith("a feedback report")


TYPE = b'multipart/report; report-type=delivery-status; boundary="cut"'
ARF_TYPE = b'multipart/report; report-type=feedback-report; boundary="cut"'
PART = b"message/delivery-status\r\n"


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (TYPE, TYPE + b";"),
        (TYPE, TYPE.replace(b";", b";;", 1)),
        (TYPE, TYPE + b'; boundary="cut"'),
        (TYPE, TYPE + b"; junk"),
        (TYPE, TYPE + b"; junk=a/b"),
        (TYPE, TYPE + b"; (unclosed"),
        (TYPE, TYPE + b"; a=\xe9"),
        (PART, b"message/delivery-status;\r\n"),
        (PART, b"message/delivery-status; charset=\r\n ;\r\n"),
        (b"Action: failed", b"Action:\tfailed"),
        (b"Action: failed", b"Action:\r\n failed"),
        (b"Action: failed", b"Action: failed "),
        (b"Status: 5.1.1", b"Status:\t5.1.1"),
        (b"gone@example.net", b"gone@example.net."),
        (b"gone@example.net", b"gone.@example.net"),
        (b"gone@example.net", b"gone@[192.0.2.256]"),
        (b"gone@example.net", b"gone@[IPv6:fe80::1%1]"),
        (b"gone@example.net", b"gone@" + b"a" * 64 + b".example"),
        (b"Thu, 02 Jul", b"Thu , 02 Jul"),
        (b"18:55:38", b"8:55:38"),
        (b"+0000", b"+0060"),
        (b"+0000", b"+0000 ("),
        (b"+0000", b"+0000 (x) y"),
        (b"+0000", b"+0000 " + b"()" * 101),
        (TYPE, TYPE + b" ()" * 101),
        (PART, PART + b"Content-Transfer-Encoding: base64\r\n"),
        (b"--cut--", b"--cut\r\n folded: first\r\n\r\n--cut--"),
        (b"--cut--", b"--cut\r\nContent-Type: multipart/mixed; boundary=in\r\n\r\n--in\r\n\tx: y\r\n--in--\r\n--cut--"),
    ],
)
def test_strict_where_kumomta_is(old: bytes, new: bytes) -> None:
    """What KumoMTA does not accept is no report strictly, and is one leniently."""
    message = changed(OOB, old, new)
    assert read(message, strict=True).oob is None
    assert read(message).oob is not None


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (ARF_TYPE, ARF_TYPE + b";"),
        (b"Feedback-Type: abuse", b"\r\nFeedback-Type: abuse"),
        (b"<a@b.example>", b" <a@b.example> "),
        (b"<a@b.example>", b"<a@b.example> (a name)"),
        (b"User-Agent: Isp/1.0", b"User-Agent: Isp\xff/1.0"),
        (b"Version: 1\r\n", b"Version: 1\r\n" * 2),
    ],
)
def test_strict_in_complaints(old: bytes, new: bytes) -> None:
    """The same for feedback reports."""
    message = changed(FULL_ARF, old, new)
    assert read(message, strict=True).arf is None
    assert read(message).arf is not None


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (TYPE, TYPE.replace(b"/", b" (a (nested) comment) /").replace(b";", b" (\\)) ;")),
        (TYPE, TYPE.replace(b";", b"((((a) b) c) d)(e) ;")),
        (TYPE, TYPE.replace(b";", b"\r\n\t;")),
        (TYPE, TYPE.replace(b"; ", b" ")),
        (TYPE, TYPE.replace(b'"cut"', b"cut")),
        (TYPE, TYPE.replace(b'boundary="cut"', b"boundary*0*=us-ascii'en'%63; boundary*1=ut")),
        (TYPE, TYPE.replace(b'boundary="cut"', b"boundary*1=ut; boundary*0=c")),
        (TYPE, TYPE.replace(b'"cut"', b"=?utf-8?q?=63ut?=")),
        (TYPE, TYPE.replace(b'"cut"', b'"=?utf-8?b?Y3V0?="')),
        (TYPE, TYPE + b'; name="a \\"b\\" ;"; empty='),
        (b"From: mailer", b"From mailer Thu Jul  2 18:55:38 2026\r\nFrom: mailer"),
        (b"From: mailer", b" a line that begins with a space\r\n\tand one more\r\nFrom: mailer"),
        (b"Subject: ", b"a junk line\r\nSubject: "),
        (PART, b"message/delivery-status (a comment); charset=us-ascii\r\n"),
        (PART, PART + b"Content-Transfer-Encoding: 7bit;\r\n"),
        (PART, PART + b"Content-Transfer-Encoding: x-unknown\r\n"),
        (b"Action: failed", b"Action : failed"),
        (b"Action: failed", b"Action:    failed"),
        (b"Action: failed", b"Action:failed"),
        (b"Action: failed", b"Action: fai\r\n\tled".replace(b"\r\n\t", b"")),
        (b"Thu, 02 Jul", b"THU,2 JUL"),
        (b"18:55:38 +0000", b"18 : 55:38 +0000 (a (nested) comment) (and one)"),
        (b"18:55:38 +0000", b"18:55:38 (a comment) utc"),
        (b"+0000", b"+0000 " + b"()" * 100),
        (TYPE, TYPE + b" " + b"(" * 100 + b")" * 100),
        (b"18:55:38 +0000", b"18:55:38 Z (Zulu)"),
        (b"rfc822; gone@", b"rfc822; <@a.example,@b.example:gone@"),
    ],
)
def test_wide_where_kumomta_is(old: bytes, new: bytes) -> None:
    """What KumoMTA accepts is a report in both modes, with the same recipients."""
    message = changed(OOB, old, new)
    if b"<@" in new:
        message = changed(message, b":gone@example.net", b":gone@example.net>")
    strict, lenient = read(message, strict=True).oob, read(message).oob
    assert strict is not None
    assert lenient is not None
    assert strict.per_recipient == lenient.per_recipient
    assert strict.per_recipient[0] == getattr(read(OOB).oob, "per_recipient", [None])[0]


@given(
    st.lists(st.sampled_from([b"\r\n", b"\n", b"\r", b" ", b":", b";", b"Action", b"<", b'"', b"\\", b"(", b"\xff", b"a@b"]))
)
def test_never_raises(pieces: list[bytes]) -> None:
    """Whatever stands in the fields, strict reading gives an answer."""
    for message, at in ((OOB, b"Reporting-MTA: "), (ARF, b"Version: ")):
        read(message.replace(at, at + b"".join(pieces)), strict=True)
