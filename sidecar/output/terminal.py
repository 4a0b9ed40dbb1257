"""Text and tables for standard output: coloured and folded on a terminal, plain whole lines in a pipe."""

import sys

from rich.console import Console
from rich.table import Table
from rich.text import Text

from sidecar.core.text import printable

# A pipe has no width, and a line that is cut is lost. Tables use only the width they need.
_PIPE_WIDTH = 4096


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
