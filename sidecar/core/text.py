"""How problems spell what stands in a file: bad values shortened, control characters escaped, key paths as TOML has them.

Owns spelling. Never decides what is wrong.
"""

import json
import re
from collections.abc import Iterable
from difflib import get_close_matches
from functools import lru_cache
from typing import Final

SHOWN_LIMIT: Final = 60
# Letters and marks that Python calls printable, and that no font draws (Unicode: Default_Ignorable_Code_Point).
_UNSEEN: Final = re.compile("[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]")
# From here on TOML's escapes have eight digits.
_LONG: Final = 0x10000
_BARE = re.compile(r"[A-Za-z0-9_-]+")


def printable(text: str) -> str:
    r"""Return `text` for a terminal or a log: what nobody would see, or what steers a terminal, is written `\uXXXX`."""
    if _is_seen(text):
        return text
    return text.translate({ord(one): one if _is_seen(one) else _escaped(one) for one in set(text)})


def printable_json(json: bytes) -> bytes:
    """Return one line of JSON with such characters escaped; the values stay the same. Bytes that are not UTF-8 are replaced."""
    text = json.decode("utf-8", "replace")
    if _is_seen(text):
        return text.encode()
    table = {ord(one): one if _is_seen(one) else _json_escaped(one) for one in set(text)}
    # White space between values.
    return text.translate(table | {ord("\t"): "\t", ord("\r"): " ", ord("\n"): "\n"}).encode()


def _is_seen(text: str) -> bool:
    return text.isprintable() and (text.isascii() or _UNSEEN.search(text) is None)


def _escaped(character: str) -> str:
    code = ord(character)
    return f"\\u{code:04x}" if code < _LONG else f"\\U{code:08x}"


def _json_escaped(character: str) -> str:
    code = ord(character)
    if code < _LONG:
        return f"\\u{code:04x}"
    high, low = divmod(code - _LONG, 0x400)
    return f"\\u{0xD800 + high:04x}\\u{0xDC00 + low:04x}"


def quoted(text: str, limit: int = SHOWN_LIMIT) -> str:
    """Write `text` as a TOML string, shortened to `limit` characters."""
    short = text if len(text) <= limit else text[:limit] + "..."
    return '"' + printable(short.replace("\\", "\\\\").replace('"', '\\"')) + '"'


def written(key: str) -> str:
    """Write a key of a path: bare where TOML allows it."""
    return key if _BARE.fullmatch(key) and len(key) <= SHOWN_LIMIT else quoted(key)


def shown(value: object) -> str:
    """Write a bad value for a sentence; of tables and lists no more than what they are."""
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


def listed(words: Iterable[str]) -> str:
    """Write `a, b or c`."""
    *most, last = words
    return f"{', '.join(most)} or {last}" if most else last


@lru_cache(maxsize=1024)
def nearest(word: str, known: tuple[str, ...]) -> str | None:
    """Give the known word that was probably meant, if any comes near."""
    return next(iter(get_close_matches(word[:SHOWN_LIMIT], known, n=1)), None)
