"""Actions in Postfix's tables that come before the sidecar's verdict.

Owns what an action does beside a milter, as measured with Postfix 3.7.
"""

from collections.abc import Iterator
from itertools import pairwise

from sidecar.commands.doctor.findings import DoctorCode, Found, ReadFile, some
from sidecar.commands.doctor.postfix.settings import Postfix
from sidecar.commands.doctor.postfix.tables import table_entries
from sidecar.core.findings import Level

_CONTENT_CHECKS = ("header_checks", "mime_header_checks", "nested_header_checks", "body_checks")
RESTRICTIONS = tuple(
    f"smtpd_{step}_restrictions" for step in ("client", "helo", "sender", "relay", "recipient", "data", "end_of_data")
)
"""The lists of restrictions, in the order in which Postfix uses them."""

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
    for key in RESTRICTIONS:
        checks = pairwise(postfix.words(key))
        tables = [table for check, table in checks if check.startswith("check_") and check.endswith("_access")]
        yield from _acting(key, tables, postfix.read, _ACCESS_ACTIONS)


def _acting(key: str, tables: list[str], read: ReadFile, effects: dict[str, tuple[Level, DoctorCode, str]]) -> Iterator[Found]:
    found: dict[str, list[str]] = {}
    for table in tables:
        # A table that cannot be read here has no entries.
        actions = {value.split(None, 1)[0].upper() for _, value in table_entries(table, read) or () if value}
        for action in sorted(actions & effects.keys()):
            found.setdefault(action, []).append(table)
    for action, named in found.items():
        level, code, text = effects[action]
        yield level, code, key, f"{text} It is in {some(named)}.", "Use REJECT, or let the sidecar decide."
