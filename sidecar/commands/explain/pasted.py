"""Records that somebody pasted: JSON over several lines, an array, several objects in a row, or a fragment without its braces.

Owns finding the objects in a text. Never decodes a record, and never reads a file.
"""

import json
import re
from collections.abc import Iterator

_DECODER = json.JSONDecoder()
_BLANK = b"\xef\xbb\xbf\r\n\t "
_BETWEEN = re.compile(r"[\s,]*")


def is_pasted(beginning: bytes) -> bool:
    """Tell from the first bytes of a log whether it is a text for `pasted`, and not one record a line, or packed."""
    text = beginning.lstrip(_BLANK)
    if text.startswith(b"["):
        return True
    first, newline, rest = text.partition(b"\n")
    if text.startswith(b'"'):
        return not _has_record(rest)
    # A whole first line is a log's; without its end it is a long record.
    if not text.startswith(b"{") or not newline or _is_json(first):
        return False
    return _begins_with_object(text) or not _has_record(rest)


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
            # Some of its messages are made to be followed by the place.
            what = error.msg.removesuffix(" at").removesuffix(" starting")
            raise ValueError(f"line {error.lineno} is no JSON: {what}") from error
        except RecursionError:
            raise ValueError("it nests too deep to be a record") from None
        if isinstance(value, list):
            yield from ((line, json.dumps(record).encode()) for record in value)
        else:
            yield line, whole[start:position].encode()
        line += whole.count("\n", start, position)


def _next(text: str, position: int) -> int:
    """Pass over what stands between two objects."""
    between = _BETWEEN.match(text, position)
    return position if between is None else between.end()


def _begins_with_object(text: bytes) -> bool:
    """Tell whether an object over several lines is whole within what is seen."""
    try:
        _DECODER.raw_decode(text.decode("utf-8", "replace"))
    except (ValueError, RecursionError):
        return False
    return True


def _has_record(lines: bytes) -> bool:
    """Tell whether one of the lines is a record, as in a log whose first line is broken; within an object it were indented."""
    return any(line.startswith(b"{") and b'"type"' in line and _is_json(line) for line in lines.split(b"\n"))


def _is_json(line: bytes) -> bool:
    try:
        json.loads(line)
    except (ValueError, RecursionError):
        return False
    return True
