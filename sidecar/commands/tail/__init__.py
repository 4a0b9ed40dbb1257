"""A log as it is written, for people: which records are wanted, in which order they come, and the line that each becomes.

Owns these three. Never waits, never prints, and never opens a file itself.
"""

from sidecar.commands.tail.filters import Filters
from sidecar.commands.tail.view import Kind, LinePart, line_of

__all__ = ["Filters", "Kind", "LinePart", "line_of"]
