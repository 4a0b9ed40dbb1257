"""Actions in Postfix's lookup tables that let mail past the sidecar, or copy it.

Owns the tables' syntax (access(5), header_checks(5)) and what an action does beside a milter, measured with Postfix 3.7.
Never opens a table: the text of its file is an argument.
"""

import re
from collections.abc import Iterator
from itertools import pairwise

from sidecar.commands.doctor.postfix import Postfix, logical_lines, split
from sidecar.commands.doctor.postfix_lists import TEXT_TABLES
from sidecar.commands.doctor.values import DoctorCode, Files, some
from sidecar.core.findings import Level

_Found = tuple[Level, DoctorCode, str, str, str]
"""Level, code, setting, what is wrong, and what to write instead."""

_CONTENT_CHECKS = ("header_checks", "mime_header_checks", "nested_header_checks", "body_checks")
_RESTRICTIONS = tuple(
    f"smtpd_{step}_restrictions" for step in ("client", "helo", "sender", "relay", "recipient", "data", "end_of_data")
)
_PATTERN_TABLES = ("regexp", "pcre")
_PATTERN = re.compile(r"!?([^\sA-Za-z0-9{])(?>(?:[^\\]|\\.)*?\1)[A-Za-z]*\s+(.*)", re.DOTALL)

_PAST = "the sidecar's verdict has no effect, and it writes no record"
_CONTENT_ACTIONS: dict[str, tuple[Level, DoctorCode, str]] = {
    "PASS": ("error", "verdict_bypassed", f"Postfix delivers a message that matches PASS to every recipient: {_PAST}."),
    "REDIRECT": ("error", "verdict_bypassed", f"Postfix sends a message that matches REDIRECT to another address: {_PAST}."),
    "DISCARD": ("warning", "verdict_bypassed", f"Postfix answers 250 and drops a message that matches DISCARD: {_PAST}."),
}
_ACCESS_ACTIONS: dict[str, tuple[Level, DoctorCode, str]] = {
    "DISCARD": _CONTENT_ACTIONS["DISCARD"],
    "BCC": (
        "warning",
        "recipient_copied",
        "BCC copies a message for recipients that the sidecar removes, if it accepts another recipient.",
    ),
}
_SAFE = "Use REJECT, or let the sidecar decide."


def table_files(postfix: Postfix) -> Iterator[str]:
    """Return the paths of the tables whose actions matter."""
    for key in (*_CONTENT_CHECKS, *_RESTRICTIONS):
        yield from (path for table in _tables(postfix, key) if (path := _path(table)) is not None)


def before_the_verdict(postfix: Postfix, files: Files) -> Iterator[_Found]:
    """Find what acts on a message before the sidecar's verdict, and is not undone by it."""
    if "no_address_mappings" not in postfix.words("receive_override_options") and postfix.text("recipient_bcc_maps"):
        text = "recipient_bcc_maps copies a message for recipients that the sidecar removes, if it accepts another recipient."
        yield (
            "warning",
            "recipient_copied",
            "recipient_bcc_maps",
            text,
            "Use sender_bcc_maps or always_bcc, which copy accepted messages.",
        )
    if "no_header_body_checks" not in postfix.words("receive_override_options"):
        for key in _CONTENT_CHECKS:
            # By default the other two are $header_checks.
            if key in {"header_checks", "body_checks"} or postfix.text(key) != postfix.text("header_checks"):
                yield from _acting(postfix, key, files, _CONTENT_ACTIONS)
    for key in _RESTRICTIONS:
        yield from _acting(postfix, key, files, _ACCESS_ACTIONS)


def _acting(postfix: Postfix, key: str, files: Files, effects: dict[str, tuple[Level, DoctorCode, str]]) -> Iterator[_Found]:
    found: dict[str, list[str]] = {}
    for table in _tables(postfix, key):
        for action in sorted(_actions(table, files) & effects.keys()):
            found.setdefault(action, []).append(table)
    for action, tables in found.items():
        level, code, text = effects[action]
        yield level, code, key, f"{text} It is in {some(tables)}.", _SAFE


def _tables(postfix: Postfix, key: str) -> list[str]:
    """Return the tables of a setting; of a list of restrictions those that a check_..._access names."""
    words = postfix.words(key)
    if key in _CONTENT_CHECKS:
        return words
    return [table for check, table in pairwise(words) if check.startswith("check_") and check.endswith("_access")]


def _path(table: str) -> str | None:
    kind, _, path = table.removeprefix("proxy:").partition(":")
    return path if kind in (*TEXT_TABLES, *_PATTERN_TABLES, "cidr") and path.startswith("/") else None


def _actions(table: str, files: Files) -> set[str]:
    """Return the actions of a table, in capitals; none of a table that cannot be read here."""
    kind, _, inner = table.removeprefix("proxy:").partition(":")
    if kind == "static":
        return {_first(inner.strip("{} "))}
    if inner.startswith("{"):
        rules = [word.strip("{} ") for word in split(inner.strip()[1:-1])]
    else:
        text = files.get(_path(table) or "") or ""
        rules = [rule for _, rule in logical_lines(text)]
    return {_first(_value(kind, rule)) for rule in rules}


def _value(kind: str, rule: str) -> str:
    """Return what stands behind the key or pattern of a rule."""
    if kind in _PATTERN_TABLES:
        found = _PATTERN.fullmatch(rule)
        return "" if found is None else found[2]
    return "".join(rule.split("=" if kind == "inline" else None, 1)[1:])


def _first(value: str) -> str:
    return value.split(None, 1)[0].upper() if value.strip() else ""
