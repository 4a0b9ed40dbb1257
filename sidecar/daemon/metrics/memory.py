"""The shared memory: a block of cells for each worker, and one for the supervisor.

It is made before the first fork, so all processes have it. Each block has one writer at a time. A worker continues the
counts of the dead worker whose block it gets, so a total never goes down.
"""

import mmap
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from sidecar.core.records import Form
from sidecar.daemon.metrics.reporters import SLOTS_BYTES, Reporters, totals_of
from sidecar.daemon.metrics.series import CELL, CELLS

# Four times the highest number of workers (64): older generations can still have open connections. Block 0 is the supervisor's.
BLOCKS: Final = 257

_CELL_BYTES: Final = 8
_LAST_WRITE: Final = CELL["journal_last_write_timestamp_seconds",]
# A worker begins with none of these, even in the block of a dead one.
_IN_PROGRESS: Final = (CELL["sessions",], CELL["journal_waiting",])


class Memory:
    """The memory, from any process."""

    def __init__(self) -> None:
        # The cell before the blocks has the number of blocks in use: pages that no one writes are not read either.
        self._cells = memoryview(mmap.mmap(-1, (1 + BLOCKS * CELLS) * _CELL_BYTES)).cast("Q")
        self._cells[0] = 1
        self._reporters = memoryview(mmap.mmap(-1, BLOCKS * SLOTS_BYTES))

    def free(self, used: Iterable[int]) -> int:
        """Return the number of a block that is not `used`, or of the last one if all are.

        Two workers that share a block can lose a count, which is less than losing a worker.
        """
        taken = set(used)
        number = next((number for number in range(1, BLOCKS) if number not in taken), BLOCKS - 1)
        self._cells[0] = max(self._cells[0], number + 1)
        return number

    def block(self, number: int) -> memoryview:
        """Return a block for the one worker that writes there."""
        cells = self._block(number)
        for cell in _IN_PROGRESS:
            cells[cell] = 0
        return cells

    def reporters(self, number: int) -> Reporters:
        """Return the reporters of a block for the one worker that writes there."""
        return Reporters(self._slots(number))

    def reporter_totals(self) -> Iterator[tuple[str, Form, int]]:
        """Yield reporter, form and number of reports, the sum of all blocks."""
        return totals_of(map(self._slots, range(self._cells[0])))

    def publish(self, numbers: Mapping[tuple[str, ...], int]) -> None:
        """Set numbers of the supervisor, by name and label values."""
        own = self._block(0)
        for name, number in numbers.items():
            own[CELL[name]] = number

    def published(self, *name: str) -> int:
        """Return a number of the supervisor."""
        return self._block(0)[CELL[name]]

    def total(self, *name: str) -> int:
        """Return the sum of all blocks for one cell."""
        return sum(self._block(number)[CELL[name]] for number in range(self._cells[0]))

    def totals(self) -> list[int]:
        """Return the sum of all blocks for each cell, and the latest time of a write."""
        blocks = [self._block(number).tolist() for number in range(self._cells[0])]
        totals = list(map(sum, zip(*blocks, strict=True)))
        totals[_LAST_WRITE] = max(block[_LAST_WRITE] for block in blocks)
        return totals

    def _slots(self, number: int) -> memoryview:
        return self._reporters[number * SLOTS_BYTES : (number + 1) * SLOTS_BYTES]

    def _block(self, number: int) -> memoryview:
        first = 1 + number * CELLS
        return self._cells[first : first + CELLS]
