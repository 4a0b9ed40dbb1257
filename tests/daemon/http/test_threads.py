"""Work of requests in threads: what counts against the limit, and what happens when the loop ends first."""

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from starlette.exceptions import HTTPException

from sidecar.daemon.http.threads import ThreadQueue


def test_work_of_a_client_that_has_gone_counts_until_it_is_done() -> None:
    begun, end = threading.Event(), threading.Event()
    queue = ThreadQueue(1, "1 question is being answered")

    def work() -> None:
        begun.set()
        end.wait(60)

    async def ask(thread: ThreadPoolExecutor) -> str:
        first = asyncio.create_task(queue.run(thread, work))
        await asyncio.to_thread(begun.wait, 60)
        first.cancel()
        await asyncio.wait([first])
        with pytest.raises(HTTPException, match="1 question is being answered: ask again in a second"):
            await queue.run(thread, work)
        end.set()
        while True:
            try:
                return await queue.run(thread, lambda: "answered")
            except HTTPException:
                await asyncio.sleep(0)

    with ThreadPoolExecutor(1) as thread:
        assert asyncio.run(ask(thread)) == "answered"


def test_a_loop_that_ends_before_the_work_logs_nothing(caplog: pytest.LogCaptureFixture) -> None:
    begun, end = threading.Event(), threading.Event()
    queue = ThreadQueue(1, "1 question is being answered")

    def work() -> None:
        begun.set()
        end.wait(60)

    async def ask(thread: ThreadPoolExecutor) -> None:
        first = asyncio.create_task(queue.run(thread, work))
        await asyncio.to_thread(begun.wait, 60)
        first.cancel()

    with ThreadPoolExecutor(1) as thread:
        asyncio.run(ask(thread))
        end.set()
    assert not caplog.records
