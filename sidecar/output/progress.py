"""A progress bar on standard error, if that is a terminal.

Never writes into a pipe or to standard output.
"""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from sidecar.output.terminal import console

_SHORT = 0.5  # seconds of a wait that needs no bar
_PACE = 1000  # items between two looks at the clock: some 20 ms of them


class Bar:
    """Counts the bytes and the items that are read; `total` is in bytes. Shown only after some time."""

    def __init__(self, shown: Progress | None, things: str, total: int | None) -> None:
        self.count = 0
        self.total = total
        self._shown = shown
        self._things = things
        self._task = None if shown is None else shown.add_task("", total=None)
        self._size = 0
        self._began = time.monotonic()

    def read(self, size: int) -> None:
        """Count bytes."""
        self._size += size
        self._show()

    def one_more(self) -> None:
        """Count an item."""
        self.count += 1
        if self.count % _PACE == 0:
            self._show()

    def set(self, size: int, count: int) -> None:
        """Set the bytes and items since the start."""
        self._size, self.count = size, count
        self._show()

    def _show(self) -> None:
        seconds = time.monotonic() - self._began
        if self._shown is None or self._task is None or seconds < _SHORT:
            return
        rate = f"{self.count:,} {self._things}, {self.count / seconds:,.0f} a second"
        self._shown.update(self._task, total=self.total, completed=self._size, description=rate if self.count else "")
        self._shown.start()


@contextmanager
def progress(things: str, total: int | None = None, *, wanted: bool = True) -> Iterator[Bar]:
    """Show a bar while the context lasts; `total` is in bytes, None if unknown, `things` the plural of the items."""
    # FORCE_COLOR makes a pipe a terminal to the console, but must not draw a bar into it.
    if not (wanted and sys.stderr.isatty()):
        yield Bar(None, things, total)
        return
    columns = (BarColumn(), TaskProgressColumn(), TextColumn("{task.description}"), TimeRemainingColumn())
    shown = Progress(*columns, console=console(stderr=True), transient=True, redirect_stdout=False)
    try:
        yield Bar(shown, things, total)
    finally:
        shown.stop()
