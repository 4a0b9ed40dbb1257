"""A message file through a whole session: what the reader says of it is what becomes of it, however its body is cut.

Owns the comparison of the ways a message can take. Never knows what the message should be.
"""

import re
from collections.abc import Iterator, Sequence

from sidecar.core.reports.reading import read
from sidecar.core.session.events import Body, Data, EndOfHeaders, EndOfMessage, Event, Header, content_events
from sidecar.core.session.verdicts import Outcome
from tests.building import entry, settings
from tests.core.session.driving import envelope, hello, play, session
from tests.fuzz.corpus import mails
from tests.fuzz.targets.session import check_records

_SETTINGS = settings(
    [entry("bounce.example", log_oob="LogThenDrop"), entry("fbl.example", log_arf="LogThenDrop")], headers=("subject",)
)
# A header section that no two readers could take differently.
_FIELDS = re.compile(rb"[A-Za-z-]+: [ -~]*(?:\n [ -~]*|\n[A-Za-z-]+: [ -~]*)*")
_RECIPIENTS = ("b@bounce.example", "f@fbl.example")


def seeds() -> Iterator[bytes]:
    """Give every sample mail."""
    return mails()


def check(data: bytes) -> None:
    """Check one message, a stranger's, for one who takes bounces and one who takes complaints."""
    events = list(content_events(data))
    _check_events(events, data)
    outcome = _end(events)
    check_records(outcome)
    reading = read(_as_told(events), null_sender=True)
    report = reading.arf is not None or reading.oob is not None
    assert type(outcome.verdict).__name__ == ("Discard" if report else "Reject")
    in_pieces = _end(_cut(events, len(data) % 13 + 1))
    assert in_pieces.verdict == outcome.verdict
    assert [record.type for record in in_pieces.records] == [record.type for record in outcome.records]


def _check_events(events: Sequence[Event], data: bytes) -> None:
    """The events are in order, and hold the message without a byte of it lost but line ends and blanks around colons."""
    kinds = "".join({Header: "h", EndOfHeaders: "e", Body: "b", EndOfMessage: "t"}[type(event)] for event in events)
    assert kinds == "h" * kinds.count("h") + "e" + "b" * kinds.count("b") + "t"
    for event in events:
        if isinstance(event, Header):
            assert event.name
            assert b"\n" not in event.name
            assert all(line[:1] in b" \t" for line in event.value.split(b"\n")[1:])
    assert len(_squeezed(_as_told(events))) == len(_squeezed(data))
    head, _, body = data.replace(b"\r\n", b"\n").partition(b"\n\n")
    if _FIELDS.fullmatch(head):
        told = b"".join(event.chunk for event in events if isinstance(event, Body))
        assert told.replace(b"\r\n", b"\n") == body


def _squeezed(message: bytes) -> bytes:
    return message.translate(None, b" \t\r\n")


def _as_told(events: Sequence[Event]) -> bytes:
    """Put the message together again, as the MTA that tells of it has it."""
    pieces = []
    for event in events:
        match event:
            case Header(name=name, value=value):
                pieces.append(b"%b: %b\r\n" % (name, value))
            case EndOfHeaders():
                pieces.append(b"\r\n")
            case Body(chunk=chunk):
                pieces.append(chunk)
            case _:
                pass  # no content
    return b"".join(pieces)


def _cut(events: Sequence[Event], size: int) -> Iterator[Event]:
    for event in events:
        if isinstance(event, Body):
            yield from (Body(chunk=event.chunk[start : start + size]) for start in range(0, len(event.chunk), size))
        else:
            yield event


def _end(content: Sequence[Event] | Iterator[Event]) -> Outcome:
    return play(session(_SETTINGS), [*hello(), *envelope(_RECIPIENTS), Data(), *content])[-1]
