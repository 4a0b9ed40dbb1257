"""The index of the journal, off the loop: one thread, a limit on what waits, and a sentence if the index cannot be read."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Final, TypeVar

from starlette.exceptions import HTTPException

from sidecar.core.settings.settings import Settings
from sidecar.daemon.http.threads import ThreadQueue
from sidecar.journal.index import Index, IndexUnavailableError, open_index

# Pages that wait while the disk is slow.
_WAITING_LIMIT: Final = 100

T = TypeVar("T")


class IndexThread:
    """The thread that asks the index."""

    def __init__(self, settings: Settings) -> None:
        self._index = open_index(settings)
        self._thread = ThreadPoolExecutor(1, "index")
        self._queue = ThreadQueue(_WAITING_LIMIT, f"{_WAITING_LIMIT} questions wait for the disk")

    async def ask(self, ask: Callable[[Index], T]) -> T:
        """Return what `ask` finds. Raise HTTPException, and what `ask` raises."""
        try:
            return await self._queue.run(self._thread, partial(ask, self._index))
        except IndexUnavailableError as error:
            raise HTTPException(503, f"There are no records to show: {error}.", {"Retry-After": "1"}) from error
