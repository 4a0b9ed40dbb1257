"""Work of requests in threads: the loop serves others meanwhile, and a limit bounds what is in memory."""

import asyncio
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import Final, TypeVar

from starlette.exceptions import HTTPException

from sidecar.core.text import counted

EXPLAINING_LIMIT: Final = 4
"""Complete questions: one is being answered, the others wait in memory."""

T = TypeVar("T")


class ThreadQueue:
    """What threads have to do, or are doing: `limit` pieces of work at most. `busy` is the fact for a client beyond it."""

    def __init__(self, limit: int, busy: str) -> None:
        self._limit = limit
        self._busy = busy
        self._count = 0

    async def run(self, thread: ThreadPoolExecutor, work: Callable[[], T]) -> T:
        """Return what `work` returns in a thread. Raise HTTPException beyond the limit, and what `work` raises."""
        if self._count >= self._limit:
            raise HTTPException(503, f"{self._busy}: ask again in a second.", {"Retry-After": "1"})
        self._count += 1
        future = thread.submit(work)
        loop = asyncio.get_running_loop()

        def count_done(_: Future[T]) -> None:
            with suppress(RuntimeError):  # the loop has ended
                loop.call_soon_threadsafe(self._count_done)

        # Not when the client has gone: the thread still has the work.
        future.add_done_callback(count_done)
        return await asyncio.wrap_future(future)

    def _count_done(self) -> None:
        self._count -= 1


class QuestionThread:
    """A thread for questions that can take a second or more: nothing else waits for it. At most `limit` are in memory."""

    def __init__(self, limit: int = EXPLAINING_LIMIT) -> None:
        self._thread = ThreadPoolExecutor(1, "questions")
        self._queue = ThreadQueue(limit, f"{counted(limit, 'question is', 'questions are')} being answered")

    async def do(self, ask: Callable[[], T]) -> T:
        """Return what `ask` returns. Raise HTTPException if too many questions wait, and what `ask` raises."""
        return await self._queue.run(self._thread, ask)
