"""`sidecar tail`: filters of records, and the line for each record. Never prints, and never opens a file."""

from sidecar.commands.tail.filters import Filters
from sidecar.commands.tail.view import Kind, LinePart, line_of

__all__ = ["Filters", "Kind", "LinePart", "line_of"]
