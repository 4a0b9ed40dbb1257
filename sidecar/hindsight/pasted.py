"""Records that somebody pasted: JSON over several lines, an array, several objects in a row, or a fragment without its braces.

Owns finding the objects in a text. Never decodes a record, and never reads a file.
"""

import json
from collections.abc import Iterator

_DECODER = json.JSONDecoder()
_BLANK = b"\xef\xbb\xbf\r\n\t "


def is_pasted(beginning: bytes) -> bool:
    """Tell from the first bytes of a log whether it is a text for `pasted`, and not one record a line, or packed."""
    first, newline, _ = beginning.lstrip(_BLANK).partition(b"\n")
    if first.startswith((b"[", b'"')):
        return True
    # A whole first line is a log's; without its end it is a long record.
    return first.startswith(b"{") and bool(newline) and not _is_json(first)


def pasted(text: bytes) -> Iterator[tuple[int, bytes]]:
    """Give each object of a text, with the line on which it begins. Raises ValueError, which says what is wrong."""
    whole = text.decode("utf-8-sig", "replace")
    if whole.lstrip().startswith('"'):
        whole = f"{{{whole.strip().rstrip(',')}}}"
    position, line = 0, 1
    while (start := _next(whole, position)) < len(whole):
        line += whole.count("\n", position, start)
        try:
            value, position = _DECODER.raw_decode(whole, start)
        except json.JSONDecodeError as error:
            raise ValueError(f"line {error.lineno} is no JSON: {error.msg}") from error
        except RecursionError:
            raise ValueError("it nests too deep to be a record") from None
        for record in value if isinstance(value, list) else [value]:
            yield line, json.dumps(record).encode()
        line += whole.count("\n", start, position)


def _next(text: str, position: int) -> int:
    """Pass over what stands between two objects."""
    while position < len(text) and (text[position].isspace() or text[position] == ","):
        position += 1
    return position


def _is_json(line: bytes) -> bool:
    try:
        json.loads(line)
    except (ValueError, RecursionError):
        return False
    return True
