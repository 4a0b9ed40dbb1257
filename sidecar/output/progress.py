"""How far a long reading is: a bar on standard error, if that is a terminal.

Owns the bar. Never writes into a pipe, and never anything on standard output.
"""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from sidecar.output.terminal import console

# Who waits no longer than this does not begin to wonder.
_SHORT = 0.5  # seconds
# Things between two looks at the clock: some 20 ms of them.
_PACE = 1000


class Bar:
    """What a reader tells: how much it has read, and how many things were in it. Nothing is shown before a while is over."""

    def __init__(self, shown: Progress | None, things: str) -> None:
        self.count = 0
        self.total: int | None = None
        self._shown = shown
        self._things = things
        self._task = None if shown is None else shown.add_task("", total=None)
        self._size = 0
        self._began = time.monotonic()

    def read(self, size: int) -> None:
        """So many more bytes are read."""
        self._size += size
        self._show()

    def one_more(self) -> None:
        """One more thing is done."""
        self.count += 1
        if self.count % _PACE == 0:
            self._show()

    def stand(self, size: int, count: int) -> None:
        """So many bytes are read, and so many things are done, in all."""
        self._size, self.count = size, count
        self._show()

    def _show(self) -> None:
        if self._shown is None or self._task is None:
            return
        seconds = time.monotonic() - self._began
        if seconds < _SHORT:
            return
        rate = f"{self.count:,} {self._things}, {self.count / seconds:,.0f} a second"
        self._shown.update(self._task, total=self.total, completed=self._size, description=rate if self.count else "")
        self._shown.start()


@contextmanager
def progress(things: str, total: int | None = None, *, wanted: bool = True) -> Iterator[Bar]:
    """Give what to tell how far it is: of `total` bytes, if that is known, and of how many `things`."""
    # FORCE_COLOR makes a pipe a terminal to the console, and a bar is more than colour.
    if not (wanted and sys.stderr.isatty()):
        yield Bar(None, things)
        return
    columns = (BarColumn(), TaskProgressColumn(), TextColumn("{task.description}"), TimeRemainingColumn())
    shown = Progress(*columns, console=console(stderr=True), transient=True, redirect_stdout=False)
    bar = Bar(shown, things)
    bar.total = total
    try:
        yield bar
    finally:
        shown.stop()
