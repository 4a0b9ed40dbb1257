"""Worker processes that replay tasks at the same time. Batches come in the order of the tasks.

Owns the life of the processes: they end when the context ends, and when the process that started them ends.
"""

import os
import signal
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from itertools import islice
from multiprocessing import get_context, parent_process
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from threading import Thread

from sidecar.commands.replay.replayer import JudgedBatch
from sidecar.commands.replay.stores import Task
from sidecar.core.text import printable

# Tasks for each worker that run or wait, so that no worker waits for the reader of the results.
_AHEAD = 2
# Seconds between two looks at the workers, while no batch arrives.
_LOOK = 1.0

_Work = Callable[[Task], JudgedBatch]
_Pending = deque[tuple[Task, Future[JudgedBatch]]]


class WorkerLostError(Exception):
    """A worker process ended before its task, or did not start. The text is for the operator."""


@contextmanager
def run_workers(work: _Work, tasks: Iterable[Task], *, count: int) -> Iterator[Iterator[JudgedBatch]]:
    """Start up to `count` processes, and yield the batches of all tasks in their order. Raises WorkerLostError.

    The processes are forks, so `work` is not pickled. Use it before any thread starts.
    """
    tasks = iter(tasks)
    first = list(islice(tasks, count))
    # A worker of the executor has no standard input, but `-` is read there.
    stdin = os.dup(0)
    executor = ProcessPoolExecutor(max(1, len(first)), get_context("fork"), _begin, (work, stdin))
    processes: list[BaseProcess] = []
    try:
        # The workers inherit the mask: Ctrl-C signals the whole process group, and this process decides what happens.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            # The first submit starts all processes.
            pending = deque((task, executor.submit(_run, task)) for task in first)
        except OSError as error:
            text = f"A worker process did not start: {error.strerror}. Try again when the machine has more free memory."
            raise WorkerLostError(text) from error
        finally:
            processes += executor._processes.values()  # noqa: SLF001 - active_children() lacks those that have ended
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        # A worker that is killed while it writes leaves half a result. Its reader sees the end of the pipe only if this
        # process does not hold the other end.
        executor._result_queue._writer.close()  # type: ignore[attr-defined]  # noqa: SLF001
        ahead = islice(tasks, count * (_AHEAD - 1))
        pending.extend((task, executor.submit(_run, task)) for task in ahead)
        yield _batches(executor, pending, tasks, processes)
    finally:
        for process in processes:
            process.kill()
        executor.shutdown(cancel_futures=True)
        os.close(stdin)


def _batches(
    executor: ProcessPoolExecutor, pending: _Pending, tasks: Iterator[Task], processes: Sequence[BaseProcess]
) -> Iterator[JudgedBatch]:
    task: Task = ()
    try:
        while pending:
            task, future = pending.popleft()
            batch = _result(future, processes)
            if batch.rest:
                pending.appendleft((batch.rest, executor.submit(_run, batch.rest)))
            else:
                pending.extend((more, executor.submit(_run, more)) for more in islice(tasks, 1))
            yield batch
    except BrokenProcessPool as error:
        where = f" It was reading {printable(task[0].path)}, or a file soon after it."
        raise WorkerLostError(f"{_end_of(executor, processes)}{where}") from error


def _result(future: Future[JudgedBatch], processes: Sequence[BaseProcess]) -> JudgedBatch:
    while True:
        try:
            return future.result(_LOOK)
        except TimeoutError:
            # The executor does not see a worker that was killed while it wrote a result.
            if wait([process.sentinel for process in processes], 0):
                raise BrokenProcessPool from None


def _end_of(executor: ProcessPoolExecutor, processes: Sequence[BaseProcess]) -> str:
    """End the other workers, with SIGTERM as the executor does, and return how the lost one ended."""
    for process in processes:
        process.terminate()
    executor.shutdown()
    codes = (process.exitcode for process in processes)
    code = next((code for code in codes if code not in {None, -signal.SIGTERM}), -signal.SIGTERM)
    if code == -signal.SIGKILL:
        return "A worker process was killed, as the kernel does when memory is short."
    return f"A worker process ended with {f'signal {-code}' if code < 0 else f'status {code}'}."


# --- in a worker


_WORK: list[_Work] = []


def _begin(work: _Work, stdin: int) -> None:
    os.dup2(stdin, 0)
    _WORK.append(work)
    Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = parent_process()
    assert parent is not None  # noqa: S101 - a worker has one
    parent.join()
    os._exit(0)


def _run(task: Task) -> JudgedBatch:
    return _WORK[0](task)
