"""The reader of bounces in text form: any bytes become a bounce or nothing, never an exception.

Owns what is true of a bounce by itself. Never knows what its text should say.
"""

import json
import re
from collections.abc import Iterator

import msgspec

from sidecar.core.reports import mime
from sidecar.core.reports.text import TextBounce, is_from_mailer, read_text
from sidecar.core.reports.text.layouts import FORMATS, LAYOUTS
from sidecar.core.session.events import Header, content_events
from tests.fuzz.corpus import mails

_FORMATS = {layout.format for layout in LAYOUTS} | FORMATS.keys()


def seeds() -> Iterator[bytes]:
    """Return every sample mail."""
    return mails()


def check(data: bytes) -> None:
    """Check the reading of one message, from the null sender and from another, and as an MTA passes it on."""
    bounce, strict = read_text(data, null_sender=True), read_text(data, null_sender=False)
    assert strict is None or strict == bounce
    if bounce is not None:
        _check_bounce(bounce)
    head, _, body = data.partition(b"\n\n")
    fields = [(event.name, event.value) for event in content_events(head) if isinstance(event, Header)]
    passed = b"".join(b"%b: %b\n" % field for field in fields) + b"\n" + body
    if not is_from_mailer(mime.split_message(passed)[0]):
        assert read_text(passed, null_sender=False) is None


def _check_bounce(bounce: TextBounce) -> None:
    assert json.loads(msgspec.json.encode(bounce))["format"] in _FORMATS
    assert bounce.report.per_recipient
    for entry in bounce.report.per_recipient:
        # RFC 6533 has escapes for any character in a status field; a text has none.
        reported = entry.final_recipient
        assert reported is None or not re.search(r"[\r\n]", reported.recipient)
