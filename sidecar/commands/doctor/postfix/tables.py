"""Postfix's lists of domains and networks, and the entries of its tables, as far as text alone shows them.

Owns the syntax of patterns and tables (postconf(5), access(5), header_checks(5)). Never checks a setting.
"""

import re
from collections.abc import Iterable, Iterator

import netaddr  # type: ignore[import-untyped]  # the package ships no annotations
from msgspec import Struct

from sidecar.commands.doctor.findings import ReadFile
from sidecar.commands.doctor.postfix.settings import main_cf_lines, split, unbraced
from sidecar.commands.doctor.relaying import block
from sidecar.core.names import lineage

# Tables made from a text file of the same name, or read from it (DATABASE_README): each line has a key and a value.
_KEYED_TABLES = ("btree", "cdb", "dbm", "hash", "lmdb", "sdbm", "texthash")
_PATTERN_TABLES = ("regexp", "pcre")
# Others with braces, such as unionmap:, have names of tables there.
_INLINE_TABLES = (*_PATTERN_TABLES, "cidr", "inline")
_PATTERN = re.compile(r"(!?([^\sA-Za-z0-9{])(?>(?:[^\\]|\\.)*?\2)[A-Za-z]*)\s+(.*)", re.DOTALL)


def table_entries(table: str, read: ReadFile) -> list[tuple[str, str]] | None:
    """Return the keys or patterns of a table with their values, None if it cannot be read. A `static:` table has the key ""."""
    kind, _, inner = table.removeprefix("proxy:").partition(":")
    if kind == "static":
        return [("", unbraced(inner.strip()))]
    if inner.startswith("{") and kind in _INLINE_TABLES:
        rules = [unbraced(word) for word in split(unbraced(inner.strip()))]
    elif (text := _text(table, read, (*_KEYED_TABLES, *_PATTERN_TABLES, "cidr"))) is not None:
        rules = [rule for _, rule in main_cf_lines(text) if rule]
    else:
        return None
    return [entry for rule in rules if (entry := _entry(kind, rule)) is not None]


def _entry(kind: str, rule: str) -> tuple[str, str] | None:
    if kind in _PATTERN_TABLES:
        found = _PATTERN.fullmatch(rule)
        return None if found is None else (found[1], found[3])
    key, *value = rule.split("=" if kind == "inline" else None, 1)
    return key.strip(), "".join(value).strip()


class WholeDomains(Struct, frozen=True, kw_only=True):
    """The domains of which tables of recipients have every address.

    `others` is True if they have every address of all other domains, and None if that depends on a table which cannot be read.
    """

    domains: frozenset[str] = frozenset()
    others: bool | None = False

    def __contains__(self, name: str) -> bool:
        return name in self.domains or self.others is True


def whole_domains(tables: Iterable[str], read: ReadFile) -> WholeDomains:
    """Read tables of recipients. No text shows if a pattern table has every address."""
    domains: set[str] = set()
    others: bool | None = False
    for table in tables:
        kind = table.removeprefix("proxy:").partition(":")[0]
        if kind == "static":
            return WholeDomains(others=True)
        entries = None if kind in _PATTERN_TABLES else table_entries(table, read)
        if entries is not None:
            domains |= {key[1:].lower() for key, _ in entries if key.startswith("@")}
        elif kind != "unix":  # unix:passwd.byname has the users of this machine
            others = None
    return WholeDomains(domains=frozenset(domains), others=others)


def _text(word: str, read: ReadFile, kinds: tuple[str, ...] = _KEYED_TABLES) -> str | None:
    """Return the text behind a word of a list: a file of patterns, or the source of a table. None if it cannot be read."""
    kind, _, path = word.removeprefix("proxy:").partition(":")
    if word.startswith("/"):
        return read(word)
    return read(path) if kind in kinds and path.startswith("/") else None


def _lines(text: str) -> Iterator[str]:
    return (line for line in text.splitlines() if line.strip() and not line.startswith("#"))


def _patterns(text: str) -> list[str]:
    return [word for line in _lines(text) for word in split(line)]


def _table_keys(text: str) -> list[str]:
    return [line.split(None, 1)[0] for line in _lines(text) if not line[0].isspace()]


class DomainList:
    """A list of domain patterns (postconf(5): relay_domains). The first pattern that matches decides."""

    def __init__(self, value: str, read: ReadFile, *, parents: bool) -> None:
        self._parents = parents
        # By pattern, its rank and False if it excludes; None matches every name.
        self._first: dict[str | None, tuple[int, bool]] = {}
        self.unknown: list[str] = []
        """The words whose meaning the text does not show."""
        for word in split(value):
            self._add(word, read)

    @property
    def is_everything(self) -> bool:
        """True if it matches names that it does not list."""
        return self._first.get(None, (0, False))[1]

    @property
    def names(self) -> Iterator[str]:
        """All names in the list."""
        return (key.removeprefix(".") for key in self._first if key is not None)

    def __contains__(self, name: str) -> bool:
        # match_ops.c: the name, then each parent, by default with a dot before it.
        keys = [key if key == name or self._parents else f".{key}" for key in lineage(name)]
        return min((self._first[key] for key in (*keys, None) if key in self._first), default=(0, False))[1]

    def _add(self, word: str, read: ReadFile) -> None:
        pattern = word.lstrip("!")
        kind, colon, _ = pattern.removeprefix("proxy:").partition(":")
        text = _text(pattern, read)
        for key in [pattern] if text is None else _table_keys(text) if colon else _patterns(text):
            rank = len(self._first), word.startswith("!") == key.startswith("!")
            name = key.lstrip("!")
            if text is None and kind == "static" and colon:
                self._first.setdefault(None, rank)
            elif name.startswith("/") or ":" in name or "$" in name:
                self.unknown.append(word if text is None else key)
            else:
                self._first.setdefault(name.lower(), rank)


def networks(value: str, read: ReadFile) -> tuple[netaddr.IPSet, list[str]]:
    """Return the addresses in a list of networks (postconf(5): mynetworks), and the words that cannot be read.

    An exclusion (`!`) is ignored: too wide a list is the danger.
    """
    blocks, unknown = [], []
    for word in split(value):
        text = _text(word, read)
        for pattern in [word] if text is None else _patterns(text):
            if pattern.startswith("!"):
                continue
            try:
                blocks.append(block(pattern.replace("[", "").replace("]", "")))
            except (netaddr.AddrFormatError, ValueError):
                unknown.append(pattern)
    return netaddr.IPSet(blocks), unknown
