"""How long to wait before a worker that died is started again.

Owns that one number. Never starts anything.
"""

FIRST_SECONDS = 1.0
# While all workers wait nobody is served, and a start costs some 10 ms: a long wait would only be felt by the peers.
LONGEST_SECONDS = 5.0
# A worker that served this long did not die of how it was started.
STEADY_SECONDS = 60.0


class Backoff:
    """One second after the first death, twice as long after each further one, from the start again after a steady worker."""

    def __init__(self) -> None:
        self._next = FIRST_SECONDS

    def after(self, lived: float) -> float:
        """Give the seconds to wait after the death of a worker that lived so many seconds."""
        wait = FIRST_SECONDS if lived >= STEADY_SECONDS else self._next
        self._next = min(wait * 2, LONGEST_SECONDS)
        return wait
