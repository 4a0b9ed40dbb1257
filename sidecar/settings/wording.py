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
_BARE = re.compile(r"[A-Za-z0-9_-]+")


def printable(text: str) -> str:
    r"""Give `text` fit for a terminal or a log: what is not printable is written `\uXXXX`."""
    return text if text.isprintable() else "".join(map(_printable, text))


def _printable(character: str) -> str:
    if character.isprintable():
        return character
    code = ord(character)
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"  # noqa: PLR2004 - where TOML's escapes become longer


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
