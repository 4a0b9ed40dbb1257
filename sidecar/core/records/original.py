"""The headers of a returned message that records keep: a dropped report leaves nothing else of it. Never reads a body."""

from msgspec import Raw

from sidecar.core.records.headers import encoded_within, is_among, put
from sidecar.core.reports.original import header_fields

# In characters: an address (RFC 5321 section 4.5.3.1), and the subjects that people write.
_VALUE_LIMIT = 320
# Bytes of JSON. Each record of a bounce report repeats it, and a report can have a thousand.
ORIGINAL_LIMIT = 4 * 1024

# Each is recorded in any case, under this name.
_ALWAYS = {"message-id": "message_id", "from": "from", "to": "to", "subject": "subject", "date": "date"}


def original_of(message: str | bytes | None, wanted: tuple[str, ...]) -> Raw | None:
    """Return `meta.original` of a returned message or header section with LF line ends, as JSON; None if it is empty.

    `wanted` names further fields in lower case; `*` at the end means all that begin so. Of a repeated field of these all values
    are kept, of `From`, `To` and the like the first.
    """
    found: dict[str, str | list[str]] = {}
    least = 0  # bytes of JSON of the fields so far
    for name, text in header_fields(message or ""):
        if (standard := _ALWAYS.get(name)) is not None:
            found.setdefault(standard, text[:_VALUE_LIMIT])
        elif least < ORIGINAL_LIMIT and is_among(name, wanted):
            least += len('"",') + len(text[:_VALUE_LIMIT]) + (0 if name in found else len('"":') + len(name))
            put(found, name, text[:_VALUE_LIMIT])
    return encoded_within(found, ORIGINAL_LIMIT) if found else None
