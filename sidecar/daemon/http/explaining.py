"""The thread of explanations."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from starlette.exceptions import HTTPException

# Complete questions: one is being answered, the others wait in memory.
EXPLAINING_LIMIT = 4

T = TypeVar("T")


class ExplainerThread:
    """The thread of explanations: each can take a second, and nothing else waits for it. At most `limit` are in memory."""

    def __init__(self, limit: int = EXPLAINING_LIMIT) -> None:
        self._limit = limit
        self._thread = ThreadPoolExecutor(1, "explainer")
        self._waiting = 0

    async def do(self, ask: Callable[[], T]) -> T:
        """Return what `ask` returns. Raise HTTPException if too many questions wait."""
        if self._waiting >= self._limit:
            are = "question is" if self._limit == 1 else "questions are"
            sentence = f"{self._limit} {are} being answered: ask again in a second."
            raise HTTPException(503, sentence, {"Retry-After": "1"})
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, ask)
        finally:
            self._waiting -= 1
