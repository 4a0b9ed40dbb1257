"""The index of the journal, off the loop: one thread, a limit on what waits, and a sentence if the index cannot be read."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar

from starlette.exceptions import HTTPException

from sidecar.core.settings.settings import Settings
from sidecar.journal.index import Index, IndexUnavailableError, open_index

# Pages that wait while the disk is slow.
_WAITING_LIMIT: Final = 100

T = TypeVar("T")


class IndexThread:
    """The thread that asks the index."""

    def __init__(self, settings: Settings) -> None:
        self._index = open_index(settings)
        self._thread = ThreadPoolExecutor(1, "index")
        self._waiting = 0

    async def ask(self, ask: Callable[[Index], T]) -> T:
        """Return what `ask` finds. Raise HTTPException, and what `ask` raises."""
        if self._waiting >= _WAITING_LIMIT:
            raise HTTPException(
                503, f"{_WAITING_LIMIT} questions wait for the disk: ask again in a second.", {"Retry-After": "1"}
            )
        self._waiting += 1
        future = self._thread.submit(ask, self._index)
        loop = asyncio.get_running_loop()
        # Not when the client has gone: the thread still has the question.
        future.add_done_callback(lambda _: loop.call_soon_threadsafe(self._count_answered))
        try:
            return await asyncio.wrap_future(future)
        except IndexUnavailableError as error:
            raise HTTPException(503, f"There are no records to show: {error}.", {"Retry-After": "1"}) from error

    def _count_answered(self) -> None:
        self._waiting -= 1
