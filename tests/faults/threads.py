"""Doing one thing again and again in several threads, for as long as a block lasts.

Owns the threads. A thing that goes wrong in one of them goes wrong for the block.
"""

import threading
from collections.abc import Callable
from types import TracebackType
from typing import Self


class Repeated:
    """A context manager: within it, so many threads call `step` again and again. The first exception is raised at its end."""

    def __init__(self, step: Callable[[], object], *, threads: int) -> None:
        self._step = step
        self._ending = threading.Event()
        self._errors: list[BaseException] = []
        self._threads = [threading.Thread(target=self._repeat) for _ in range(threads)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._ending.set()
        for thread in self._threads:
            thread.join()
        if error is None and self._errors:
            raise self._errors[0]

    def failed(self) -> str | None:
        """Say what went wrong, if anything has."""
        return repr(self._errors[0]) if self._errors else None

    def _repeat(self) -> None:
        try:
            while not self._ending.is_set():
                self._step()
        except BaseException as error:  # noqa: BLE001 - raised again, in the thread that waits
            self._errors.append(error)
