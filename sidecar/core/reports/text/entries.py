"""A text in a known layout -> the recipients that it names, and where in the text.

Owns how layouts are found and recipients are named. Never reads a reply.
"""

import re
from collections.abc import Iterator
from itertools import islice

from msgspec import Struct

from sidecar.core.reports.addresses import RECIPIENT_LIMIT, readable_address
from sidecar.core.reports.text.header import MailerHeader
from sidecar.core.reports.text.layout import MORE, Layout
from sidecar.core.reports.text.notice import BounceText

# A notice can have this many lines and recipients, and one more for some bytes each: in real ones a recipient and its reply
# have a hundred bytes. Each has a cost beyond that of its bytes. What follows is not read.
_LINES, _LINE_SIZE = 500, 48
_RECIPIENTS, _RECIPIENT_SIZE = 20, 64
_LINE_RECIPIENTS = 100
# A person who quotes a bounce writes some words in front of it.
_NEAR = 400
_AT_START = 120
_ORIGIN = re.compile(
    rb"[ \t]{1,8}\((?:ultimately )?(?:generated|expanded) from:? <?([^\s<>()]{1,256}@[^\s<>()]{1,255})>?\)", re.IGNORECASE
)
# Behind the recipients: the transcript of a session, other recipients.
_RULE = re.compile(rb"[ \t]{0,4}-{3,5} ?[A-Za-z]")
_PHRASES: dict[bytes, re.Pattern[bytes]] = {}


class TextRecipient(Struct):
    """A recipient in a text: the line that names it begins at `start`, and its name ends at `named`.

    `original` is the address that was expanded to it.
    """

    address: str
    start: int
    named: int
    original: str | None = None


def begin(layout: Layout, phrase: bytes, header: MailerHeader, text: BounceText) -> int | None:
    """Return where the recipients of a layout can begin, or None if a text that has its phrase does not have this layout."""
    if layout.sender not in header.sender or (layout.by_mailer and not header.from_mailer):
        return None
    if layout.needs and not any(need in text.flat or need.decode() in header.program for need in layout.needs):
        return None
    is_doubtful = not header.is_automatic or (header.has_reply_subject and not layout.as_reply)
    if is_doubtful and text.flat.find(phrase) > (_NEAR if header.is_failure else _AT_START):
        return None
    if layout.here:
        return 0
    at = text.lower.find(phrase)
    if at >= 0:
        return at + len(phrase)
    found = _spaced(phrase).search(text.lower)
    return 0 if found is None else found.end()


def _spaced(phrase: bytes) -> re.Pattern[bytes]:
    """Return the pattern of a phrase whose words can be on several lines."""
    pattern = _PHRASES.get(phrase)
    if pattern is None:
        pattern = _PHRASES[phrase] = re.compile(rb"\s++".join(map(re.escape, phrase.split(b" "))))
    return pattern


def entries_of(layout: Layout, header: MailerHeader, text: BounceText, start: int) -> list[TextRecipient]:
    """Return the recipients that a text names, each once."""
    entries: dict[str, TextRecipient] = {}
    last: TextRecipient | None = None
    left = _RECIPIENTS + (text.end - start) // _RECIPIENT_SIZE
    for at, end in islice(_lines(text.text, start, text.end), _LINES + (text.end - start) // _LINE_SIZE):
        first = text.text[at:end].lstrip()[:1]
        if first == b"(":
            if (origin := _ORIGIN.match(text.text, at, end)) and (address := address_of(origin[1])):
                last = _expanded(entries, last, TextRecipient(address, at, end))
        elif first and (found := _named(layout, header, text, at, end)):
            for entry in found[:left]:
                last = entries.setdefault(entry.address.lower(), entry)
            left -= len(found)
            if left <= 0:
                break
        elif entries and first == b"-" and _RULE.match(text.text, at, end):
            break
        else:
            last = None
    return list(entries.values())[:RECIPIENT_LIMIT]


def _expanded(entries: dict[str, TextRecipient], last: TextRecipient | None, origin: TextRecipient) -> TextRecipient | None:
    """Add the address that was expanded to the last recipient; without one it is a recipient itself."""
    if last is None:
        entries.setdefault(origin.address.lower(), origin)
    else:
        last.original = origin.address
    return last


def _lines(text: bytes, start: int, end: int) -> Iterator[tuple[int, int]]:
    at = start
    while at < end:
        line_end = text.find(b"\n", at, end)
        line_end = end if line_end < 0 else line_end
        yield at, line_end
        at = line_end + 1


def _named(layout: Layout, header: MailerHeader, text: BounceText, at: int, end: int) -> list[TextRecipient]:
    """Return the recipients of one line: none, one, or several with commas between them."""
    found = layout.recipient.match(text.text, at, end)
    if found is None:
        local = layout.local.match(text.text, at, end) if layout.local is not None and header.domain else None
        return [] if local is None else [TextRecipient(f"{local[1].decode()}@{header.domain}", at, local.end())]
    entries: list[TextRecipient] = []
    while found is not None and len(entries) < _LINE_RECIPIENTS:
        address = address_of(found[found.lastindex or 1])
        if address is None:
            break
        entries.append(TextRecipient(address, at, found.end()))
        found = MORE.match(text.text, found.end(), end)
    return entries


def failed_entries(header: MailerHeader, start: int) -> list[TextRecipient]:
    """Return the recipients of X-Failed-Recipients."""
    addresses = (address_of(address.encode()) for address in header.failed)
    return [TextRecipient(address, start, start) for address in addresses if address is not None][:RECIPIENT_LIMIT]


def address_of(name: bytes) -> str | None:
    """Return a recipient's address in its normal form, or None if the name has no domain."""
    text = readable_address(name.decode("utf-8", "replace").strip(" \t\r<>\"'.,;:"))
    return text if "@" in text.strip("@") and not text.isspace() else None
