"""Text and tables for standard output: coloured and folded on a terminal, plain whole lines in a pipe.

Also a progress bar on standard error: never in a pipe or on standard output.
"""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from sidecar.core.text import printable

# A pipe has no width, and a line that is cut is lost. Tables use only the width they need.
_PIPE_WIDTH = 4096
_SHORT = 0.5  # seconds of a wait that needs no bar
_PACE = 1000  # items between two looks at the clock: some 20 ms of them


def console(*, stderr: bool = False) -> Console:
    """Return a console that honours NO_COLOR and FORCE_COLOR, and does not fold or cut lines in a pipe."""
    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() else _PIPE_WIDTH
    return Console(file=stream, width=width, highlight=False, markup=False, emoji=False)


def plain(text: str, style: str = "") -> Text:
    """Return external text for a cell or a line: escaped, and without markup."""
    return Text(printable(text), style=style)


def table(*columns: str, title: str | None = None) -> Table:
    """Return an empty table with these headings. A heading that ends in `#` is a column of numbers; the mark is not shown."""
    made = Table(title=title, title_justify="left", title_style="bold", box=None, header_style="bold", pad_edge=False)
    for column in columns:
        made.add_column(column.removesuffix("#"), justify="right" if column.endswith("#") else "left", overflow="fold")
    return made


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
