"""How messages spell values of a file: shortened, with control characters escaped, and key paths as in TOML.

Owns spelling. Never decides what is wrong.
"""

import json
import re
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from difflib import get_close_matches
from functools import lru_cache
from json.encoder import encode_basestring_ascii
from typing import Final

LATEST: Final = 253_402_300_799
"""The last second of the year 9999: what is later is no time."""
SHOWN_LIMIT: Final = 60
# Letters and marks that Python calls printable, and that no font draws (Unicode: Default_Ignorable_Code_Point).
_UNSEEN: Final = re.compile("[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]")
# From here on TOML's escapes have eight digits.
_LONG: Final = 0x10000
# The bytes of JSON that stay: visible ASCII, and white space between values.
_PLAIN: Final = bytes(range(0x20, 0x7F)) + b"\t\n"
_WHITE_SPACE: Final = {"\t": "\t", "\n": "\n", "\r": " "}
# In longer JSON, C code escapes all of a piece that is not ASCII: one step of Python for each character is too slow.
_EXACT: Final = 4096
_PIECE: Final = 128
# No ASCII text has this character.
_STAND_IN: Final = "\x80"
_TIMES: Final = ((86400, "day"), (3600, "hour"), (60, "minute"), (1, "second"))
_SECONDS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
# Six digits of days are 2,700 years.
_AGE: Final = re.compile(r"(\d{1,6})([smhdw])", re.ASCII)
_KIB: Final = 1024
_UNITS: Final = ("KiB", "MiB", "GiB", "TiB")
_BARE = re.compile(r"[A-Za-z0-9_-]+")


class OperatorError(Exception):
    """Something cannot be done; the text is one plain sentence for the operator, without a full stop."""


def printable(text: str) -> str:
    r"""Return `text` for a terminal or a log: invisible characters and those that control a terminal become `\uXXXX`."""
    return text if _is_seen(text) else _replaced(text, _escaped)


def printable_json(json: bytes) -> bytes:
    r"""Return JSON with the characters that `printable` escapes written `\uXXXX`; the values stay the same.

    White space between values stays, but a carriage return becomes a blank. Bytes that are not UTF-8 are replaced by U+FFFD.
    """
    if json.isascii() and not json.translate(None, _PLAIN):
        return json
    text = json.decode("utf-8", "replace")
    if len(text) > _EXACT:
        pieces = (text[start : start + _PIECE] for start in range(0, len(text), _PIECE))
        text = "".join([piece if _is_seen(piece) else _ascii_json(piece) for piece in pieces])
    elif not _is_seen(text.rstrip("\n")):
        text = _replaced(text, _json_escaped)
    return text.encode()


def _is_seen(text: str) -> bool:
    return text.isprintable() and (text.isascii() or _UNSEEN.search(text) is None)


def _replaced(text: str, escape: Callable[[str], str]) -> str:
    return text.translate({ord(one): one if _is_seen(one) else escape(one) for one in set(text)})


def _escaped(character: str) -> str:
    code = ord(character)
    return f"\\u{code:04x}" if code < _LONG else f"\\U{code:08x}"


def _json_escaped(character: str) -> str:
    return _WHITE_SPACE.get(character) or encode_basestring_ascii(character)[1:-1]


def _ascii_json(piece: str) -> str:
    # What the encoder escapes in ASCII is undone.
    text = encode_basestring_ascii(piece)[1:-1].replace("\\\\", _STAND_IN)
    for escape, one in (('\\"', '"'), ("\\n", "\n"), ("\\t", "\t"), ("\\r", " "), (_STAND_IN, "\\")):
        text = text.replace(escape, one)
    return text


def quoted(text: str, limit: int = SHOWN_LIMIT) -> str:
    """Return `text` as a TOML string, shortened to `limit` characters."""
    short = text if len(text) <= limit else text[:limit] + "..."
    return '"' + printable(short.replace("\\", "\\\\").replace('"', '\\"')) + '"'


def written(key: str) -> str:
    """Return a key of a path: bare if TOML allows it."""
    return key if _BARE.fullmatch(key) and len(key) <= SHOWN_LIMIT else quoted(key)


def shown(value: object) -> str:
    """Return a bad value for a sentence; tables and lists only by their type."""
    match value:
        case str():
            return quoted(value)
        case bool() | None:
            return json.dumps(value)
        case int() if value.bit_length() > 64:  # noqa: PLR2004 - str() of a huge number may raise
            return "a huge number"
        case list():
            return "a list"
        case dict():
            return "a table"
        case _:
            return str(value)


def counted(number: int, what: str, plural: str | None = None) -> str:
    """Return `1 worker` or `2,000 workers`."""
    return f"{number:,} {what if number == 1 else plural or f'{what}s'}"


def in_units(number: int) -> str:
    """Return bytes for people: `812 bytes`, `9.3 KiB`, `1.0 GiB`. Rounded down, so that little space never looks like more."""
    if number < _KIB:
        return counted(number, "byte")
    power = min((number.bit_length() - 1) // 10, len(_UNITS))
    tenths = 10 * number // _KIB**power
    return f"{tenths // 10:,}.{tenths % 10} {_UNITS[power - 1]}"


def in_time(seconds: int) -> str:
    """Return a time for people, in the largest unit that it has twice: `110 seconds`, `17 hours`, `9 days`. Rounded down."""
    unit, name = next((each for each in _TIMES if seconds >= 2 * each[0]), _TIMES[-1])
    return counted(seconds // unit, name)


def listed(words: Iterable[str]) -> str:
    """Return `a, b or c`."""
    *most, last = words
    return f"{', '.join(most)} or {last}" if most else last


def age(text: str) -> int | None:
    """Return an age such as `90s`, `15m`, `1h`, `7d` or `2w` in seconds; None if it is none."""
    found = _AGE.fullmatch(text.lower())
    return None if found is None else int(found[1]) * _SECONDS[found[2]]


@lru_cache(maxsize=1024)
def nearest(word: str, known: tuple[str, ...]) -> str | None:
    """Return the most similar known word, in any case, or None."""
    spelled = {one.lower(): one for one in known}
    return next((spelled[found] for found in get_close_matches(word[:SHOWN_LIMIT].lower(), spelled, n=1)), None)


def did_you_mean(word: str, known: Iterable[str], otherwise: str) -> str:
    """Return the question for the most similar known word, as click asks for options; `otherwise` if none is similar."""
    meant = nearest(word, tuple(known))
    return otherwise if meant is None else f"Did you mean {meant!r}?"


# A busy worker writes some thousands of records in each second.
@lru_cache(maxsize=64)
def rfc3339(seconds: int) -> str:
    """Return whole seconds since 1970 as RFC 3339 in UTC."""
    # Not strftime: its %Y writes the year 1 with one digit, and a peer's report may have that date.
    return datetime.fromtimestamp(seconds, UTC).replace(tzinfo=None).isoformat(timespec="seconds") + "Z"
