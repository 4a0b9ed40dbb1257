"""Lines and columns for a width. Words stay whole; a word without room is broken between the labels of its names.

Owns where a text may be broken. Never prints.
"""

import re
from collections.abc import Sequence

from rich.cells import cell_len, chop_cells

# A label of a domain, a folder of a path, or a part of an address or of an IPv6 address, with the mark behind it.
_PART = re.compile(r"[^.@/:]*[.@/:]+|[^.@/:]+")


def wrap_line(text: str, width: int, *, indent: int = 0, start: int = 0) -> list[str]:
    """Return `text` in lines of at most `width` columns. All except the first begin with `indent` spaces.

    The first line begins `start` columns to the right of the margin. It is empty if its first word has no room there.
    """
    if start + cell_len(text) <= width:
        return [text]
    margin = text[: min(len(text) - len(text.lstrip(" ")), width // 2)]
    lines, line, used, is_begun = [], margin, start + len(margin), False
    for word in text.split():
        joined = f" {word}" if is_begun else word
        if used + cell_len(joined) <= width:
            line, used, is_begun = line + joined, used + cell_len(joined), True
            continue
        if is_begun or start:
            lines.append(line)
            line = " " * indent
        *whole, last = _broken(word, width - max(indent, cell_len(line)))
        lines += [line + whole[0], *(" " * indent + piece for piece in whole[1:])] if whole else []
        line = " " * indent + last if whole else line + last
        used, is_begun = cell_len(line), True
    return [*lines, line]


def hanging_indent(line: str) -> int:
    """Return the usual indent of the lines that continue `line`."""
    return len(line) - len(line.lstrip(" ")) + 2


def _broken(word: str, width: int) -> list[str]:
    """Return a word in pieces of at most `width` columns: between its parts, and inside a part only if that is wider."""
    width = max(1, width)
    if cell_len(word) <= width:
        return [word]
    pieces, piece = [], ""
    for part in _PART.findall(word):
        if cell_len(piece + part) <= width:
            piece += part
            continue
        if piece:
            pieces.append(piece)
        *whole, piece = chop_cells(part, width)
        pieces += whole
    return [*pieces, piece]


def fit_columns(columns: Sequence[Sequence[str]], width: int) -> list[int]:
    """Return a width for each column of texts, so that all together have at most `width`, if that has one for each column.

    If there is room for it, each column has its longest text. Otherwise each has at least its longest word; if there is no
    room for that, its longest part of a word; if there is none for that, only the columns with the longest parts have less.
    """
    natural = [max((cell_len(text) for text in texts), default=0) for texts in columns]
    cells = [[word for text in texts for word in text.split()] for texts in columns]
    words = [max(map(cell_len, found), default=0) for found in cells]
    parts = [max((cell_len(part) for word in found for part in _PART.findall(word)), default=0) for found in cells]
    least = words if sum(words) <= width else _capped(parts, [0] * len(parts), width)
    widths = _capped(natural, least, width)
    # The columns that got less than they need share what is left.
    for place, most in enumerate(natural):
        widths[place] += max(0, min(most - widths[place], width - sum(widths)))
    return widths


def _capped(wanted: Sequence[int], least: Sequence[int], width: int) -> list[int]:
    """Return the wanted widths, all with the highest limit that keeps their sum at `width`, but never less than `least`."""
    for limit in range(max(wanted, default=0), 0, -1):
        capped = [min(want, max(low, limit)) for want, low in zip(wanted, least, strict=True)]
        if sum(capped) <= width:
            return capped
    return [min(want, max(low, 1)) for want, low in zip(wanted, least, strict=True)]
