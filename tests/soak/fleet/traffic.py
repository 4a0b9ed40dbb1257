"""Reports for several programs in turn, and how long each program takes for its replies.

Owns the sessions and their times. Never judges a time.
"""

import gc
import time
from collections.abc import Iterator, Sequence
from multiprocessing import get_context
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Event
from statistics import quantiles
from typing import Final, Self

from msgspec import Struct

from tests.wire.client import Mta
from tests.wire.test_program import OOB

# A connection, a recipient that is accepted, one that is rejected, and a report that is dropped when its records are on disk.
_SESSIONS_PER_SECOND: Final = 150
# Longer than the shipper needs after a burst, which would delay the next program.
_PAUSE_SECONDS: Final = 1.0
# It starts before any thread of the parent.
_FORK = get_context("fork")

BOUND: Final = 1.1
"""How much longer the p99 with a fleet may be."""

RECIPIENT, MESSAGE = "reply to RCPT", "reply to the end of a report"


class Burst(Struct, kw_only=True):
    """What one program answered in a burst: seconds until each reply, and the replies of each session in words."""

    recipient: list[float]
    message: list[float]
    replies: dict[str, int]


Round = Sequence[Burst]
"""A burst at each program."""


class Traffic:
    """A process that sends bursts of so many seconds to programs. Use it as a context manager; then `rounds` has the bursts."""

    def __init__(self, *programs: str, seconds: float) -> None:
        self._end = _FORK.Event()
        self._results, theirs = _FORK.Pipe(duplex=False)
        self._process = _FORK.Process(target=_send, args=(programs, seconds, self._end, theirs), daemon=True)
        self.rounds: list[Round] = []

    def __enter__(self) -> Self:
        self._process.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self.rounds = self._results.recv()
        self._process.join()


def _send(programs: Sequence[str], seconds: float, end: Event, results: Connection) -> None:
    gc.disable()
    rounds: list[Round] = []
    # Quartiles need two.
    while not end.is_set() or len(rounds) < 2:
        # Each one is as often the first.
        first = len(rounds) % len(programs)
        bursts = {}
        for one in (*programs[first:], *programs[:first]):
            bursts[one] = _burst(one, seconds)
            time.sleep(_PAUSE_SECONDS)
        rounds.append([bursts[one] for one in programs])
        gc.collect()
    results.send(rounds)


def _burst(program: str, seconds: float) -> Burst:
    made = Burst(recipient=[], message=[], replies={})
    began = due = time.monotonic()
    while due < began + seconds:
        time.sleep(max(0.0, due - time.monotonic()))
        answered = _session(program, made)
        made.replies[answered] = made.replies.get(answered, 0) + 1
        due += 1 / _SESSIONS_PER_SECOND
    return made


def _session(program: str, made: Burst) -> str:
    """Return all replies in words."""
    try:
        with Mta(program) as mta:
            replies = [mta.begin(), mta.mail(b"<>")]
            for recipient in (b"<sender@bounce.example>", b"<a@elsewhere.example>"):
                before = time.perf_counter()
                replies.append(mta.rcpt(recipient))
                made.recipient.append(time.perf_counter() - before)
            before = time.perf_counter()
            verdict, removed = mta.content(OOB)
            made.message.append(time.perf_counter() - before)
    except (OSError, EOFError) as error:
        return f"no answer: {error!r}"
    return str([*(f"{one.code} {one.text}".strip() for one in (*replies, verdict)), *removed])


class Waits(Struct, frozen=True, kw_only=True):
    """How long replies of one kind took, in seconds: the p99 of each program, of all rounds together.

    `ratios` are the quartiles, over the rounds, of the p99 of each other program by that of the second program.
    """

    kind: str
    p99: list[float]
    ratios: list[tuple[float, float, float]]

    @property
    def is_longer(self) -> bool:
        """Whether the first program is slower, beyond the bound and beyond the third one, in three of four rounds.

        A single p99 can be chance, and all rounds of a short run too.
        """
        fleet, control = self.ratios
        return fleet[0] > BOUND * max(1.0, control[0])


def waits(rounds: Sequence[Round]) -> Iterator[Waits]:
    """Yield the waits for each kind of reply. The second program is what the others are compared with."""
    for name, kind in ((RECIPIENT, "recipient"), (MESSAGE, "message")):
        seconds: list[list[list[float]]] = [[getattr(burst, kind) for burst in one] for one in rounds]
        programs = range(len(rounds[0]))
        each = [[_p99(one[at]) / _p99(one[1]) for one in seconds] for at in programs if at != 1]
        yield Waits(
            kind=name,
            p99=[_p99([value for one in seconds for value in one[at]]) for at in programs],
            ratios=[tuple(quantiles(ratios, n=4)) for ratios in each],  # type: ignore[misc]  # it has three
        )


def _p99(seconds: Sequence[float]) -> float:
    return quantiles(seconds, n=100, method="inclusive")[98]
