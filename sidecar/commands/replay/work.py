"""What a worker does with a task: every message read, judged and counted.

Owns that no message ends the run: what cannot be read or judged is counted with the rest. Never decides anything about mail.
"""

from collections.abc import Iterator

from msgspec import Struct

from sidecar.commands.replay.files import Stored, messages
from sidecar.commands.replay.judge import Judge, Judged, encode, unreadable
from sidecar.commands.replay.stores import Piece, Task
from sidecar.commands.replay.tally import ReplayTally

# Lines are handed over as soon as there are so many bytes of them: one report can make 60 MB.
_LINES_LIMIT = 1024 * 1024


class JudgedBatch(Struct, frozen=True, kw_only=True):
    """What came of messages that follow one another: their lines, if lines are wanted, and their counts."""

    lines: bytes
    tally: ReplayTally


def replay(judge: Judge, task: Task, *, with_lines: bool) -> Iterator[JudgedBatch]:
    """Judge all messages of a task."""
    lines = bytearray()
    tally = ReplayTally()
    for piece in task:
        for judged in _judged(judge, piece):
            tally.add(judged)
            if with_lines:
                lines += encode(judged)
            if len(lines) > _LINES_LIMIT:
                yield JudgedBatch(lines=bytes(lines), tally=tally)
                lines, tally = bytearray(), ReplayTally()
    yield JudgedBatch(lines=bytes(lines), tally=tally)


def _judged(judge: Judge, piece: Piece) -> Iterator[Judged]:
    # Names are bytes: those that are no UTF-8 come as lone surrogates, which no JSON has.
    name = piece.path.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    try:
        for stored in messages(piece, judge.limit):
            yield _guarded(judge, name, stored)
    except OSError as error:
        yield unreadable(name, error.strerror or str(error))
    except ValueError as error:
        yield unreadable(name, str(error))


def _guarded(judge: Judge, name: str, stored: Stored) -> Judged:
    try:
        return judge.judge(name, stored)
    except Exception as error:  # noqa: BLE001 - what the milter answers 451 must not end a run over a million messages
        return unreadable(name, f"the program failed on it, which is an error of the program: {error!r}", stored.offset)
