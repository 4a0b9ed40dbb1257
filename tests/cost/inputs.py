"""The most expensive inputs that are known, each as what one SMTP client sends.

Owns the inputs. Never knows what they cost. Those of commands and of many messages have a sixteenth of a megabyte: what they
cost grows with their number. Those of header fields alone have a quarter of a megabyte.
"""

from base64 import b64encode
from collections.abc import Callable, Iterator
from typing import Any

from msgspec import Struct

from sidecar.core.settings.settings import Settings
from sidecar.core.settings.values import LimitSettings
from tests.building import entry, settings
from tests.cost.wire import Wire

MEGABYTE = 1 << 20
_MANY = MEGABYTE // 16
# No packet of the milter protocol is longer than 65,535 bytes.
_FIELD = 64_000

BOUNCE, FBL, BOTH, OPEN = b"b@bounce.example", b"f@fbl.example", b"t@both.example", b"o@open.example"
_DOMAINS = (
    entry("bounce.example", log_oob="LogThenDrop"),
    entry("fbl.example", log_arf="LogThenDrop"),
    entry("both.example", log_oob="LogThenDrop", log_arf="LogThenDrop"),
    entry("open.example", relay_to=True),
    entry("from.example", relay_from=["198.51.100.4"]),
)


def under(**more: Any) -> Settings:
    """Make settings without a rate of reports: what is measured is the cost of those that are let through."""
    return settings(_DOMAINS, limits=LimitSettings(reports_per_second=1_000_000), **more)


PLAIN = under()
HEADERS = under(headers=("subject", "x-*"))
STRICT = under(compat="kumomta")
_ALL = under(headers=("*",), original_headers=("*",))


class Input(Struct, frozen=True, kw_only=True):
    """One input: what the MTA makes of it, and the settings that it meets.

    `records` are those that the contract asks for beyond one for each message: their cost is no fault of the input.
    """

    name: str
    wire: Callable[[], Wire]
    settings: Settings = PLAIN
    records: int = 0


REPORT = b"Content-Type: multipart/report; report-type=feedback-report; boundary=b\n"
STATUS = REPORT + b"\n--b\nContent-Type: message/delivery-status"
GROUP = b"Final-Recipient: rfc822; a@b\nAction: failed\nStatus: 5.0.0\n"
FEEDBACK = REPORT + b"\n--b\nContent-Type: message/feedback-report\n\nFeedback-Type: abuse\nUser-Agent: a\nVersion: 1\n"
RETURNED = FEEDBACK + b"\n--b\nContent-Type: message/rfc822\n\n"
TEXT = b"From: MAILER-DAEMON@a\nSubject: failure notice\n\nThis is the qmail-send program at a.\n\n"
_REPORTER = STATUS + b"\n\nReporting-MTA: dns; a\n\n"
_IDN = "é.".encode()
_HIDDEN = (0x7F, *range(0x80, 0xA0), 0x200E, 0x200F, *range(0x2028, 0x202F), *range(0x2066, 0x206A))

_TEXTS = {
    "a line": b"x" * 76 + b"\n",
    "0x7f": b"\x7f",
    "0x01": b"\x01",
    "quotes": b'"',
    "U+0080": b"\xc2\x80",
    "U+0080 between letters": b"\xc2\x80" + b"a" * 25,
    "U+0080 between others": b"\xc2\x80\xd0\xb0",
    "all that is escaped": "".join(map(chr, _HIDDEN)).encode(),
    "quotation marks": b"\xe2\x80\x9c",
    "0xff": b"\xff",
    "0xff and U+0080": b"\xff\xc2\x80",
    "an emoji and letters": b"\xf0\x9f\x98\x80" + b"x" * 100_000,
    "an emoji, 0xff and letters": b"\xf0\x9f\x98\x80\xff" + b"x" * 100_000,
}
_LARGE = ("0x7f", "an emoji and letters")


def _times(piece: bytes, size: int = MEGABYTE) -> bytes:
    """Repeat a piece until it has some size."""
    return piece * (size // len(piece))


def _message(head: bytes, piece: bytes, tail: bytes = b"", *, to: bytes = BOTH, size: int = MEGABYTE) -> Callable[[], Wire]:
    return lambda: Wire().envelope(to).content(head + _times(piece, size) + tail)


def _messages(message: bytes, *, to: bytes = BOTH) -> Callable[[], Wire]:
    def wire() -> Wire:
        made = Wire()
        while made.sent < _MANY:
            made.envelope(to).content(message)
        return made

    return wire


def _fields(name: bytes, value: bytes, *, to: bytes = BOTH, claim: bool = True) -> Callable[[], Wire]:
    """One message of header fields alone."""

    def wire() -> Wire:
        made = Wire().envelope(to).data()
        if claim:
            made.header(b"Content-Type", b" multipart/report; boundary=b")
        for _ in range(MEGABYTE // 4 // (len(name) + len(value) + 3)):
            made.header(name, value)
        return made.end()

    return wire


def _recipients(address: Callable[[int], bytes], *, sender: bytes = b"") -> Callable[[], Wire]:
    """MAIL and RCPT alone."""

    def wire() -> Wire:
        made = Wire().envelope(sender=sender)
        while made.sent < _MANY:
            made.recipient(address(made.recipients))
        return made

    return wire


def _trace(value: bytes, count: int, marker: bytes = b"\\\\_/") -> bytes:
    """Return a header field with a trace, of so many values."""
    return b"X-a: " + b64encode(b'{"_@_":"' + marker + b'","a":[' + b",".join([value] * count) + b"]}") + b"\n"


def _of_fields() -> Iterator[Input]:
    comments = b" text/plain;" + _times(b"()", _FIELD)
    yield Input(name="content-type of comments", wire=_fields(b"Content-Type", comments, claim=False))
    yield Input(name="content-type of nested comments", wire=_fields(b"Content-Type", b" " + _times(b"(", _FIELD), claim=False))
    yield Input(name="content-type of quotes", wire=_fields(b"Content-Type", b" (a)" + _times(b'""', _FIELD), claim=False))
    yield Input(name="tiny fields of a report", wire=_fields(b"a", b""))
    yield Input(name="tiny fields", wire=_fields(b"a", b"", claim=False))
    yield Input(name="tiny fields to relay", wire=_fields(b"a", b"", to=OPEN, claim=False))
    yield Input(name="tiny fields, recorded", wire=_fields(b"x-", b"", to=OPEN, claim=False), settings=HEADERS)
    yield Input(name="fields of 20 bytes", wire=_fields(b"X-Some-Field", b" a", claim=False))


def _of_commands() -> Iterator[Input]:
    yield Input(name="idn recipients", wire=_recipients(lambda n: b"%d@" % n + _IDN * 26 + b"example"))
    yield Input(name="idn recipients, each another", wire=_recipients(lambda n: b"a@" + _IDN * 25 + b"%d.example" % n))
    yield Input(name="idn recipients of long labels", wire=_recipients(lambda n: b"a@" + "é".encode() * 240 + b"%d" % n))
    labels = "%xé.%xà.%xè.%xù."
    yield Input(
        name="idn recipients of other labels", wire=_recipients(lambda n: b"a@" + (labels % ((n,) * 4)).encode() + b"x")
    )
    idn = b"a@" + _IDN * 26 + b"b"
    yield Input(name="an idn sender", wire=_recipients(lambda n: b"%d@open.example" % n, sender=idn))
    yield Input(name="recipients in quotes", wire=_recipients(lambda n: b'"' + b'""' * 500 + b'%d"@open.example' % n))
    yield Input(name="recipients with routes", wire=_recipients(lambda n: b"@" + b"a" * 900 + b":%d@open.example" % n))
    yield Input(name="rejected recipients", wire=_recipients(lambda n: b"%d@x.example" % n))


def _of_reports() -> Iterator[Input]:
    yield Input(name="content-type of parameters", wire=_messages(REPORT[:-1] + b";" + _times(b"a=;", _FIELD) + b"\n\n--b\n"))
    yield Input(name="part headers of comments", wire=_message(REPORT, b"\n--b\nContent-Type: text/plain;" + b"()" * 5000))
    encoding = b"\nContent-Transfer-Encoding: 7bit" + b"()" * 30_000 + b"\n\n" + GROUP
    yield Input(name="part encodings of comments", wire=_messages(STATUS + encoding))
    yield Input(name="parts", wire=_message(REPORT + b"\n", b"--b\n"))
    date = b"(" * 50 + b")" * 50 + b"\n"
    yield Input(name="dates of nested comments", wire=_message(FEEDBACK, b"a: b\nArrival-Date: " + date))
    dated = GROUP + b"Last-Attempt-Date: " + date + b"\n"
    yield Input(name="recipients with such dates", wire=_message(STATUS + b"\n\n", dated, to=BOUNCE), records=1000)
    yield Input(name="empty report fields", wire=_message(FEEDBACK, b"a:\n"))
    yield Input(name="other report fields", wire=_messages(FEEDBACK + b"".join(b"%x:\n" % n for n in range(19_000))))
    yield Input(name="encoded words", wire=_message(STATUS + b"\n\n" + GROUP, b"a: " + b"=?utf-8?q??= " * 600 + b"\n"))
    yield Input(name="recipients", wire=_message(STATUS + b"\n\n", GROUP + b"\n", to=BOUNCE), records=1000)
    yield Input(name="traces", wire=_message(RETURNED, b"X-KumoRef: eyJfQF8iOiJcXF8vIn0=\n"))
    names = b"".join(b"%x:\n" % number for number in range(900))
    yield Input(name="tiny returned fields, recorded", wire=_messages(RETURNED + names), settings=_ALL)
    yield Input(name="traces of large numbers", wire=_messages(RETURNED + _trace(b"1e300", 7000)))
    yield Input(name="traces of empty objects", wire=_message(RETURNED, _trace(b"{}", 15_000, b"no marker")))
    yield Input(name="messages of 1000 traces", wire=_messages(RETURNED + b"X-a:eyJfQF8iOiJcXF8vIn0\n" * 1000))
    yield Input(name="messages of 1000 fields", wire=_messages(b"a:\n" * 1000 + FEEDBACK))
    yield Input(name="messages of 1000 report fields", wire=_messages(FEEDBACK + b"a:\n" * 1000))
    yield Input(name="messages of 1000 parts", wire=_messages(FEEDBACK + b"\n--b\nContent-Type:a" * 1000))
    yield Input(name="strict status", wire=_message(STATUS + b"\n\n" + GROUP, b"a:\n", to=BOUNCE), settings=STRICT)
    yield Input(name="strict groups", wire=_messages(_REPORTER + GROUP * 999), settings=STRICT)
    yield Input(name="strict feedback", wire=_message(FEEDBACK, b"a:\n", to=FBL), settings=STRICT)
    yield Input(name="strict addresses", wire=_message(FEEDBACK, b"Original-Rcpt-To: <a@b>\n"), settings=STRICT)
    yield Input(name="strict quotes", wire=_message(FEEDBACK, b'Original-Rcpt-To: "' + b"\\" * 5000 + b"\n"), settings=STRICT)


def _of_text_bounces() -> Iterator[Input]:
    yield Input(name="a text bounce of lines", wire=_message(TEXT, b"x" * 76 + b"\n", to=BOUNCE))
    yield Input(name="a text bounce of empty lines", wire=_message(TEXT, b"\n", to=BOUNCE))
    yield Input(name="a text bounce of replies", wire=_message(TEXT, b"550 5.1.1 x\n", to=BOUNCE))
    yield Input(name="a text bounce of transcripts", wire=_message(TEXT, b"rcpt to:<a@b.c>\n", to=BOUNCE))
    named = TEXT + b"".join(b"<%x@b>:\nno\n\n" % n for n in range(20_000))
    yield Input(name="recipients of a text bounce", wire=lambda: Wire().envelope(BOUNCE).content(named), records=1000)
    yield Input(
        name="a text bounce with 10 MB", wire=_message(TEXT, b"\n\nReceived: a\n", to=BOUNCE, size=10 * MEGABYTE - 2000)
    )


def _of_texts() -> Iterator[Input]:
    for name, piece in _TEXTS.items():
        yield Input(name=f"1 MB of {name}", wire=_message(RETURNED, piece, to=FBL))
    for name in _LARGE:
        yield Input(name=f"10 MB of {name}", wire=_message(RETURNED, _TEXTS[name], to=FBL, size=10 * MEGABYTE - 2000))


def _repeated(
    head: bytes, piece: bytes, recipients: int, tail: bytes = b"", *, size: int = MEGABYTE // 16
) -> Callable[[], Wire]:
    names = [b"%d@both.example" % number for number in range(recipients)]
    return lambda: Wire().envelope(*names).content(head + _times(piece, size) + tail)


_FIELDS = b"".join(b"X-%d: " % number + b"\xf0\x9f\x98\x80" * 15 + b"\n" for number in range(200))
_FAILURES = STATUS + b"\n\nReporting-MTA: dns; a\n\n"
_TAIL = b"\n--b\nContent-Type: message/rfc822\n\n" + _FIELDS

REPEATED = (
    Input(name="complaints with 0x01", wire=_repeated(RETURNED, b"\x01", 500)),
    Input(name="complaints with 0xff", wire=_repeated(RETURNED, b"\xff", 500)),
    Input(
        name="complaints with fields of 0x01", wire=_repeated(FEEDBACK, b"a: " + b"\x01" * 8000 + b"\n", 50, size=MEGABYTE // 3)
    ),
    Input(name="failures with headers", wire=_repeated(_FIELDS + _FAILURES, GROUP + b"\n", 5, _TAIL), settings=_ALL),
    Input(
        name="failures for many with headers",
        wire=_repeated(_FIELDS + _FAILURES, GROUP + b"\n", 1000, _TAIL, size=320),
        settings=_ALL,
    ),
)
"""Reports whose records would repeat much for each recipient: one is a Rejection."""

INPUTS = (*_of_fields(), *_of_commands(), *_of_reports(), *_of_text_bounces(), *_of_texts())
