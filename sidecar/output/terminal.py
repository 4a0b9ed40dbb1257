"""How the commands speak: to a terminal in colour and in its width, to a pipe in plain whole lines.

Owns the console, and the shape of tables and of sentences. Never decides what is said.
"""

import sys

from rich.console import Console
from rich.table import Table
from rich.text import Text

from sidecar.core.text import printable

# A pipe has no width: what is cut off there is lost, so no line of ours is. Tables take only what they need.
_PIPE_WIDTH = 4096


def console(*, stderr: bool = False) -> Console:
    """Give a console that honours NO_COLOR (and FORCE_COLOR), and neither wraps nor cuts lines when it is piped."""
    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() else _PIPE_WIDTH
    return Console(file=stream, width=width, highlight=False, markup=False, emoji=False)


def plain(text: str, style: str = "") -> Text:
    """Make text of strangers fit for a table cell or a line: escaped, and never read as markup."""
    return Text(printable(text), style=style)


def table(*columns: str, title: str | None = None) -> Table:
    """Begin a table with these headings; one that ends in `#` is a column of numbers, to the right, without the mark."""
    made = Table(title=title, title_justify="left", title_style="bold", box=None, header_style="bold", pad_edge=False)
    for column in columns:
        number = column.endswith("#")
        made.add_column(column.removesuffix("#"), justify="right" if number else "left", overflow="fold")
    return made
