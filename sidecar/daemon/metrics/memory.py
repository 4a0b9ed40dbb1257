"""The shared memory: one block of cells for each worker, and one for the supervisor.

Owns the blocks. Never says what a number means.

Made before the first fork, so that every process has it and none has to be told of it. Each block has one writer at a time; a
worker that takes the place of a dead one adds to what that one left, so the counts of all blocks together never go down.
"""

import mmap
from collections.abc import Iterable
from typing import Final

from msgspec import Struct

from sidecar.daemon.metrics.series import BOUNDS, CELL, CELLS, GAUGES

# As many as workers at most (64), four times over: those of former generations may be finishing what they have.
BLOCKS: Final = 256

NEVER: Final = 2**64 - 1
"""In `journal_seconds_left`: the free space does not shrink."""

_CELL_BYTES: Final = 8
_OWN: Final = (
    "blocks",
    "started",
    "workers_wanted",
    "workers_ready",
    "workers_retiring",
    "restarts",
    "reloads",
    "failed_reloads",
    "listener_domains",
    "journal_free",
    "journal_minimum_free",
    "journal_seconds_left",
)
"""The supervisor's cells."""


class Histogram(Struct, frozen=True, kw_only=True):
    """How many took how long: of each bucket how many, not cumulated, and the seconds of all together."""

    buckets: tuple[int, ...]
    seconds: float


class Totals(Struct, frozen=True, kw_only=True):
    """All workers together, at one moment: the cells, summed up; and what the supervisor says."""

    cells: tuple[int, ...]
    last_write: int
    own: dict[str, int]

    def of(self, *name: str) -> int:
        """Give one count."""
        return self.cells[CELL[name]]

    def histogram(self, *name: str) -> Histogram:
        """Give one histogram."""
        first = CELL[name]
        end = first + len(BOUNDS) + 1
        return Histogram(buckets=self.cells[first:end], seconds=self.cells[end] / 1e9)


class Memory:
    """The memory as any process sees it."""

    def __init__(self) -> None:
        self._cells = memoryview(mmap.mmap(-1, (len(_OWN) + BLOCKS * CELLS) * _CELL_BYTES)).cast("Q")

    def free(self, used: Iterable[int]) -> int:
        """Give the number of a block that none of the `used` is; the last one where there is none left.

        Two workers that share one lose a count now and then, which is less than losing a worker.
        """
        taken = set(used)
        number = next((number for number in range(BLOCKS) if number not in taken), BLOCKS - 1)
        self.say(blocks=max(self.own("blocks"), number + 1))
        return number

    def block(self, number: int) -> memoryview:
        """Give a block, its gauges at zero, to the one worker that writes there."""
        cells = self._block(number)
        for name in GAUGES:
            cells[CELL["gauge", name]] = 0
        return cells

    def say(self, **numbers: int) -> None:
        """Set numbers of the supervisor's."""
        for name, number in numbers.items():
            self._cells[_OWN.index(name)] = number

    def totals(self) -> Totals:
        """Read everything."""
        blocks = [self._block(number).tolist() for number in range(self.own("blocks"))]
        summed = tuple(map(sum, zip(*blocks, strict=True))) if blocks else (0,) * CELLS
        last = max((block[CELL["plain", "last_write"]] for block in blocks), default=0)
        return Totals(cells=summed, last_write=last, own={name: self.own(name) for name in _OWN})

    def own(self, name: str) -> int:
        """Give a number of the supervisor's."""
        return self._cells[_OWN.index(name)]

    def _block(self, number: int) -> memoryview:
        first = len(_OWN) + number * CELLS
        return self._cells[first : first + CELLS]
