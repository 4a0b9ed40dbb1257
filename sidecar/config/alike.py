"""Parse a TOML file whose tables are mostly the same text: a listener domains file has few bodies of tables, and many names.

Owns when the tables of a file can be parsed one by one. The parser is tomli here, too; it reads each body once.
"""

import re
from typing import Any, Final

import tomli
from msgspec import Struct

from sidecar.config.places import Place, toml_places

_NAME: Final = r'"([^"\\\x00-\x1f\x7f]*+)"'
# The name of a domain, or of a listener and a domain. In a domain's place, `listener` is another spelling of that table.
_HEADER: Final = re.compile(
    rf'\[(?:listener\.{_NAME}\.|(?!"listener"))"([^"\\\x00-\x1f\x7f]*+)"\][ \t]*+(?:\#[^\x00-\x08\x0a-\x1f\x7f]*+)?(?:\r?\n|\Z)'
)
_INDENTED: Final = re.compile(r"^[ \t]+\[", re.MULTILINE)


class _Body(Struct, frozen=True, kw_only=True):
    """What follows the name of a table: its values, their places counted from the line of the name, and its number of lines."""

    values: dict[str, Any]
    place: Place
    lines: int


def alike_tables(text: str) -> tuple[dict[str, Any], Place] | None:
    """Return the values and places of a TOML text that has only tables of domains, with quoted names; None for another text.

    None is also the result for a text with an error, for its caller to find. Tables with the same body share one dict of
    values, which no one may change.

    A line that begins with a bracket begins a table, unless it is inside a value. Then what is before it is no TOML by itself.
    """
    values: dict[str, Any] = {}
    root = Place(1)
    sections: dict[str | None, tuple[dict[str, Any], Place]] = {None: (values, root)}
    bodies: dict[str, _Body] = {}
    try:
        start, line = 0, 1
        if not text.startswith("["):
            if not (start := text.find("\n[") + 1):
                return None
            before = _body(text[:start])
            line += before.lines
            if before.values:
                return None
        while start < len(text):
            if (header := _HEADER.match(text, start)) is None:
                return None
            listener, name = header.groups()
            start = text.find("\n[", header.end() - 1) + 1 or len(text)
            content = text[header.end() : start]
            body = bodies.get(content) or bodies.setdefault(content, _body(content))
            if (section := sections.get(listener)) is None:
                below: dict[str, Any] = {}
                values.setdefault("listener", {})[listener] = below
                section = sections[listener] = below, root.enter(["listener", str(listener)], line)
            tables, places = section
            if name in tables:
                return None
            tables[name] = body.values
            places.put(name, line, body.place)
            line += 1 + body.lines
    except (ValueError, RecursionError):
        return None
    return values, root


def _body(text: str) -> _Body:
    """Parse the body of a table. Raise ValueError or RecursionError."""
    if _INDENTED.search(text):
        raise ValueError("a table can begin here")
    values, place = tomli.loads(text), toml_places(text)
    place.line = 0
    return _Body(values=values, place=place, lines=text.count("\n"))
