"""Postfix's lists of domains and networks, and the actions in its tables, as far as text alone shows them.

Owns the syntax of patterns and tables (postconf(5), access(5), header_checks(5)), and what an action does beside a milter, as
measured with Postfix 3.7.
"""

import re
from collections.abc import Iterator
from itertools import pairwise

import netaddr  # type: ignore[import-untyped]  # the package ships no annotations

from sidecar.commands.doctor.findings import DoctorCode, Found, ReadFile, some
from sidecar.commands.doctor.postfix import Postfix, main_cf_lines, split
from sidecar.commands.doctor.relaying import block
from sidecar.core.findings import Level
from sidecar.core.open_domains import lineage

# Tables made from a text file of the same name, or read from it (DATABASE_README): each line has a key and a value.
_KEYED_TABLES = ("btree", "cdb", "dbm", "hash", "lmdb", "sdbm", "texthash")
_PATTERN_TABLES = ("regexp", "pcre")


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


# --- actions

_CONTENT_CHECKS = ("header_checks", "mime_header_checks", "nested_header_checks", "body_checks")
_RESTRICTIONS = tuple(
    f"smtpd_{step}_restrictions" for step in ("client", "helo", "sender", "relay", "recipient", "data", "end_of_data")
)
_PATTERN = re.compile(r"!?([^\sA-Za-z0-9{])(?>(?:[^\\]|\\.)*?\1)[A-Za-z]*\s+(.*)", re.DOTALL)

_PAST = "the sidecar's verdict has no effect, and it writes no record"
_COPY = "copies a message for recipients that the sidecar removes, if it accepts another recipient."
_CONTENT_ACTIONS: dict[str, tuple[Level, DoctorCode, str]] = {
    "PASS": ("error", "verdict_bypassed", f"Postfix delivers a message that matches PASS to every recipient: {_PAST}."),
    "REDIRECT": ("error", "verdict_bypassed", f"Postfix sends a message that matches REDIRECT to another address: {_PAST}."),
    "DISCARD": ("warning", "verdict_bypassed", f"Postfix answers 250 and drops a message that matches DISCARD: {_PAST}."),
}
_ACCESS_ACTIONS: dict[str, tuple[Level, DoctorCode, str]] = {
    "DISCARD": _CONTENT_ACTIONS["DISCARD"],
    "BCC": ("warning", "recipient_copied", f"BCC {_COPY}"),
}


def recipient_bcc_maps(postfix: Postfix) -> Iterator[Found]:
    """Find copies that are made before the sidecar's verdict."""
    if "no_address_mappings" not in postfix.words("receive_override_options") and postfix.text(key := "recipient_bcc_maps"):
        fix = "Use sender_bcc_maps or always_bcc, which copy accepted messages."
        yield "warning", "recipient_copied", key, f"{key} {_COPY}", fix


def content_actions(postfix: Postfix) -> Iterator[Found]:
    """Find actions of content checks that come before the sidecar's verdict, and stay in effect after it."""
    if "no_header_body_checks" not in postfix.words("receive_override_options"):
        for key in _CONTENT_CHECKS:
            # The default of the other two is $header_checks.
            if key in {"header_checks", "body_checks"} or postfix.text(key) != postfix.text("header_checks"):
                yield from _acting(key, postfix.words(key), postfix.read, _CONTENT_ACTIONS)


def access_actions(postfix: Postfix) -> Iterator[Found]:
    """Find such actions in the access tables."""
    for key in _RESTRICTIONS:
        checks = pairwise(postfix.words(key))
        tables = [table for check, table in checks if check.startswith("check_") and check.endswith("_access")]
        yield from _acting(key, tables, postfix.read, _ACCESS_ACTIONS)


def _acting(key: str, tables: list[str], read: ReadFile, effects: dict[str, tuple[Level, DoctorCode, str]]) -> Iterator[Found]:
    found: dict[str, list[str]] = {}
    for table in tables:
        for action in sorted(_actions(table, read) & effects.keys()):
            found.setdefault(action, []).append(table)
    for action, named in found.items():
        level, code, text = effects[action]
        yield level, code, key, f"{text} It is in {some(named)}.", "Use REJECT, or let the sidecar decide."


def _actions(table: str, read: ReadFile) -> set[str]:
    """Return the actions of a table in capitals; none if the table cannot be read here."""
    kind, _, inner = table.removeprefix("proxy:").partition(":")
    if kind == "static":
        values = [inner.strip("{} ")]
    elif inner.startswith("{"):
        values = [_value(kind, word.strip("{} ")) for word in split(inner.strip()[1:-1])]
    else:
        text = _text(table, read, (*_KEYED_TABLES, *_PATTERN_TABLES, "cidr"))
        values = [_value(kind, rule) for _, rule in main_cf_lines(text or "")]
    return {value.split(None, 1)[0].upper() for value in values if value.strip()}


def _value(kind: str, rule: str) -> str:
    """Return the text after the key or pattern of a rule."""
    if kind in _PATTERN_TABLES:
        found = _PATTERN.fullmatch(rule)
        return "" if found is None else found[2]
    return "".join(rule.split("=" if kind == "inline" else None, 1)[1:])
