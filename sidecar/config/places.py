"""Find the line of each key in a TOML or JSON text that a parser has accepted.

tomli, json and tomlkit return no positions, and no maintained library does. The patterns are linear, without recursion.
"""

import json
import re
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

import tomli
from msgspec import Struct

# A listener domains file needs 4 levels; the parsers fail between 400 and 1,000.
DEPTH_LIMIT: Final = 64

_QUOTES: Final = 2

# Possessive quantifiers and atomic groups make each pattern linear. Groups repeat inside an atomic group, never possessively:
# Python 3.11.2 (Debian 12) then keeps half a repetition.
_BASIC = r'"(?>(?:[^"\\\n]++|\\.)*)"'
_LITERAL = r"'[^'\n]*+'"
_PART = rf"(?:{_BASIC}|{_LITERAL}|[A-Za-z0-9_-]++)"
_KEY = rf"{_PART}(?>(?:[ \t]*+\.[ \t]*+{_PART})*)"
_BLANK = r"(?>(?:[ \t\r\n]++|\#[^\n]*+)*)"
_BARE = r"""[^\s"'\[\]{},\#][^\n,\]}\#]*+"""
# One or two quotes of content can stand before the closing quotes (TOML 1.0, String): up to five.
_LONG = r"""\"\"\"(?>(?:[^"\\]++|\\[\s\S]|"(?!""))*)"{3,5}|'''(?>(?:[^']++|'(?!''))*)'{3,5}"""

_PARTS = re.compile(_PART)
_STATEMENT = re.compile(
    rf"""({_BLANK})(?:
        (\[{{1,2}})[ \t]*+({_KEY})[ \t]*+\]{{1,2}}
      | ({_KEY})[ \t]*+=[ \t]*+((?!\"\"\"|''')(?:{_BASIC}|{_LITERAL}|{_BARE}))?
    )""",
    re.VERBOSE,
)

# Groups of both: blank, opening bracket, closing bracket, comma, key, scalar.
_TOML_TOKEN = re.compile(rf"({_BLANK})(?:([\[{{])|([\]}}])|(,)|({_KEY})[ \t]*+=|({_LONG}|{_BASIC}|{_LITERAL}|{_BARE}))")
_JSON_STRING = r'"(?>(?:[^"\\]++|\\.)*)"'
_JSON_SCALAR = rf"""(?:{_JSON_STRING}|[^\s"\[\]{{}},]++)"""
# A key and its scalar are one step: most of a large file.
_JSON_TOKEN = re.compile(
    rf"""([ \t\r\n]*+)(?:
        ([\[{{]) | ([\]}}]) | (,)
      | ({_JSON_STRING})[ \t\r\n]*+:(?>(?:[ \t\r\n]*+{_JSON_SCALAR})?)
      | ({_JSON_SCALAR})
    )""",
    re.VERBOSE,
)


class TooDeepError(ValueError):
    """Tables or lists nested deeper than `DEPTH_LIMIT`, first at the line `lineno`."""

    def __init__(self, lineno: int) -> None:
        super().__init__(f"tables or lists are nested more than {DEPTH_LIMIT} levels deep")
        self.lineno = lineno


_NOTHING: Final[Mapping[str | int, "Place"]] = MappingProxyType({})


class Place:
    """The line of a key, from 1, and the places inside its value: by key in a table, by index in a list.

    Items on the same line as their list have no place. A place with a `body` has the places inside of that one, as many lines
    later as itself is: many tables can have the same body.
    """

    # A large file has millions of places, and most are empty.
    __slots__ = ("_inner", "line")

    def __init__(self, line: int, body: "Place | None" = None) -> None:
        self.line = line
        self._inner: Mapping[str | int, Place] | Place = _NOTHING if body is None else body

    @property
    def body(self) -> "Place | None":
        """The place that has the places inside."""
        return self._inner if isinstance(self._inner, Place) else None

    @property
    def inner(self) -> "Mapping[str | int, Place]":
        """The places inside."""
        own = self._inner
        return {key: self.at(key) for key in own.inner} if isinstance(own, Place) else own

    def at(self, key: str | int) -> "Place":
        """Return the place of `key`, or this place if `key` has none."""
        if (body := self.body) is None:
            return self.inner.get(key, self)
        found = body.at(key)
        return self if found is body else Place(self.line + found.line - body.line, found)

    def enter(self, parts: list[str], line: int) -> "Place":
        """Return the place of a dotted key; create it at `line`. Raise TooDeepError."""
        if len(parts) > DEPTH_LIMIT:
            raise TooDeepError(line)
        place = self
        for part in parts:
            place = place.inner.get(part) or place.put(part, line)
        return place

    def put(self, key: str | int, line: int, body: "Place | None" = None) -> "Place":
        """Create the place of `key`."""
        made = Place(line, body)
        if isinstance(self._inner, dict):
            self._inner[key] = made
        else:
            self._inner = {key: made}
        return made


class Repeat(Struct, frozen=True, kw_only=True):
    """A repeated JSON key: its path, its line before, and its line. The last one counts."""

    path: tuple[str | int, ...]
    first: int
    second: int


def toml_places(text: str) -> Place:
    """Find the line of every key in a TOML document that tomli accepts. Raise TooDeepError.

    The line of a table is the line of its header, or of the first key that implies it. Each table of an array has its own.
    """
    root = table = Place(1)
    line, position = 1, 0
    lengths: dict[Place, int] = {}  # of arrays of tables
    while match := _STATEMENT.match(text, position):
        blank, brackets, header, key, simple = match.groups()
        line += blank.count("\n")
        position = match.end()
        if header is not None:
            table = root.enter(_toml_parts(header), line)
            if brackets == "[":
                table.line = line
            else:
                array = table
                index = lengths[array] = lengths.get(array, -1) + 1
                table = array.put(index, line)
            continue
        place = table.enter(_toml_parts(key), line)
        if simple is None:
            position, line = _Walk(_TOML_TOKEN, _toml_parts, place).through(text, position, line)
    return root


def json_places(text: str) -> tuple[Place, list[Repeat]]:
    """Find the line of every key in a JSON text that `json` accepts, and the repeated keys. Raise TooDeepError."""
    walk = _Walk(_JSON_TOKEN, _json_parts, Place(1))
    walk.through(text, 0, 1)
    return walk.root, walk.repeats


def _toml_parts(key: str) -> list[str]:
    # Most keys are one bare or quoted part, and these tests are three times as fast.
    if key.isidentifier():
        return [key]
    if key[0] == key[-1] == '"' and key.count('"') == _QUOTES and "\\" not in key:
        return [key[1:-1]]
    return [_toml_part(part) for part in _PARTS.findall(key)]


def _toml_part(part: str) -> str:
    if "\\" in part and part.startswith('"'):
        return next(iter(tomli.loads(f"{part} = 0")))
    return part[1:-1] if part.startswith(('"', "'")) else part


def _json_parts(key: str) -> list[str]:
    return [json.loads(key) if "\\" in key else key[1:-1]]


class _Walk:
    """Walk through a value, bracket by bracket, with a stack instead of recursion."""

    def __init__(self, token: re.Pattern[str], parts: Callable[[str], list[str]], root: Place) -> None:
        self.token = token
        self.parts = parts
        self.root = self.place = root
        self.stack: list[Place] = []
        self.trail: list[str | int] = []  # for each open bracket the current key or index
        self.repeats: list[Repeat] = []

    def through(self, text: str, position: int, line: int) -> tuple[int, int]:
        """Record the places inside the value at `position`; return the position and the line after it."""
        while match := self.token.match(text, position):
            blank, opening, closing, comma, key, scalar = match.groups()
            line += blank.count("\n")
            position = match.end()
            if key is not None:
                self.key(self.parts(key), line)
                line += text.count("\n", match.end(5), position)  # the colon and the scalar can be on later lines
            elif opening is not None:
                self.open(opening, line)
            elif closing is not None:
                self.stack.pop()
                self.trail.pop()
            elif comma is not None:
                if isinstance(index := self.trail[-1], int):
                    self.trail[-1] = index + 1
            else:
                self.scalar(line)
                line += scalar.count("\n")
            if not self.stack:
                break
        return position, line

    def key(self, parts: list[str], line: int) -> None:
        table = self.stack[-1]
        self.trail[-1] = parts[-1]
        if (before := table.inner.get(parts[0])) is not None:
            self.repeats.append(Repeat(path=tuple(self.trail), first=before.line, second=line))
            if len(parts) == 1:  # in JSON; the last one counts, with all that is inside
                table.put(parts[0], line)
        self.place = table.enter(parts, line)

    def open(self, bracket: str, line: int) -> None:
        if len(self.stack) == DEPTH_LIMIT:
            raise TooDeepError(line)
        if self.trail and isinstance(index := self.trail[-1], int):
            self.place = self.stack[-1].put(index, line)
        self.stack.append(self.place)
        self.trail.append(0 if bracket == "[" else "")

    def scalar(self, line: int) -> None:
        if self.trail and isinstance(index := self.trail[-1], int) and line != self.stack[-1].line:
            self.stack[-1].put(index, line)
