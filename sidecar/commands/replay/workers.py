"""Processes that work on tasks beside each other, and give what comes of them in the tasks' order.

Owns the life of those processes: they end with the one that started them, however that ends. Never looks at a task.
"""

import os
import signal
import traceback
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from itertools import chain, islice
from multiprocessing.connection import Connection, Pipe
from typing import Any, Generic, NamedTuple, NoReturn, Self, TypeVar

_T = TypeVar("_T")
_R = TypeVar("_R")

# Tasks that a worker has or waits for: with one alone it would stand still until its result's turn comes.
_AHEAD = 2


class WorkerLost(Exception):  # noqa: N818 - it is a loss
    """A worker ended before its work did; the text is a sentence for operators, and `task` what it had in hand."""

    def __init__(self, text: str, task: object = None) -> None:
        super().__init__(text)
        self.task = task


class _Worker(NamedTuple):
    pid: int
    link: "Connection[Any, Any]"


class WorkerPool(Generic[_T, _R]):
    """Use it as a context, and iterate over it for the results; leaving the context ends the workers at once.

    `work` gives the results of one task, in the worker: what it needs is there by fork, so nothing but tasks and results is
    pickled. There are `count` workers, or fewer where there are fewer tasks. Fork before starting a thread.
    """

    def __init__(self, work: Callable[[_T], Iterator[_R]], tasks: Iterable[_T], *, count: int) -> None:
        self._work = work
        ahead = iter(tasks)
        self._first = list(islice(ahead, count))
        self._tasks = chain(self._first, ahead)
        self._workers: list[_Worker] = []

    def __enter__(self) -> Self:
        try:
            # A child that heard Ctrl-C before it is on its own would go on as a second starter.
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
            try:
                for _ in self._first:
                    self._workers.append(self._start())
            finally:
                signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        except OSError as error:
            self._end()
            raise WorkerLost(
                f"A worker process could not be started: {error.strerror}. Try again with less else running."
            ) from error
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._end()

    def __iter__(self) -> Iterator[_R]:
        """Give the results in the tasks' order. Raises WorkerLost."""
        waiting: deque[tuple[_Worker, _T]] = deque()
        # Each worker gets the next task when its turn is over, so the one whose turn is next always has the oldest task.
        for worker, task in zip(self._workers * _AHEAD, self._tasks, strict=False):
            self._give(worker, task, waiting)
        while waiting:
            worker, task = waiting.popleft()
            yield from self._results(worker, task)
            for more in islice(self._tasks, 1):
                self._give(worker, more, waiting)

    @staticmethod
    def _give(worker: _Worker, task: _T, waiting: deque[tuple[_Worker, _T]]) -> None:
        # A worker that is gone already is missed when its turn comes: what is before that is whole.
        with suppress(OSError):
            worker.link.send(task)
        waiting.append((worker, task))

    def _results(self, worker: _Worker, task: _T) -> Iterator[_R]:
        while True:
            try:
                result: _R | None = worker.link.recv()
            except (EOFError, OSError) as error:
                raise self._lost(worker, task) from error
            if result is None:
                return
            yield result

    def _lost(self, worker: _Worker, task: _T) -> WorkerLost:
        self._workers.remove(worker)
        worker.link.close()
        _, status = os.waitpid(worker.pid, 0)
        code = os.waitstatus_to_exitcode(status)
        if code == -signal.SIGKILL:
            return WorkerLost("A worker process was killed, as the kernel does where memory is short.", task)
        return WorkerLost(f"A worker process ended with {f'signal {-code}' if code < 0 else f'status {code}'}.", task)

    def _start(self) -> _Worker:
        ours, theirs = Pipe()
        pid = os.fork()
        if pid == 0:
            self._serve(theirs, ours)
        theirs.close()
        return _Worker(pid, ours)

    def _serve(self, link: "Connection[Any, Any]", other_end: "Connection[Any, Any]") -> NoReturn:
        """Work until there is nobody to work for. Called in the forked child, whose caller must never run on."""
        try:
            # Ctrl-C signals every process of the terminal; whoever started this one decides what it means.
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            # As long as anybody has the other end open, its owner's death is not heard on this one.
            for copy in (other_end, *(worker.link for worker in self._workers)):
                copy.close()
            while True:
                for result in self._work(link.recv()):
                    link.send(result)
                link.send(None)
        except (EOFError, BrokenPipeError, ConnectionResetError):
            os._exit(0)
        except BaseException:  # noqa: BLE001 - the starter's stack lies below: nothing may unwind into it
            traceback.print_exc()
        finally:
            os._exit(1)

    def _end(self) -> None:
        for worker in self._workers:
            worker.link.close()
            # They own nothing that could be left half done.
            with suppress(ProcessLookupError):
                os.kill(worker.pid, signal.SIGKILL)
            os.waitpid(worker.pid, 0)
        self._workers.clear()
