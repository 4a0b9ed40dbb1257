"""The search for expensive input: messages made of a few pieces, each repeated, changed for as long as that costs more.

Owns the pieces, the changes and the climb; its score is the CPU time or the memory that a byte costs a worker. What is too
expensive by `tests.cost.judging` is kept as a file, and belongs into the table of `tests.cost.inputs`.
"""

import hashlib
import random
import sys
import time
from pathlib import Path

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from sidecar.core.settings.settings import Settings
from tests.cost.inputs import BOTH, HEADERS, MEGABYTE, PLAIN, STRICT
from tests.cost.judging import cpu_share, memory_share
from tests.cost.lasting import lasting_fault
from tests.cost.measuring import measure
from tests.cost.wire import Wire

_SETTINGS: tuple[Settings, ...] = (PLAIN, HEADERS, STRICT)
_REPORT = b"Content-Type: multipart/report; report-type=feedback-report; boundary=b"
# The first ones make a report of a message; the others are what readers look for, and what makes them go back.
_PIECES = (
    _REPORT + b"\n", _REPORT, b"\n", b"\n--b\n", b"--b\n", b"--b--\n",
    b"Content-Type: message/delivery-status\n\n", b"Content-Type: message/feedback-report\n\n",
    b"Content-Type: message/rfc822\n\n", b"Content-Type: text/rfc822-headers\n\n", b"Content-Type: message/global\n",
    b"Reporting-MTA: dns; a\n\n", b"Final-Recipient: rfc822; a@b\n", b"Original-Recipient: rfc822;<a@b>\n",
    b"Action: failed\n", b"Action: expanded\n", b"Status: 5.1.1\n", b"Diagnostic-Code: smtp; 550-5.1.1 a\n 550 b\n",
    b"Feedback-Type: abuse\nUser-Agent: a\nVersion: 1\n", b"Original-Rcpt-To: <a@b>\n", b"Reported-URI: x\n",
    b"Arrival-Date: Thu, 2 Jul 2026 18:55:38 +0000 (UTC)\n", b"Last-Attempt-Date: ", b"Received-Date: 1 Jul 26 1:11\n",
    b"Content-Transfer-Encoding: base64\n", b"Content-Transfer-Encoding: quoted-printable\n", b"YTpiCg==\n", b"=41", b"=\n",
    b"X-KumoRef: eyJfQF8iOiJcXF8vIn0=\n", b"X-a:eyJfQF8iOiJ", b"x-a:b\n", b"a:\n", b"a:b\n ", b"a: ", b"\n ", b" ",
    b"\t", b"\r", b"\r\n",
    b"()", b"(", b")", b'"', b'""', b"\\", b'\\"', b";", b"a=;", b"boundary*0*=", b"boundary*1=x;", b"=", b"/", b"<", b">",
    b"@",
    b"=?utf-8?q??=", b" =?utf-8?b?w6k=?=", b"=?koi8-r?q?=C1?= ", b"rfc822;", b"5.1.1 ", b"utf-8;\\x{41}",
    b"\x7f", b"\x01", b"\x00", b"\xff", b"\xc2\x80", b"\xd0\xb0", b"\xe2\x80\x8e", b"\xe2\x80\x9c",
    b"\xf0\x9f\x98\x80", b"a", b"b" * 70 + b"\n",
)  # fmt: skip
_SIZE = 48 * 1024
_FULL_SIZE = MEGABYTE
_PIECES_LIMIT = 14
_BRED = 24
# Nothing is measured exactly within a few milliseconds: worth a second look from here on.
_SUSPICIOUS = 0.7


class Shape(Struct, frozen=True):
    """Pieces, with how often each is repeated, and the one that fills up a message to `size` bytes."""

    pieces: tuple[tuple[int, int], ...]
    filling: int
    size: int
    settings: int


class Climb(Struct, frozen=True, kw_only=True):
    """What a search came to: shapes measured, how often one cost more than its parent, and the fault, if any."""

    inputs: int
    better: int
    worst: float
    fault: str | None


def seeds() -> list[Shape]:
    """Return a report of each kind, and a message that is none, as shapes."""
    feedback, status, returned = (0, 3, 7, 18), (0, 3, 6, 11, 12, 14, 16), (0, 3, 7, 18, 3, 8)
    return [
        Shape(pieces=tuple((piece, 1) for piece in pieces), filling=len(pieces) - 1, size=_SIZE, settings=settings)
        for pieces in (feedback, status, returned, (32,), (1, 2))
        for settings in range(len(_SETTINGS))
    ]


def message(shape: Shape, size: int) -> bytes:
    """Return a message of a shape, with about so many bytes."""
    parts = [_PIECES[piece] * count for piece, count in shape.pieces]
    lacking = size - sum(map(len, parts))
    parts[shape.filling] += _PIECES[shape.pieces[shape.filling][0]] * max(
        0, lacking // len(_PIECES[shape.pieces[shape.filling][0]])
    )
    return b"".join(parts)[: 2 * size]


def wire(shape: Shape, size: int) -> Wire:
    """Send messages of a shape until there are so many bytes."""
    made = Wire()
    one = message(shape, min(shape.size, size))
    while made.sent < size:
        made.envelope(BOTH).content(one)
    return made


def search(folder: Path, *, seconds: float, inputs: int = sys.maxsize, seed: int | None = None) -> Climb:
    """Climb until the time is over, or so many shapes were measured."""
    chance = random.Random(seed)  # noqa: S311 - chance is all it has to be
    until = time.monotonic() + seconds
    best = sorted((_scored(shape, _SIZE) for shape in seeds()), key=lambda pair: -pair[0])[:_BRED]
    measured, better = len(best), 0
    while time.monotonic() < until and measured < inputs:
        parent, shape = chance.choice(best)
        child, changed = _scored(_changed(shape, chance), _SIZE)
        measured += 1
        if child > _SUSPICIOUS and (fault := _fault(changed, folder)) is not None:
            return Climb(inputs=measured, better=better, worst=child, fault=fault)
        if child > parent or child > best[-1][0]:
            better += child > parent
            scores = {shape: score for score, shape in [*best, (child, changed)]}
            best = sorted(((score, shape) for shape, score in scores.items()), key=lambda pair: -pair[0])[:_BRED]
    return Climb(inputs=measured, better=better, worst=best[0][0], fault=None)


def _scored(shape: Shape, size: int) -> tuple[float, Shape]:
    """Return what a shape costs as the part of what it may cost, by the worse of the two measures."""
    made = wire(shape, size)
    # Many small messages need no memory to speak of.
    cost = measure(bytes(made.packets), _SETTINGS[shape.settings], repeats=1, trace=shape.size >= _SIZE)
    return max(cpu_share(made, cost, records=cost.records), memory_share(made, cost)), shape


def _fault(shape: Shape, folder: Path) -> str | None:
    """Measure again, at full size; a shape that exceeds a limit each time is kept as a file."""
    made = wire(shape, _FULL_SIZE)
    cost = measure(bytes(made.packets), _SETTINGS[shape.settings])
    fault = lasting_fault(made, cost, _SETTINGS[shape.settings], records=cost.records)
    if fault is None:
        return None
    folder.mkdir(parents=True, exist_ok=True)
    content = message(shape, min(shape.size, _FULL_SIZE))
    path = folder / f"cost-{hashlib.sha256(content).hexdigest()[:16]}.eml"
    path.write_bytes(content)
    pieces = ", ".join(f"{_PIECES[piece]!r} x {count}" for piece, count in shape.pieces)
    return (
        f"{fault}: {pieces}; filled up with piece {shape.filling} to {shape.size} bytes, settings {shape.settings}; see {path}"
    )


def _changed(shape: Shape, chance: random.Random) -> Shape:
    pieces, filling = list(shape.pieces), shape.filling
    for _ in range(chance.choice((1, 1, 1, 2, 3))):
        at = chance.randrange(len(pieces))
        piece, count = pieces[at]
        match chance.randrange(8):
            case 0 | 1:
                pieces[at] = chance.randrange(len(_PIECES)), count
            case 2:
                pieces[at] = piece, min(_SIZE, count * chance.choice((2, 10, 100)))
            case 3:
                pieces[at] = piece, max(1, count // chance.choice((2, 10, 100)))
            case 4 | 5 if len(pieces) < _PIECES_LIMIT:
                pieces.insert(chance.randrange(len(pieces) + 1), (chance.randrange(len(_PIECES)), chance.choice((1, 1, 3, 60))))
            case 6 if len(pieces) > 1:
                del pieces[at]
            case _:
                filling = chance.randrange(len(pieces))
    sizes = (shape.size, shape.size, shape.size, 1500, 6000, 20_000, _SIZE, _FULL_SIZE)
    settings = shape.settings if chance.random() < 0.9 else chance.randrange(len(_SETTINGS))
    return replace(
        shape, pieces=tuple(pieces), filling=min(filling, len(pieces) - 1), size=chance.choice(sizes), settings=settings
    )


def main() -> None:
    """Search as `tests.fuzz.runs` asks: the folder, seconds, inputs and a seed are the arguments, the answer is JSON."""
    folder, seconds, inputs, seed = sys.argv[1:]
    found = search(Path(folder), seconds=float(seconds), inputs=int(inputs), seed=int(seed) or None)
    sys.stdout.buffer.write(msgspec.json.encode(found))


if __name__ == "__main__":
    main()
