"""A message file as the events that an MTA makes of it: commands and tests run the same code as the milter."""

from collections.abc import Iterator

from sidecar.core.session.events import Body, EndOfHeaders, EndOfMessage, Event, Header

# Postfix and Sendmail pass the body in pieces of this size (MILTER_CHUNK_SIZE).
CHUNK = 65535


def content_events(message: bytes) -> Iterator[Event]:
    """Yield the events after DATA. The header section ends at the first line that is no field, as in Postfix."""
    start = 0
    field: list[bytes] = []
    while start < len(message):
        end = message.find(b"\n", start) + 1 or len(message)
        line = message[start:end]
        if line[:1] in {b" ", b"\t"} and field:
            field.append(line)
        else:
            if field:
                yield _header(field)
            field = []
            if not _begins_field(line):
                start = end if line in {b"\r\n", b"\n"} else start
                break
            field = [line]
        start = end
    if field:
        yield _header(field)
    yield EndOfHeaders()
    for offset in range(start, len(message), CHUNK):
        yield Body(chunk=message[offset : offset + CHUNK])
    yield EndOfMessage()


def _begins_field(line: bytes) -> bool:
    # RFC 5322 section 2.2: a field name is printable ASCII without a space, and a colon follows.
    name, colon, _ = line.partition(b":")
    return bool(colon and name) and all(33 <= byte <= 126 for byte in name.rstrip(b" \t"))  # noqa: PLR2004 - "!" to "~"


def _header(lines: list[bytes]) -> Header:
    name, _, value = b"".join(lines).partition(b":")
    return Header(name=name.rstrip(b" \t"), value=value.removeprefix(b" ").rstrip(b"\r\n"))
