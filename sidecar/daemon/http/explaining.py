"""The thread of explanations."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from sidecar.core.text import counted
from sidecar.daemon.http.threads import ThreadQueue

# Complete questions: one is being answered, the others wait in memory.
EXPLAINING_LIMIT = 4

T = TypeVar("T")


class ExplainerThread:
    """The thread of explanations: each can take a second, and nothing else waits for it. At most `limit` are in memory."""

    def __init__(self, limit: int = EXPLAINING_LIMIT) -> None:
        self._thread = ThreadPoolExecutor(1, "explainer")
        self._queue = ThreadQueue(limit, f"{counted(limit, 'question is', 'questions are')} being answered")

    async def do(self, ask: Callable[[], T]) -> T:
        """Return what `ask` returns. Raise HTTPException if too many questions wait."""
        return await self._queue.run(self._thread, ask)
