"""How long to wait before something that failed is started again.

Owns that one number. Never starts anything.
"""

# While all workers wait, no mail is served, and a start costs some 10 ms: a long wait would only be felt by the peers.
FIRST_SECONDS = 1.0
LONGEST_SECONDS = 5.0
# A worker that served this long did not die of how it was started.
STEADY_SECONDS = 60.0


class Backoff:
    """`first` seconds after the first failure, twice as long after each further one, up to `longest`.

    It begins again after a process that lived long.
    """

    def __init__(self, *, first: float = FIRST_SECONDS, longest: float = LONGEST_SECONDS) -> None:
        self._first = self._next = first
        self._longest = longest

    def after(self, lived: float) -> float:
        """Return the seconds to wait after the death of a process that lived so many seconds."""
        wait = self._first if lived >= STEADY_SECONDS else self._next
        self._next = min(wait * 2, self._longest)
        return wait
