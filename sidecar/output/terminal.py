"""Text and tables for standard output: coloured and folded on a terminal, plain whole lines in a pipe.

Also a progress bar on standard error: never in a pipe or on standard output.
"""

import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import zip_longest
from typing import TYPE_CHECKING

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderResult
from rich.text import Text

from sidecar.core.text import printable
from sidecar.output.wrapping import fit_columns, hanging_indent, wrap_line

if TYPE_CHECKING:
    from rich.progress import Progress

# A pipe has no width, and a row on one line can be searched. Tables use only the width they need.
_PIPE_WIDTH = 4096
GAP = 2
"""Spaces between two columns of a table."""
_SHORT = 0.5  # seconds of a wait that needs no bar
_PACE = 1000  # items between two looks at the clock: some 20 ms of them


def console(*, stderr: bool = False, pipe_width: int = _PIPE_WIDTH) -> Console:
    """Return a console that honours NO_COLOR and FORCE_COLOR. In a pipe tables have at most `pipe_width` columns."""
    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() else pipe_width
    return Console(file=stream, width=width, highlight=False, markup=False, emoji=False)


def plain(text: str, style: str = "") -> Text:
    """Return external text for a cell or a line: escaped, and without markup."""
    return Text(printable(text), style=style)


def print_text(screen: Console, text: str, *, style: str = "", indent: int | None = None) -> None:
    """Print external text as one line, escaped. On a terminal it is wrapped, and continues with `indent`.

    The default indent is that of the text, and 2 spaces.
    """
    shown = printable(text)
    if screen.is_terminal:
        shown = "\n".join(wrap_line(shown, screen.width, indent=hanging_indent(shown) if indent is None else indent))
    screen.print(Text(shown, style=style), soft_wrap=True)


class TextTable:
    """A table of short texts without lines. On a narrow terminal its cells are wrapped between words.

    A heading that ends in `#` is a column of numbers; the mark is not shown. Without `headed` no heading is shown.
    """

    def __init__(self, *headings: str, headed: bool = True) -> None:
        self._headings = headings
        self._headed = headed
        self._rows: list[tuple[tuple[Text, ...], str]] = []

    def add_row(self, *cells: str | Text, style: str = "") -> None:
        """Add a row, a cell for each heading. A cell of type str is our own text; use `plain` for external text."""
        self._rows.append((tuple(Text(cell) if isinstance(cell, str) else cell for cell in cells), style))

    def __rich_console__(self, _console: Console, options: ConsoleOptions) -> RenderResult:
        """Yield the table for rich."""
        names = [heading.removesuffix("#") for heading in self._headings]
        heads = names if self._headed else [""] * len(names)
        columns = [[head, *(cells[place].plain for cells, _ in self._rows)] for place, head in enumerate(heads)]
        widths = fit_columns(columns, max(1, options.max_width - GAP * (len(names) - 1)))
        if self._headed:
            yield from self._lines([Text(name) for name in names], widths, "bold")
        for cells, style in self._rows:
            yield from self._lines(cells, widths, style)

    def _lines(self, cells: Sequence[Text], widths: Sequence[int], style: str) -> Iterator[Text]:
        """Yield the lines of a row, without blanks at their ends."""
        wrapped = (wrap_line(cell.plain, width) for cell, width in zip(cells, widths, strict=True))
        for pieces in zip_longest(*wrapped, fillvalue=""):
            line = Text(style=style, no_wrap=True)
            for heading, cell, width, piece in zip(self._headings, cells, widths, pieces, strict=True):
                blanks = " " * (width - cell_len(piece))
                line.append(f"{blanks}{piece}" if heading.endswith("#") else f"{piece}{blanks}", cell.style)
                line.append(" " * GAP)
            line.rstrip()
            yield line


class Bar:
    """Counts the bytes and the items that are read; `total` is in bytes. Shown only after some time."""

    def __init__(self, shown: "Progress | None", things: str, total: int | None) -> None:
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
    # Without a terminal nothing needs it, and it takes 8 ms.
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn  # noqa: PLC0415

    columns = (BarColumn(), TaskProgressColumn(), TextColumn("{task.description}"), TimeRemainingColumn())
    shown = Progress(*columns, console=console(stderr=True), transient=True, redirect_stdout=False)
    try:
        yield Bar(shown, things, total)
    finally:
        shown.stop()
