"""Postfix's lists of domains and of networks, as far as text alone can tell what is in them.

Owns their patterns and their order. Never opens a table: the text of those that have one is handed in.
"""

from collections.abc import Iterator

import netaddr  # type: ignore[import-untyped]  # the package ships no annotations

from sidecar.commands.doctor.networks import block
from sidecar.commands.doctor.postfix import split
from sidecar.commands.doctor.values import Files
from sidecar.core.open_domains import lineage

# Tables made from a text file of the same name, or read from it (DATABASE_README): each line has a key and a value.
TEXT_TABLES = ("btree", "cdb", "dbm", "hash", "lmdb", "sdbm", "texthash")


def files_named(value: str) -> Iterator[str]:
    """Give the paths of the files in a list."""
    for word in split(value):
        if (path := _file(word.lstrip("!"))) is not None:
            yield path


class DomainList:
    """A list of domain patterns (postconf(5): relay_domains). The first pattern that matches decides."""

    def __init__(self, value: str, files: Files, *, parents: bool) -> None:
        self._parents = parents
        self._first: dict[str, tuple[int, bool]] = {}
        self._everything: tuple[int, bool] | None = None
        self._count = 0
        self.unknown: list[str] = []
        """What stands in the list and cannot be told from text."""
        for word in split(value):
            self._take(word, files)

    @property
    def is_everything(self) -> bool:
        """Whether it matches names that it does not list."""
        return self._everything is not None and self._everything[1]

    @property
    def names(self) -> Iterator[str]:
        """Every name that the list mentions."""
        return (key.removeprefix(".") for key in self._first)

    def __contains__(self, name: str) -> bool:
        found = (self._first.get(key) for key in self._keys(name))
        candidates = [each for each in (*found, self._everything) if each is not None]
        return min(candidates)[1] if candidates else False

    def _keys(self, name: str) -> Iterator[str]:
        """Give what Postfix looks for (match_ops: the name, and each parent, by default with a dot before it)."""
        for key in lineage(name):
            yield key if key == name or self._parents else f".{key}"

    def _take(self, word: str, files: Files) -> None:
        negated = word.startswith("!")
        pattern = word.lstrip("!")
        kind, colon, _ = pattern.removeprefix("proxy:").partition(":")
        if (path := _file(pattern)) is not None and (text := files.get(path)) is not None:
            for key in _table_keys(text) if colon else _patterns(text):
                if _is_name(key):
                    self._take_key(key, negated=negated)
                else:
                    self.unknown.append(key)
        elif kind == "static" and colon:
            self._everything = self._everything or self._next(negated=negated)
        elif _is_name(pattern):
            self._take_key(pattern, negated=negated)
        else:
            self.unknown.append(word)

    def _take_key(self, key: str, *, negated: bool) -> None:
        bare = key.lstrip("!")
        self._first.setdefault(bare.lower(), self._next(negated=negated != key.startswith("!")))

    def _next(self, *, negated: bool) -> tuple[int, bool]:
        self._count += 1
        return self._count, not negated


class PostfixNetworks:
    """A list of networks (postconf(5): mynetworks). What it excludes with `!` is taken for included: too wide is the danger."""

    def __init__(self, value: str, files: Files) -> None:
        self.unknown: list[str] = []
        self.addresses = netaddr.IPSet()
        blocks = []
        for word in split(value):
            text = files.get(word)
            for pattern in [word] if text is None else _patterns(text):
                if pattern.startswith("!"):
                    continue
                try:
                    blocks.append(block(pattern.replace("[", "").replace("]", "")))
                except (netaddr.AddrFormatError, ValueError):
                    self.unknown.append(pattern)
        self.addresses = netaddr.IPSet(blocks)


def _file(pattern: str) -> str | None:
    """Give the path of the text behind a pattern: a file of patterns, or a table's source."""
    kind, _, path = pattern.removeprefix("proxy:").partition(":")
    if pattern.startswith("/"):
        return pattern
    return path if kind in TEXT_TABLES and path.startswith("/") else None


def _is_name(pattern: str) -> bool:
    """Tell whether a pattern is a name, and no file or table or what only Postfix can put in."""
    return not pattern.lstrip("!").startswith("/") and ":" not in pattern and "$" not in pattern


def _lines(text: str) -> Iterator[str]:
    return (line for line in text.splitlines() if line.strip() and not line.startswith("#"))


def _patterns(text: str) -> Iterator[str]:
    return (word for line in _lines(text) for word in split(line))


def _table_keys(text: str) -> Iterator[str]:
    return (line.split(None, 1)[0] for line in _lines(text) if not line[0].isspace())
